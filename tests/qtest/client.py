"""A test program's side of the qtest protocol."""

from __future__ import annotations

import base64
import socket
import time
from collections import deque


class QtestError(Exception):
    """The answer was FAIL."""


class Qtest:
    """Drives a machine's devices over a Unix socket on which it serves qtest."""

    def __init__(self, path: str, *, patience: float = 20) -> None:
        deadline = time.monotonic() + patience
        while True:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._socket.connect(path)
                break
            except OSError:
                self._socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self._socket.settimeout(patience)
        self._input = self._socket.makefile("r", encoding="ascii", newline="\n")
        self.interrupts: deque[tuple[str, int]] = deque()  # ("raise" or "lower", number)

    def send(self, line: str) -> None:
        """Send a command, without waiting for its answer."""
        self._socket.sendall(line.encode() + b"\n")

    def answer(self) -> str:
        """The next answer; interrupts before it are noted."""
        while True:
            line = self._input.readline()
            if not line.endswith("\n"):
                raise EOFError
            words = line.split()
            if words[0] != "IRQ":
                return line.rstrip("\n")
            self.interrupts.append((words[1], int(words[2])))

    def command(self, line: str) -> str:
        """Send a command; what follows OK in its answer."""
        self.send(line)
        status, _, rest = self.answer().partition(" ")
        if status != "OK":
            raise QtestError(rest)
        return rest

    def read(self, size: str, address: int) -> int:
        """Read b, w, l or q."""
        return int(self.command(f"read{size} {address:#x}"), 16)

    def write(self, size: str, address: int, value: int) -> None:
        """Write b, w, l or q."""
        self.command(f"write{size} {address:#x} {value:#x}")

    def read_bytes(self, address: int, size: int) -> bytes:
        """Read memory."""
        return base64.b64decode(self.command(f"b64read {address:#x} {size:#x}"))

    def write_bytes(self, address: int, data: bytes) -> None:
        """Write memory."""
        self.command(f"b64write {address:#x} {len(data):#x} {base64.b64encode(data).decode()}")

    def step(self, ns: int | None = None) -> int:
        """Let guest time pass, or go on to the next deadline; the time then."""
        return int(self.command("clock_step" if ns is None else f"clock_step {ns}"))

    def close(self) -> None:
        """Hang up."""
        self._input.close()
        self._socket.close()
