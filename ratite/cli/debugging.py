"""`-gdb`, `-s` and `-qtest`: who else may look at the machine, and on which character device."""

from __future__ import annotations

from dataclasses import replace

from ratite.cli import convert
from ratite.cli.draft import Display, Draft
from ratite.core import ConfigError
from ratite.machines.config import ChardevConfig

GDB_ID, QTEST_ID = "gdb", "qtest"
DEFAULT_GDB = "tcp::1234"
_LOOPBACK = "127.0.0.1"
_NAMED_PREFIX = "chardev:"


def short_gdb(draft: Draft, _text: str) -> None:
    """`-s`."""
    gdb(draft, DEFAULT_GDB)


def gdb(draft: Draft, text: str) -> None:
    """`-gdb DEV`. The last one counts."""
    _connect(draft, "gdb", text, gdb_chardev(text))


def qtest(draft: Draft, text: str) -> None:
    """`-qtest DEV`."""
    if text.startswith(_NAMED_PREFIX):
        _connect(draft, "qtest", text, None)
    else:
        _connect(draft, "qtest", text, convert.short_chardev(text, QTEST_ID, signal=False))


def gdb_chardev(text: str) -> ChardevConfig | None:
    """The character device that serves gdb; None for `none` and `chardev:ID`. A socket listens, for
    this host's users only unless an address is given, and nobody waits for a client."""
    if text.startswith(_NAMED_PREFIX):
        return None
    device = convert.short_chardev(text, GDB_ID, signal=False)
    if device is None or device.backend != "socket":
        return device
    properties = {"server": True, "wait": False, **device.properties}
    if "port" in properties:
        properties["host"] = properties.get("host") or _LOOPBACK
    return replace(device, properties=properties)


def _connect(draft: Draft, field: str, text: str, device: ChardevConfig | None) -> None:
    others = tuple(chardev for chardev in draft.config.chardevs if chardev.id != field)
    draft.set("chardevs", others)
    if device is not None:
        draft.append("chardevs", replace(device, option=f"-{field}"))
        if device.backend == "stdio":
            draft.display = Display.NONE
    named = text.removeprefix(_NAMED_PREFIX) if text.startswith(_NAMED_PREFIX) else None
    if named == "":
        raise ConfigError(f"'{text}' names no chardev")
    draft.set(field, device.id if device is not None else named)


def check(draft: Draft) -> None:
    """Every character device that is named exists."""
    known = {chardev.id for chardev in draft.config.chardevs}
    for option, id in (("-gdb", draft.config.gdb), ("-qtest", draft.config.qtest)):
        if id is not None and id not in known:
            raise ConfigError(f"{option}: there is no chardev '{id}'")


__all__ = ["DEFAULT_GDB", "check", "gdb", "gdb_chardev", "qtest", "short_gdb"]
