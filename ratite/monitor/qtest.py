"""The qtest protocol: a test program drives the machine's devices, one line per command.

Source: QEMU's manual, "QTest Device Emulation Testing Framework", and the answers of QEMU 7.2 to
the same lines. Where QEMU ends with a failed assertion on a line that it cannot read, the answer
here is `FAIL` and a reason.
Not modelled: `rtas` (PowerPC), `module_load` (there are no modules).
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from ratite.core.char import CharEvent
from ratite.cpu.idle import IdleRunner
from ratite.cpu.vcpu import Runner
from ratite.machines.machine import Machine
from ratite.memory import Gpa
from ratite.monitor.qtest_irq import UNNAMED_INPUTS, InterruptTap, UnknownDevice, input_pin
from ratite.qom import Object

LINE_LIMIT = 64 << 20
"""Bytes of a line; longer ones are refused."""
SIZE_LIMIT = 16 << 20
"""Bytes that one command may read or fill."""

_NUMBER = re.compile(r"(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z")
_SIZES = {"b": 1, "w": 2, "l": 4, "q": 8}
_PORT_SIZES = {"b": 1, "w": 2, "l": 4}


class Stream(Protocol):
    """A character backend."""

    def write(self, data: bytes, /) -> int:
        """Send; returns how many bytes were taken."""

    def attach(self, frontend: Qtest, /) -> None:
        """Connect a frontend."""

    def accept_input(self) -> None:
        """Deliver what was held back."""


class Failure(Exception):
    """A command that cannot be done, with the reason if the client is told one."""


def number(text: str, limit: int = 1 << 64) -> int:
    """A number in C's notation, below `limit`. Raises `Failure`."""
    if not _NUMBER.match(text):
        raise Failure(f"'{text[:40]}' is no number")
    base = 16 if text[:2] in ("0x", "0X") else 8 if text[:1] == "0" and len(text) > 1 else 10
    if len(text) > 30 or (value := int(text, base)) >= limit:
        raise Failure(f"{text[:40]} is too large")
    return value


