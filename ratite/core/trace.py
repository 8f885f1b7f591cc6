"""Trace events: what devices and the machine tell of what they do, switched on one by one.

An event is a function, declared beside the code that it is about. Its name is the event's, what it
takes is what the event tells, and it returns the text for that:

    @TraceEvent
    def goldfish_rtc_read(addr: int, value: int) -> str:
        \"\"\"The guest reads a register.\"\"\"
        return f"addr 0x{addr:02x} value 0x{value:08x}"

Where it happens it is told of, which costs one test while nothing is traced:

    if trace := self.log.trace:
        trace(goldfish_rtc_read, offset, value)

Names are QEMU's where QEMU has the event. There is no list of events: they are found by their
declarations.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterator
from typing import Generic, ParamSpec

from ratite.core.sources import declarations

P = ParamSpec("P")

_DECLARATION = re.compile(r"^@TraceEvent\ndef (\w+)\(", re.MULTILINE)


class TraceEvent(Generic[P]):
    """Declares an event; decorates the function that puts its arguments into words."""

    __slots__ = ("describe", "name")

    def __init__(self, describe: Callable[P, str]) -> None:
        self.name = describe.__name__
        self.describe = describe

    @property
    def summary(self) -> str:
        """What it tells of: the declaration's docstring."""
        return " ".join((self.describe.__doc__ or "").split())


@functools.cache
def _declared() -> dict[str, str]:
    """The module of each event there is, by the event's name; nothing is imported."""
    return dict(sorted(declarations("ratite", _DECLARATION)))


def event_names() -> list[str]:
    """All events there are, sorted."""
    return list(_declared())


def all_events() -> Iterator[TraceEvent[...]]:
    """All events there are, in order of their names; imports the modules that declare them."""
    for name, module in _declared().items():
        event = getattr(importlib.import_module(module), name)
        assert isinstance(event, TraceEvent)
        yield event


def is_pattern(text: str) -> bool:
    """Whether this means any number of events, not one by its name."""
    return "*" in text


def matching(pattern: str) -> list[str]:
    """The events that a name or a pattern means: `*` is any text, `?` in a pattern one letter."""
    if not is_pattern(pattern):
        return [pattern] if pattern in _declared() else []
    parts = {"*": ".*", "?": "."}
    expression = re.compile("".join(parts.get(letter) or re.escape(letter) for letter in pattern))
    return [name for name in _declared() if expression.fullmatch(name)]


class Tracer:
    """Writes the events of one machine that are on. Any thread may tell it of one."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.on: frozenset[str] = frozenset()
        self._write = write

    def __call__(self, event: TraceEvent[P], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Tell of an event, with what its declaration takes. Written if it is on."""
        if event.name in self.on:
            self._write(f"{event.name} {event.describe(*args, **kwargs)}".rstrip())
