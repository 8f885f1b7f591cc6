"""Frames in a stream of bytes.

Source: QEMU's manual, "-netdev stream": each frame comes after its size, 4 bytes, big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from ratite.core.ethernet import MAX_FRAME

SIZE = struct.Struct(">I")
CAPACITY = 2 * (SIZE.size + MAX_FRAME)


class Oversize(Exception):
    """The other end announces a frame that is too long to be one."""


class FrameReader:
    """Takes bytes as they come and hands out whole frames, in memory of a fixed size."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(CAPACITY))
        self._start = self._end = 0

    def room(self) -> memoryview:
        """Where the next bytes go; there is some whenever `deliver` has answered True."""
        if self._start:
            size = self._end - self._start
            self._buffer[:size] = self._buffer[self._start : self._end]
            self._start, self._end = 0, size
        return self._buffer[self._end :]

    def received(self, size: int) -> None:
        """So many bytes are in `room` now."""
        self._end += size

    def deliver(self, take: Callable[[memoryview], bool]) -> bool:
        """Hand out all whole frames; stops when `take` answers False, at the same frame the next
        time, and answers False then. Raises `Oversize`.
        """
        while self._end - self._start >= SIZE.size:
            (size,) = SIZE.unpack_from(self._buffer, self._start)
            if size > MAX_FRAME:
                raise Oversize(f"a frame of {size} bytes")
            start = self._start + SIZE.size
            if self._end < start + size:
                break
            if size and not take(self._buffer[start : start + size]):
                return False
            self._start = start + size
        return True
