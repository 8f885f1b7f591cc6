"""The log that `-d` switches on: categories, one per kind of event, each nearly free while it is
off.
"""

from __future__ import annotations

import contextlib
import enum
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from ratite.core.errors import ConfigError, HostError
from ratite.core.signals import interruptible
from ratite.core.symbols import Symbols
from ratite.core.trace import Tracer, is_pattern, matching


class LogCategory(enum.IntFlag):
    """What `-d` can show. The lower-case name is the word on the command line."""

    NONE = 0
    OUT_ASM = enum.auto()
    IN_ASM = enum.auto()
    OP = enum.auto()
    OP_OPT = enum.auto()
    LLVM = enum.auto()
    INT = enum.auto()
    EXEC = enum.auto()
    CPU = enum.auto()
    FPU = enum.auto()
    MMU = enum.auto()
    CPU_RESET = enum.auto()
    UNIMP = enum.auto()
    GUEST_ERRORS = enum.auto()
    NOCHAIN = enum.auto()


DESCRIPTIONS: dict[LogCategory, str] = {
    LogCategory.OUT_ASM: "what each translation block and each compiled region became",
    LogCategory.IN_ASM: "guest code of each translation block",
    LogCategory.OP: "IR of each translation block and each compiled region",
    LogCategory.OP_OPT: "the same after our optimiser",
    LogCategory.LLVM: "LLVM IR of each compiled region",
    LogCategory.INT: "interrupts and exceptions, one line each",
    LogCategory.EXEC: "each translation block that is entered, but through a chained jump",
    LogCategory.CPU: "registers before each of those",
    LogCategory.FPU: "floating-point registers, too, where registers are shown",
    LogCategory.MMU: "what the softmmu TLB is filled with, and page faults",
    LogCategory.CPU_RESET: "registers before a CPU is reset",
    LogCategory.UNIMP: "use of what a device or CPU does not model",
    LogCategory.GUEST_ERRORS: "what the guest does wrong, such as writing a read-only register",
    LogCategory.NOCHAIN: "chain no blocks, so that exec and cpu show every one; slow",
}

TRACE_PREFIX = "trace:"
_LIMIT_PER_SECOND = 50


def parse_items(text: str) -> tuple[LogCategory, list[str]]:
    """Read the comma-separated value of `-d`: categories, and what follows `trace:`. Raises
    `ConfigError` for an unknown word.
    """
    chosen = LogCategory.NONE
    events = []
    for word in filter(None, text.split(",")):
        if word.startswith(TRACE_PREFIX):
            events.append(word.removeprefix(TRACE_PREFIX))
            continue
        category = LogCategory.__members__.get(word.upper()) if word.islower() else None
        if not category:
            raise ConfigError(f"-d {word}: unknown log item; '-d help' lists them")
        chosen |= category
    return chosen, events


def help_text(command: str = "-d") -> str:
    """The answer to `-d help`, or to the monitor's `help log`."""
    lines = [f"{str(c.name).lower():<15} {text}" for c, text in DESCRIPTIONS.items()]
    if command == "log":
        lines.insert(0, f"{'none':<15} nothing of these")
    lines += ["trace:PATTERN   trace events", "", f'"{command} trace:help" lists the trace events.']
    return "\n".join(["Log items (comma separated):", *lines]) + "\n"


