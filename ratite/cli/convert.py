"""From an option's text to the part of the configuration that it stands for.

Each function reads one option's value and raises ConfigError without naming the option: the caller
does that.
"""

from __future__ import annotations

import re
from pathlib import Path

from ratite.cli.keyval import Settings, is_json, suggest, to_integer, to_text
from ratite.core import ConfigError
from ratite.core.keyval import IDENTIFIER_RULE, is_identifier
from ratite.core.port import check_port
from ratite.machines.config import (
    AccelConfig,
    AddFdConfig,
    AddressRange,
    ChardevConfig,
    CpuConfig,
    DeviceConfig,
    FwCfgConfig,
    GlobalConfig,
    IcountConfig,
    MemoryConfig,
    MonitorConfig,
    MonitorMode,
    ObjectConfig,
    PropertyValue,
    RtcClock,
    RtcConfig,
)

_RAM_ALIGN = 8192  # bytes: what -m is rounded up to
_UINT64_MAX = (1 << 64) - 1
_SHORT_FORMS = {  # of character devices: those that need more than a word
    "file": "file:PATH",
    "pipe": "pipe:PATH",
    "unix": "unix:PATH",
    "tcp": "tcp:HOST:PORT",
    "telnet": "telnet:HOST:PORT",
    "chardev": "chardev:ID",
}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def path(text: str) -> Path:
    """A file on the host; not opened here."""
    if not text:
        raise ConfigError("an empty file name")
    return Path(text)


def integer(minimum: int, maximum: int) -> _Integer:
    """A reader of whole numbers, both limits included."""
    return _Integer(minimum, maximum)


class _Integer:
    def __init__(self, minimum: int, maximum: int) -> None:
        self._limits = (minimum, maximum)

    def __call__(self, text: str) -> int:
        return to_integer(text, *self._limits)


def cpu(text: str) -> CpuConfig:
    """`MODEL[,PROP=VALUE][,+PROP][,-PROP]`."""
    settings = Settings.read(text, "model")
    model = settings.required("model")
    properties: dict[str, PropertyValue] = {}
    for key, value in settings.rest().items():
        if key[0] in "+-" and value == "on":
            properties[key[1:]] = "on" if key[0] == "+" else "off"
        else:
            properties[key] = value
    return CpuConfig(model, properties)


