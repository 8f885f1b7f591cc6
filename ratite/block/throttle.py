"""Limits on bytes and requests per second, for drives alone or in groups.

Source: QEMU's document "I/O throttling", for what the limits mean. Each limit is a leaky bucket:
requests pour in, it leaks at the rate allowed, and while it holds more than its size they wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ratite.core.errors import ConfigError

LARGEST = 10**15
SECOND_NS = 1_000_000_000
KINDS = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
_READ_KINDS = ("bps", "bps_rd", "iops", "iops_rd")
_WRITE_KINDS = ("bps", "bps_wr", "iops", "iops_wr")


@dataclass(frozen=True, slots=True)
class Rate:
    """One limit, per second: `average` in the long run, and up to `burst` for `burst_s` seconds."""

    average: int = 0
    burst: int = 0
    burst_s: int = 1


NO_RATE = Rate()


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits of a drive; a kind that is missing has none. With `iops_size` a longer request
    counts as several.
    """

    rates: Mapping[str, Rate] = field(default_factory=dict)
    iops_size: int = 0

    @classmethod
    def of(cls, values: Mapping[str, int]) -> Limits:
        """From numbers by name: `bps`, `bps_max`, `bps_max_length`, ..., `iops_size`."""
        rates = {
            kind: Rate(
                values.get(kind, 0),
                values.get(f"{kind}_max", 0),
                values.get(f"{kind}_max_length", 1),
            )
            for kind in KINDS
        }
        return cls(rates, values.get("iops_size", 0))

    def rate(self, kind: str) -> Rate:
        """The limit of one of `KINDS`."""
        return self.rates.get(kind, NO_RATE)

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return any(rate.average for rate in self.rates.values())

    def check(self) -> None:
        """Raise `ConfigError` for limits that contradict each other."""
        for unit in ("bps", "iops"):
            total, *parts = (self.rate(kind) for kind in KINDS if kind.startswith(unit))
            for part in parts:
                if (total.average and part.average) or (total.burst and part.burst):
                    raise ConfigError(
                        "bps/iops/max total values and read/write values cannot be used at the "
                        "same time"
                    )
        if self.iops_size and not any(
            self.rate(kind).average for kind in KINDS if kind.startswith("iops")
        ):
            raise ConfigError("iops size requires an iops value to be set")
        for kind in KINDS:
            _check_rate(self.rate(kind))
        if not 0 <= self.iops_size < 1 << 63:
            raise ConfigError(f"iops size must be within [0, {(1 << 63) - 1}]")


def _check_rate(rate: Rate) -> None:
    if not (0 <= rate.average <= LARGEST and 0 <= rate.burst <= LARGEST):
        raise ConfigError(f"bps/iops/max values must be within [0, {LARGEST}]")
    if rate.burst_s == 0:
        raise ConfigError("the burst length cannot be 0")
    if rate.burst_s != 1 and not rate.burst:
        raise ConfigError("burst length set without burst rate")
    if rate.burst_s < 0 or rate.burst_s * rate.burst > LARGEST:
        raise ConfigError("burst length too high for this burst rate")
    if rate.burst and not rate.average:
        raise ConfigError("bps_max/iops_max require corresponding bps/iops values")
    if rate.burst and rate.burst < rate.average:
        raise ConfigError("bps_max/iops_max cannot be lower than bps/iops")


