"""Advisory locks that keep two processes, or two machines in one process, off one image.

The locks are open-file-description locks on single bytes, laid out as QEMU does, so that ratite and
QEMU respect each other: a user locks byte `100 + p` (shared) for every permission `p` it uses, and
byte `200 + p` for every permission it does not grant to others.

Source: Linux man page fcntl(2), "Open file description locks".
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterable
from enum import IntEnum

USES_BASE = 100
DENIES_BASE = 200
FLOCK = struct.Struct("@hhqqi4x")  # struct flock on 64-bit Linux


class Permission(IntEnum):
    """What a user of an image may do with it; the value is the byte's index."""

    CONSISTENT_READ = 0
    WRITE = 1


def lock_image(fd: int, uses: Iterable[Permission], denies: Iterable[Permission]) -> bool:
    """Take the locks on `fd`, to be held until its last duplicate closes.

    Returns False if another user of the image stands against it, and holds nothing new then. A file
    system without locks counts as locked. Raises OSError for anything else.
    """
    uses, denies = tuple(uses), tuple(denies)
    taken: list[int] = []
    try:
        for byte in [USES_BASE + p for p in uses] + [DENIES_BASE + p for p in denies]:
            if not _set(fd, fcntl.F_RDLCK, byte):
                _release(fd, taken)
                return False
            taken.append(byte)
        free = all(_is_free(fd, DENIES_BASE + p) for p in uses) and all(
            _is_free(fd, USES_BASE + p) for p in denies
        )
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP):
            return True
        raise
    if not free:
        _release(fd, taken)
    return free


def unlock_image(fd: int) -> None:
    """Give up all locks on `fd`."""
    _release(fd, [base + p for base in (USES_BASE, DENIES_BASE) for p in Permission])


def _set(fd: int, kind: int, byte: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _is_free(fd: int, byte: int) -> bool:
    """Say whether nobody else holds any lock on `byte`."""
    probe = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, probe)
    return bool(FLOCK.unpack(answer)[0] == fcntl.F_UNLCK)


def _release(fd: int, taken: Iterable[int]) -> None:
    for byte in taken:
        _set(fd, fcntl.F_UNLCK, byte)
