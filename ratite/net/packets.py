"""The base of netdevs that get and give a frame at a time, through one descriptor."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ratite.core.ethernet import MAX_FRAME
from ratite.core.loop import close_later
from ratite.net.netdev import Buffers, Netdev, NetHost

MOST_BUFFERS = 512  # the host takes 1024 at once
BATCH = 64
"""Frames that are read before others have their turn."""


class PacketNetdev(Netdev, ABC):
    """Owns a descriptor that does not block. It keeps one frame at most, which the user did not
    take; the host's queues have the rest.
    """

    def __init__(self, id: str, host: NetHost, fd: int, info: str) -> None:
        super().__init__(id, host)
        self._fd = fd
        self._info = info
        self._buffer = memoryview(bytearray(MAX_FRAME + 1))
        self._held = 0  # bytes of the frame that is kept
        self._reading = False
        self._waits_for_room = False
        self._read_on()

    @property
    def info(self) -> str:
        """Where frames go."""
        return self._info

    @abstractmethod
    def _read_frame(self, buffer: memoryview) -> int:
        """Read one; the bytes that it has, 0 for one that is lost. Raises `OSError`."""

    @abstractmethod
    def _write_frame(self, buffers: Buffers) -> None:
        """Write one. Raises `OSError`."""

    # -- from the host

    def _read_on(self) -> None:
        if not self._reading and self._fd >= 0:
            self._reading = True
            self._host.loop.add_reader(self._fd, self._readable)

    def _pause(self) -> None:
        self._reading = False
        self._host.loop.remove_reader(self._fd)

    def _readable(self) -> None:
        for _ in range(BATCH):
            if not self._reading:
                return
            try:
                size = self._read_frame(self._buffer)
            except (BlockingIOError, InterruptedError):
                return
            if 0 < size <= MAX_FRAME and not self._deliver(self._buffer[:size]):
                self._held = size
                self._pause()

    def _resume(self) -> None:
        if self._held:
            if not self._deliver(self._buffer[: self._held]):
                return
            self._held = 0
        self._read_on()

    # -- to the host

    def _send(self, buffers: Buffers) -> bool:
        if self._waits_for_room or self._fd < 0:
            return self._fd < 0
        if len(buffers) > MOST_BUFFERS:
            buffers = [b"".join(buffers)]
        try:
            self._write_frame(buffers)
        except (BlockingIOError, InterruptedError):
            self._waits_for_room = True
            self._await_room()
            return False
        except OSError:
            return True  # nobody is there, or it is too long: the frame is lost
        return True

    def _await_room(self) -> None:
        """Have `_has_room` called when there is some."""
        self._host.loop.add_writer(self._fd, self._has_room)

    def _has_room(self) -> None:
        if self._waits_for_room and self._fd >= 0:
            self._waits_for_room = False
            self._host.loop.remove_writer(self._fd)
            self._writable()

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            self._reading = False
            fd, self._fd = self._fd, -1
            close_later(self._host.loop, fd)
