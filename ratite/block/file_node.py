"""A file or a block device of the host as a block node.

Not modelled: host_cdrom, locks on NFS versions without byte-range locks (treated as free),
asynchronous host interfaces; `ratite.block.Drive` provides the threads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ratite.block import host_file
from ratite.block.image_lock import ImageLock
from ratite.block.node import SECTOR, BlockNode
from ratite.block.options import Aio, FileOptions, NodeOptions
from ratite.block.permission import Permission
from ratite.core.choice import OnOffAuto
from ratite.core.errors import ConfigError, HostError

ResolvePath = Callable[[str, bool], str]
"""Answers the path to open for a path as users write it, given whether it is to be written."""

MAX_SIZE = (1 << 63) - (1 << 30)
_REFUSALS = (errno.EACCES, errno.EROFS, errno.EPERM)
READ_ONLY_HINT = "to use it read-only, say readonly=on"


def as_written(path: str, writes: bool) -> str:
    """The path itself."""
    return path


@dataclass(slots=True)
class DiscardCounts:
    """What became of discards that reached the host."""

    done: int = 0
    done_bytes: int = 0
    failed: int = 0


class FileNode(BlockNode):
    """An image file, open for as long as the object lives, or until `close`.

    `size` is the file's size rounded up to a whole sector; the part of the last sector that lies
    beyond the file's end reads as zero. Others are kept off it while it is used: see `permit`.

    Raises HostError if the file cannot be opened as asked, ConfigError if it is not of the kind.
    """

    driver = "file"
    is_protocol = True
    wanted_kind: ClassVar[str] = "a regular file"

    options: FileOptions

    def __init__(
        self, name: str, options: FileOptions, resolve_path: ResolvePath = as_written
    ) -> None:
        super().__init__(name, options)
        check_aio(options)
        self.discard_counts = DiscardCounts()
        self._can_zero_range = True
        self._can_punch_hole = True
        self._fd = self._direct_fd = self._anchor = -1
        self._in_use = False
        writes = not options.read_only
        try:
            # The anchor stays open while the node lives: it holds the locks, and the file is opened
            # anew through it, whatever has become of its name.
            self._path = resolve_path(options.filename, writes and not options.auto_read_only)
            self._anchor = self._open(self._path, os.O_RDONLY)
            self._host_path = os.path.abspath(self._path)
            self.read_only = self.is_read_only_with(options)
            self._open_for(Permission.NONE)
            self._check_kind()
            self._lock = None if options.locking is OnOffAuto.OFF else ImageLock(self._anchor)
            self._size = _whole_sectors(os.lseek(self._anchor, 0, os.SEEK_END))
        except OSError as error:
            refused = self._cannot_open(error)
            self.close()
            raise refused from error
        except BaseException:
            self.close()
            raise

    # -- opening

    def _open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)

    def _reopen(self, flags: int) -> int:
        return self._open(f"/proc/self/fd/{self._anchor}", flags)

    def is_read_only_with(self, options: NodeOptions) -> bool:
        """Whether these options make it read-only: by themselves, or because the host refuses to
        have it written and they leave that to the host.
        """
        if options.read_only or not options.auto_read_only:
            return bool(options.read_only)
        try:
            os.close(self._reopen(os.O_RDWR))
        except OSError as error:
            return error.errno in _REFUSALS
        return False

    def _check_kind(self) -> None:
        if not self.is_kind(os.fstat(self._anchor).st_mode):
            raise ConfigError(
                f"'{self.driver}' driver requires '{self.options.filename}' to be "
                f"{self.wanted_kind}"
            )

    @staticmethod
    def is_kind(mode: int) -> bool:
        """Whether a file of this mode can be used."""
        return stat.S_ISREG(mode)

    def _open_for(self, uses: Permission) -> None:
        """Have descriptors for what users need. Raises `OSError`, with those before in place."""
        needed = (
            Permission.NONE if self.read_only else uses & (Permission.WRITE | Permission.RESIZE)
        )
        writes = bool(needed) or not (self.read_only or self.options.auto_read_only)
        flags = os.O_RDWR if writes else os.O_RDONLY
        direct = self.options.direct
        if self._opened_as == (flags, direct):
            return
        try:
            fd = self._reopen(flags)
        except OSError:
            if self._opened_as == (os.O_RDWR, direct):
                return  # more than what is needed will do
            raise
        try:
            direct_fd = self._open_direct(flags) if direct else -1
        except BaseException:
            os.close(fd)
            raise
        for old in (self._fd, self._direct_fd):
            if old >= 0:
                os.close(old)
        self._fd, self._direct_fd = fd, direct_fd
        self._opened_as = (flags, direct)

    _opened_as: tuple[int, bool] | None = None

    def _open_direct(self, flags: int) -> int:
        try:
            return self._reopen(flags | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise HostError(
                f"Could not open '{self.options.filename}': file system does not support O_DIRECT",
                errno.EINVAL,
                hint="use cache=writeback",
            ) from error

    def permit(self, uses: Permission, shares: Permission) -> None:
        """Lock the file against others, and open it for writing while somebody writes."""
        if self._anchor < 0:
            return
        if self._lock is not None:
            try:
                refused = self._lock.change(uses, shares)
            except OSError as error:
                raise HostError.from_os("lock image", error, self.options.filename) from error
            if refused:
                raise HostError(
                    f"Failed to get {refused} lock",
                    hint=f"is another process using the image [{self.options.filename}]? Stop it, "
                    "or open the image read-only in both (readonly=on), or use a copy",
                )
        try:
            self._open_for(uses)
        except OSError as error:
            raise self._cannot_open(error) from error
        if uses and not self._in_use:
            self._look_at_size()  # somebody else may have had the file
        self._in_use = bool(uses)

    def _look_at_size(self) -> None:
        before = self._size
        try:
            self._size = _whole_sectors(os.lseek(self._anchor, 0, os.SEEK_END))
        except OSError as error:
            raise self._cannot_open(error) from error
        if self._size != before:
            self.resized()

    def _cannot_open(self, error: OSError) -> HostError:
        refused = error.errno in _REFUSALS
        return HostError(
            f"Could not open '{self.options.filename}': {error.strerror}",
            error.errno or 0,
            hint=READ_ONLY_HINT if refused and self._anchor >= 0 else "",
        )

    def close(self) -> None:
        """Bring what was written to stable storage, close the file and drop its locks. Calls after
        the first do nothing.
        """
        if self._fd >= 0 and self.highest_write and not self.options.no_flush:
            with contextlib.suppress(OSError):  # nobody is left to tell, and flushes were answered
                os.fdatasync(self._fd)
        for fd in (self._fd, self._direct_fd, self._anchor):
            if fd >= 0:
                os.close(fd)
        self._fd = self._direct_fd = self._anchor = -1

    # -- facts

    @property
    def size(self) -> int:
        """Bytes, a multiple of 512."""
        return self._size

    @property
    def allocated_size(self) -> int:
        """Bytes that the host's file system keeps for it."""
        return os.fstat(self._anchor).st_blocks * 512 if self._anchor >= 0 else 0

    @property
    def plain_filename(self) -> str:
        """Its path, as it was written."""
        return self.options.filename

    @property
    def host_path(self) -> str:
        """Its path on the host, whatever directory the process is in by now."""
        return self._host_path

    @property
    def file(self) -> int:
        """The descriptor that requests use."""
        return self._fd

    def describe_options(self) -> Mapping[str, object]:
        """Driver and path."""
        return {"driver": self.driver, "filename": self.options.filename}

    def resize(self, size: int) -> None:
        """Change the file's size. Raises `HostError`."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            reason = f"Could not resize file: {error.strerror}"
            raise HostError(reason, error.errno or 0) from error
        self._size = _whole_sectors(size)
        self.resized()

    # -- requests

    def _check(self, offset: int, size: int) -> None:
        if self._fd < 0:
            raise OSError(errno.EBADF, "the image is closed")
        super()._check(offset, size)

    def _readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
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

    def _writev(self, offset: int, buffers: Sequence[memoryview]) -> None:
        if self._direct_fd >= 0:
            try:
                host_file.write_full(self._direct_fd, buffers, offset)
                return
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        host_file.write_full(self._fd, buffers, offset)

    def _flush(self) -> None:
        if not self.read_only:
            os.fdatasync(self._fd)

    def _discard(self, offset: int, size: int) -> None:
        if not self._can_punch_hole:
            return
        try:
            self._free(offset, size)
        except OSError as error:
            with self._statistics_lock:
                self.discard_counts.failed += 1
            if not _unsupported(error):
                raise
            self._can_punch_hole = False  # a discard is advice
            return
        with self._statistics_lock:
            self.discard_counts.done += 1
            self.discard_counts.done_bytes += size

    def _free(self, offset: int, size: int) -> None:
        host_file.punch_hole(self._fd, offset, size)

    def _write_zeroes(self, offset: int, size: int, *, unmap: bool) -> None:
        if unmap and self._can_punch_hole:
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


class HostDeviceNode(FileNode):
    """A block device."""

    driver = "host_device"
    wanted_kind = "a block device"

    @property
    def file(self) -> int:
        """None: a device is no file."""
        return -1

    @staticmethod
    def is_kind(mode: int) -> bool:
        """Whether a file of this mode can be used."""
        return stat.S_ISBLK(mode)

    def resize(self, size: int) -> None:
        """Refuse: the device has the size that it has."""
        raise ConfigError(
            "Cannot grow device files" if size > self.size else "Cannot resize device files"
        )

    def _free(self, offset: int, size: int) -> None:
        host_file.discard_device_range(self._fd, offset, size)


def check_aio(options: FileOptions) -> None:
    """Raise `ConfigError` for a way of doing requests that the host does not offer so."""
    if options.aio is Aio.NATIVE and not options.direct:
        raise ConfigError(
            "aio=native was specified, but it requires cache.direct=on, which was not specified."
        )
    if options.aio_max_batch is not None and options.aio_max_batch < 0:
        raise ConfigError("Parameter 'aio-max-batch' expects a non-negative number below 2^64")


def _whole_sectors(size: int) -> int:
    return -(-size // SECTOR) * SECTOR


def _unsupported(error: OSError) -> bool:
    return error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.ENODEV)
