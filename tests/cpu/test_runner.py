"""vCPU threads that park for each other: to empty the buffer of translated code, for a pause."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ratite.core.clock import VirtualClock
from ratite.core.lock import MachineLock
from ratite.cpu.exits import Exit
from ratite.cpu.vcpu import ThreadRunner, Vcpu
from ratite.isa.state import CpuState
from ratite.memory import AddressSpace, MemoryRegion

PATIENCE_S = 10


class Guest:
    """An executor whose run() ends with what it is told to, or when it is kicked."""

    def __init__(self) -> None:
        self.runs = 0
        self.full: threading.Barrier | None = None
        """Where it meets the others that find the buffer full at the same moment."""
        self._leave = threading.Event()

    def run(self) -> int:
        self.runs += 1
        barrier, self.full = self.full, None
        if barrier is not None:
            barrier.wait(PATIENCE_S)
            return Exit.CODE_FULL
        self._leave.wait(0.001)
        self._leave.clear()
        return Exit.INTERRUPTED

    def kick(self, *, leave: bool) -> None:
        self._leave.set()

    def flush(self) -> None: ...

    def set_budget(self, instructions: int) -> None: ...


class Plain(Vcpu):
    """A vCPU of no instruction set."""

    def has_work(self) -> bool:
        return True

    def handle(self, reason: int) -> None: ...

    def refresh_mode(self) -> None: ...

    def debug_translate(self, gva: int) -> int | None:
        return gva

    def service(self) -> None: ...

    def loaded(self) -> None: ...


class Harts:
    """Some vCPUs and what runs them."""

    def __init__(self, count: int) -> None:
        lock = MachineLock()
        space = AddressSpace(MemoryRegion.container("memory", 1 << 64), "memory")
        self.guests = [Guest() for _ in range(count)]
        vcpus = [
            Plain(number, CpuState.allocate(), guest, space, lock)
            for number, guest in enumerate(self.guests)
        ]
        self.lock = lock
        self.runner = ThreadRunner(vcpus, lock, VirtualClock(lock))
        self.flushes = 0
        self.runner.flush_code = self._flush
        self.on_flush: Callable[[], None] = lambda: None

    def _flush(self) -> None:
        before = [guest.runs for guest in self.guests]
        self.on_flush()
        self.flushes += 1
        assert [guest.runs for guest in self.guests] == before, "a vCPU executes meanwhile"

    def pause(self) -> None:
        with self.lock:
            self.runner.pause()

    def all_go_on(self) -> None:
        """Wait until every vCPU has run again."""
        before = [guest.runs for guest in self.guests]
        await_(lambda: all(g.runs > b for g, b in zip(self.guests, before, strict=True)))


def await_(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def harts() -> Iterator[Harts]:
    made = Harts(4)
    made.runner.resume()
    made.all_go_on()
    yield made
    with made.lock:
        made.runner.close()


@pytest.mark.parametrize("together", [1, 2, 4])
def test_vcpus_that_find_the_buffer_full_at_once_all_go_on(harts: Harts, together: int) -> None:
    for _ in range(20):
        before = harts.flushes
        barrier = threading.Barrier(together)
        for guest in harts.guests[:together]:
            guest.full = barrier
        await_(lambda before=before: harts.flushes > before)  # type: ignore[misc]
        harts.all_go_on()
    assert harts.runner.running


def test_a_pause_that_comes_while_the_buffer_is_emptied_holds(harts: Harts) -> None:
    for _ in range(20):
        pausing = threading.Thread(target=harts.pause)
        harts.on_flush = lambda pausing=pausing: (pausing.start(), time.sleep(0.005))  # type: ignore[misc]
        harts.guests[0].full = threading.Barrier(1)
        await_(lambda pausing=pausing: pausing.ident is not None)  # type: ignore[misc]
        pausing.join(PATIENCE_S)
        assert not pausing.is_alive() and not harts.runner.running
        runs = [guest.runs for guest in harts.guests]
        time.sleep(0.005)
        assert [guest.runs for guest in harts.guests] == runs
        harts.on_flush = lambda: None
        harts.runner.resume()
        harts.all_go_on()


def test_a_guest_runs_while_its_buffer_is_emptied_as_far_as_others_see(harts: Harts) -> None:
    seen: list[bool] = []
    harts.on_flush = lambda: seen.append(harts.runner.running)
    harts.guests[0].full = threading.Barrier(1)
    await_(lambda: harts.flushes > 0)
    assert seen == [True]


def test_what_is_closed_does_not_run_again() -> None:
    harts = Harts(2)
    harts.runner.resume()
    harts.runner.close()
    before = [guest.runs for guest in harts.guests]
    harts.runner.resume()  # somebody who has not heard of it yet
    time.sleep(0.05)
    assert not harts.runner.running
    assert [guest.runs for guest in harts.guests] == before