def memory(text: str) -> MemoryConfig:
    """`[size=]N[,slots=N,maxmem=N]`; a size without a suffix is in MiB."""
    settings = Settings.read(text, "size")
    size = settings.size("size", "M")
    slots = settings.integer("slots", 0, 256) or 0
    most = settings.size("maxmem", "M")
    settings.done()
    if size is not None:
        if size == 0:
            raise ConfigError("a guest without memory cannot start")
        size = -(-size // _RAM_ALIGN) * _RAM_ALIGN
    if slots and most is None:
        raise ConfigError("slots needs maxmem: the size that they can add up to")
    if most is not None and size is not None:
        if most < size:
            raise ConfigError(f"maxmem ({most}) is less than size ({size})")
        if most > size and not slots:
            raise ConfigError("maxmem above size needs slots for the memory to come")
    return MemoryConfig(size, slots, most)


def device(text: str) -> DeviceConfig:
    """`DRIVER[,id=ID][,PROP=VALUE]...`, or JSON with `driver`."""
    settings = Settings.read(text, "driver", json=True)
    driver = _named(settings, "driver")
    return DeviceConfig(driver, identifier(settings), settings.rest(), strict=is_json(text))


def _named(settings: Settings, key: str) -> str:
    name = settings.text(key)
    if not name:
        raise ConfigError(f"Parameter '{key}' is missing")
    return name


def object_(text: str) -> ObjectConfig:
    """`TYPE,id=ID[,PROP=VALUE]...`, or JSON with `qom-type`."""
    settings = Settings.read(text, "qom-type", json=True)
    type_name = _named(settings, "qom-type")
    id = identifier(settings)
    if id is None:
        raise ConfigError("Parameter 'id' is missing")
    return ObjectConfig(type_name, id, settings.rest(), strict=is_json(text))


def global_(text: str) -> GlobalConfig:
    """`DRIVER.PROP=VALUE`, or `driver=D,property=P,value=V`."""
    short = re.fullmatch(r"([^.=,]+(?:\.[^.=,]+)*)\.([^.=,]+)=(.*)", text, re.DOTALL)
    if short:
        return GlobalConfig(short[1], short[2], short[3])
    settings = Settings.read(text)
    driver, name, value = (settings.text(key) for key in ("driver", "property", "value"))
    settings.done()
    if not (driver and name) or value is None:
        raise ConfigError(
            "options 'driver', 'property', and 'value' are required",
            hint="in short, DRIVER.PROPERTY=VALUE",
        )
    return GlobalConfig(driver, name, value)


def chardev(text: str) -> ChardevConfig:
    """`BACKEND,id=ID[,mux=on][,PROP=VALUE]...`."""
    settings = Settings.read(text, "backend")
    backend = settings.required("backend")
    id = identifier(settings)
    if id is None:
        raise ConfigError("'id' is missing")
    shared = settings.switch("mux", False)
    properties = _with_old_words(settings.rest())
    if backend == "socket" and "port" in properties:
        check_port(to_text(properties["port"]))
    return ChardevConfig(backend, id, shared, properties)


def _with_old_words(properties: dict[str, PropertyValue]) -> dict[str, PropertyValue]:
    """`server,nowait` is how `server=on,wait=off` was written once, and often still is."""
    if properties.pop("nowait", None) is not None:
        properties.setdefault("wait", "off")
    return properties


def short_chardev(text: str, id: str, *, signal: bool) -> ChardevConfig | None:
    """What `-serial` and `-monitor` take: `stdio`, `file:F`, `tcp:HOST:PORT,...`; None for `none`.

    A `mon:` or `chardev:` prefix is the caller's. `signal`: whether Ctrl-C on a plain `stdio` acts
    on ratite.
    """
    kind, colon, rest = text.partition(":")
    if not colon and text in ("null", "pty"):
        return ChardevConfig(text, id)
    if not colon and text == "stdio":
        return ChardevConfig("stdio", id, properties={"signal": signal})
    if not colon and text == "none":
        return None
    if colon and not rest and kind in _SHORT_FORMS:
        raise ConfigError(f"'{text}' is incomplete: {_SHORT_FORMS[kind]}")
    if kind in ("file", "pipe"):
        return ChardevConfig(kind, id, properties={"path": rest.replace(",,", ",")})
    if kind == "unix":
        properties = Settings.read(rest, "path").rest()
        if not properties["path"]:
            raise ConfigError(f"'{text}' needs a path: {_SHORT_FORMS[kind]}")
        return ChardevConfig("socket", id, properties=_with_old_words(properties))
    if kind in ("tcp", "telnet"):
        settings = Settings.read(rest, "address")
        host, separator, port = (settings.text("address") or "").rpartition(":")
        if not separator or not port:
            raise ConfigError(f"'{text}' needs a port: {_SHORT_FORMS[kind]}")
        check_port(port)
        telnet: dict[str, PropertyValue] = {"telnet": True} if kind == "telnet" else {}
        properties = {"host": host.strip("[]"), "port": port, **telnet, **settings.rest()}
        return ChardevConfig("socket", id, properties=_with_old_words(properties))
    forms = ("stdio", "pty", "null", "none", *(f"{name}:" for name in _SHORT_FORMS))
    raise ConfigError(f"'{text}' is no character device{suggest(kind + colon, (*forms, 'mon:'))}")


def mon(text: str) -> MonitorConfig:
    """`[chardev=]ID[,mode=readline|control][,pretty=on|off][,id=ID]`."""
    settings = Settings.read(text, "chardev")
    mode = settings.choice("mode", MonitorMode.READLINE)
    pretty = settings.switch("pretty", False)
    identifier(settings)
    monitor = MonitorConfig(settings.required("chardev"), mode, pretty)
    settings.done()
    return monitor


def add_fd(text: str) -> AddFdConfig:
    """`fd=N,set=N[,opaque=TEXT]`."""
    settings = Settings.read(text)
    fd, set_id = settings.integer("fd", 0, 1 << 30), settings.integer("set", 0, 1 << 30)
    opaque = settings.text("opaque")
    settings.done()
    if fd is None or set_id is None:
        raise ConfigError("needs fd=N and set=N")
    if fd <= 2:
        raise ConfigError("fd=0 to fd=2 are the standard streams")
    return AddFdConfig(fd, set_id, opaque)


def accel(text: str) -> AccelConfig:
    """`[accel=]NAME[,PROP=VALUE]...`."""
    settings = Settings.read(text, "accel")
    return AccelConfig(settings.required("accel"), settings.rest())


def icount(text: str) -> IcountConfig:
    """`[shift=]N|auto[,sleep=on|off][,align=on|off]`."""
    settings = Settings.read(text, "shift")
    shift_text = settings.required("shift")
    try:
        shift = None if shift_text == "auto" else to_integer(shift_text, 0, 10)
    except ConfigError as error:
        raise ConfigError(f"shift: {error}") from None
    result = IcountConfig(shift, settings.switch("sleep", True), settings.switch("align", False))
    settings.done()
    if result.align:
        raise ConfigError("align=on is not offered; sleep=on keeps guest time beside host time")
    return result


def rtc(text: str) -> RtcConfig:
    """`[base=]utc|localtime|DATE[THH:MM:SS][,clock=host|rt|vm]`."""
    settings = Settings.read(text, "base")
    base: str | int = settings.text("base") or "utc"
    clock = settings.choice("clock", RtcClock.HOST)
    settings.done()
    if base not in ("utc", "localtime"):
        base = _seconds(str(base))
    return RtcConfig(base, clock)


def _seconds(text: str) -> int:
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"base: '{text}' is neither utc, localtime, nor like 2026-06-17T16:01:21"
        ) from None
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())


