"""Pre-copy migration, the source's side: all memory while the guest runs, what it writes meanwhile
in rounds, then, with the guest stopped, the rest and the state of all parts.

How no write is missed, in each round:

1. The dirty bytes are taken: those that were 1 become 0. From here on a store to such a page
   through an old softmmu TLB entry would go unnoticed.
2. All vCPUs drop their TLBs, and it is waited for. What they stored before by an old entry is in
   memory now; a new entry is made NOT_DIRTY, and a store through it sets the byte first.
3. Only then the pages are read. A store that comes while one is read, or later, has set its byte
   and sends the page again in the next round.

Devices write first and set the byte afterwards, so that the byte outlives any round that read the
page too early. For the last round no vCPU runs, nothing of a drive is in flight, and the machine
lock is held from then until the last pages and all state are in a buffer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from ratite.core.errors import ConfigError, HostError
from ratite.core.threads import NamedThread
from ratite.memory import PAGE_SIZE, DirtyClient, RAMBlock, runs
from ratite.migration import pages
from ratite.migration.channel import Aborted, Channel, Connect
from ratite.migration.host import Host
from ratite.migration.settings import Capabilities, Capability, Parameters
from ratite.migration.stream import (
    NO_FLAGS,
    Flag,
    Kind,
    Reader,
    StreamError,
    Writer,
    unpack,
)
from ratite.migration.vmstate import write_identity, write_states

T = TypeVar("T")
MIGRATION = DirtyClient.MIGRATION
_WINDOW_S = 0.1
"""The bandwidth limit holds over each piece of this length."""
_LEAST_RATE = 1 << 20
_MOST_BUFFERED = 8 << 20
"""Bytes of pages that the last buffer may hold."""


class Status(Enum):
    """How far a migration is."""

    NONE = "none"
    SETUP = "setup"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    ACTIVE = "active"
    POSTCOPY_ACTIVE = "postcopy-active"
    POSTCOPY_PAUSED = "postcopy-paused"
    POSTCOPY_RECOVER = "postcopy-recover"
    COMPLETED = "completed"
    FAILED = "failed"
    COLO = "colo"
    PRE_SWITCHOVER = "pre-switchover"
    DEVICE = "device"
    WAIT_UNPLUG = "wait-unplug"

    @property
    def over(self) -> bool:
        """Whether it is not going on."""
        return self in (Status.NONE, Status.COMPLETED, Status.FAILED, Status.CANCELLED)


@dataclass
class Progress:
    """What has been sent. Times are monotonic seconds; -1: not yet."""

    total: int = 0
    remaining: int = 0
    counts: pages.PageCounts = field(default_factory=pages.PageCounts)
    transferred: int = 0
    precopy_bytes: int = 0
    downtime_bytes: int = 0
    syncs: int = 0
    dirty_rate: int = 0
    bandwidth: float = 0.0  # bytes a second
    begun: float = -1
    active: float = -1
    stopped: float = -1
    ended: float = -1


Pending = list[tuple[RAMBlock, bytes]]
"""The dirty bytes of each block."""


class Outgoing:
    """One migration away from here, on a thread of its own."""

    def __init__(
        self,
        host: Host,
        connect: Connect,
        capabilities: Capabilities,
        parameters: Callable[[], Parameters],
    ) -> None:
        self.status = Status.SETUP
        self.error = ""
        self.progress = Progress()
        self.throttle = 0
        self._host = host
        self._connect = connect
        self._capabilities = capabilities
        self._parameters = parameters
        self._yanked = False
        self._cancel = threading.Event()
        self._go_on = threading.Event()
        self._over = threading.Event()
        self._channel: Channel | None = None
        self._reader: Reader | None = None
        self._before = ""
        self._window = (0.0, 0)
        self._limited = False
        self._thread = NamedThread("live_migration", self._run)

    # -- from outside

    def start(self) -> None:
        """Begin; with the machine lock held."""
        self.progress.begun = time.monotonic()
        self._host.migrating(self.status.value)
        self._thread.start()

    def cancel(self) -> None:
        """Give up, and let the guest go on here. Any thread; returns at once. Does nothing once it
        is over.
        """
        if not self.status.over and self.status is not Status.CANCELLING:
            self._to(Status.CANCELLING)
            self.abandon()

    def yank(self) -> None:
        """Have it fail, whatever the other end does."""
        self._yanked = True
        if self._channel is not None:
            self._channel.yank()

    def abandon(self) -> None:
        """Stop whatever it waits for."""
        self._cancel.set()
        self._go_on.set()
        if self._channel is not None:
            self._channel.abort()

    def go_on(self) -> None:
        """Leave the pause before the switchover."""
        self._go_on.set()

    @property
    def connected(self) -> bool:
        """Whether it goes on."""
        return not self.status.over

    @property
    def completed(self) -> bool:
        """Whether the guest is there."""
        return self.status is Status.COMPLETED

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False after `timeout` seconds."""
        return self._over.wait(timeout)

    def join(self) -> None:
        """Wait for the thread, without the machine lock."""
        with self._host.machine.lock.unlocked():
            self._thread.join()

    # -- the thread

    def _run(self) -> None:
        outcome, error = Status.COMPLETED, ""
        try:
            self._migrate()
        except (Aborted, CancelledError):
            outcome = Status.CANCELLED
        except (ConfigError, HostError, OSError) as failure:
            outcome, error = Status.FAILED, str(failure)
            if self._cancel.is_set():
                outcome, error = Status.CANCELLED, ""
        finally:
            try:
                self._on_loop(lambda: self._finish(outcome, error), always=True)
            except CancelledError:
                pass  # the machine is being closed
            if self._channel is not None:
                self._channel.close()
            self._over.set()

    def _migrate(self) -> None:
        self._channel = channel = self._connect()
        if self._yanked:  # meanwhile
            channel.yank()
        if self._cancel.is_set():
            raise Aborted
        writer = Writer(self._send, Flag.ANSWERS if channel.answers else NO_FLAGS)
        self._on_loop(lambda: write_identity(writer, self._host.machine))
        self._await_answer()
        self.progress.active = time.monotonic()
        self._precopy(writer)
        self._on_loop(self._stop)
        if self._capabilities.has(Capability.PAUSE_BEFORE_SWITCHOVER):
            self._to(Status.PRE_SWITCHOVER)
            self._go_on.wait()
            self._check()
            self._to(Status.DEVICE)
        self._limited = False
        if self._count_dirty() > _MOST_BUFFERED:
            self._send_pages(writer, self._sync())
        rest: list[bytes] = []
        self._on_loop(lambda: self._collect(writer, rest))
        for data in rest:
            self._send(data)
        writer.redirect(self._send)
        self._await_answer()
        if channel.answers:
            writer.section(Kind.GO, "go", b"")
        channel.finish()

    # -- the rounds

    def _precopy(self, writer: Writer) -> None:
        """Rounds, until the rest can be sent in the time that the guest may stand still."""
        pending = self._sync()
        self._to(Status.ACTIVE)
        self._limited = True
        while True:
            before, sent = time.monotonic(), self.progress.transferred
            self._send_pages(writer, pending)
            spent = max(time.monotonic() - before, 1e-6)
            self._measure(self.progress.transferred - sent, spent)
            dirty = self._count_dirty()
            self.progress.remaining = dirty
            self.progress.dirty_rate = int(dirty / PAGE_SIZE / spent)
            limit_s = self._parameters().downtime_limit / 1000
            if dirty <= self.progress.bandwidth * limit_s:
                return
            self._converge(dirty, self.progress.transferred - sent)
            pending = self._sync()

    def _measure(self, sent: int, spent: float) -> None:
        limit = self._parameters().max_bandwidth
        rate = max(sent / spent, _LEAST_RATE)
        self.progress.bandwidth = min(rate, limit) if limit else rate

    def _count_dirty(self) -> int:
        """Bytes of pages that are dirty now."""
        return PAGE_SIZE * self._host.machine.ram.count_dirty(MIGRATION)

    def _sync(self) -> Pending:
        """What is to be sent next; see the module's text for why this order."""
        ram = self._host.machine.ram
        taken = [
            (block, ram.take_dirty(MIGRATION, block.offset, block.size)) for block in ram.blocks
        ]
        self._host.runner.forget_translations()
        progress = self.progress
        progress.total = sum(block.size for block, _ in taken)
        progress.remaining = PAGE_SIZE * sum(dirty.count(1) for _, dirty in taken)
        progress.syncs += 1
        number = progress.syncs
        self._host.loop.post(lambda: self._host.migration_pass(number))
        return taken

    def _send_pages(self, writer: Writer, pending: Pending) -> None:
        for block, dirty in pending:
            for start, stop in runs(dirty):
                for first, count in pages.chunks(start, stop):
                    payload = pages.encode(block, first, count, self.progress.counts)
                    writer.section(Kind.RAM, pages.PREFIX + block.idstr, payload)
                    self.progress.remaining -= count * PAGE_SIZE

    def _converge(self, dirty: int, sent: int) -> None:
        """Slow the guest down if it writes more than a part of what is sent meanwhile."""
        if not self._capabilities.has(Capability.AUTO_CONVERGE) or self.progress.syncs < 2:
            return
        wanted = self._parameters()
        if dirty * 100 < sent * wanted.throttle_trigger_threshold:
            return
        more = self.throttle + wanted.cpu_throttle_increment
        self.throttle = min(
            more if self.throttle else wanted.cpu_throttle_initial, wanted.max_cpu_throttle
        )
        self._host.runner.throttle.set(self.throttle)

    # -- the switchover, on the main loop with the machine lock held

    def _stop(self) -> None:
        host = self._host
        self._check()
        self._before = host.state_name
        self.progress.stopped = time.monotonic()
        self.progress.precopy_bytes = self.progress.transferred
        host.runner.throttle.set(0)
        host.pause_for("finish-migrate")

    def _collect(self, writer: Writer, rest: list[bytes]) -> None:
        """The last pages and the state of all parts; the images are the other machine's from now
        on.
        """
        self._check()
        host = self._host
        for disk in host.disks.values():
            disk.drain()
        writer.redirect(rest.append)
        self._send_pages(writer, self._sync())
        write_states(writer, host.machine, running=self._before == "running")
        writer.end()
        for disk in host.disks.values():
            disk.deactivate()

    def _finish(self, outcome: Status, error: str) -> None:
        """All is over: the guest stays stopped, or goes on here."""
        host = self._host
        host.machine.ram.mark_all(MIGRATION)
        host.runner.throttle.set(0)
        self.throttle = 0
        progress = self.progress
        progress.ended = time.monotonic()
        progress.downtime_bytes = progress.transferred - progress.precopy_bytes
        if outcome is Status.COMPLETED:
            progress.remaining = 0
            host.leave("postmigrate", run=False)
        elif self._before:
            try:
                for disk in host.disks.values():
                    disk.activate()
            except HostError as refused:
                outcome, error = Status.FAILED, f"{error or 'cancelled'}; {refused}"
                host.leave("paused", run=False)
            else:
                if host.state_name == "finish-migrate":
                    host.leave(self._before, run=self._before == "running")
        self.error = error
        self._to(outcome)

    # -- the channel

    def _send(self, data: bytes) -> None:
        """Send, not faster than the limit says; look whether the other end has given up."""
        channel = self._channel
        assert channel is not None
        self._check()
        if channel.readable:
            self._await_answer()
            raise HostError("the destination answers what it was not asked")
        self._keep_to_limit(len(data))
        try:
            channel.write(data)
        except HostError:
            if channel.readable:
                self._await_answer()  # says why
            raise
        self.progress.transferred += len(data)

    def _keep_to_limit(self, size: int) -> None:
        limit = self._parameters().max_bandwidth
        if not limit or not self._limited:
            return
        now = time.monotonic()
        start, sent = self._window
        if now - start >= _WINDOW_S:
            start, sent = now, 0
        sent += size
        self._window = (start, sent)
        ahead = sent / limit - (now - start)
        if sent > limit * _WINDOW_S and ahead > 0:
            self._cancel.wait(ahead)
            self._check()

    def _await_answer(self) -> None:
        """The other end has done what it was sent, or says why not; where it can say anything."""
        channel = self._channel
        assert channel is not None
        if not channel.answers:
            return
        try:
            if self._reader is None:
                self._reader = Reader(channel.read)
            section = self._reader.section()
            answer = unpack(section)
        except StreamError:
            raise HostError("the destination ended before it had taken over the guest") from None
        if section.kind is not Kind.ANSWER or not isinstance(answer, dict):
            raise HostError("the destination answers nonsense")
        if error := answer.get("error"):
            raise HostError(f"the destination refuses: {str(error)[:1000]}")

    # -- the rest

    def _check(self) -> None:
        if self._cancel.is_set():
            raise Aborted

    def _to(self, status: Status) -> None:
        if status is not Status.CANCELLING and self.status is Status.CANCELLING:
            if not status.over:
                return
        self.status = status
        self._host.migrating(status.value)

    def _on_loop(self, work: Callable[[], T], *, always: bool = False) -> T:
        """Do something on the main loop, with the machine lock held; not waiting longer than the
        machine lives.
        """
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        self._host.loop.post(run)
        while True:
            try:
                return future.result(0.2)
            except FutureTimeout:
                if self._cancel.is_set() and not always and future.cancel():
                    raise Aborted from None
                if self._host.gone and future.cancel():
                    raise CancelledError from None
