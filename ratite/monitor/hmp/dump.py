"""Memory and numbers in the formats of `x`, `xp` and `print`.

Source: QEMU's manual, chapter "QEMU Monitor", `x/fmt addr`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ratite.cpu.inspect import Inspector
from ratite.monitor.errors import QmpError

SIZES = {"b": 1, "h": 2, "w": 4, "g": 8}
LETTERS = "oxduci"
MAX_LINES = 65536
_COUNT = re.compile(r"\d{1,9}")
_ESCAPES = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\r": "\\r"}


@dataclass(frozen=True, slots=True)
class Format:
    """What follows the slash. `letter` and `size` (bytes) are None if they are not given."""

    count: int = 1
    letter: str | None = None
    size: int | None = None


def parse_format(text: str) -> Format:
    """Read what follows the slash. Raises `QmpError`."""
    match = _COUNT.match(text)
    count, rest = (int(match[0]), text[match.end() :]) if match else (1, text)
    letter = size = None
    for char in rest:
        if char in LETTERS:
            letter = char
        elif char in SIZES:
            size = SIZES[char]
        else:
            raise QmpError(f"invalid char in format: '{char}'")
    return Format(count, letter, size)


def number(value: int, letter: str, size: int, *, padded: bool = True) -> str:
    """One value of `size` bytes."""
    bits = size * 8
    value &= (1 << bits) - 1
    width = {"o": -(-bits // 3), "x": bits // 4}.get(letter, -(-bits * 10 // 33)) if padded else 0
    match letter:
        case "o":
            return f"{'0' if value else ''}{value:o}".rjust(width)
        case "x" if padded or value:
            return f"0x{value:0{width}x}"
        case "x":
            return "0"
        case "u":
            return f"{value:{width}d}"
        case "c":
            return character(value)
    signed = value - (1 << bits) if value >> (bits - 1) else value
    return f"{signed:{width}d}"


def character(value: int) -> str:
    """A value as C has it between quotes."""
    char = chr(value) if value < 0x7F else ""
    if char in _ESCAPES:
        return f"'{_ESCAPES[char]}'"
    return f"'{char}'" if char.isprintable() and char else f"'\\x{value:02x}'"


def numbers(
    read: Callable[[int, int], bytes | None], start: int, count: int, letter: str, size: int
) -> Iterator[str]:
    """Lines of `count` values from `start` on. `read` answers None where nothing can be read."""
    line_size = 8 if size == 1 else 16
    left = count * size
    if letter == "c":
        size = 1  # characters are bytes, in whatever units they are counted
    address = start
    for _ in range(MAX_LINES):
        if left <= 0:
            return
        length = min(left, line_size)
        head = f"{address & (1 << 64) - 1:016x}:"
        data = read(address, length)
        if data is None:
            yield f"{head} Cannot access memory"
            return
        values = (data[at : at + size] for at in range(0, length, size))
        shown = (number(int.from_bytes(item, "little"), letter, size) for item in values)
        yield " ".join([head, *shown])
        left -= length
        address += length
    yield f"(more than {MAX_LINES} lines: the rest is left out)"


def instructions(
    read: Callable[[int, int], bytes | None], start: int, count: int, inspector: Inspector
) -> Iterator[str]:
    """Lines of `count` instructions from `start` on."""
    address = start
    for _ in range(min(count, MAX_LINES)):
        code = read(address, 4) or read(address, 2) or b""
        found = inspector.disassemble(code, address)
        gva = address & (1 << 64) - 1
        if found is None:
            yield f"0x{gva:016x}: Cannot access memory"
            return
        yield found.line(gva)
        address += found.size
