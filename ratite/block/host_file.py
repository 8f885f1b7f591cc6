"""Host calls on a file or a block device that Python's `os` lacks or only half offers.

Source: Linux man pages fallocate(2), preadv2(2), ioctl_blk (BLKDISCARD in linux/fs.h).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Sequence

IOV_MAX = 1024
ZERO_CHUNK = 1 << 20

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_ZERO_RANGE = 0x10
BLKDISCARD = 0x1277

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.fallocate.restype = ctypes.c_int


def read_full(fd: int, buffers: Sequence[memoryview], offset: int) -> None:
    """Fill all `buffers` from byte `offset` on; what lies beyond the end of the file reads as zero.

    Raises OSError.
    """
    wanted = sum(map(len, buffers))
    rest = list(buffers)
    while rest:
        done = os.preadv(fd, rest[:IOV_MAX], offset)
        if done == wanted:
            return
        if done == 0:
            for view in rest:
                view[:] = bytes(len(view))
            return
        offset += done
        wanted -= done
        rest = _skip(rest, done)


def read_cached(fd: int, buffers: Sequence[memoryview], offset: int) -> bool:
    """Fill all `buffers` if the page cache holds the data: never waits for a disk.

    Returns False if it would have to wait, reached the end, or the host cannot say; the buffers'
    content is then undefined.
    """
    if len(buffers) > IOV_MAX:
        return False
    try:
        return os.preadv(fd, buffers, offset, os.RWF_NOWAIT) == sum(map(len, buffers))
    except OSError:
        return False


def write_full(fd: int, buffers: Sequence[memoryview], offset: int) -> None:
    """Write all `buffers` at byte `offset`. Raises OSError; a part may have been written then."""
    wanted = sum(map(len, buffers))
    rest = list(buffers)
    while rest:
        done = os.pwritev(fd, rest[:IOV_MAX], offset)
        if done == wanted:
            return
        if done == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        offset += done
        wanted -= done
        rest = _skip(rest, done)


def _skip(buffers: list[memoryview], count: int) -> list[memoryview]:
    """Return `buffers` without their first `count` bytes."""
    for index, view in enumerate(buffers):
        if count < len(view):
            return [view[count:], *buffers[index + 1 :]]
        count -= len(view)
    return []


def fallocate(fd: int, mode: int, offset: int, size: int) -> None:
    """Call fallocate(2). Raises OSError (EOPNOTSUPP where the file system cannot)."""
    while _libc.fallocate(fd, mode, offset, size) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def punch_hole(fd: int, offset: int, size: int) -> None:
    """Free a range, which then reads as zero. Raises OSError."""
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size)


def zero_range(fd: int, offset: int, size: int) -> None:
    """Make a range read as zero and keep its blocks allocated. Raises OSError."""
    fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, size)


def write_zeroes(fd: int, offset: int, size: int) -> None:
    """Make a range read as zero the slow way: by writing zeroes. Raises OSError."""
    zeroes = memoryview(bytes(min(size, ZERO_CHUNK)))
    while size > 0:
        chunk = zeroes[:size]
        write_full(fd, [chunk], offset)
        offset += len(chunk)
        size -= len(chunk)


def discard_device_range(fd: int, offset: int, size: int) -> None:
    """Tell a block device that a range's content is no longer wanted. Raises OSError."""
    fcntl.ioctl(fd, BLKDISCARD, struct.pack("=QQ", offset, size))
