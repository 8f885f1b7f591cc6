"""The base of all character backends: one frontend, its flow control, and a log of the output.

A backend is used under the machine lock only, by devices on vCPU threads and by the event loop. It
never waits: output that the host does not take at once is kept in a bounded buffer, and what
exceeds that is refused by a short write. A peer that vanishes is an event.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Protocol, runtime_checkable

from ratite.chardev.options import DEFAULTS, CommonOptions
from ratite.core.char import CharEvent
from ratite.core.errors import ConfigError, HostError
from ratite.core.loop import Loop
from ratite.core.signals import interruptible
from ratite.qom import Object

Bytes = bytes | bytearray | memoryview


class Frontend(Protocol):
    """The device or monitor that uses a backend."""

    def can_receive(self) -> int:
        """Return how many bytes `receive` would take now."""

    def receive(self, data: bytes) -> None:
        """Take input, at most `can_receive()` bytes."""

    def event(self, event: CharEvent) -> None:
        """Note what happened on the stream."""


@runtime_checkable
class MovableFrontend(Frontend, Protocol):
    """A frontend that can go on with another backend."""

    def change_backend(self, chardev: Chardev, /) -> None:
        """Use this one from now on, and attach to it."""


class CharLog:
    """A file that gets a copy of a backend's output (`logfile=`, `logappend=`).

    Raises HostError if the file cannot be written.
    """

    def __init__(self, path: str, *, append: bool = False) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
        try:
            with interruptible():
                self._fd = os.open(path, flags, 0o666)
        except OSError as error:
            raise HostError.from_os("open the character log", error, path) from error

    def write(self, data: Bytes) -> None:
        """Append `data`; an error ends the log, not the machine."""
        while self._fd >= 0 and data:
            try:
                data = memoryview(data)[os.write(self._fd, data) :]
            except OSError:
                self.close()

    def close(self) -> None:
        """Close the file. Later writes do nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Chardev(Object):
    """A character backend; by itself one that loses its output and has no input.

    Raises HostError if its log file cannot be written. It is closed before the loop stops.

    A kind of backend overrides `_send` and what else it needs of the underscore methods, and calls
    `_receive_room`, `_deliver` and `_set_open`.
    """

    type_name = "chardev"
    abstract = True

    kind: ClassVar[str] = ""  # the word after -chardev

    def __init__(self, id: str, loop: Loop, options: CommonOptions) -> None:
        super().__init__()
        self.id = id
        self.options = options
        self.is_open = False
        self.guest_open: bool | None = None  # None: the device does not know
        self._loop = loop
        self._log: CharLog | None = None
        if options.logfile:
            self._log = CharLog(options.logfile, append=options.logappend)
        self._frontend: Frontend | None = None
        self._claimed = False

    @property
    def filename(self) -> str:
        """Where the stream leads, in the words of `query-chardev`."""
        return self.kind

    @property
    def announcement(self) -> str:
        """A line that users must read before they can use it; "" for most kinds."""
        return ""

    @property
    def frozen(self) -> bool:
        """Always: an open backend's options stay as they are."""
        return True

    @property
    def frontend_open(self) -> bool:
        """True if the guest has it open, where the device knows, else if a frontend has it."""
        if self.guest_open is not None:
            return self.guest_open
        return self._frontend is not None or self._claimed

    @property
    def frontend(self) -> Frontend | None:
        """The frontend that is attached."""
        return self._frontend

    @property
    def claimed(self) -> bool:
        """True if a frontend has it."""
        return self._claimed

    def take_fd(self) -> int | None:
        """A descriptor that the peer sent along with its last message, for the caller to own; what
        else it sent is closed. None if there is none.
        """
        return None

    def claim(self) -> Chardev:
        """Reserve the backend for one frontend. Raises ConfigError if it is taken.

        A mux answers with a new port of its own at each call.
        """
        if self._claimed:
            raise ConfigError(
                f"character device {self.id!r} is in use already; give it mux=on to share it"
            )
        self._claimed = True
        return self

    def release(self) -> None:
        """Detach the frontend and give up the claim."""
        self.attach(None)
        self._claimed = False
        self.guest_open = None

    def write(self, data: Bytes, /) -> int:
        """Take output; return how many bytes were taken, see `CharEvent.WRITABLE`."""
        taken = self._send(data)
        if self._log is not None:
            self._log.write(memoryview(data)[:taken])
        return taken

    def attach(self, frontend: Frontend | None, /) -> None:
        """Connect a frontend, or disconnect it. OPENED follows at once if the stream is open."""
        self._frontend = frontend
        self._attached()
        if frontend is not None:
            if self.is_open:
                frontend.event(CharEvent.OPENED)
            self._resume()

    def send_break(self) -> None:
        """Have the frontend see a serial break."""
        self._event(CharEvent.BREAK)

    def accept_input(self) -> None:
        """Deliver input held back, now that the frontend has room."""
        self._resume()

    def set_guest_open(self, is_open: bool, /) -> None:
        """Note whether the guest has the device open."""
        self.guest_open = is_open

    def close(self) -> None:
        """Release the host resources. Calls after the first do nothing."""
        if self._log is not None:
            self._log.close()

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Open what the kind of backend needs inside: the log file is closed if that fails."""
        try:
            yield
        except BaseException:
            Chardev.close(self)
            raise

    def _send(self, data: Bytes) -> int:
        return len(data)

    def _attached(self) -> None:
        """React to a new frontend, or to none."""

    def _resume(self) -> None:
        """Read on, after the frontend's room has grown."""

    def _receive_room(self) -> int:
        """Return how many bytes `_deliver` may be given now."""
        return 0 if self._frontend is None else self._frontend.can_receive()

    def _deliver(self, data: bytes) -> None:
        if data and self._frontend is not None:
            self._frontend.receive(data)

    def _event(self, event: CharEvent) -> None:
        if self._frontend is not None:
            self._frontend.event(event)

    def _writable(self) -> None:
        self._event(CharEvent.WRITABLE)

    def _set_open(self, is_open: bool) -> None:
        if is_open != self.is_open:
            self.is_open = is_open
            self._event(CharEvent.OPENED if is_open else CharEvent.CLOSED)


class NullChardev(Chardev):
    """Loses its output and has no input; nobody ever is at the other end."""

    type_name = "chardev-null"
    kind = "null"

    def __init__(self, id: str, loop: Loop, *, options: CommonOptions = DEFAULTS) -> None:
        super().__init__(id, loop, options)
