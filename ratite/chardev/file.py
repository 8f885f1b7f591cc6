"""Files and named pipes."""

from __future__ import annotations

import os

from ratite.chardev.chardev import Bytes, Chardev
from ratite.chardev.fd_stream import FdStream
from ratite.chardev.options import FileOptions, PipeOptions
from ratite.core.errors import HostError
from ratite.core.loop import Loop


class FileChardev(Chardev):
    """Output to a file, replacing its content unless `append`; input from another, if given.

    Raises HostError if a file cannot be opened.
    """

    type_name = "chardev-file"
    kind = "file"

    def __init__(self, id: str, loop: Loop, *, options: FileOptions) -> None:
        super().__init__(id, loop, options)
        mode = os.O_APPEND if options.append else os.O_TRUNC
        with self._opening():
            write_fd = _open(options.path, os.O_WRONLY | os.O_CREAT | mode)
            read_fd = -1
            if options.input_path is not None:
                try:
                    read_fd = _open(options.input_path, os.O_RDONLY)
                except HostError:
                    os.close(write_fd)
                    raise
        self._stream = _stream(self, loop, read_fd, write_fd, keep_on_eof=True)
        self.is_open = True

    def _resume(self) -> None:
        self._stream.start()

    def _send(self, data: Bytes) -> int:
        return self._stream.write(data)

    def close(self) -> None:
        """Close the files."""
        self._stream.close()
        super().close()


class PipeChardev(Chardev):
    """The named pipes PATH.in and PATH.out, or the one pipe PATH for both directions.

    Raises HostError if there are none, or they cannot be opened.
    """

    type_name = "chardev-pipe"
    kind = "pipe"

    def __init__(self, id: str, loop: Loop, *, options: PipeOptions) -> None:
        super().__init__(id, loop, options)
        path = options.path
        # Opened for both directions, a pipe neither waits for a peer nor ends when one leaves.
        with self._opening():
            if os.path.exists(f"{path}.in") and os.path.exists(f"{path}.out"):
                read_fd = _open(f"{path}.in", os.O_RDWR)
                write_fd = _open(f"{path}.out", os.O_RDWR)
            else:
                read_fd = write_fd = _open(path, os.O_RDWR)
        self._stream = _stream(self, loop, read_fd, write_fd, keep_on_eof=False)
        self.is_open = True

    def _resume(self) -> None:
        self._stream.start()

    def _send(self, data: Bytes) -> int:
        return self._stream.write(data)

    def close(self) -> None:
        """Close the pipes."""
        self._stream.close()
        super().close()


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise HostError.from_os("open", error, path) from error


def _stream(
    chardev: Chardev, loop: Loop, read_fd: int, write_fd: int, *, keep_on_eof: bool
) -> FdStream:
    return FdStream(
        loop,
        read_fd,
        write_fd,
        room=chardev._receive_room,
        received=chardev._deliver,
        ended=lambda: chardev._set_open(False),
        writable=chardev._writable,
        keep_on_eof=keep_on_eof,
    )
