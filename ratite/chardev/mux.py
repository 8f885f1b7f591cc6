"""One backend shared by several frontends: all write, and one, chosen by the user, gets the input.

The escape character (Ctrl-A unless `-echr` says otherwise) starts a command of one key; twice, it
stands for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ratite.chardev.chardev import Bytes, Chardev
from ratite.chardev.options import DEFAULTS, MUX_DEFAULTS, MuxOptions
from ratite.core.char import CharEvent
from ratite.core.errors import ConfigError
from ratite.core.loop import Loop

INPUT_LIMIT = 64 * 1024
MAX_PORTS = 4
CTRL_A = 1


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class MuxActions:
    """What the commands do that concern more than the stream; called with the machine lock held."""

    quit: Callable[[], None] = _nothing
    save_disks: Callable[[], None] = _nothing


_NO_ACTIONS = MuxActions()


class MuxPort(Chardev):
    """What one frontend of a mux sees of it."""

    type_name = "chardev-mux-port"
    kind = "mux"

    def __init__(self, mux: MuxChardev, loop: Loop) -> None:
        super().__init__(mux.id, loop, DEFAULTS)
        self._mux = mux
        self._input = bytearray()
        self._modest = False

    @property
    def filename(self) -> str:
        """The mux's name: where the stream leads."""
        return self._mux.filename

    def release(self) -> None:
        """Detach the frontend and leave the mux."""
        super().release()
        self._mux.remove(self)

    def stay_behind(self) -> None:
        """Do not take the input when a frontend attaches, if another port has it."""
        self._modest = True

    def take(self, data: bytes) -> None:
        """Get input from the user; kept while the frontend has no room."""
        self._input += data
        self._resume()

    @property
    def backlog(self) -> int:
        """Bytes of input kept."""
        return len(self._input)

    def notify(self, event: CharEvent) -> None:
        """Pass an event on to the frontend."""
        if event in (CharEvent.OPENED, CharEvent.CLOSED):
            self._set_open(event is CharEvent.OPENED)
        else:
            self._event(event)

    def _attached(self) -> None:
        self.is_open = self._mux.is_open
        if self._frontend is not None and not (self._modest and self._mux.has_focus):
            self._mux.focus(self)

    def _resume(self) -> None:
        while self._input and (room := self._receive_room()) > 0:
            piece = bytes(self._input[:room])
            del self._input[:room]
            self._deliver(piece)
        self._mux.accept_input()

    def _send(self, data: Bytes) -> int:
        return self._mux.write(data)