def ranges(text: str) -> tuple[AddressRange, ...]:
    """`START..LAST`, `START+SIZE`, `START-SIZE`, comma-separated; numbers decimal or 0x."""
    return tuple(_range(item) for item in text.split(","))


def _range(text: str) -> AddressRange:
    match = re.fullmatch(r"(\w+)(\.\.|\+|-)(\w+)", text)
    if match is None:
        raise ConfigError(f"'{text}' is no range: START..LAST, START+SIZE or START-SIZE")
    first, second = (to_integer(number, 0, _UINT64_MAX) for number in match.group(1, 3))
    if match[2] == "+":
        first, second = first, first + second - 1
    elif match[2] == "-":
        first, second = first - second + 1, first
    if not 0 <= first <= second <= _UINT64_MAX:
        raise ConfigError(f"range '{text}' is empty or beyond 64 bits")
    return AddressRange(first, second)


def fw_cfg(text: str) -> FwCfgConfig:
    """`[name=]NAME,file=F` or `[name=]NAME,string=TEXT`."""
    settings = Settings.read(text, "name")
    name, file, string = settings.required("name"), settings.path("file"), settings.text("string")
    settings.done()
    if (file is None) == (string is None):
        raise ConfigError("one of file= and string= is needed")
    if len(name.encode()) > 55:
        raise ConfigError(f"name '{name}' is longer than 55 bytes")
    return FwCfgConfig(name, file, string or "")


def uuid(text: str) -> str:
    """Eight-four-four-four-twelve hexadecimal digits."""
    if not _UUID.fullmatch(text.lower()):
        raise ConfigError(f"'{text}' is not like 550e8400-e29b-41d4-a716-446655440000")
    return text.lower()


def identifier(settings: Settings) -> str | None:
    """The `id` setting."""
    id = settings.text("id")
    if id is not None and not is_identifier(id):
        raise ConfigError("Parameter 'id' expects an identifier", hint=IDENTIFIER_RULE)
    return id
