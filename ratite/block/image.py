"""A raw disk image: a file or a block device whose bytes are the disk's.

Not modelled: host_cdrom, locks on NFS versions without byte-range locks (treated as free),
asynchronous host interfaces (io_uring); `ratite.block.Drive` provides the threads.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from ratite.block import host_file
from ratite.block.image_lock import Permission, lock_image, unlock_image
from ratite.core.errors import ConfigError, HostError

SECTOR = 512


class CacheMode(Enum):
    """How the host's page cache is used, by QEMU's `cache=` names."""

    WRITEBACK = "writeback"
    WRITETHROUGH = "writethrough"
    NONE = "none"
    DIRECTSYNC = "directsync"
    UNSAFE = "unsafe"

    @property
    def direct(self) -> bool:
        """True if the page cache is bypassed (O_DIRECT)."""
        return self in (CacheMode.NONE, CacheMode.DIRECTSYNC)

    @property
    def write_cache(self) -> bool:
        """True if a write may be reported done before it is on stable storage."""
        return self in (CacheMode.WRITEBACK, CacheMode.NONE, CacheMode.UNSAFE)

    @property
    def ignores_flush(self) -> bool:
        """True if flushes are skipped: fast, and a host crash loses data."""
        return self is CacheMode.UNSAFE


class BlockNode(Protocol):
    """Random-access bytes. Every method may be called on any thread, concurrently.

    Offsets and sizes are bytes. Methods raise OSError, with EINVAL for a range outside the node.
    """

    name: str
    size: int
    read_only: bool
    cache: CacheMode

    def readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill `buffers` from `offset` on."""

    def read_cached(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Fill `buffers` if that needs no waiting; False means that nothing useful was done."""

    def writev(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Write `buffers` at `offset`."""

    def flush(self) -> None:
        """Return when everything written before is on stable storage."""

    def discard(self, offset: int, size: int) -> None:
        """Declare that a range's content is no longer wanted; it may read as anything."""

    def write_zeroes(self, offset: int, size: int, *, unmap: bool = False) -> None:
        """Make a range read as zero; with `unmap` it need not keep its storage."""

    def activate(self) -> None:
        """Claim the image for this machine, after `deactivate` or opening without locks. Raises
        HostError.
        """

    def deactivate(self) -> None:
        """Leave the image to another machine; nothing is written from now on."""

    def close(self) -> None:
        """Release the host resources. Calls after the first do nothing."""


class RawImage:
    """A raw image, open for as long as the object lives (or until `close`).

    `size` is the disk's size in bytes, rounded up to a whole 512-byte sector; the part of the last
    sector that lies beyond the file's end reads as zero. With `discard` false, discards are
    ignored.

    Raises HostError if the image cannot be opened as asked or another user of it stands against it,
    ConfigError if the path is not an image.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        cache: CacheMode = CacheMode.WRITEBACK,
        discard: bool = False,
        locking: bool = True,
        share_rw: bool = False,
    ) -> None:
        self.name = os.fspath(path)
        self.read_only = read_only
        self.cache = cache
        self._share_rw = share_rw
        self._discards = discard
        self._can_zero_range = True
        self._can_punch_hole = True
        self._direct_fd = -1
        self._fd = _open(self.name, os.O_RDONLY if read_only else os.O_RDWR)
        try:
            self._is_device = _check_kind(self.name, self._fd)
            if locking:
                self._lock(share_rw)
            if cache.direct:
                self._direct_fd = _open_direct(self.name, read_only)
            self.size = -(-os.lseek(self._fd, 0, os.SEEK_END) // SECTOR) * SECTOR
        except OSError as error:
            self.close()
            raise HostError.from_os("use image", error, self.name) from error
        except BaseException:
            self.close()
            raise

    @property
    def file(self) -> int:
        """The descriptor of the image if it is a file; -1 if it is a device, or closed."""
        return -1 if self._is_device else self._fd

    def activate(self) -> None:
        """Take the locks that `deactivate` gave up, or that the image was opened without. Raises
        HostError if another user stands against that.
        """
        self._lock(self._share_rw)

    def deactivate(self) -> None:
        """Give up the locks: another machine uses the image from now on."""
        if self._fd >= 0:
            unlock_image(self._fd)

    def _lock(self, share_rw: bool) -> None:
        uses = [Permission.CONSISTENT_READ]
        if not self.read_only:
            uses.append(Permission.WRITE)
        if not lock_image(self._fd, uses, [] if share_rw else [Permission.WRITE]):
            raise HostError(
                f"image {self.name!r} is in use by another process: stop that one, or open it "
                "read-only in both (readonly=on), or use a copy"
            )

    def _check(self, offset: int, size: int) -> None:
        if self._fd < 0:
            raise OSError(errno.EBADF, "the image is closed")
        if offset < 0 or size < 0 or offset + size > self.size:
            raise OSError(errno.EINVAL, "range outside the image")

    def _check_writable(self, offset: int, size: int) -> None:
        self._check(offset, size)
        if self.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill `buffers` from `offset` on. Raises OSError."""
        self._check(offset, sum(map(len, buffers)))
        if self._direct_fd >= 0:
            try:
                host_file.read_full(self._direct_fd, buffers, offset)
                return
            except OSError as error:
                # The kernel is the judge of O_DIRECT's alignment; what it refuses goes through the
                # page cache, with which it keeps direct accesses coherent.
                if error.errno != errno.EINVAL:
                    raise
        host_file.read_full(self._fd, buffers, offset)

    def read_cached(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Fill `buffers` if the page cache holds the range."""
        if self._direct_fd >= 0 or self._fd < 0 or offset < 0:
            return False
        return host_file.read_cached(self._fd, buffers, offset)

    def writev(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Write `buffers` at `offset`. Raises OSError, with EROFS if the image is read-only."""
        self._check_writable(offset, sum(map(len, buffers)))
        if self._direct_fd >= 0:
            try:
                host_file.write_full(self._direct_fd, buffers, offset)
                return
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        host_file.write_full(self._fd, buffers, offset)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on. Raises OSError."""
        data = bytearray(size)
        self.readv(offset, [memoryview(data)])
        return bytes(data)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fill one buffer from `offset` on. Raises OSError."""
        self.readv(offset, [buffer])

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `offset`. Raises OSError."""
        self.writev(offset, [memoryview(data)])

    def flush(self) -> None:
        """Return when everything written before is on stable storage. Raises OSError."""
        self._check(0, 0)
        if not (self.cache.ignores_flush or self.read_only):
            os.fdatasync(self._fd)

    def discard(self, offset: int, size: int) -> None:
        """Free a range's storage if the image was opened with `discard`. Raises OSError."""
        self._check_writable(offset, size)
        if self._discards and self._can_punch_hole and size:
            try:
                if self._is_device:
                    host_file.discard_device_range(self._fd, offset, size)
                else:
                    host_file.punch_hole(self._fd, offset, size)
            except OSError as error:
                if not _unsupported(error):
                    raise
                self._can_punch_hole = False  # a discard is advice

    def write_zeroes(self, offset: int, size: int, *, unmap: bool = False) -> None:
        """Make a range read as zero. Raises OSError."""
        self._check_writable(offset, size)
        if not size:
            return
        if unmap and self._discards and self._can_punch_hole:
            try:
                host_file.punch_hole(self._fd, offset, size)
                return
            except OSError as error:
                if not _unsupported(error):
                    raise
                self._can_punch_hole = False
        if self._can_zero_range:
            try:
                host_file.zero_range(self._fd, offset, size)
                return
            except OSError as error:
                if not _unsupported(error):
                    raise
                self._can_zero_range = False
        host_file.write_zeroes(self._fd, offset, size)

    def close(self) -> None:
        """Close the image and drop its locks. Calls after the first do nothing."""
        for fd in (self._fd, self._direct_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._direct_fd = -1

    def __enter__(self) -> RawImage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _unsupported(error: OSError) -> bool:
    return error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.ENODEV)


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise HostError(f"image {path!r} does not exist") from error
    except IsADirectoryError as error:
        raise ConfigError(f"image {path!r} is a directory, not a disk image") from error
    except OSError as error:
        how = "reading" if flags & os.O_ACCMODE == os.O_RDONLY else "writing"
        remedy = ""
        if how == "writing" and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            remedy = "; to use it read-only, say readonly=on"
        raise HostError(
            f"cannot open image {path!r} for {how}: {error.strerror}{remedy}", error.errno or 0
        ) from error


def _open_direct(path: str, read_only: bool) -> int:
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_DIRECT | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise HostError(
            f"image {path!r}: its file system does not support O_DIRECT; use cache=writeback"
        ) from error


def _check_kind(path: str, fd: int) -> bool:
    """Return True for a block device, False for a file; raise ConfigError for anything else."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISBLK(mode):
        return True
    if stat.S_ISREG(mode):
        return False
    if stat.S_ISDIR(mode):
        raise ConfigError(f"image {path!r} is a directory, not a disk image")
    raise ConfigError(f"image {path!r} is neither a file nor a block device")
