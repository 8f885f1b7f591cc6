"""What block devices need of the host: a disk that never makes them wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ratite.core.disk import Access, DiskTerms, ErrorAction

Done = Callable[[int], None]


class BlockUser(Protocol):
    """What a disk needs of the device that has it."""

    id: str

    @property
    def path(self) -> str:
        """Its path in the composition tree."""

    def resized(self) -> None:
        """The disk has another size."""

    def retry(self) -> None:
        """Do the requests again that were kept when an error stopped the machine."""


class BlockBackend(Protocol):
    """A disk. Every method is called with the machine lock held; offsets and sizes are bytes.

    A request's `done` is called once, with 0 or a positive host errno and the machine lock held:
    later, or before the request method returns if nothing had to be waited for. Buffers stay in use
    until then.
    """

    write_cache: bool  # off: a write is on stable storage when it is done

    @property
    def id(self) -> str:
        """What the user calls it."""

    def attach(self, user: BlockUser, terms: DiskTerms, /) -> None:
        """Serve this device from now on. Raises `ConfigError` or `HostError`."""

    def detach(self) -> None:
        """Serve the device no more."""

    def failed(self, is_write: bool, code: int, /) -> ErrorAction:
        """What shall be done about an error of the host's; it has been told to others."""

    def refused(self, access: Access, /) -> None:
        """Count a request that the device refused."""

    @property
    def size(self) -> int:
        """Bytes, a multiple of 512."""

    @property
    def read_only(self) -> bool:
        """True if writes are refused."""

    def readv(self, offset: int, buffers: Sequence[memoryview], done: Done, /) -> None:
        """Fill `buffers` with the bytes from `offset` on."""

    def writev(self, offset: int, buffers: Sequence[memoryview], done: Done, /) -> None:
        """Write `buffers` at `offset`."""

    def flush(self, done: Done, /) -> None:
        """Bring all writes reported done to stable storage."""

    def discard(self, offset: int, size: int, done: Done, /) -> None:
        """Declare that a range's content is no longer wanted."""

    def write_zeroes(self, offset: int, size: int, unmap: bool, done: Done, /) -> None:
        """Make a range read as zero; with `unmap` it need not keep its storage."""

    def drain(self) -> None:
        """Wait until no request is in flight and no `done` is outstanding."""
