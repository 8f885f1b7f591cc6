"""Fakes that device tests share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ratite.core import FakeClock
from ratite.core.char import CharEvent
from ratite.core.disk import ErrorAction
from ratite.devices.char.backend import CharFrontend
from ratite.devices.power import PowerAction
from ratite.memory import AddressSpace, MemoryRegion, RamList


class FakeHart:
    """The interrupt inputs of a hart."""

    def __init__(self) -> None:
        self.mip = 0
        self.changes = 0

    def set_irq(self, number: int, level: bool) -> None:
        self.mip = self.mip & ~(1 << number) | level << number
        self.changes += 1


class FakeTerminal:
    """A character backend: what was written, how much it takes at once, and input on request."""

    id = "terminal"

    def __init__(self) -> None:
        self.output = b""
        self.room = 1 << 30
        self.waiting = b""
        self.frontend: CharFrontend | None = None

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.output += taken
        return len(taken)

    def attach(self, frontend: CharFrontend | None, /) -> None:
        self.frontend = frontend
        if frontend is not None:
            frontend.event(CharEvent.OPENED)

    def accept_input(self) -> None:
        while self.frontend is not None and self.waiting:
            count = self.frontend.can_receive()
            if not count:
                return
            part, self.waiting = self.waiting[:count], self.waiting[count:]
            self.frontend.receive(part)

    def set_guest_open(self, is_open: bool, /) -> None:
        pass

    def type(self, data: bytes) -> None:
        """Input from the user."""
        self.waiting += data
        self.accept_input()

    def make_room(self, room: int = 1 << 30) -> None:
        self.room = room
        assert self.frontend is not None
        self.frontend.event(CharEvent.WRITABLE)


class FakeDisk:
    """A block backend in memory."""

    id = "d0"
    write_cache = True

    def __init__(self, data: bytes, *, read_only: bool = False) -> None:
        self.data = bytearray(data)
        self.read_only = read_only
        self.error = 0
        self.user: Any = None

    def attach(self, user: Any, terms: Any, /) -> None:
        self.user = user

    def detach(self) -> None:
        self.user = None

    def failed(self, is_write: bool, code: int, /) -> ErrorAction:
        return ErrorAction.REPORT

    def refused(self, access: Any, /) -> None:
        pass

    @property
    def size(self) -> int:
        return len(self.data)

    def readv(
        self, offset: int, buffers: Sequence[memoryview], done: Callable[[int], None], /
    ) -> None:
        for buffer in buffers:
            buffer[:] = self.data[offset : offset + len(buffer)]
            offset += len(buffer)
        done(self.error)

    def writev(
        self, offset: int, buffers: Sequence[memoryview], done: Callable[[int], None], /
    ) -> None:
        for buffer in buffers:
            self.data[offset : offset + len(buffer)] = buffer
            offset += len(buffer)
        done(self.error)

    def flush(self, done: Callable[[int], None], /) -> None:
        done(0)

    def discard(self, offset: int, size: int, done: Callable[[int], None], /) -> None:
        done(0)

    def write_zeroes(
        self, offset: int, size: int, unmap: bool, done: Callable[[int], None], /
    ) -> None:
        done(0)

    def drain(self) -> None:
        pass


class PowerLog:
    """Remembers what a device asked for."""

    def __init__(self) -> None:
        self.requests: list[tuple[PowerAction, int]] = []

    def __call__(self, action: PowerAction, status: int) -> None:
        self.requests.append((action, status))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def harts() -> list[FakeHart]:
    return [FakeHart(), FakeHart()]


@pytest.fixture
def terminal() -> FakeTerminal:
    return FakeTerminal()


@pytest.fixture
def make_disk() -> type[FakeDisk]:
    return FakeDisk


@pytest.fixture
def power() -> PowerLog:
    return PowerLog()


@pytest.fixture
def ram_list() -> RamList:
    return RamList()


@pytest.fixture
def system() -> MemoryRegion:
    return MemoryRegion.container("system", 1 << 64)


@pytest.fixture
def space(system: MemoryRegion) -> AddressSpace:
    return AddressSpace(system, "memory")
