"""A temporary overlay that takes a drive's writes and forgets them at exit (`snapshot=on`).

The overlay is an unlinked sparse file, so it costs disk space only for what the guest changes and
is gone however the process ends. A cluster of 64 KiB is copied from the image below at its first
write.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Sequence

from ratite.block import host_file
from ratite.block.image import BlockNode, CacheMode, RawImage
from ratite.core.errors import HostError

CLUSTER = 64 * 1024


class TemporaryOverlay:
    """A writable view of `base` that never writes to it.

    Raises HostError if no temporary file can be created in `directory` (default: the system's).
    """

    def __init__(self, base: BlockNode, *, directory: str | None = None) -> None:
        self.base = base
        self.name = base.name
        self.size = base.size
        self.read_only = False
        self.cache = CacheMode.UNSAFE
        self._lock = threading.Lock()
        self._present = bytearray(-(-base.size // CLUSTER))  # 1: this cluster is in the overlay
        self._fd = _unlinked_file(directory)

    def readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill `buffers` from `offset` on. Raises OSError."""
        self._check(offset, sum(map(len, buffers)))
        for view in buffers:
            self._read(offset, view)
            offset += len(view)

    def _read(self, offset: int, view: memoryview) -> None:
        while view:
            size, present = self._run(offset, len(view))
            if present:
                host_file.read_full(self._fd, [view[:size]], offset)
            else:
                self.base.readv(offset, [view[:size]])
            view = view[size:]
            offset += size

    def read_cached(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Fill `buffers` if the range lies in one file and in the page cache."""
        size = sum(map(len, buffers))
        if size == 0 or self._fd < 0 or offset < 0 or offset + size > self.size:
            return False
        run, present = self._run(offset, size)
        if run != size:
            return False
        if present:
            return host_file.read_cached(self._fd, buffers, offset)
        return self.base.read_cached(offset, buffers)

    def _run(self, offset: int, size: int) -> tuple[int, int]:
        """Return how many bytes from `offset` on lie in one file, and 1 if in the overlay."""
        first = offset // CLUSTER
        present = self._present[first]
        last = (offset + size - 1) // CLUSTER
        stop = self._present.find(1 - present, first + 1, last + 1)
        if stop < 0:
            return size, present
        return stop * CLUSTER - offset, present

    def writev(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Write `buffers` to the overlay. Raises OSError."""
        size = sum(map(len, buffers))
        self._check(offset, size)
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
        if end % CLUSTER and end != self.size:
            edges.add(end // CLUSTER)
        for index in edges:
            if not self._present[index]:
                start = index * CLUSTER
                data = memoryview(bytearray(min(CLUSTER, self.size - start)))
                self.base.readv(start, [data])
                host_file.write_full(self._fd, [data], start)
                self._present[index] = 1

    def _mark(self, offset: int, size: int) -> None:
        first, last = offset // CLUSTER, (offset + size - 1) // CLUSTER
        self._present[first : last + 1] = b"\1" * (last + 1 - first)

    def flush(self) -> None:
        """Do nothing: the data need not survive."""

    def discard(self, offset: int, size: int) -> None:
        """Ignore the advice after checking the range. Raises OSError."""
        self._check(offset, size)

    def write_zeroes(self, offset: int, size: int, *, unmap: bool = False) -> None:
        """Make a range of the overlay read as zero. Raises OSError."""
        self._check(offset, size)
        if size == 0:
            return
        with self._lock:
            self._copy_edges(offset, size)
            try:
                # Whether the overlay keeps storage for zeroes is of no interest, so `unmap` is not.
                host_file.punch_hole(self._fd, offset, size)
            except OSError:
                host_file.write_zeroes(self._fd, offset, size)
            self._mark(offset, size)

    def activate(self) -> None:
        """Claim the image below."""
        self.base.activate()

    def deactivate(self) -> None:
        """Leave the image below to another machine."""
        self.base.deactivate()

    def close(self) -> None:
        """Drop the overlay and close the image below. Calls after the first do nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.base.close()

    def _check(self, offset: int, size: int) -> None:
        if self._fd < 0:
            raise OSError(errno.EBADF, "the overlay is closed")
        if offset < 0 or size < 0 or offset + size > self.size:
            raise OSError(errno.EINVAL, "range outside the image")


def open_image(
    path: str | os.PathLike[str],
    *,
    read_only: bool = False,
    snapshot: bool = False,
    cache: CacheMode = CacheMode.WRITEBACK,
    discard: bool = False,
    locking: bool = True,
) -> BlockNode:
    """Open a raw image as `-drive` describes it.

    With `snapshot` the image itself is opened for reading only, and writes go to a temporary
    overlay. Raises HostError and ConfigError as `RawImage` and `TemporaryOverlay` do.
    """
    image = RawImage(
        path, read_only=read_only or snapshot, cache=cache, discard=discard, locking=locking
    )
    if not snapshot or read_only:
        return image
    try:
        return TemporaryOverlay(image)
    except BaseException:
        image.close()
        raise


def _unlinked_file(directory: str | None) -> int:
    where = directory or tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(prefix="ratite-overlay-", dir=where) as file:
            return os.dup(file.fileno())
    except OSError as error:
        raise HostError(
            f"cannot create a temporary overlay in {where!r}: {error.strerror}; "
            "name another directory in TMPDIR"
        ) from error
