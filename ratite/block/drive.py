"""A drive: what a device uses, with a block node in it, whose requests run on a few threads.

Requests come from devices, under the machine lock; the system calls run on a worker thread without
it (and without the GIL), straight into or out of guest memory; completions run on the event loop,
under the machine lock again, one wake-up for all that are ready.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic_ns
from typing import Protocol

from ratite.block.copies import copy_in, copy_out
from ratite.block.node import BlockNode
from ratite.block.overlay import OverlayNode
from ratite.block.permission import Link, Permission
from ratite.block.pool import IoPool
from ratite.block.stats import DriveStats, RequestStats
from ratite.block.throttle import ThrottleGroup
from ratite.core.disk import (
    DEFAULT_TERMS,
    Access,
    DiskTerms,
    ErrorAction,
    IoStatus,
    JobRunner,
    OnError,
)
from ratite.core.errors import ConfigError

Done = Callable[[int], None]


class Poster(Protocol):
    """What a drive needs of the event loop."""

    def post(self, callback: Callable[[], None], /) -> None:
        """Run `callback` soon, on the loop's thread, with the machine lock held."""


class DriveUser(Protocol):
    """The device that has a drive."""

    id: str

    @property
    def path(self) -> str:
        """Its path in the composition tree."""

    def resized(self) -> None:
        """The disk has another size."""

    def retry(self) -> None:
        """Do the requests again that were kept when an error stopped the machine."""


@dataclass(slots=True)
class _Request:
    """A request that is not finished."""

    call: Callable[[], None]
    done: Done
    kind: RequestStats
    size: int
    start_ns: int
    end_ns: int = 0
    code: int = 0


