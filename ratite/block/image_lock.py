"""Advisory locks that keep two processes, or two machines in one process, off one image.

The locks are open-file-description locks on single bytes, laid out as QEMU does, so that ratite and
QEMU respect each other: a user locks byte `100 + n` (shared) for every permission of number `n`
that it uses, and byte `200 + n` for every permission that it does not share.

Source: Linux man page fcntl(2), "Open file description locks".
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterable

from ratite.block.permission import Permission

USES_BASE = 100
DENIES_BASE = 200
FLOCK = struct.Struct("@hhqqi4x")  # struct flock on 64-bit Linux


class ImageLock:
    """The locks of one user of an image, on the descriptor `fd`, which may be open for reading
    only. They go when its last duplicate closes.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._held: set[int] = set()

    def change(self, uses: Permission, shares: Permission) -> str:
        """Hold the locks for these permissions, instead of those before.

        Returns an empty text, or what another user of the image stands against; the locks are as
        before then. A file system without locks counts as locked. Raises OSError for anything else.
        """
        denies = Permission.ALL & ~shares
        wanted = {USES_BASE + n for n in _numbers(uses)}
        wanted |= {DENIES_BASE + n for n in _numbers(denies)}
        new = wanted - self._held
        try:
            refused = self._take(new) or self._probe(uses, denies)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP):
                return ""
            raise
        if refused:
            self._release(new)
            return refused
        self._release(self._held - wanted)
        self._held = wanted
        return ""

    def _take(self, offsets: Iterable[int]) -> str:
        for offset in sorted(offsets):
            if not self._set(fcntl.F_RDLCK, offset):
                bit = Permission(1 << offset % 100)
                return f'"{bit.words}"' if offset < DENIES_BASE else f'shared "{bit.words}"'
        return ""

    def _probe(self, uses: Permission, denies: Permission) -> str:
        for number in _numbers(uses):
            if not self._is_free(DENIES_BASE + number):
                return f'"{Permission(1 << number).words}"'
        for number in _numbers(denies):
            if not self._is_free(USES_BASE + number):
                return f'shared "{Permission(1 << number).words}"'
        return ""

    def _set(self, kind: int, offset: int) -> bool:
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def _is_free(self, offset: int) -> bool:
        """Say whether nobody else holds any lock on this byte."""
        probe = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
        answer = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, probe)
        return bool(FLOCK.unpack(answer)[0] == fcntl.F_UNLCK)

    def _release(self, offsets: Iterable[int]) -> None:
        for offset in offsets:
            self._set(fcntl.F_UNLCK, offset)


def _numbers(permissions: Permission) -> list[int]:
    return [bit.bit_length() - 1 for bit in permissions]
