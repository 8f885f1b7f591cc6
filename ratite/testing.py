"""A machine for tests: it remembers what happened, for whoever has to find out why a test failed.

Behind the `vm` fixture of `ratite.pytest_plugin`; any other test runner can use it as well.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Condition
from typing import Any

from ratite.cli import main
from ratite.vm import Vm

DEMO = Path(main.DEMO)
"""The small guest that ships with ratite: a kernel for tests of tests."""
LAST_LINES = 60
"""Lines of the serial port and of the log that the report of a failed test shows."""
MAX_EVENTS = 1000
"""Events that are kept, the latest."""
PATIENCE = 5.0
"""Seconds that a report waits for a machine that may be stuck."""

Event = Mapping[str, Any]


class GuestVm(Vm):
    """A `Vm` that keeps its events and logs. Its serial port is Python's."""

    def __init__(
        self,
        stem: Path,
        arguments: Mapping[str, Any],
        options: Sequence[str] = (),
        *,
        timeout: float = 30.0,
        log: str = "",
    ) -> None:
        """`arguments` are those of `Vm`, `options` words of the command line. `timeout` is in
        seconds, for whatever is expected. `log` names items of `-d`, for the file `stem`.log;
        `stem`.serial gets all of the serial output at the end. Raises `ConfigError` or `HostError`.
        """
        self.log_file = stem.with_suffix(".log")
        self.serial_file = stem.with_suffix(".serial")
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._new_event = Condition()
        logging = ["-d", log, "-D", str(self.log_file)] if log else []
        super().__init__(**{**arguments, "options": [*options, *logging]})
        self.serial.timeout = timeout
        self.loop.call(lambda: self.hub.events.listeners.append(self._note))

    def close(self) -> None:
        """End the machine, and write down what its serial port has said."""
        super().close()
        self.serial_file.write_text(self.serial.text, encoding="utf-8")

    def _note(self, event: Event) -> None:
        with self._new_event:
            self._events.append(event)
            self._new_event.notify_all()

    # -- what a test does

    def send(self, text: str) -> None:
        """Type on the serial port."""
        self.serial.send(text)

    def expect(self, pattern: str, *, timeout: float | None = None, regex: bool = False) -> str:
        """Wait for output of the serial port; see `Serial.expect`."""
        return self.serial.expect(pattern, timeout=timeout, regex=regex)

    @property
    def events(self) -> list[Event]:
        """The monitor's events so far, as QMP has them; the latest `MAX_EVENTS`."""
        with self._new_event:
            return list(self._events)

    def expect_event(self, name: str, *, timeout: float | None = None) -> Event:
        """The first event of this name, of those so far or to come. Raises `TimeoutError`."""
        deadline = time.monotonic() + (self.serial.timeout if timeout is None else timeout)
        with self._new_event:
            while True:
                for event in self._events:
                    if event["event"] == name:
                        return event
                left = deadline - time.monotonic()
                if left <= 0:
                    seen = ", ".join(event["event"] for event in self._events) or "none"
                    raise TimeoutError(f"no event {name}; there were: {seen}")
                self._new_event.wait(left)

    @property
    def log_text(self) -> str:
        """What is in the log that was asked for."""
        if not self.log_file.exists():
            return ""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    # -- what a report says

    def last_words(self) -> list[tuple[str, str]]:
        """Titles and texts for the report of a failed test. Nothing is raised, whatever state the
        machine is in."""
        words = [
            (f"last lines of {self.serial_file}", _tail(self.serial.text)),
            ("events", "\n".join(map(_shown, self.events))),
            ("run state", self._ask("info status")),
            ("registers", self._ask("info registers -a")),
            (f"last lines of {self.log_file}", _tail(self.log_text)),
        ]
        return [(title, text) for title, text in words if text]

    def _ask(self, line: str) -> str:
        if self.closed:
            return "the machine is closed"
        try:
            return self.monitor(line, timeout=PATIENCE).strip("\n")
        except TimeoutError:
            return f"the machine does not answer '{line}' within {PATIENCE:.0f} s"


def _tail(text: str) -> str:
    lines = text.replace("\r\n", "\n").splitlines()
    left_out = len(lines) - LAST_LINES
    head = [f"({left_out} lines before)"] if left_out > 0 else []
    return "\n".join([*head, *lines[-LAST_LINES:]])


def _shown(event: Event) -> str:
    stamp = event["timestamp"]
    data = event.get("data", "")
    return f"{stamp['seconds']}.{stamp['microseconds']:06} {event['event']} {data}".rstrip()
