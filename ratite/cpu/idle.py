"""vCPUs that never run, and time that somebody else drives: a machine for tests of its devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ratite.core.clock import VirtualClock
from ratite.core.lock import MachineLock
from ratite.cpu.vcpu import Runner, Vcpu
from ratite.native import i64

FOREVER_NS = (1 << 63) - 1


class IdleRunner(Runner):
    """Drives no vCPU. Guest time stands still but for `advance`."""

    def __init__(
        self, vcpus: Sequence[Vcpu], lock: MachineLock, clock: VirtualClock, now: list[int]
    ) -> None:
        super().__init__(vcpus, lock, clock)
        self._now = now  # nanoseconds, read by the clock
        self.on_resume: Callable[[], None] = lambda: None
        """Called whenever guest time may be moved from now on."""

    def _start_threads(self) -> None:
        """There are none."""

    def _follow_clock(self) -> None:
        for vcpu in self.vcpus:
            vcpu.state.time_stopped = i64(self.clock.now_ns())

    def set_time(self, now_ns: int) -> None:
        """Time is moved from there on."""
        self._now[0] = now_ns
        super().set_time(now_ns)

    def resume(self) -> None:
        """Let guest time be moved."""
        super().resume()
        self.on_resume()

    def advance(self, to_ns: int) -> None:
        """Make this the guest time, if it is later than now, running timers in order, each at its
        own deadline. Nothing happens while the clock is stopped. The machine lock is held.
        """
        to_ns = min(to_ns, FOREVER_NS)
        while (left := to_ns - self.clock.now_ns()) > 0 and self.clock.running:
            deadline = self.clock.next_deadline_ns()
            if deadline is not None:
                left = max(0, min(left, deadline - self.clock.now_ns()))
            self._now[0] += left
            self._follow_clock()
            self.clock.run_due()