class MuxChardev(Chardev):
    """Shares `backend`, which it claims. Each `claim` answers a new port.

    The frontend attached last gets the input first. At the end the backend is closed, or if not
    `owned` only let go. Raises ConfigError if it is in use.
    """

    type_name = "chardev-mux"
    kind = "mux"

    def __init__(
        self,
        id: str,
        loop: Loop,
        backend: Chardev,
        actions: MuxActions = _NO_ACTIONS,
        escape: int = CTRL_A,
        owned: bool = True,
        *,
        options: MuxOptions = MUX_DEFAULTS,
    ) -> None:
        super().__init__(id, loop, options)
        self._owned = owned
        self._escape = escape
        self._actions = actions
        self._ports: list[MuxPort] = []
        self._focus: MuxPort | None = None
        self._escaped = False
        self._closed = False
        self._receiving = False
        self._timestamps = False
        self._line_start = True
        self._started = time.monotonic()
        with self._opening():
            self._backend = backend.claim()
        self._backend.attach(self)

    @property
    def filename(self) -> str:
        """Where the backend leads."""
        return self._backend.filename

    @property
    def announcement(self) -> str:
        """The backend's, if it is the mux's own."""
        return self._backend.announcement if self._owned else ""

    @property
    def claimed(self) -> bool:
        """True if it has a port."""
        return bool(self._ports)

    def claim(self) -> Chardev:
        """Return a new port. Raises ConfigError if there are four already."""
        if len(self._ports) >= MAX_PORTS:
            raise ConfigError(f"character device {self.id!r}: a mux serves at most {MAX_PORTS}")
        port = MuxPort(self, self._loop)
        self._ports.append(port)
        return port.claim()

    @property
    def has_focus(self) -> bool:
        """True if some port has the input."""
        return self._focus is not None

    def remove(self, port: MuxPort) -> None:
        """Forget a port."""
        if port in self._ports:
            self._ports.remove(port)
        if self._focus is port:
            self._focus = None
            if self._ports:
                self.focus(self._ports[0])

    def focus(self, port: MuxPort) -> None:
        """Give the input to `port`."""
        if port is self._focus:
            return
        if self._focus is not None:
            self._focus.notify(CharEvent.MUX_OUT)
        self._focus = port
        port.notify(CharEvent.MUX_IN)
        self.accept_input()

    # -- the frontend of the backend

    def can_receive(self) -> int:
        """Always some, so that commands get through to a guest that does not read."""
        if self._focus is None:
            return INPUT_LIMIT
        return INPUT_LIMIT - self._focus.backlog

    def receive(self, data: bytes) -> None:
        """Sort the user's keys into commands and input."""
        self._receiving = True
        try:
            self._sort(data)
        finally:
            self._receiving = False

    def _sort(self, data: bytes) -> None:
        start = 0
        for index, byte in enumerate(data):
            if self._escaped:
                self._escaped = False
                start = index + 1
                self._command(byte)
            elif byte == self._escape:
                self._input(data[start:index])
                self._escaped = True
                start = index + 1
        self._input(data[start:])

    def event(self, event: CharEvent) -> None:
        """Pass the backend's events to the frontends; a break to the one with the input."""
        if event is CharEvent.BREAK:
            if self._focus is not None:
                self._focus.notify(event)
            return
        if event in (CharEvent.OPENED, CharEvent.CLOSED):
            self.is_open = event is CharEvent.OPENED
        for port in tuple(self._ports):
            port.notify(event)

    def _input(self, data: bytes) -> None:
        if data and self._focus is not None:
            self._focus.take(data)

    def _command(self, byte: int) -> None:
        key = chr(byte)
        if byte == self._escape:
            self._input(bytes((byte,)))
        elif key in "h?":
            self._show(self._help())
        elif key == "x":
            self._show("ratite: terminated\r\n")
            self._actions.quit()
        elif key == "s":
            self._actions.save_disks()
        elif key == "b":
            self.event(CharEvent.BREAK)
        elif key == "c":
            self._next()
        elif key == "t":
            self._timestamps = not self._timestamps
            self._started = time.monotonic()
            self._line_start = False

    def _next(self) -> None:
        if not self._ports or self._focus is None:
            return
        index = self._ports.index(self._focus) + 1
        self.focus(self._ports[index % len(self._ports)])

    def _help(self) -> str:
        name = f"C-{chr(self._escape + 96)}" if 1 <= self._escape <= 26 else chr(self._escape)
        keys = [
            ("h", "show these keys (also ?)"),
            ("x", "quit"),
            ("s", "write the changes of snapshot drives to their images"),
            ("t", "switch time stamps on or off"),
            ("b", "send a break"),
            ("c", "switch between the guest and the monitor"),
            (name, f"send {name}"),
        ]
        return "\r\n" + "".join(f"{name} {key:<4} {text}\r\n" for key, text in keys)

    def _show(self, text: str) -> None:
        self._backend.write(text.encode())

    # -- the backend of the ports

    def _send(self, data: Bytes) -> int:
        if not self._timestamps:
            return self._backend.write(data)
        for line in bytes(data).splitlines(keepends=True):
            if self._line_start:
                self._show(self._stamp())
            self._backend.write(line)
            self._line_start = line.endswith(b"\n")
        return len(data)

    def _stamp(self) -> str:
        seconds = time.monotonic() - self._started
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(int(minutes), 60)
        return f"[{hours:02d}:{minutes:02d}:{seconds:06.3f}] "

    def accept_input(self) -> None:
        """Read on, after a port has passed some of its input on."""
        if not self._receiving:  # else what is being sorted now would be overtaken
            self._backend.accept_input()

    def close(self) -> None:
        """Close the backend too, or let it go."""
        if self._owned:
            self._backend.attach(None)
            self._backend.close()
        elif not self._closed:
            self._backend.release()
        self._closed = True
        super().close()
