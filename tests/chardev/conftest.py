"""A running event loop, and a frontend that remembers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from ratite.core.char import CharEvent
from ratite.core.events import EventLoop
from ratite.core.lock import MachineLock


class Recorder:
    """A frontend that takes what it is told to and remembers everything."""

    def __init__(self, room: int = 1 << 20) -> None:
        self.room = room
        self.data = b""
        self.events: list[CharEvent] = []

    def can_receive(self) -> int:
        return self.room

    def receive(self, data: bytes) -> None:
        assert 0 < len(data) <= self.room
        self.room -= len(data)
        self.data += data

    def event(self, event: CharEvent) -> None:
        self.events.append(event)


def wait_for(condition: Callable[[], object], timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.002)


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop(MachineLock())
    loop.start()
    yield loop
    loop.stop()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def make_recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_for
