"""A drive: a block node with an id, whose requests run on a few threads.

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
from queue import SimpleQueue
from typing import Protocol

from ratite.block.copies import copy_in, copy_out
from ratite.block.image import BlockNode
from ratite.core.errors import ConfigError
from ratite.core.threads import NamedThread

Done = Callable[[int], None]


class Poster(Protocol):
    """What a drive needs of the event loop."""

    def post(self, callback: Callable[[], None], /) -> None:
        """Run `callback` soon, on the loop's thread, with the machine lock held."""


class IoPool:
    """Worker threads for blocking system calls, started when first needed.

    One pool may serve any number of drives and machines.
    """

    def __init__(self, threads: int = 4) -> None:
        self._limit = threads
        self._threads: list[threading.Thread] = []
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()

    def run(self, job: Callable[[], None]) -> None:
        """Run `job` on a worker. It must not raise."""
        self._jobs.put(job)
        if len(self._threads) < self._limit:
            with self._lock:
                if len(self._threads) < self._limit:
                    thread = NamedThread("block-io", self._work)
                    self._threads.append(thread)
                    thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def close(self) -> None:
        """Finish the queued jobs and end the threads."""
        with self._lock:
            threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join()


@dataclass(slots=True)
class DriveStats:
    """Completed requests and their bytes, for `query-blockstats`."""

    rd_operations: int = 0
    rd_bytes: int = 0
    wr_operations: int = 0
    wr_bytes: int = 0
    flush_operations: int = 0
    unmap_operations: int = 0
    unmap_bytes: int = 0
    failed_operations: int = 0


class Drive:
    """A drive that devices use by the Protocol `BlockBackend` of `ratite.devices`.

    A request's `done` gets 0 or a positive errno, on the loop's thread or, for what needs no
    waiting, before the request method returns. Buffers must stay valid until then. Requests may
    finish in any order; a flush covers the writes that were reported done before it was asked for.
    """

    def __init__(
        self, id: str, node: BlockNode, loop: Poster, pool: IoPool, *, active: bool = True
    ) -> None:
        """`active` says whether the image is this machine's already."""
        self.id = id
        self.active = active
        self.node = node
        self.write_cache = node.cache.write_cache
        self.stats = DriveStats()
        self._claimed = False
        self._closed = False
        self._loop = loop
        self._pool = pool
        self._in_flight = 0
        self._ready: deque[tuple[Done, int]] = deque()
        self._posted = False
        self._idle = threading.Condition()

    def claim(self) -> Drive:
        """Reserve the drive for one device. Raises ConfigError if it is taken."""
        if self._claimed:
            raise ConfigError(f"drive {self.id!r} is in use by another device already")
        self._claimed = True
        return self

    def release(self) -> None:
        """Give up the claim."""
        self._claimed = False

    @property
    def size(self) -> int:
        """Bytes, a multiple of 512."""
        return self.node.size

    @property
    def read_only(self) -> bool:
        """True if writes are refused."""
        return self.node.read_only

    def readv(self, offset: int, buffers: Sequence[memoryview], done: Done) -> None:
        """Fill `buffers` with the bytes from `offset` on."""
        stats = self.stats
        stats.rd_operations += 1
        stats.rd_bytes += sum(map(len, buffers))
        if self.node.read_cached(offset, buffers):
            done(0)
        else:
            self._submit(lambda: self.node.readv(offset, buffers), done)

    def writev(self, offset: int, buffers: Sequence[memoryview], done: Done) -> None:
        """Write `buffers` at `offset`; on stable storage when done if `write_cache` is off."""
        stats = self.stats
        stats.wr_operations += 1
        stats.wr_bytes += sum(map(len, buffers))
        self._submit_write(lambda: self.node.writev(offset, buffers), done)

    def flush(self, done: Done) -> None:
        """Bring all writes reported done to stable storage."""
        self.stats.flush_operations += 1
        self._submit(self.node.flush, done)

    def discard(self, offset: int, size: int, done: Done) -> None:
        """Declare that a range's content is no longer wanted."""
        self.stats.unmap_operations += 1
        self.stats.unmap_bytes += size
        self._submit(lambda: self.node.discard(offset, size), done)

    def write_zeroes(self, offset: int, size: int, unmap: bool, done: Done) -> None:
        """Make a range read as zero; with `unmap` it need not keep its storage."""
        self.stats.wr_operations += 1
        self.stats.wr_bytes += size
        self._submit_write(lambda: self.node.write_zeroes(offset, size, unmap=unmap), done)

    def _submit_write(self, write: Callable[[], None], done: Done) -> None:
        if self.write_cache:
            self._submit(write, done)
            return

        def write_through() -> None:
            write()
            self.node.flush()

        self._submit(write_through, done)

    def _submit(self, call: Callable[[], None], done: Done) -> None:
        with self._idle:
            self._in_flight += 1

        def job() -> None:
            try:
                call()
            except OSError as error:
                self._finish(done, error.errno or errno.EIO)
            except ValueError:  # the image was closed, or a buffer released, under the request
                self._finish(done, errno.EIO)
            else:
                self._finish(done, 0)

        self._pool.run(job)

    def _finish(self, done: Done, code: int) -> None:
        """Hand a completion to the loop. Runs on a worker."""
        with self._idle:
            if code:
                self.stats.failed_operations += 1
            self._ready.append((done, code))
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.notify_all()
            if self._posted:
                return
            self._posted = True
        self._loop.post(self._complete)

    def _complete(self) -> None:
        self._posted = False
        ready = self._ready
        while ready:
            done, code = ready.popleft()
            done(code)

    def drain(self) -> None:
        """Wait until no request is in flight; run the completions here, under the machine lock."""
        while self._in_flight or self._ready:
            with self._idle:
                self._idle.wait_for(lambda: not self._in_flight)
            self._complete()

    # -- snapshots and migration: nothing is in flight

    @property
    def path(self) -> str:
        """The image's file; "" if it has none."""
        path = os.path.realpath(self.node.name)  # it may be a descriptor's
        return path if os.path.isfile(path) else ""

    def copy_out(self, path: str) -> None:
        """Copy the content into a new file. Raises HostError."""
        copy_out(self.node, path)

    def copy_in(self, path: str) -> None:
        """Replace the content by a file's, which `copy_out` made. Raises HostError."""
        copy_in(self.node, path)

    def activate(self) -> None:
        """Claim the image for this machine again. Raises HostError if another has it."""
        if not self.active:
            self.node.activate()
            self.active = True

    def deactivate(self) -> None:
        """Bring all writes to the image, and leave it to another machine."""
        if self.active:
            self.drain()
            with contextlib.suppress(OSError):  # the guest was told about its own flushes
                self.node.flush()
            self.node.deactivate()
            self.active = False

    def close(self) -> None:
        """Drain, flush what the host still caches of a writable image, and close the node.

        Calls after the first do nothing.
        """
        if self._closed:
            return
        self._closed = True
        self.drain()
        try:
            if self.active and not self.node.read_only:
                self.node.flush()
        except OSError:
            pass  # nobody is left to tell, and the guest was told about its own flushes
        self.node.close()
