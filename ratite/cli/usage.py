"""What `-h`, `-version` and `help` as an option's value print."""

from __future__ import annotations

from collections.abc import Iterator

from ratite.cli.draft import Topic, Wanted
from ratite.cli.options import OPTIONS, Group, Option
from ratite.version import VERSION

_COLUMN = 24  # where help texts begin
_WIDTH = 80


def version_line(program: str) -> str:
    """The answer to `-version`."""
    return f"{program} {VERSION}\n"


def options_text(program: str) -> str:
    """The answer to `-h`."""
    lines = [f"usage: {program} [OPTION]...", "An option may begin with one dash or with two."]
    for group in Group:
        lines += ["", f"{group.value}:"]
        for option in OPTIONS:
            if option.group is group:
                lines += _entry(option)
    lines += ["", "In the terminal: Ctrl-A H helps, Ctrl-A X quits, Ctrl-A C is the monitor."]
    return "\n".join(lines) + "\n"


def _entry(option: Option) -> Iterator[str]:
    import textwrap

    names = ", ".join(f"-{name}" for name in reversed(option.names.split()))
    # long forms break before an optional part
    shown = f"  {names} {option.form}".rstrip().replace("[,", "\0[,")
    heads = [""]
    for part in shown.split("\0"):
        if len(heads[-1]) + len(part) > _WIDTH:
            heads.append(" " * 6)
        heads[-1] += part
    body = textwrap.wrap(option.help, _WIDTH - _COLUMN)
    if len(heads[-1]) < _COLUMN:
        heads[-1] = heads[-1].ljust(_COLUMN) + body.pop(0)
    yield from heads
    for line in body:
        yield " " * _COLUMN + line


def answer(wanted: Wanted, program: str) -> str:
    """The text that a request for help gets. Raises ConfigError for a name that is not known."""
    match wanted.topic:
        case Topic.VERSION:
            return version_line(program)
        case Topic.OPTIONS:
            return options_text(program)
        case _:
            from ratite.cli import catalogue

            return catalogue.answer(wanted)
