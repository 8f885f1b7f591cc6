"""Memory of the host, as blocks of guest RAM use it: mappings, and where their pages come from.

Source: Linux's manual pages mmap(2), madvise(2), mbind(2), memfd_create(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import fcntl
import mmap
import os
import platform
import tempfile
import threading
from collections.abc import Iterable

from ratite.memory.address import PAGE_SIZE, Hva

_MAP_NORESERVE = 0x4000  # Linux; the mmap module names it from Python 3.13 on
_MADV_POPULATE_WRITE = 23
_MPOL_STRICT_MOVE = 1 | 2  # MPOL_MF_STRICT, MPOL_MF_MOVE
_MBIND = {"x86_64": 237, "aarch64": 235, "riscv64": 235}
_F_ADD_SEALS, _SEAL_SHRINK, _SEAL_GROW = 1033, 2, 4
MAX_NODES = 128
"""Host nodes have numbers below this."""


class NumaPolicy(enum.IntEnum):
    """Which host nodes memory comes from; the numbers are Linux's."""

    DEFAULT = 0
    PREFERRED = 1
    BIND = 2
    INTERLEAVE = 3


class HostMemory:
    """One mapping, where it is, and a writable view of it. Raises `OSError`."""

    def __init__(
        self, size: int, fd: int = -1, *, share: bool = True, reserve: bool = False
    ) -> None:
        """Without `fd` it is zeros. The size is rounded up to whole pages. `reserve`: have the host
        refuse what it could not keep.
        """
        kind = mmap.MAP_SHARED if share else mmap.MAP_PRIVATE
        if fd < 0:
            kind |= mmap.MAP_ANONYMOUS
        if not reserve:
            kind |= _MAP_NORESERVE
        size = -(-size // PAGE_SIZE) * PAGE_SIZE
        try:
            self.map = mmap.mmap(fd, size, flags=kind)
        except (OverflowError, ValueError):  # more than the host has addresses, than the file has
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None
        self.host = Hva(ctypes.addressof(ctypes.c_char.from_buffer(self.map)))
        self.view = memoryview(self.map)

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.map)

    def prefer_huge_pages(self) -> None:
        """Have the host use large pages where it can: fewer misses of its own TLB."""
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):
                self.map.madvise(mmap.MADV_HUGEPAGE)

    def leave_out_of_dumps(self) -> None:
        """Have the host leave it out of core dumps."""
        self.map.madvise(mmap.MADV_DONTDUMP)

    def let_merge(self) -> None:
        """Let the host keep equal pages once, if it can do that."""
        with contextlib.suppress(OSError):
            self.map.madvise(mmap.MADV_MERGEABLE)

    def forget_content(self) -> None:
        """The content of the file below is not needed any more."""
        with contextlib.suppress(OSError):
            self.map.madvise(mmap.MADV_REMOVE)

    def populate(self, threads: int) -> None:
        """Have all pages now, found by so many threads. Raises `OSError`."""
        failures: list[OSError] = []
        share = -(-len(self.map) // (threads * PAGE_SIZE)) * PAGE_SIZE

        def take(start: int) -> None:
            try:
                self._populate(start, min(share, len(self.map) - start))
            except OSError as error:
                failures.append(error)

        workers = [
            threading.Thread(target=take, args=(start,), name="prealloc", daemon=True)
            for start in range(0, len(self.map), share)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if failures:
            raise failures[0]

    def _populate(self, start: int, size: int) -> None:
        try:
            self.map.madvise(_MADV_POPULATE_WRITE, start, size)
        except OSError as error:
            if error.errno != errno.EINVAL:  # Linux before 5.14 has no such advice
                raise
            for offset in range(start, start + size, PAGE_SIZE):
                self.view[offset] = self.view[offset]

    def bind(self, policy: NumaPolicy, nodes: Iterable[int]) -> None:
        """Take pages from these nodes of the host. Raises `OSError`."""
        number = _MBIND.get(platform.machine())
        if number is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        mask = (ctypes.c_ulong * (MAX_NODES // 64))()
        for node in nodes:
            mask[node // 64] |= 1 << node % 64
        system = ctypes.CDLL(None, use_errno=True).syscall
        system.argtypes = [ctypes.c_long] + [ctypes.c_ulong] * 6
        address = ctypes.addressof(mask)
        arguments = (self.host, len(self.map), policy, address, MAX_NODES + 1, _MPOL_STRICT_MOVE)
        if system(number, *arguments):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


def open_backing(path: str) -> tuple[int, bool]:
    """A descriptor of a file for memory, and whether it was made: in a directory, without a name.
    Raises `OSError`.
    """
    if os.path.isdir(path):
        fd, name = tempfile.mkstemp(prefix="ratite_ram.", dir=path)
        os.unlink(name)
        return fd, True
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC), False
    except FileNotFoundError:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), True


def sealed_file(name: str, size: int, *, seal: bool) -> int:
    """A descriptor of a file without a name of this size, which with `seal` it keeps. Raises
    `OSError`.
    """
    flags = os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if seal else 0)
    fd = os.memfd_create(name, flags)
    try:
        os.ftruncate(fd, size)
        if seal:
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEAL_SHRINK | _SEAL_GROW)
    except OSError:
        os.close(fd)
        raise
    return fd
