"""Clocks and their timers.

A clock tells nanoseconds and runs callbacks at deadlines. Devices are handed clocks and know no
other time: `VirtualClock` is guest time (it stands still while the machine is paused), `HostClock`
is wall time, `FakeClock` is a test's. Callbacks run with the machine lock held.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from ratite.core.lock import MachineLock
from ratite.core.threads import NamedThread

Callback = Callable[[], None]
_Entry = tuple[int, int, "Timer"]

_LONGEST_WAIT_NS = (
    1_000_000_000  # look at the clock again at least this often: a wall clock may be set
)


class Timer:
    """One callback of a clock, armed for at most one deadline. Made by `Clock.timer`.

    A caller that holds the machine lock may rely on it: after `delete` or `mod` the old deadline
    does not fire.
    """

    __slots__ = ("_callback", "_clock", "_deadline_ns", "_ticket")

    def __init__(self, clock: Clock, callback: Callback) -> None:
        self._clock = clock
        self._callback = callback
        self._deadline_ns: int | None = None
        self._ticket = -1

    @property
    def deadline_ns(self) -> int | None:
        """The time it will fire at, in its clock's nanoseconds; None while it is not armed."""
        return self._deadline_ns

    def mod(self, deadline_ns: int) -> None:
        """Arm for this time, instead of any earlier choice. A time that has passed fires as soon as
        possible.
        """
        self._clock._arm(self, deadline_ns)

    def delete(self) -> None:
        """Disarm. Does nothing if not armed."""
        self._clock._disarm(self)


class Clock(ABC):
    """A source of time, and the timers that wait for it."""

    def __init__(self) -> None:
        self._heap: list[
            _Entry
        ] = []  # may hold entries whose timer has moved on: their tickets differ
        self._tickets = itertools.count()
        self._guard = threading.Condition(threading.Lock())

    @abstractmethod
    def now_ns(self) -> int:
        """The time now, in nanoseconds."""

    def timer(self, callback: Callback) -> Timer:
        """A timer of this clock, not armed yet. The callback runs with the machine lock held."""
        return Timer(self, callback)

    def next_deadline_ns(self) -> int | None:
        """The earliest time any timer waits for; None if none is armed."""
        with self._guard:
            return self._earliest()

    def run_due(self) -> int:
        """Run the callbacks whose time has come, in order of deadline; answer how many.

        The caller holds the machine lock.
        """
        fired = 0
        while (timer := self._take_due()) is not None:
            timer._callback()
            fired += 1
        return fired

    def _earliest(self) -> int | None:
        heap = self._heap
        while heap and heap[0][1] != heap[0][2]._ticket:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _take_due(self) -> Timer | None:
        with self._guard:
            deadline_ns = self._earliest()
            if deadline_ns is None or deadline_ns > self.now_ns():
                return None
            timer = heapq.heappop(self._heap)[2]
            timer._deadline_ns = None
            timer._ticket = -1
            return timer

    def _arm(self, timer: Timer, deadline_ns: int) -> None:
        with self._guard:
            before = self._earliest()
            timer._ticket = next(self._tickets)
            timer._deadline_ns = deadline_ns
            heapq.heappush(self._heap, (deadline_ns, timer._ticket, timer))
            if before is None or deadline_ns < before:
                self._sooner()

    def _disarm(self, timer: Timer) -> None:
        with self._guard:
            timer._ticket = -1
            timer._deadline_ns = None

    def _sooner(self) -> None:  # noqa: B027 - a clock that is advanced by hand needs no telling
        """Told that the earliest deadline moved forward. The guard is held."""


