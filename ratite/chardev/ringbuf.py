"""The last output in memory, for the monitor to read."""

from __future__ import annotations

from ratite.chardev.chardev import Bytes, Chardev
from ratite.chardev.options import RINGBUF_DEFAULTS, RingbufOptions
from ratite.core.errors import ConfigError
from ratite.core.loop import Loop


class RingbufChardev(Chardev):
    """Keeps the last `size` bytes of output. Raises ConfigError if that is no power of two."""

    type_name = "chardev-ringbuf"
    kind = "ringbuf"

    def __init__(self, id: str, loop: Loop, *, options: RingbufOptions = RINGBUF_DEFAULTS) -> None:
        if options.size <= 0 or options.size & (options.size - 1):
            raise ConfigError("size must be a power of two")
        super().__init__(id, loop, options)
        self._size = options.size
        self._buffer = bytearray()
        self.is_open = True

    def read(self, size: int) -> bytes:
        """Take the oldest bytes out, at most `size` of them."""
        data = bytes(self._buffer[:size])
        del self._buffer[: len(data)]
        return data

    def feed(self, data: bytes) -> None:
        """Put bytes in, as `ringbuf-write` does."""
        self._send(data)

    def _send(self, data: Bytes) -> int:
        self._buffer += data
        excess = len(self._buffer) - self._size
        if excess > 0:
            del self._buffer[:excess]
        return len(data)
