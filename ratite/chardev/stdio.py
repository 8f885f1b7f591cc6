"""The process's own standard input and output.

A terminal is in raw mode while a frontend is attached. The end of a redirected input is not the end
of the stream: output goes on.
"""

from __future__ import annotations

import os
import sys
from typing import ClassVar

from ratite.chardev.chardev import Bytes, Chardev
from ratite.chardev.fd_stream import FdStream, own_description
from ratite.chardev.options import STDIO_DEFAULTS, StdioOptions
from ratite.chardev.terminal import RawTerminal
from ratite.core.errors import ConfigError, HostError
from ratite.core.loop import Loop


class StdioChardev(Chardev):
    """Standard input and output; a process has one of it at a time.

    With `signal` off the keys Ctrl-C, Ctrl-Z and Ctrl-\\ go to the guest. Raises ConfigError if
    another one is open, HostError if the descriptors cannot be used.
    """

    type_name = "chardev-stdio"
    kind = "stdio"
    _owner: ClassVar[StdioChardev | None] = None

    def __init__(self, id: str, loop: Loop, *, options: StdioOptions = STDIO_DEFAULTS) -> None:
        if StdioChardev._owner is not None:
            raise ConfigError(
                f"standard input and output are used by {StdioChardev._owner.id!r} already; "
                "share them through a mux (mon:stdio)"
            )
        super().__init__(id, loop, options)
        self._blocking = [(fd, os.get_blocking(fd)) for fd in (0, 1) if _is_open(fd)]
        with self._opening():
            try:
                read_fd = own_description(0, os.O_RDONLY)
                write_fd = own_description(1, os.O_WRONLY)
            except OSError as error:
                raise HostError.from_os("use standard input and output", error) from error
        StdioChardev._owner = self
        self._terminal = RawTerminal(0, signals=options.signal)
        self._stream = FdStream(
            loop,
            read_fd,
            write_fd,
            room=self._receive_room,
            received=self._deliver,
            ended=self._vanished,
            writable=self._writable,
            keep_on_eof=not os.isatty(read_fd),
        )
        self.is_open = True

    def _attached(self) -> None:
        if self._frontend is not None and self.is_open:
            if sys.stdout is not None:
                sys.stdout.flush()
            self._terminal.enter()
        else:
            self._terminal.leave()

    def _resume(self) -> None:
        self._stream.start()

    def _send(self, data: Bytes) -> int:
        return self._stream.write(data)

    def _vanished(self) -> None:
        """React to the terminal hanging up, or to nobody reading our output."""
        self._terminal.leave()
        self._set_open(False)

    def close(self) -> None:
        """Restore the terminal. Output still buffered is written first."""
        if StdioChardev._owner is self:
            StdioChardev._owner = None
            self._stream.close()
            self._terminal.leave()
            for fd, blocking in self._blocking:
                if _is_open(fd):
                    os.set_blocking(fd, blocking)
        super().close()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
