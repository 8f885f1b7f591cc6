"""A temporary overlay that takes a drive's writes and forgets them at exit (`snapshot=on`).

The overlay is an unlinked sparse file, so it costs disk space only for what the guest changes and
is gone however the process ends. A cluster of 64 KiB is copied from the node below at its first
write.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence

from ratite.block import host_file
from ratite.block.node import SECTOR, BlockNode
from ratite.block.options import OverlayOptions
from ratite.block.permission import Permission
from ratite.core.errors import HostError

CLUSTER = 64 * 1024
_PASSES, _FEW = 8, 64
"""How often a commit looks for what was written meanwhile, and how many clusters are few enough to
be written at the end, when nothing else happens.
"""


class OverlayNode(BlockNode):
    """A writable view of `base` that never writes to it, but by `commit`.

    Raises HostError if no temporary file can be created in `directory` (default: the system's).
    """

    driver = "overlay"

    options: OverlayOptions

    def __init__(
        self, name: str, options: OverlayOptions, base: BlockNode, *, directory: str | None = None
    ) -> None:
        super().__init__(name, options)
        self._size = base.size
        self._shown_of_base = base.size  # what lies beyond reads as zero
        self._lock = threading.Lock()
        self._present = bytearray(-(-base.size // CLUSTER))  # 1: this cluster is in the overlay
        self.committing = False  # its content is being written to the base
        self._fd = _unlinked_file(directory)
        try:
            self.use("backing", base)
        except BaseException:
            self.close()
            raise

    @property
    def base(self) -> BlockNode:
        """The node below."""
        return self.children["backing"].node

    @property
    def size(self) -> int:
        """Bytes, a multiple of 512."""
        return self._size

    @property
    def allocated_size(self) -> int:
        """Bytes that the host keeps for what was written."""
        return os.fstat(self._fd).st_blocks * 512 if self._fd >= 0 else 0

    def needs_below(
        self, role: str, uses: Permission, shares: Permission
    ) -> tuple[Permission, Permission]:
        """The base is only read. It may change where users can live with changes here."""
        below = Permission.CONSISTENT_READ | Permission.WRITE_UNCHANGED
        if shares & Permission.WRITE:
            below |= Permission.WRITE | Permission.RESIZE
        return uses & Permission.CONSISTENT_READ, below

    def resize(self, size: int) -> None:
        """Change the size; what is added reads as zero. Raises `HostError`."""
        new = -(-size // SECTOR) * SECTOR
        with self._lock:
            if new < self._size:
                self._shown_of_base = min(self._shown_of_base, new)
                try:
                    os.ftruncate(self._fd, new)
                except OSError as error:
                    raise HostError.from_os("shrink the temporary overlay", error) from error
            clusters = -(-new // CLUSTER)
            del self._present[clusters:]
            self._present.extend(bytes(clusters - len(self._present)))
            self._size = new
        self.resized()

    # -- requests

    def _check(self, offset: int, size: int) -> None:
        if self._fd < 0:
            raise OSError(errno.EBADF, "the overlay is closed")
        super()._check(offset, size)

    def _readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        for view in buffers:
            self._read(offset, view)
            offset += len(view)

    def _read(self, offset: int, view: memoryview) -> None:
        while view:
            size, present = self._run(offset, len(view))
            if present:
                host_file.read_full(self._fd, [view[:size]], offset)
            else:
                self._read_base(offset, view[:size])
            view = view[size:]
            offset += size

    def _read_base(self, offset: int, view: memoryview) -> None:
        size = max(0, min(len(view), self._shown_of_base - offset))
        if size:
            self.base.readv(offset, [view[:size]])
        view[size:] = bytes(len(view) - size)

    def read_cached(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Fill `buffers` if the range lies in one file and in the page cache."""
        size = sum(map(len, buffers))
        if size == 0 or self._fd < 0 or offset < 0 or offset + size > self._size:
            return False
        run, present = self._run(offset, size)
        if run != size:
            return False
        if present:
            return host_file.read_cached(self._fd, buffers, offset)
        return offset + size <= self._shown_of_base and self.base.read_cached(offset, buffers)

    def _run(self, offset: int, size: int) -> tuple[int, int]:
        """Return how many bytes from `offset` on lie in one file, and 1 if in the overlay."""
        first = offset // CLUSTER
        present = self._present[first]
        last = (offset + size - 1) // CLUSTER
        stop = self._present.find(1 - present, first + 1, last + 1)
        if stop < 0:
            return size, present
        return stop * CLUSTER - offset, present

    def _writev(self, offset: int, buffers: Sequence[memoryview]) -> None:
        size = sum(map(len, buffers))
        if size == 0:
            return
        with self._lock:
            self._copy_edges(offset, size)
            host_file.write_full(self._fd, buffers, offset)
            self._mark(offset, size)

    def _copy_edges(self, offset: int, size: int) -> None:
        """Copy the clusters that a write covers only in part."""
        end = offset + size
        edges = {offset // CLUSTER} if offset % CLUSTER else set()
        if end % CLUSTER and end != self._size:
            edges.add(end // CLUSTER)
        for index in edges:
            if not self._present[index]:
                start = index * CLUSTER
                data = memoryview(bytearray(min(CLUSTER, self._size - start)))
                self._read_base(start, data)
                host_file.write_full(self._fd, [data], start)
                self._present[index] = 1

    def _mark(self, offset: int, size: int) -> None:
        first, last = offset // CLUSTER, (offset + size - 1) // CLUSTER
        self._present[first : last + 1] = b"\1" * (last + 1 - first)

    def _flush(self) -> None:
        """Do nothing: the data need not survive."""

    def _discard(self, offset: int, size: int) -> None:
        """Ignore the advice."""

    def _write_zeroes(self, offset: int, size: int, *, unmap: bool) -> None:
        with self._lock:
            self._copy_edges(offset, size)
            try:
                # Whether the overlay keeps storage for zeroes is of no interest, so `unmap` is not.
                host_file.punch_hole(self._fd, offset, size)
            except OSError:
                host_file.write_zeroes(self._fd, offset, size)
            self._mark(offset, size)

    # -- life

    def begin_commit(self) -> None:
        """Take care that nobody else writes to the base. Raises OSError if somebody does."""
        if self.committing:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self.committing = True

    def copy_down(self) -> None:
        """Write most of what is here to the base, which must be writable and large enough, while
        this is in use: what is written meanwhile stays here. Any thread. Raises OSError, with
        nothing lost.
        """
        left = len(self._present) + 1
        for _ in range(_PASSES):
            before, left = left, self._present.count(1)
            if left <= _FEW or left == before:
                break
            for start, end in list(self._written()):
                for at in range(start, end, CLUSTER):
                    with self._lock:
                        if not self.committing:
                            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
                        self._move_down(at)
        self.base.flush()

    def _move_down(self, at: int) -> None:
        """Write a cluster to the base, as far as that reaches, and show it from there."""
        size = min(CLUSTER, self._size - at)
        if size <= 0 or not self._present[at // CLUSTER] or at + size > self.base.size:
            return
        data = memoryview(bytearray(size))
        host_file.read_full(self._fd, [data], at)
        self.base.writev(at, [data])
        if at + size > self._shown_of_base:
            return  # the base is not looked at there before the end
        self._present[at // CLUSTER] = 0

    def commit(self) -> None:
        """Write what is here to the base, which must be writable and large enough, and forget it
        here. Nobody uses this meanwhile. Raises OSError, with nothing forgotten.
        """
        for start, end in self._written():
            for at in range(start, end, CLUSTER):
                data = memoryview(bytearray(min(CLUSTER, end - at)))
                host_file.read_full(self._fd, [data], at)
                self.base.writev(at, [data])
        self.base.flush()
        os.ftruncate(self._fd, 0)
        self._present[:] = bytes(len(self._present))
        self._shown_of_base = self._size

    def end_commit(self) -> None:
        """The base is only read again, soon."""
        with self._lock:
            self.committing = False

    def _written(self) -> Iterator[tuple[int, int]]:
        """The ranges that the overlay has, in bytes."""
        at = self._present.find(1)
        while at >= 0:
            stop = self._present.find(0, at)
            stop = len(self._present) if stop < 0 else stop
            yield at * CLUSTER, min(stop * CLUSTER, self._size)
            at = self._present.find(1, stop)

    def close(self) -> None:
        """Drop the overlay. Calls after the first do nothing."""
        self.end_commit()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _unlinked_file(directory: str | None) -> int:
    where = directory or tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(prefix="ratite-overlay-", dir=where) as file:
            return os.dup(file.fileno())
    except OSError as error:
        raise HostError(
            f"cannot create a temporary overlay in {where!r}: {error.strerror}",
            error.errno or 0,
            hint="name another directory in TMPDIR",
        ) from error