class Qtest:
    """Serves one client. Everything is called on the main loop, with the machine lock held. Objects
    are named by paths from `root`; time can be moved if the runner is an `IdleRunner`.
    """

    def __init__(
        self,
        machine: Machine,
        root: Object,
        runner: Runner,
        stream: Stream,
        *,
        log: TextIO | None = None,
    ) -> None:
        self._machine = machine
        self._root = root
        self._time = runner if isinstance(runner, IdleRunner) else None
        self._stream = stream
        self._log = log
        self._start = time.monotonic()
        self._listens = False
        self._line = bytearray()
        self._too_long = False
        self._output = bytearray()
        self._tap: InterruptTap | None = None
        self._taps: dict[tuple[Object, str | None, bool], InterruptTap] = {}
        self._commands: dict[str, Callable[[list[str]], str]] = {
            "read": self._read_hex,
            "write": self._write_hex,
            "b64read": self._read_base64,
            "b64write": self._write_base64,
            "memset": self._fill,
            "endianness": lambda words: "little",
            "module_load": lambda words: self._refuse(),
            "irq_intercept_in": lambda words: self._intercept(words, outputs=False),
            "irq_intercept_out": lambda words: self._intercept(words, outputs=True),
            "set_irq_in": self._set_irq,
        }
        for letter, size in _SIZES.items():
            self._commands[f"read{letter}"] = self._reader(size)
            self._commands[f"write{letter}"] = self._writer(size)
        for letter, size in _PORT_SIZES.items():
            self._commands[f"in{letter}"] = self._port_reader(size)
            self._commands[f"out{letter}"] = self._port_writer
        if self._time is not None:
            self._commands["clock_step"] = self._step_clock
            self._commands["clock_set"] = self._set_clock
        stream.attach(self)

    def begin(self) -> None:
        """Take commands from now on: the machine is ready for them."""
        self._listens = True
        self._stream.accept_input()

    # -- what the backend calls

    def can_receive(self) -> int:
        """A client that does not read its answers is not heard."""
        return 65536 if self._listens and not self._output else 0

    def receive(self, data: bytes) -> None:
        """Take input."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._take(piece)
            line, self._line = bytes(self._line), bytearray()
            too_long, self._too_long = self._too_long, False
            if too_long:
                self._send(f"FAIL a line has at most {LINE_LIMIT} bytes")
            else:
                self._command(line.removesuffix(b"\r").decode("utf-8", "replace"))
        self._take(rest)

    def _take(self, piece: bytes) -> None:
        if len(self._line) + len(piece) > LINE_LIMIT:
            self._too_long = True
            self._line.clear()
        elif not self._too_long:
            self._line += piece

    def event(self, event: CharEvent) -> None:
        """A client comes or goes."""
        if event is CharEvent.OPENED:
            self._start = time.monotonic()
            self._note("I", "OPENED")
        elif event is CharEvent.CLOSED:
            self._note("I", "CLOSED")
            self._line.clear()
            self._output.clear()
            if self._tap is not None:
                self._tap.enabled = False
                self._tap = None
        elif event is CharEvent.WRITABLE:
            self._flush()
            if not self._output:
                self._stream.accept_input()

    # -- commands

    def _command(self, line: str) -> None:
        self._note("R", line)
        name, *words = line.split() or [""]
        handler = self._commands.get(name)
        try:
            if handler is None:
                raise Failure(f"Unknown command '{name[:80]}'")
            answer = handler(words)
        except UnknownDevice:
            self._send("FAIL Unknown device")
        except Failure as failure:
            self._send(f"FAIL {failure}".rstrip())
        else:
            self._send(f"OK {answer}".rstrip())

    def _refuse(self) -> str:
        raise Failure

    @staticmethod
    def _numbers(words: list[str], count: int) -> list[int]:
        if len(words) < count:
            raise Failure(f"{count} numbers are needed")
        return [number(word) for word in words[:count]]

    def _reader(self, size: int) -> Callable[[list[str]], str]:
        def read(words: list[str]) -> str:
            (address,) = self._numbers(words, 1)
            value, _ = self._machine.memory.read(Gpa(address), size)
            return f"0x{value:016x}"

        return read

    def _writer(self, size: int) -> Callable[[list[str]], str]:
        def write(words: list[str]) -> str:
            address, value = self._numbers(words, 2)
            self._machine.memory.write(Gpa(address), size, value)
            return ""

        return write

    def _port_reader(self, size: int) -> Callable[[list[str]], str]:
        """No machine here has a port space: all ones, as from a bus where nothing answers."""

        def read(words: list[str]) -> str:
            if not words:
                raise Failure("1 number is needed")
            number(words[0], 1 << 16)
            return f"0x{(1 << 8 * size) - 1:04x}"

        return read

    def _port_writer(self, words: list[str]) -> str:
        self._numbers(words, 2)
        return ""

    def _span(self, words: list[str], least: int = 1) -> tuple[Gpa, int]:
        address, size = self._numbers(words, 2)
        if not least <= size <= SIZE_LIMIT:
            raise Failure(f"a size is {least} to {SIZE_LIMIT}")
        return Gpa(address), size

    def _read_hex(self, words: list[str]) -> str:
        return f"0x{self._machine.memory.read_bytes(*self._span(words))[0].hex()}"

    def _read_base64(self, words: list[str]) -> str:
        data, _ = self._machine.memory.read_bytes(*self._span(words, least=0))
        return base64.b64encode(data).decode()

    def _write(self, words: list[str], data: bytes, least: int = 1) -> str:
        """What is missing of `data` is zeros, what is too much is left."""
        address, size = self._span(words, least)
        self._machine.memory.write_bytes(address, data[:size].ljust(size, b"\0"))
        return ""

    def _write_hex(self, words: list[str]) -> str:
        digits = words[2] if len(words) > 2 else ""
        if not re.fullmatch("0x(?:[0-9a-fA-F]{2})*", digits):
            raise Failure("data is 0x and pairs of hex digits")
        return self._write(words, bytes.fromhex(digits[2:]))

    def _write_base64(self, words: list[str]) -> str:
        try:
            data = base64.b64decode(words[2] if len(words) > 2 else "", validate=True)
        except (binascii.Error, ValueError):
            raise Failure("this is not base64") from None
        return self._write(words, data)

    def _fill(self, words: list[str]) -> str:
        _, size = self._span(words, least=0)
        (pattern,) = self._numbers(words[2:], 1)
        return self._write(words, bytes((pattern & 0xFF,)) * size, least=0)

    # -- time

    def _step_clock(self, words: list[str]) -> str:
        """By so many nanoseconds, or to the next deadline."""
        assert self._time is not None
        clock = self._machine.clock
        if words:
            target = clock.now_ns() + number(words[0], 1 << 63)
        else:
            target = clock.next_deadline_ns() or 0
        return self._move_clock(target)

    def _set_clock(self, words: list[str]) -> str:
        return self._move_clock(self._numbers(words, 1)[0])

    def _move_clock(self, to_ns: int) -> str:
        assert self._time is not None
        self._time.advance(to_ns)
        return str(self._machine.clock.now_ns())

    # -- interrupts

    def _intercept(self, words: list[str], *, outputs: bool) -> str:
        if not words:
            raise Failure("the path of a device is needed")
        found = self._root.resolve(words[0])
        if found is None:
            raise UnknownDevice
        if self._tap is not None:
            if self._tap.target is not found:
                raise Failure("IRQ intercept already enabled")
            return ""
        name = words[1] if len(words) > 1 else None
        key = (found, name, outputs)
        tap = self._taps.get(key)
        if tap is None:
            tap = InterruptTap(self._machine, found, name, self._interrupt, outputs=outputs)
        self._tap = self._taps[key] = tap
        tap.enabled = True
        return ""

    def _interrupt(self, line: int, level: bool) -> None:
        self._send(f"IRQ {'raise' if level else 'lower'} {line}")

    def _set_irq(self, words: list[str]) -> str:
        if len(words) < 4:
            raise Failure("path, name, number and level are needed")
        target = self._root.resolve(words[0])
        line, level = (number(word, 1 << 31) for word in words[2:4])
        if target is None or words[1] != UNNAMED_INPUTS:
            raise UnknownDevice
        input_pin(self._machine, target, line)(level != 0)
        return ""

    # -- output

    def _note(self, direction: str, text: str) -> None:
        if self._log is not None:
            sign = " " if direction == "I" else " +"
            self._log.write(f"[{direction}{sign}{time.monotonic() - self._start:.6f}] {text}\n")
            self._log.flush()

    def _send(self, line: str) -> None:
        self._note("S", line)
        self._output += line.encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        if self._output:
            taken = self._stream.write(bytes(self._output))
            del self._output[:taken]


__all__ = ["LINE_LIMIT", "SIZE_LIMIT", "Qtest", "number"]
