"""Events: one dataclass each, sent to every monitor that is ready for them.

Source: QEMU's QMP reference, "Events", for names, members and rate limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ratite.core.loop import Loop

if TYPE_CHECKING:
    from ratite.monitor.types import ObjectType

T = TypeVar("T")
Message = dict[str, object]
SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class EventType:
    """One kind of event. `limit_ns` is the least time between two of them, or between two that
    agree in the member `key`; of those in between only the last is sent, late.
    """

    name: str
    cls: type
    since: str
    limit_ns: int
    key: str

    @property
    def data(self) -> ObjectType:
        """Its members."""
        from ratite.monitor.types import object_type  # not needed where nobody listens

        return object_type(self.cls)


EVENTS: dict[str, EventType] = {}
_BY_CLASS: dict[type, EventType] = {}


def event(
    name: str, *, since: str = "0.1", limit_ns: int = 0, key: str = ""
) -> Callable[[type[T]], type[T]]:
    """Enter a dataclass as the event `name`."""

    def enter(cls: type[T]) -> type[T]:
        assert name not in EVENTS, f"two events '{name}'"
        EVENTS[name] = _BY_CLASS[cls] = EventType(name, cls, since, limit_ns, key)
        return cls

    return enter


@dataclass
class _Held:
    """The rate limit at work on one kind of event (and key)."""

    latest: Message | None = None


@dataclass
class EventBus:
    """Sends events to those who listen. Used with the machine lock held."""

    loop: Loop
    listeners: list[Callable[[Message], None]] = field(default_factory=list)
    _held: dict[tuple[str, object], _Held] = field(default_factory=dict)

    def emit(self, occurred: Any) -> None:
        """Send an event: an instance of a class that `@event` entered. Any thread."""
        kind = _BY_CLASS[type(occurred)]
        message = _message(kind, occurred)
        if self.loop.current:
            self._admit(kind, occurred, message)
        else:
            self.loop.post(lambda: self._admit(kind, occurred, message))

    def _admit(self, kind: EventType, occurred: Any, message: Message) -> None:
        if not kind.limit_ns:
            self._send(message)
            return
        key = (kind.name, getattr(occurred, kind.key) if kind.key else None)
        held = self._held.get(key)
        if held is not None:
            held.latest = message
            return
        self._send(message)
        self._held[key] = _Held()
        self.loop.post_after(kind.limit_ns, lambda: self._release(kind, key))

    def _release(self, kind: EventType, key: tuple[str, object]) -> None:
        held = self._held.pop(key)
        if held.latest is not None:
            self._send(held.latest)
            self._held[key] = _Held()
            self.loop.post_after(kind.limit_ns, lambda: self._release(kind, key))

    def _send(self, message: Message) -> None:
        for listener in tuple(self.listeners):
            listener(message)


def _message(kind: EventType, occurred: Any) -> Message:
    now = time.time_ns() // 1000
    message: Message = {
        "timestamp": {"seconds": now // 1_000_000, "microseconds": now % 1_000_000},
        "event": kind.name,
    }
    data = kind.data
    if data.members:
        message["data"] = data.dump(occurred)
    return message
