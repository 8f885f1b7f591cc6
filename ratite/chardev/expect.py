"""A guest's serial line for programs: what it printed, what to send, waiting for text."""

from __future__ import annotations

import re
import threading
import time

from ratite.chardev.local import LocalChardev


class ExpectTimeout(TimeoutError):
    """What was awaited did not appear; `output` is what did."""

    def __init__(self, pattern: str, output: str) -> None:
        super().__init__(f"{pattern!r} did not appear; the last output was: {output[-400:]!r}")
        self.output = output


class Serial:
    """The first serial port, as Python sees it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._read = 0
        self._changed = threading.Condition()
        self._input: LocalChardev | None = None
        self.ended = False
        self.timeout = 30.0
        """Seconds that `expect` waits if it is not told otherwise."""

    def connect(self, chardev: LocalChardev) -> None:
        """Called by the machine."""
        self._input = chardev

    def output(self, data: bytes) -> None:
        """Called with what the guest sends."""
        with self._changed:
            self._data += data
            self._changed.notify_all()

    def end(self) -> None:
        """Called when the machine is gone: nothing more will come."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """Everything that the guest has sent so far."""
        return self._data.decode("utf-8", "replace")

    def send(self, text: str) -> None:
        """Type something."""
        assert self._input is not None, "the first serial port is not Python's: see Vm(serial=...)"
        self._input.feed(text.encode())

    def expect(self, pattern: str, *, timeout: float | None = None, regex: bool = False) -> str:
        """Wait until `pattern` appears after what earlier calls consumed; returns the output up to
        its end. Raises `ExpectTimeout` after `timeout` seconds, or when the machine ends first."""
        compiled = re.compile((pattern if regex else re.escape(pattern)).encode())
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        with self._changed:
            while True:
                fresh = bytes(self._data[self._read :])
                match = compiled.search(fresh)
                if match is not None:
                    self._read += match.end()
                    return fresh[: match.end()].decode("utf-8", "replace")
                left = deadline - time.monotonic()
                if left <= 0 or self.ended:
                    raise ExpectTimeout(pattern, fresh.decode("utf-8", "replace"))
                self._changed.wait(left)
