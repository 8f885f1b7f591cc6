"""Virtio entropy device.

Source: Virtio 1.2, chapter 5.4 (entropy device).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol, cast

from ratite.core.clock import Timer
from ratite.core.errors import ConfigError
from ratite.core.trace import TraceEvent
from ratite.devices.register import State
from ratite.devices.virtio.device import VIRTIO_DEFAULTS, VirtioDevice, VirtioOptions
from ratite.devices.virtio.queue import Element, VirtQueue
from ratite.qom import Backend, Object, UInt32, UInt64, find_type, object_new

QUEUE_SIZE = 8
MAX_BYTES = (1 << 63) - 1
MAX_PIECE = 64 * 1024  # what one request gets at most
RETRY_NS = 10_000_000


@TraceEvent
def virtio_rng_request(rng: Object, size: int, quota: int) -> str:
    """The device asks its backend for bytes."""
    return f"rng {rng.path}: {size} bytes requested, {quota} bytes quota left"


@TraceEvent
def virtio_rng_pushed(rng: Object, size: int) -> str:
    """The guest gets random bytes."""
    return f"rng {rng.path}: {size} bytes pushed"


class RngBackend(Protocol):
    """A source of random bytes."""

    id: str

    def request(self, size: int, /) -> bytes:
        """Return up to `size` bytes without waiting; none if there are none at the moment."""


class VirtioRng(VirtioDevice):
    """Gives the guest random bytes: at most `max_bytes` in each `period` milliseconds.

    Without `rng` it makes itself a backend of type rng-builtin.
    """

    type_name = "virtio-rng-device"
    device_id = 4

    quota = State[int](factory=lambda device: device.max_bytes)  # bytes left in this period

    def __init__(
        self,
        *,
        rng: Annotated[RngBackend | None, Backend("rng-backend", "link<rng-backend>")] = None,
        max_bytes: UInt64 = MAX_BYTES,
        period: UInt32 = 65536,
        virtio: VirtioOptions = VIRTIO_DEFAULTS,
    ) -> None:
        self.rng = rng
        self.max_bytes = max_bytes
        self.period = period
        self._period_timer: Timer | None = None
        self._retry_timer: Timer | None = None
        super().__init__(virtio)

    def realize(self) -> None:
        """Make the queue. Raises ConfigError for properties that cannot be."""
        if self.period <= 0:
            raise ConfigError("'period' parameter expects a positive integer")
        if self.max_bytes > MAX_BYTES:
            raise ConfigError("'max-bytes' parameter must be non-negative, and less than 2^63")
        if self.rng is None:
            kind = find_type("rng-builtin")
            assert kind is not None
            self.rng = cast("RngBackend", object_new(kind, {}))
        self.quota = self.max_bytes
        self.add_queue(QUEUE_SIZE, self._run)
        super().realize()
        self._period_timer = self.transport.clock.timer(self._next_period)
        self._retry_timer = self.transport.clock.timer(self._retry)

    def unrealize(self) -> None:
        """Stop the timer and drop the queue."""
        super().unrealize()
        self.queues.clear()

    def stopped(self, queues: Sequence[VirtQueue]) -> None:
        """Stop the timers."""
        for timer in (self._period_timer, self._retry_timer):
            if timer is not None:
                timer.delete()

    def loaded(self) -> None:
        """Go on where the saved device stood."""
        super().loaded()
        self.stopped(self.queues)
        if self.quota < self.max_bytes:
            self._arm(self._period_timer, self.period * 1_000_000)

    def _arm(self, timer: Timer | None, time_ns: int) -> None:
        if timer is not None and timer.deadline_ns is None:
            timer.mod(self.transport.clock.now_ns() + time_ns)

    def _next_period(self) -> None:
        self.quota = self.max_bytes
        self._retry()

    def _retry(self) -> None:
        if not self.is_broken:
            self._run(self.queues[0])

    def _run(self, queue: VirtQueue) -> None:
        """Answer all requests as far as the quota goes."""
        queue.run(self._answer)
        queue.notify()

    def _answer(self, element: Element) -> bool:
        queue = self.queues[0]
        if not element.writable_size:
            self.broken("a request without room for an answer")
            return False
        assert self.rng is not None
        size = min(element.writable_size, self.quota, MAX_PIECE)
        if not size:  # max-bytes=0, or used up
            self._arm(self._period_timer, self.period * 1_000_000)
        if trace := self.log.trace:
            trace(virtio_rng_request, self, size, self.quota)
        data = self.rng.request(size) if size else b""
        if not data:
            queue.unpop(element)
            if size:
                self._arm(self._retry_timer, RETRY_NS)
            return False
        if self.max_bytes < MAX_BYTES:
            self.quota -= len(data)
            self._arm(self._period_timer, self.period * 1_000_000)
        queue.push(element, element.fill(data))
        if trace:
            trace(virtio_rng_pushed, self, len(data))
        return True