class Log:
    """Where one machine's log lines go. Any thread may write.

    A hot caller tests `log.mask & LogCategory.X` before it builds a text; `mask` is a plain int.
    `trace` is what is told of trace events, and None while none is on.
    """

    def __init__(
        self, categories: LogCategory = LogCategory.NONE, stream: TextIO | None = None
    ) -> None:
        self.mask = int(categories)
        self.symbols = Symbols()
        self.code_ranges: tuple[tuple[int, int], ...] = ()
        self.perf_map = False  # name generated code for Linux perf
        self.timestamps = False  # before each trace event: thread and time
        self.trace: Tracer | None = None
        self.watchers: list[Callable[[], None]] = []
        """Called after `choose` and `switch_events`."""
        self._tracer = Tracer(self._write_event)
        self._stream = stream
        self._lock = threading.Lock()
        self._window: dict[str, tuple[float, int]] = {}

    @classmethod
    def to_file(cls, categories: LogCategory, path: str) -> Log:
        """Log to a file, replacing what it held (`-D`). Raises `HostError`."""
        try:
            with interruptible():
                stream = open(path, "w", encoding="utf-8", buffering=1)
            return cls(categories, stream)
        except OSError as error:
            raise HostError.from_os("open the log file", error, path) from error

    def redirect(self, path: str) -> None:
        """Log to another file from now on, replacing what it held. Raises `HostError`."""
        fresh = Log.to_file(LogCategory.NONE, path)._stream
        with self._lock:
            old, self._stream = self._stream, fresh
        if old is not None and old is not sys.stderr:
            old.close()

    def choose(self, categories: LogCategory) -> None:
        """Log these from now on, and nothing else. No vCPU executes."""
        self.mask = int(categories)
        for watcher in self.watchers:
            watcher()

    def enabled(self, category: LogCategory) -> bool:
        """True if lines of this category are wanted."""
        return self.mask & category.value != 0  # as plain integers: six times as fast

    def covers(self, gva: int) -> bool:
        """Whether guest code at this address is to be logged: `code_ranges` (first and last
        address, `-dfilter`) has it, or is empty."""
        return not self.code_ranges or any(first <= gva <= last for first, last in self.code_ranges)

    def write(self, category: LogCategory, text: str) -> None:
        """Write the text as one or more lines, if its category is wanted."""
        if self.mask & category.value:
            self._emit(text)

    def guest_error(self, source: str, text: str) -> None:
        """Note that the guest did wrong at the device named by `source`; at most 50 lines a second
        for each source.
        """
        if self.mask & LogCategory.GUEST_ERRORS and self._admit(source):
            self._emit(f"{source}: {text}")

    def unimplemented(self, source: str, text: str) -> None:
        """Note use of what is not modelled, limited as `guest_error` is."""
        if self.mask & LogCategory.UNIMP and self._admit(source):
            self._emit(f"{source}: {text}")

    def switch_events(self, pattern: str, enabled: bool) -> bool:
        """Switch trace events on or off. False if that means one event that does not exist. No vCPU
        executes.
        """
        found = frozenset(matching(pattern))
        tracer = self._tracer
        tracer.on = tracer.on | found if enabled else tracer.on - found
        self.trace = tracer if tracer.on else None
        for watcher in self.watchers:
            watcher()
        return bool(found) or is_pattern(pattern)

    def traces(self, event: str) -> bool:
        """Whether the trace event of this name is on."""
        return event in self._tracer.on

    def trace_events(self, pattern: str) -> str:
        """Switch trace events on, or off with a `-` in front. The answer is a warning, or empty."""
        name = pattern.removeprefix("-")
        known = self.switch_events(name, enabled=name == pattern)
        return "" if known else f"trace event '{name}' does not exist"

    def close(self) -> None:
        """Close the stream, unless it is standard error. Later lines go to standard error."""
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None and stream is not sys.stderr:
            stream.close()

    def _write_event(self, text: str) -> None:
        if self.timestamps:
            seconds, ns = divmod(time.time_ns(), 1_000_000_000)
            text = f"{threading.get_native_id()}@{seconds}.{ns // 1000:06d}:{text}"
        self._emit(text)

    def _emit(self, text: str) -> None:
        with self._lock:
            stream = self._stream or sys.stderr
            try:
                stream.write(text if text.endswith("\n") else text + "\n")
            except (OSError, ValueError) as error:  # a full disk, or standard error is closed
                self.mask = 0
                with contextlib.suppress(OSError, ValueError):
                    print(f"-D: cannot write to the log, which ends here: {error}", file=sys.stderr)

    def _admit(self, source: str) -> bool:
        now = time.monotonic()
        since, count = self._window.get(source, (now, 0))
        if now - since >= 1.0:
            if count > _LIMIT_PER_SECOND:
                self._emit(f"{source}: {count - _LIMIT_PER_SECOND} more lines were left out")
            since, count = now, 0
        self._window[source] = (since, count + 1)
        return count < _LIMIT_PER_SECOND


QUIET = Log()  # nothing enabled: what a component logs to before a machine adopts it
