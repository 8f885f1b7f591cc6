"""What block devices need of the host: a disk that never makes them wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

Done = Callable[[int], None]


class BlockBackend(Protocol):
    """A disk. Every method is called with the machine lock held; offsets and sizes are bytes.

    A request's `done` is called once, with 0 or a positive host errno and the machine lock held:
    later, or before the request method returns if nothing had to be waited for. Buffers stay in use
    until then.
    """

    id: str
    write_cache: bool  # off: a write is on stable storage when it is done

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