class _Bucket:
    """One limit at work."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._level = 0.0  # of what came in, leaking at the average rate
        self._burst_level = 0.0  # the same, leaking at the burst's rate

    def leak(self, elapsed_s: float) -> None:
        self._level = max(0.0, self._level - self._rate.average * elapsed_s)
        if self._rate.burst_s > 1:
            self._burst_level = max(0.0, self._burst_level - self._rate.burst * elapsed_s)

    def pour(self, amount: float) -> None:
        self._level += amount
        if self._rate.burst_s > 1:
            self._burst_level += amount

    @property
    def wait_s(self) -> float:
        """How long until the next request may start."""
        rate = self._rate
        if not rate.average:
            return 0.0
        size = rate.burst * rate.burst_s if rate.burst else rate.average / 10
        wait_s = (self._level - size) / rate.average
        if rate.burst_s > 1:
            wait_s = max(wait_s, (self._burst_level - rate.burst / 10) / rate.burst)
        return max(0.0, wait_s)


class ThrottleLoop(Protocol):
    """What throttling needs of the event loop."""

    def post_after(self, delay_ns: int, callback: Callable[[], object], /) -> None:
        """Run `callback` after some host time, with the machine lock held."""


@dataclass(slots=True)
class _Waiting:
    owner: object
    size: int
    start: Callable[[], None]


class ThrottleGroup:
    """Drives that share limits. Used with the machine lock held. Reads and writes wait in a queue
    each, in the order in which they came.
    """

    def __init__(self, name: str, loop: ThrottleLoop, now_ns: Callable[[], int]) -> None:
        self.name = name
        self.members: set[object] = set()
        self.stays = False
        """Whether it is there without members, too."""
        self.limits = Limits()
        self._loop = loop
        self._now_ns = now_ns
        self._buckets = {kind: _Bucket(NO_RATE) for kind in KINDS}
        self._leaked_ns = now_ns()
        self._queues: tuple[deque[_Waiting], deque[_Waiting]] = (deque(), deque())
        self._pending = [0, 0]  # the number of the timer that each queue waits for; 0: none
        self._timers = 0

    def set(self, limits: Limits) -> None:
        """Replace the limits, with all buckets empty. Raises `ConfigError`."""
        limits.check()
        self.limits = limits
        self._buckets = {kind: _Bucket(limits.rate(kind)) for kind in KINDS}
        self._pending = [0, 0]
        for is_write in (False, True):
            self._go_on(is_write)

    def submit(
        self, owner: object, size: int, start: Callable[[], None], *, is_write: bool
    ) -> None:
        """Call `start` now, or when the limits allow it."""
        self._queues[is_write].append(_Waiting(owner, size, start))
        if not self._pending[is_write]:
            self._go_on(is_write)

    def release(self, owner: object) -> None:
        """Start all that waits of one member, whatever the limits say."""
        for is_write in (False, True):
            queue = self._queues[is_write]
            mine = [entry for entry in queue if entry.owner is owner]
            others = [entry for entry in queue if entry.owner is not owner]
            queue.clear()
            queue.extend(others)
            for entry in mine:
                self._pour(entry.size, is_write)
                entry.start()

    def waits(self, owner: object) -> bool:
        """Whether something of a member waits."""
        return any(entry.owner is owner for queue in self._queues for entry in queue)

    def _go_on(self, is_write: bool) -> None:
        queue = self._queues[is_write]
        while queue:
            wait_s = self._wait_s(is_write)
            if wait_s > 0:
                self._wait(is_write, min(int(wait_s * SECOND_NS) + 1, SECOND_NS))
                return
            entry = queue.popleft()
            self._pour(entry.size, is_write)
            entry.start()

    def _wait(self, is_write: bool, delay_ns: int) -> None:
        """Look again later, at least every second: so a timer that nobody needs any more goes."""
        self._timers += 1
        number = self._pending[is_write] = self._timers
        self._loop.post_after(delay_ns, lambda: self._due(is_write, number))

    def _due(self, is_write: bool, number: int) -> None:
        if self._pending[is_write] == number:
            self._pending[is_write] = 0
            self._go_on(is_write)

    def _limited_by(self, is_write: bool) -> tuple[str, ...]:
        return _WRITE_KINDS if is_write else _READ_KINDS

    def _wait_s(self, is_write: bool) -> float:
        now_ns = self._now_ns()
        elapsed_s = (now_ns - self._leaked_ns) / SECOND_NS
        self._leaked_ns = now_ns
        for bucket in self._buckets.values():
            bucket.leak(elapsed_s)
        return max(self._buckets[kind].wait_s for kind in self._limited_by(is_write))

    def _pour(self, size: int, is_write: bool) -> None:
        requests = 1.0
        if self.limits.iops_size and size > self.limits.iops_size:
            requests = size / self.limits.iops_size
        for kind in self._limited_by(is_write):
            self._buckets[kind].pour(size if kind.startswith("bps") else requests)
