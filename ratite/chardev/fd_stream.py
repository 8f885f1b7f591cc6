"""Input and output on file descriptors that must not make the machine wait."""

from __future__ import annotations

import contextlib
import os
import select
import stat
from collections.abc import Callable

from ratite.chardev.chardev import Bytes
from ratite.core.loop import Loop, close_watched

READ_SIZE = 4096
OUTPUT_LIMIT = 64 * 1024
LAST_WORDS_MS = 2000


class FdStream:
    """Two descriptors (one may be -1, both may be equal), owned by the stream.

    Reads only while `room()` is positive and hands what it read to `received`; calls `ended` once,
    later and from the loop, when the other side is gone; `writable` when there is room after a
    short write. Descriptors should be non-blocking or never block (regular files).
    """

    def __init__(
        self,
        loop: Loop,
        read_fd: int,
        write_fd: int,
        *,
        room: Callable[[], int],
        received: Callable[[bytes], None],
        ended: Callable[[], None],
        writable: Callable[[], None],
        keep_on_eof: bool = False,
        read: Callable[[int, int], bytes] = os.read,
    ) -> None:
        self._loop = loop
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._room = room
        self._received = received
        self._ended = ended
        self._writable = writable
        self._keep_on_eof = keep_on_eof
        self._read = read
        self._pending = bytearray()
        self._starved = False
        self._reading = False
        self._closed = False

    def duplicate(self) -> int:
        """A descriptor of the same thing as that which is written, for the caller to own."""
        return os.dup(self._write_fd)

    def start(self) -> None:
        """Read, as far as there is room. Does nothing while reading already."""
        if not self._reading and not self._closed and self._read_fd >= 0 and self._room() > 0:
            self._reading = True
            self._loop.add_reader(self._read_fd, self._readable)

    def _pause(self) -> None:
        self._reading = False
        self._loop.remove_reader(self._read_fd)

    def _readable(self) -> None:
        if self._closed or not self._reading:
            return
        room = self._room()
        if room <= 0:
            self._pause()
            return
        try:
            data = self._read(self._read_fd, min(room, READ_SIZE))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
            self._keep_on_eof = False
        if data:
            self._received(data)
        elif self._keep_on_eof:
            self._pause()
            self._read_fd = self._forget(self._read_fd, other=self._write_fd)
        else:
            self._end()

    def write(self, data: Bytes) -> int:
        """Write or buffer `data`; return how many bytes were taken. Never waits."""
        if self._closed or self._write_fd < 0:
            return len(data)
        done = 0
        if not self._pending:
            done = self._write_now(data)
            if done == len(data):
                return done
        rest = memoryview(data)[done:]
        taken = rest[: OUTPUT_LIMIT - len(self._pending)]
        if taken and not self._pending:
            self._loop.add_writer(self._write_fd, self._flush)
        self._pending += taken
        self._starved = self._starved or len(taken) < len(rest)
        return done + len(taken)

    def _write_now(self, data: Bytes) -> int:
        try:
            return os.write(self._write_fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._loop.post(self._end)
            return len(data)

    def _flush(self) -> None:
        """Write buffered output. Called by the loop when the descriptor takes some."""
        if self._closed:
            return
        del self._pending[: self._write_now(self._pending)]
        if not self._pending:
            self._loop.remove_writer(self._write_fd)
        if self._starved and len(self._pending) <= OUTPUT_LIMIT // 2:
            self._starved = False
            self._writable()

    def _end(self) -> None:
        if not self._closed:
            self.close(patience_ms=0)
            self._ended()

    def close(self, *, patience_ms: int = LAST_WORDS_MS) -> None:
        """Write out what is buffered and close the descriptors.

        Gives up when the other side takes nothing for `patience_ms`.
        """
        if self._closed:
            return
        self._closed = True
        self._last_words(patience_ms)
        self._read_fd = self._forget(self._read_fd, other=self._write_fd)
        self._write_fd = self._forget(self._write_fd, other=-1)

    def _last_words(self, patience_ms: int) -> None:
        if not self._pending:
            return
        poll = select.poll()
        poll.register(self._write_fd, select.POLLOUT)
        with contextlib.suppress(OSError):
            while self._pending and poll.poll(patience_ms):
                del self._pending[: os.write(self._write_fd, self._pending)]
        self._pending.clear()

    def _forget(self, fd: int, *, other: int) -> int:
        if fd >= 0:
            if fd == other:
                self._loop.remove_reader(fd)
            else:
                close_watched(self._loop, fd)
        return -1


def own_description(fd: int, flags: int) -> int:
    """Return a duplicate of `fd` that does not block, without making `fd` itself so.

    Non-blocking mode belongs to the open file description, which a terminal or pipe shares with the
    shell and its other children: so terminals and pipes are opened anew. Regular files never block
    and are shared, since their position is. If a new opening is refused (a terminal of another
    user), `fd` itself is made non-blocking. Raises OSError.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return os.dup(fd)
    if not stat.S_ISSOCK(mode):
        with contextlib.suppress(OSError):
            return os.open(
                f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            )
    copy = os.dup(fd)
    os.set_blocking(copy, False)
    return copy