class _ThreadedClock(Clock):
    """A clock whose timers are run by a thread of its own, started with the first timer armed."""

    def __init__(self, lock: MachineLock, name: str) -> None:
        super().__init__()
        self._machine_lock = lock
        self._name = name
        self._thread: threading.Thread | None = None
        self._closed = False
        self._ticking = True

    def close(self) -> None:
        """End the timer thread; timers do not fire any more. The caller does not hold the machine
        lock.
        """
        with self._guard:
            self._closed = True
            thread, self._thread = self._thread, None
            self._guard.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _sooner(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = NamedThread(self._name, self._serve)
            self._thread.start()
        self._guard.notify_all()

    def _wait_for_due(self) -> bool:
        """Sleep until a timer is due (True) or the clock is closed (False)."""
        with self._guard:
            while not self._closed:
                deadline_ns = self._earliest() if self._ticking else None
                if deadline_ns is None:
                    self._guard.wait()
                    continue
                left_ns = deadline_ns - self.now_ns()
                if left_ns <= 0:
                    return True
                self._guard.wait(min(left_ns, _LONGEST_WAIT_NS) / 1e9)
            return False

    def _serve(self) -> None:
        while self._wait_for_due():
            with self._machine_lock:
                if self._ticking and not self._closed:
                    self.run_due()


class VirtualClock(_ThreadedClock):
    """Guest time: nanoseconds since the machine was made, not counting pauses. It starts stopped at
    0.

    `read_ns` replaces the host's monotonic time as the source, for time that is counted in
    instructions. Then no thread runs: whoever advances the source calls `run_due`, and `on_sooner`
    tells them that the earliest deadline moved forward (it may be called on any thread, and must
    not call back).
    """

    def __init__(
        self,
        lock: MachineLock,
        *,
        read_ns: Callable[[], int] | None = None,
        on_sooner: Callback | None = None,
    ) -> None:
        super().__init__(lock, "virtual clock")
        self._driven = read_ns is not None
        self._read_ns = read_ns or time.monotonic_ns
        self._on_sooner = on_sooner
        self._ticking = False
        self._elapsed_ns = 0  # what had passed when the clock last stopped
        self._base_ns = 0  # source time that corresponds to 0; meaningful while ticking

    @property
    def running(self) -> bool:
        """True between `start` and `stop`."""
        return self._ticking

    @property
    def base_ns(self) -> int:
        """Source time (monotonic host time, unless `read_ns` replaces it) that corresponds to guest
        time 0; meaningful while running.
        """
        return self._base_ns

    def now_ns(self) -> int:
        """Guest time. Runs: per read of a timer register."""
        if self._ticking:
            return self._read_ns() - self._base_ns
        return self._elapsed_ns

    def start(self) -> None:
        """Let time go on from where it stood. Does nothing if it is going."""
        with self._guard:
            if not self._ticking:
                self._base_ns = self._read_ns() - self._elapsed_ns
                self._ticking = True
                self._guard.notify_all()

    def stop(self) -> None:
        """Make time stand still. Does nothing if it stands."""
        with self._guard:
            if self._ticking:
                self._elapsed_ns = self._read_ns() - self._base_ns
                self._ticking = False
                self._guard.notify_all()

    def set_ns(self, now_ns: int) -> None:
        """Make this the time now, as loading a saved machine does."""
        with self._guard:
            self._elapsed_ns = now_ns
            self._base_ns = self._read_ns() - now_ns
            self._guard.notify_all()

    def _sooner(self) -> None:
        if not self._driven:
            super()._sooner()
        elif self._on_sooner is not None:
            self._on_sooner()


class HostClock(_ThreadedClock):
    """Wall time: nanoseconds since 1970-01-01 UTC. It follows the host's clock when that is set."""

    def __init__(self, lock: MachineLock) -> None:
        super().__init__(lock, "host clock")

    def now_ns(self) -> int:
        """Wall time."""
        return time.time_ns()


class FakeClock(Clock):
    """A test's clock: it moves only by `advance`."""

    def __init__(self, now_ns: int = 0) -> None:
        super().__init__()
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """The time it was advanced to."""
        return self._now_ns

    def advance(self, ns: int) -> int:
        """Move on by this much, running timers in order, each at its own deadline; answer how many
        ran.
        """
        end_ns = self._now_ns + ns
        fired = 0
        while (deadline_ns := self.next_deadline_ns()) is not None and deadline_ns <= end_ns:
            self._now_ns = max(self._now_ns, deadline_ns)
            fired += self.run_due()
        self._now_ns = end_ns
        return fired
