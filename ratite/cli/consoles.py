"""Who talks to whom: `-serial`, `-monitor`, `-nographic` and their kin, and what they leave open.

Source: QEMU's manual, "Character device options"; where nothing is said, serial port and monitor
share the terminal, as under QEMU's -nographic.
"""

from __future__ import annotations

from dataclasses import replace

from ratite.cli import convert
from ratite.cli.draft import Display, Draft, ShortMonitor
from ratite.cli.keyval import suggest
from ratite.core import ConfigError
from ratite.machines.config import ChardevConfig, MonitorConfig, MonitorMode

_MUX_PREFIX = "mon:"
_NAMED_PREFIX = "chardev:"


def serial(draft: Draft, text: str) -> None:
    """`-serial DEV`; a `mon:` prefix puts the monitor on the same device."""
    _check(text.removeprefix(_MUX_PREFIX))
    draft.serials.append(text)
    draft.explicit_monitor |= text.startswith(_MUX_PREFIX)


def monitor(draft: Draft, text: str) -> None:
    """`-monitor DEV`."""
    _add_monitor(draft, ShortMonitor(text))


def qmp(draft: Draft, text: str) -> None:
    """`-qmp DEV`."""
    _add_monitor(draft, ShortMonitor(text, MonitorMode.CONTROL, option="-qmp"))


def qmp_pretty(draft: Draft, text: str) -> None:
    """`-qmp-pretty DEV`."""
    wanted = ShortMonitor(text, MonitorMode.CONTROL, pretty=True, option="-qmp-pretty")
    _add_monitor(draft, wanted)


def _add_monitor(draft: Draft, wanted: ShortMonitor) -> None:
    _check(wanted.text.removeprefix(_MUX_PREFIX))
    draft.monitors.append(wanted)
    draft.explicit_monitor = True


def mon(draft: Draft, text: str) -> None:
    """`-mon CHARDEV`."""
    draft.append("monitors", convert.mon(text))
    draft.explicit_monitor = True


def nographic(draft: Draft, _text: str) -> None:
    """`-nographic`."""
    draft.display = Display.TERMINAL
    draft.nographic = True


def display(draft: Draft, text: str) -> None:
    """`-display none`."""
    if text != Display.NONE.value:
        raise ConfigError(f"'{text}' is not known{suggest(text, [Display.NONE.value])}")
    draft.display = Display.NONE


def no_defaults(draft: Draft, _text: str) -> None:
    """`-nodefaults`."""
    draft.set("default_devices", False)


def complete(draft: Draft) -> None:
    """Turn the short forms into character devices and fill in what was left open."""
    if draft.config.process.daemonize and draft.nographic and draft.config.default_devices:
        raise ConfigError("-daemonize: there is no terminal for -nographic; use -display none")
    _add_defaults(draft)
    for number, text in enumerate(draft.serials):
        draft.append("serials", _connect(draft, text, f"serial{number}", "-serial"))
    for number, wanted in enumerate(draft.monitors):
        id = _connect(draft, wanted.text, f"compat_monitor{number}", wanted.option)
        if id is not None:
            draft.append("monitors", MonitorConfig(id, wanted.mode, wanted.pretty))
    _check_users(draft)


def _add_defaults(draft: Draft) -> None:
    if not draft.config.default_devices or draft.config.serials:
        return
    terminal = draft.display is Display.TERMINAL and not draft.config.process.daemonize
    if not terminal:
        draft.serials = draft.serials or ["null"]
    elif not draft.serials and not draft.explicit_monitor:
        draft.serials = ["mon:stdio"]
    elif not draft.serials:
        draft.serials = ["null" if _uses_stdio(draft) else "stdio"]
    elif not draft.explicit_monitor and not _uses_stdio(draft):
        draft.monitors = [ShortMonitor("stdio")]


def _texts(draft: Draft) -> list[str]:
    return [*draft.serials, *(wanted.text for wanted in draft.monitors)]


def _uses_stdio(draft: Draft) -> bool:
    texts = [text.removeprefix(_MUX_PREFIX) for text in _texts(draft)]
    return "stdio" in texts or any(item.backend == "stdio" for item in draft.config.chardevs)


def _check(text: str) -> None:
    """Refuse a short form that cannot be read, while the option's name is known."""
    if text.startswith(_NAMED_PREFIX) and text != _NAMED_PREFIX:
        return
    convert.short_chardev(text, "check", signal=False)


def _connect(draft: Draft, text: str, id: str, option: str) -> str | None:
    """The id of the character device that a short form means, made if need be; None for `none`."""
    shared = text.startswith(_MUX_PREFIX)
    text = text.removeprefix(_MUX_PREFIX)
    if text.startswith(_NAMED_PREFIX):
        id = text.removeprefix(_NAMED_PREFIX)
        _named(draft, id, option)
    else:
        device = convert.short_chardev(text, id, signal=not (shared or draft.nographic))
        if device is None:
            return None
        draft.append("chardevs", replace(device, option=option))
    if shared:
        chardevs = draft.config.chardevs
        draft.set("chardevs", tuple(replace(c, mux=True) if c.id == id else c for c in chardevs))
        draft.append("monitors", MonitorConfig(id))
    return id


def _named(draft: Draft, id: str, option: str) -> ChardevConfig:
    for chardev in draft.config.chardevs:
        if chardev.id == id:
            return chardev
    hint = suggest(id, [chardev.id for chardev in draft.config.chardevs])
    raise ConfigError(f"{option}: there is no chardev '{id}'{hint}")


def _check_users(draft: Draft) -> None:
    config = draft.config
    for monitor in config.monitors:
        _named(draft, monitor.chardev, "-mon")
    users = [*filter(None, config.serials), *(monitor.chardev for monitor in config.monitors)]
    for chardev in config.chardevs:
        if users.count(chardev.id) > 1 and not chardev.mux and chardev.backend != "mux":
            raise ConfigError(
                f"-chardev: '{chardev.id}' is used twice; share it with mux=on (or mon:)"
            )
    terminals = [chardev.id for chardev in config.chardevs if chardev.backend == "stdio"]
    if len(terminals) > 1:
        raise ConfigError(
            f"-chardev: {' and '.join(terminals)} both want the terminal; share it: "
            "-serial mon:stdio"
        )
    if terminals and config.process.daemonize:
        raise ConfigError("-daemonize: there is no terminal; use -serial null or a file")