class Drive:
    """A drive that devices use by the Protocol `BlockBackend` of `ratite.devices`. Without a `name`
    it exists for the device that has it only; without a node it is empty.

    A request's `done` gets 0 or a positive errno, on the loop's thread or, for what needs no
    waiting, before the request method returns. Buffers must stay valid until then. Requests may
    finish in any order; a flush covers the writes that were reported done before it was asked for.
    """

    def __init__(
        self,
        name: str,
        loop: Poster,
        pool: IoPool,
        *,
        write_cache: bool = True,
        read_only: bool = False,
        active: bool = True,
    ) -> None:
        """`active` says whether images are this machine's already."""
        self.name = name
        self.active = active
        self.write_cache = write_cache
        self.media_read_only = read_only
        """What a medium is inserted as, where nothing else is said."""
        self.stats = DriveStats()
        self.user: DriveUser | None = None
        self.on_read_error = OnError.REPORT
        self.on_write_error = OnError.ENOSPC
        self.io_status = IoStatus.OK
        self.throttle: ThrottleGroup | None = None
        self.on_release: Callable[[Drive], None] = _keep
        self.on_failure: OnFailure = _ignore
        self.quiesce: Callable[[], None] = self.drain
        self._link: Link | None = None
        self._terms = (Permission.NONE, Permission.ALL)
        self._claimed = False
        self._has_served = False
        self._loop = loop
        self._pool = pool
        self._runner: JobRunner = pool
        self._in_flight = 0
        self._ready: deque[_Request] = deque()
        self._posted = False
        self._verdict = ErrorAction.REPORT
        self._idle = threading.Condition()

    # -- the node in it

    @property
    def node(self) -> BlockNode | None:
        """What is in the drive."""
        return self._link.node if self._link is not None else None

    def insert(self, node: BlockNode) -> None:
        """Put a node into the empty drive. Raises `ConfigError` or `HostError`."""
        assert self._link is None
        self.quiesce()
        link = Link(self, "root", node)
        node.users.insert(0, link)
        self._link = link
        try:
            self._claim(*self._terms_without_device(node))
        except BaseException:
            self._link = None
            link.remove()
            raise

    def _claim(self, uses: Permission, shares: Permission) -> None:
        """Use the node so, or do so when the image is this machine's. Raises `ConfigError` or
        `HostError`.
        """
        if self._link is not None:
            if self.active:
                self._link.set(uses, shares)
            else:
                self._link.set(Permission.NONE, Permission.ALL)
        self._terms = (uses, shares)

    def _terms_without_device(self, node: BlockNode) -> tuple[Permission, Permission]:
        """A drive by name keeps other writers off its image from the beginning; one for a device
        only does so when that is there.
        """
        if not self.name:
            return Permission.NONE, Permission.ALL
        uses = Permission.CONSISTENT_READ
        if not node.read_only:
            uses |= Permission.WRITE
        return uses, Permission.ALL & ~Permission.WRITE

    def eject(self) -> BlockNode | None:
        """Take the node out; returns it."""
        self.quiesce()
        link, self._link = self._link, None
        if link is None:
            return None
        link.remove()
        return link.node

    def describe(self) -> str:
        """Who this is, as the user of a node."""
        who = self.name or self.qdev
        return f"block device '{who}'" if who else "an unnamed block device"

    def resized(self) -> None:
        """The node has another size."""
        if self.user is not None:
            self.user.resized()

    # -- the device

    @property
    def id(self) -> str:
        """What `drive=` calls it: its name, or that of the node in it."""
        node = self.node
        return self.name or (node.name if node is not None else "")

    @property
    def qdev(self) -> str:
        """Id or path of the device that has it; empty if none has."""
        return (self.user.id or self.user.path) if self.user is not None else ""

    @property
    def node_name(self) -> str:
        """The name of the node in it, or empty."""
        node = self.node
        return node.name if node is not None else ""

    @property
    def removable(self) -> bool:
        """Whether its medium can be changed: while no device has it. None of ours could follow."""
        return self.user is None

    def claim(self) -> Drive:
        """Reserve the drive for one device. Raises ConfigError if it is taken."""
        if self._claimed:
            raise ConfigError(f"Drive '{self.id}' is already in use by another device")
        self._claimed = True
        return self

    def attach(self, user: DriveUser, terms: DiskTerms = DEFAULT_TERMS) -> None:
        """Serve a device from now on. Raises `ConfigError` or `HostError` if others stand against
        it, or if the drive is empty.
        """
        if self._link is None:
            raise ConfigError("Device needs media, but drive is empty")
        uses = Permission.CONSISTENT_READ
        shares = Permission.CONSISTENT_READ | Permission.WRITE_UNCHANGED
        if not self.read_only:
            uses |= Permission.WRITE
        if terms.share_rw:
            shares |= Permission.WRITE
        if terms.may_resize:
            shares |= Permission.RESIZE
        self.quiesce()
        self.user = user
        try:
            self._claim(uses, shares)
        except BaseException:
            self.user = None
            raise
        self._runner = terms.runner or self._pool
        if terms.on_read_error is not OnError.AUTO:
            self.on_read_error = terms.on_read_error
        if terms.on_write_error is not OnError.AUTO:
            self.on_write_error = terms.on_write_error
        if terms.account_invalid is not None:
            self.stats.account_invalid = terms.account_invalid
        if terms.account_failed is not None:
            self.stats.account_failed = terms.account_failed

    def detach(self) -> None:
        """Serve the device no more, which is about to go."""
        self.quiesce()
        self.user = None
        self._runner = self._pool
        self._has_served = True
        self._claim(Permission.NONE, Permission.ALL)

    def abandon(self) -> None:
        """Lose the name: the device keeps the drive, empty, and learns of all errors."""
        self.name = ""
        self.on_read_error = self.on_write_error = OnError.REPORT

    def release(self) -> None:
        """Give up the claim. A drive that has served a device goes with it; one whose device did
        not come about is as before.
        """
        self._claimed = False
        if self._has_served or not self.name:
            self.on_release(self)
        elif self.user is not None and self._link is not None:
            self.quiesce()
            self.user = None
            self._claim(*self._terms_without_device(self._link.node))

    # -- errors

    @property
    def tells_status(self) -> bool:
        """Whether an error may stop the machine, so that the status says something."""
        policies = (self.on_read_error, self.on_write_error)
        stops = OnError.STOP in policies or self.on_write_error is OnError.ENOSPC
        return self.user is not None and stops

    def failed(self, is_write: bool, code: int) -> ErrorAction:
        """What the device shall do about an error of the host's, number `code`."""
        action = self._verdict = self._action(is_write, code)
        if action is ErrorAction.STOP and self.io_status is IoStatus.OK:
            self.io_status = IoStatus.NO_SPACE if code == errno.ENOSPC else IoStatus.FAILED
        self.on_failure(self, is_write, code, action)
        return action

    def _action(self, is_write: bool, code: int) -> ErrorAction:
        match self.on_write_error if is_write else self.on_read_error:
            case OnError.IGNORE:
                return ErrorAction.IGNORE
            case OnError.STOP:
                return ErrorAction.STOP
            case OnError.ENOSPC if code == errno.ENOSPC:
                return ErrorAction.STOP
        return ErrorAction.REPORT

    def resume(self) -> None:
        """The machine runs again: what was kept is done again."""
        self.io_status = IoStatus.OK
        if self.user is not None:
            self.user.retry()

    def refused(self, access: Access) -> None:
        """Count a request that the device refused: one beyond the disk's end, say."""
        stats = self.stats
        kinds = {Access.READ: stats.read, Access.WRITE: stats.write, Access.UNMAP: stats.unmap}
        stats.invalid(kinds[access], monotonic_ns())

    # -- requests

    @property
    def size(self) -> int:
        """Bytes, a multiple of 512; 0 if the drive is empty."""
        node = self.node
        return node.size if node is not None else 0

    @property
    def read_only(self) -> bool:
        """True if writes are refused."""
        node = self.node
        return node is not None and node.read_only

    def readv(self, offset: int, buffers: Sequence[memoryview], done: Done) -> None:
        """Fill `buffers` with the bytes from `offset` on."""
        stats, node = self.stats, self.node
        size = sum(map(len, buffers))
        start_ns = monotonic_ns()
        if node is None:
            self._finish_empty(done, stats.read, start_ns)
            return
        if self.throttle is None and node.read_cached(offset, buffers):
            stats.done(stats.read, size, start_ns, monotonic_ns())
            done(0)
            return
        call = node.readv
        request = _Request(lambda: call(offset, buffers), done, stats.read, size, start_ns)
        self._submit(request, is_write=False)

    def writev(self, offset: int, buffers: Sequence[memoryview], done: Done) -> None:
        """Write `buffers` at `offset`; on stable storage when done if `write_cache` is off."""
        size = sum(map(len, buffers))
        self._write(lambda node: node.writev(offset, buffers), size, done)

    def write_zeroes(self, offset: int, size: int, unmap: bool, done: Done) -> None:
        """Make a range read as zero; with `unmap` it need not keep its storage."""
        self._write(lambda node: node.write_zeroes(offset, size, unmap=unmap), size, done)

    def _write(self, write: Callable[[BlockNode], None], size: int, done: Done) -> None:
        node, start_ns = self.node, monotonic_ns()
        if node is None:
            self._finish_empty(done, self.stats.write, start_ns)
            return
        there = node

        def write_through() -> None:
            write(there)
            there.flush()

        call = (lambda: write(there)) if self.write_cache else write_through
        self._submit(_Request(call, done, self.stats.write, size, start_ns), is_write=True)

    def flush(self, done: Done) -> None:
        """Bring all writes reported done to stable storage."""
        node, start_ns = self.node, monotonic_ns()
        if node is None:
            self._finish_empty(done, self.stats.flush, start_ns)
        else:
            self._start(_Request(node.flush, done, self.stats.flush, 0, start_ns))

    def discard(self, offset: int, size: int, done: Done) -> None:
        """Declare that a range's content is no longer wanted."""
        node, start_ns = self.node, monotonic_ns()
        if node is None:
            self._finish_empty(done, self.stats.unmap, start_ns)
            return
        call = node.discard
        request = _Request(lambda: call(offset, size), done, self.stats.unmap, size, start_ns)
        self._start(request)

    def _finish_empty(self, done: Done, kind: RequestStats, start_ns: int) -> None:
        self.stats.failed(kind, start_ns, start_ns)
        done(errno.ENOMEDIUM)

    def _submit(self, request: _Request, *, is_write: bool) -> None:
        """Start a request, when the limits on the drive allow it."""
        if self.throttle is None:
            self._start(request)
        else:
            start = lambda: self._start(request)  # noqa: E731
            self.throttle.submit(self, request.size, start, is_write=is_write)

    def _start(self, request: _Request) -> None:
        with self._idle:
            self._in_flight += 1

        def job() -> None:
            try:
                request.call()
            except OSError as error:
                request.code = error.errno or errno.EIO
            except ValueError:  # the image was closed, or a buffer released, under the request
                request.code = errno.EIO
            self._finish(request)

        self._runner.run(job)

    def _finish(self, request: _Request) -> None:
        """Hand a completion to the loop. Runs on a worker."""
        request.end_ns = monotonic_ns()
        with self._idle:
            self._ready.append(request)
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.notify_all()
            if self._posted:
                return
            self._posted = True
        self._loop.post(self._complete)

    def _complete(self) -> None:
        self._posted = False
        ready, stats = self._ready, self.stats
        while ready:
            request = ready.popleft()
            if request.code:
                self._complete_failed(request)
                continue
            stats.done(request.kind, request.size, request.start_ns, request.end_ns)
            request.done(request.code)

    def _complete_failed(self, request: _Request) -> None:
        """Hand a failed request back. It counts as what it is to the guest: one that stops the
        machine is not finished.
        """
        self._verdict = ErrorAction.REPORT  # where the device does not ask
        request.done(request.code)
        if self._verdict is ErrorAction.REPORT:
            self.stats.failed(request.kind, request.start_ns, request.end_ns)
        elif self._verdict is ErrorAction.IGNORE:
            self.stats.done(request.kind, request.size, request.start_ns, request.end_ns)

    def drain(self) -> None:
        """Wait until no request is in flight; run the completions here, under the machine lock.
        What the limits hold back is done now.
        """
        while self._in_flight or self._ready or self._is_held_back:
            if self.throttle is not None:
                self.throttle.release(self)
            with self._idle:
                self._idle.wait_for(lambda: not self._in_flight)
            self._complete()

    @property
    def _is_held_back(self) -> bool:
        return self.throttle is not None and self.throttle.waits(self)

    # -- snapshots and migration: nothing is in flight

    @property
    def path(self) -> str:
        """The image's file; "" if it has none."""
        node = self.node
        path = os.path.realpath(node.host_path) if node is not None else ""
        return path if os.path.isfile(path) else ""

    def copy_out(self, path: str, advance: Callable[[int], object]) -> None:
        """Copy the content into a new file; `advance` gets the size of each piece. Raises
        HostError.
        """
        if self.node is not None:
            copy_out(self.node, path, advance)

    def copy_in(self, path: str) -> None:
        """Replace the content by a file's, which `copy_out` made. Raises HostError."""
        if self.node is not None:
            copy_in(self.node, path)

    def activate(self) -> None:
        """Claim the image for this machine again. Raises HostError if another has it."""
        if not self.active:
            self.active = True
            try:
                self._claim(*self._terms)
            except BaseException:
                self.active = False
                raise

    def deactivate(self) -> None:
        """Bring all writes to the image, and leave it to another machine."""
        if self.active:
            if isinstance(self.node, OverlayNode):
                self.node.end_commit()
            self.quiesce()
            if self.node is not None and not self.node.read_only:
                with contextlib.suppress(OSError):  # the guest was told about its own flushes
                    self.node.flush()
            self.active = False
            self._claim(*self._terms)

    def close(self) -> None:
        """Finish all requests and take the node out. Calls after the first do nothing."""
        self.drain()
        self.eject()


def _keep(drive: Drive) -> None:
    """Nothing follows from a release."""


OnFailure = Callable[[Drive, bool, int, ErrorAction], None]
"""Told of a request that failed: whether it was a write, the errno, and what is done about it."""


def _ignore(drive: Drive, is_write: bool, code: int, action: ErrorAction) -> None:
    """Nobody wants to know."""
