"""A monitor's output: kept, within limits, while the client does not read."""

from __future__ import annotations

from ratite.chardev import Chardev

REPLY_LIMIT = 64 * 1024
"""Bytes that may wait before the monitor stops to take input."""
LIMIT = 1024 * 1024
"""Bytes that may wait before output that nobody asked for is dropped."""


class Outlet:
    """Writes to a character backend, which takes what it likes."""

    def __init__(self, chardev: Chardev) -> None:
        self.dropped = 0
        self._chardev = chardev
        self._waiting = bytearray()

    @property
    def blocked(self) -> bool:
        """True while so much waits that no more should be asked for."""
        return len(self._waiting) > REPLY_LIMIT

    def write(self, data: bytes) -> None:
        """Send, now or later."""
        self._waiting += data
        self.flush()

    def write_if_room(self, data: bytes) -> None:
        """Send what may be lost: dropped, and counted, if too much waits."""
        if len(self._waiting) > LIMIT:
            self.dropped += 1
        else:
            self.write(data)

    def flush(self) -> None:
        """Send what waits, as far as it is taken."""
        while self._waiting:
            taken = self._chardev.write(bytes(self._waiting))
            if not taken:
                return
            del self._waiting[:taken]

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
