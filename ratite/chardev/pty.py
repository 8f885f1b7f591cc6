"""A pseudo terminal of our own, for a terminal program to open."""

from __future__ import annotations

import os
import select
import tty

from ratite.chardev.chardev import Bytes, Chardev
from ratite.chardev.fd_stream import FdStream
from ratite.chardev.options import DEFAULTS, CommonOptions
from ratite.core.errors import HostError
from ratite.core.loop import Loop, close_watched

PROBE_NS = 250_000_000


class PtyChardev(Chardev):
    """A new pseudo terminal; `tty_path` is the device that a client opens.

    It is open while a client has the device open; output at other times is lost. Raises HostError
    if the host has no pseudo terminal left.
    """

    type_name = "chardev-pty"
    kind = "pty"

    def __init__(self, id: str, loop: Loop, *, options: CommonOptions = DEFAULTS) -> None:
        super().__init__(id, loop, options)
        with self._opening():
            try:
                self._master, slave = os.openpty()
            except OSError as error:
                raise HostError.from_os("create a pseudo terminal", error) from error
        tty.setraw(slave)
        self.tty_path = os.ttyname(slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        self._poll = select.poll()
        self._poll.register(self._master, 0)  # POLLHUP is always reported
        self._stream: FdStream | None = None
        self._probe_later()

    @property
    def filename(self) -> str:
        """`pty:` and the device's path."""
        return f"pty:{self.tty_path}"

    @property
    def announcement(self) -> str:
        """Names the device, in the words that programs look for."""
        return f"char device redirected to {self.tty_path} (label {self.id})"

    def _probe_later(self) -> None:
        self._loop.post_after(PROBE_NS, self._probe)

    def _probe(self) -> None:
        """Look whether a client has opened the device: the host has no event for that."""
        if self._master >= 0 and self._stream is None and not self._connect():
            self._probe_later()

    def _connect(self) -> bool:
        if self._poll.poll(0):
            return False
        self._stream = FdStream(
            self._loop,
            os.dup(self._master),
            os.dup(self._master),
            room=self._receive_room,
            received=self._deliver,
            ended=self._hung_up,
            writable=self._writable,
        )
        self._set_open(True)
        self._stream.start()
        return True

    def _hung_up(self) -> None:
        self._stream = None
        self._set_open(False)
        self._probe_later()

    def _resume(self) -> None:
        if self._stream is not None:
            self._stream.start()

    def _send(self, data: Bytes) -> int:
        if self._stream is None and (self._master < 0 or not self._connect()):
            return len(data)
        assert self._stream is not None
        return self._stream.write(data)

    def close(self) -> None:
        """Remove the pseudo terminal."""
        if self._stream is not None:
            self._stream.close(patience_ms=0)
            self._stream = None
        if self._master >= 0:
            close_watched(self._loop, self._master)
            self._master = -1
        super().close()
