"""Where vCPUs spend their time: in regions, in tier 0, or outside of generated code. A sample: a
hundred times a second a thread has each vCPU note where it is when it looks at its interrupts
next, which it does anyway; the CPU time that it has had since the look before is counted for that.
In a region it looks only where a loop goes back: where it looks at the first tier-0 block behind
one, it was in that region when it was asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Protocol

from ratite.core.threads import NamedThread
from ratite.cpu.machine import Block, Shared
from ratite.isa.state import CpuState

PERIOD_S = 0.01
MASK64 = (1 << 64) - 1
_OF_THREAD = 6
"""Low bits of the number of Linux's clock of one thread's CPU time."""


class Place(Enum):
    """What a vCPU is found at."""

    FULL = "in full regions"
    QUICK = "in quick regions"
    TIER_0 = "in tier 0"
    OUTSIDE = "outside"


class Executing(Protocol):
    """A vCPU."""

    @property
    def state(self) -> CpuState:
        """Its state."""

    def kick(self, *, leave: bool) -> None:
        """Have it look at its interrupts."""


class Usage:
    """The samples of one machine."""

    def __init__(
        self, shared: Shared, cpus: Sequence[Executing], place_of: Callable[[int], Place]
    ) -> None:
        """`place_of` says what a block's handler is of."""
        self.samples = 0
        self.nanoseconds = dict.fromkeys(Place, 0)
        self._shared = shared
        self._cpus = cpus
        self._states: list[Any] = []  # their plain views
        self._place_of = place_of
        self._last: dict[int, int] = {}  # by vCPU: its thread's CPU time at the last look
        self._stop = threading.Event()
        self._thread = NamedThread("ratite sampler", self._loop)

    def start(self) -> None:
        """Begin to look. Does nothing if it has begun."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self.look()

    def look(self) -> None:
        """Count what each vCPU has been found at, and have it say so again. One that waits has no
        CPU time: nothing is said of it, so that many cost little.
        """
        for cpu in self._cpus[len(self._states) :]:
            self._states.append(cpu.state.plain())
        for number, state in enumerate(self._states):
            if state.halted:
                continue
            place = self._place(state)
            if place is not None:
                self._count(number, state, place)
            state.found = 0
            self._cpus[number].kick(leave=False)

    def _place(self, state: Any) -> Place | None:
        """What a vCPU was found at; None if it has not said."""
        if state.exit_reason:
            return Place.OUTSIDE
        shared = self._shared.plain()
        if not shared.buffer <= state.found < shared.next:
            return None
        place = self._place_of(Block(state.found).plain().handler)
        before = state.found_after
        if place is Place.TIER_0 and shared.buffer <= before < shared.next:
            return self._place_of(Block(before).plain().handler)
        return place

    def _count(self, number: int, state: Any, place: Place) -> None:
        now = thread_ns(state.host_thread)
        self.samples += 1
        self.nanoseconds[place] += max(0, now - self._last.get(number, now))
        self._last[number] = now


def retired(state: Any) -> int:
    """Instructions that a vCPU has retired, as of when it was last heard of. `state` is its state's
    `plain` view.
    """
    found: int = (state.instret_base - state.budget) & MASK64
    return found


def thread_ns(thread: int) -> int:
    """CPU time that a thread of this process has had, by the host's number; 0 if there is none."""
    if not thread:
        return 0
    try:
        return time.clock_gettime_ns(~thread << 3 | _OF_THREAD)
    except OSError:  # it has ended
        return 0
