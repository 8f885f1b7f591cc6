"""Copies of a drive's content beside it: without cost where the file system can share blocks,
otherwise of what is not holes.

Source: Linux man pages ioctl_ficlone(2), lseek(2) on SEEK_DATA, fallocate(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator

from ratite.block import host_file
from ratite.block.node import BlockNode
from ratite.core.errors import HostError

_FICLONE = 0x4004_9409
_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_KEEP_SIZE = host_file.FALLOC_FL_KEEP_SIZE


def copy_out(node: BlockNode, path: str, advance: Callable[[int], object]) -> None:
    """Copy a node's content into a new file, on stable storage when done; `advance` gets the size
    of each piece. Raises HostError.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            source = node.file
            if source < 0 or not _clone(fd, source):
                os.ftruncate(fd, node.size)
                _copy_data(node, source, fd, advance)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError.from_os("copy the drive to", error, path) from error


def copy_in(node: BlockNode, path: str) -> None:
    """Replace a node's content by that of a file that `copy_out` made. Raises HostError; with
    nothing changed if that is for lack of space.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if -(-os.fstat(fd).st_size // 512) * 512 != node.size:
                raise HostError(f"the copy {path!r} has another size than the drive")
            target = node.file
            if target < 0 or not _clone(target, fd):
                _write_back(node, target, fd)
            node.flush()
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError.from_os("restore the drive from", error, path) from error


def _clone(target: int, source: int) -> bool:
    """Make one file share the blocks of another; False if the file system cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EIO):
            raise
        return False
    return True


def _copy_data(node: BlockNode, source: int, fd: int, advance: Callable[[int], object]) -> None:
    for start, end in _extents(source) if source >= 0 else [(0, node.size)]:
        for at in range(start, end, _CHUNK):
            data = bytearray(min(_CHUNK, end - at, node.size - at))
            node.readv(at, [memoryview(data)])
            if data != _ZEROS[: len(data)]:
                host_file.write_full(fd, [memoryview(data)], at)
            advance(len(data))


def _write_back(node: BlockNode, target: int, fd: int) -> None:
    """Write the copy's data, and zeros where it has holes."""
    extents = list(_extents(fd))
    if target >= 0:
        for start, end in extents:
            _reserve(target, start, end - start)
    done = 0
    for start, end in extents:
        _clear(node, done, start)
        for at in range(start, end, _CHUNK):
            data = memoryview(bytearray(min(_CHUNK, end - at)))
            host_file.read_full(fd, [data], at)
            node.writev(at, [data[: node.size - at]])
        done = end
    _clear(node, done, node.size)


def _clear(node: BlockNode, start: int, end: int) -> None:
    if end <= start:
        return
    if node.file >= 0:
        try:
            host_file.punch_hole(node.file, start, end - start)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise
    node.write_zeroes(start, end - start, unmap=True)


def _reserve(fd: int, start: int, size: int) -> None:
    """Have the file system set storage aside, where it can say."""
    try:
        host_file.fallocate(fd, _KEEP_SIZE, start, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise


def _extents(fd: int) -> Iterator[tuple[int, int]]:
    """Where a file has data: first byte, byte behind the last."""
    end = os.fstat(fd).st_size
    at = 0
    while at < end:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at
