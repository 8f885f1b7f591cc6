"""Encoding rows: the manual's own notation for what the bits of an instruction mean.

A row is a list of fields from the most significant bit down: literal bits (`0110011`), or
`name[bits]`, where `bits` says which bits of the operand stand there (`imm[12|10:5]`, `rs1[4:0]`).
`_[4:0]` are bits that the instruction ignores.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FIELD = re.compile(r"(?P<name>[a-z_]\w*)\[(?P<bits>[\d:|]+)\]")


class PatternError(ValueError):
    """A row that does not describe every bit, or overlaps another."""


@dataclass(frozen=True, slots=True)
class Slice:
    """`width` bits at `position` of the encoding are bits `target` and up of the operand."""

    position: int
    target: int
    width: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed row: an encoding matches if `encoding & mask == value`."""

    text: str
    width: int
    mask: int
    value: int
    fields: dict[str, tuple[Slice, ...]]

    def extract(self, name: str, encoding: int, *, signed: bool) -> int:
        """The operand's value in `encoding`."""
        result = top = 0
        for part in self.fields[name]:
            result |= (encoding >> part.position & ((1 << part.width) - 1)) << part.target
            top = max(top, part.target + part.width)
        if signed and result >> (top - 1):
            result -= 1 << top
        return result

    def top(self, name: str) -> int:
        """Width of the operand, its implied low zero bits included."""
        return max(part.target + part.width for part in self.fields[name])

    def insert(self, name: str, value: int) -> int:
        """The encoding bits that hold the operand `value`; bits that the row does not hold are
        lost.
        """
        return sum(
            (value >> part.target & ((1 << part.width) - 1)) << part.position
            for part in self.fields[name]
        )


def parse_pattern(text: str, width: int) -> Pattern:
    """Parse a row of `width` bits. Raises `PatternError`."""
    position = width
    mask = value = 0
    fields: dict[str, list[Slice]] = {}
    for token in text.split():
        if set(token) <= {"0", "1"}:
            position -= len(token)
            mask |= ((1 << len(token)) - 1) << position
            value |= int(token, 2) << position
            continue
        match = _FIELD.fullmatch(token)
        if match is None:
            raise PatternError(f"'{text}': '{token}' is neither bits nor a field")
        for part in match["bits"].split("|"):
            high, _, low = part.partition(":")
            count = int(high) - int(low or high) + 1
            position -= count
            fields.setdefault(match["name"], []).append(Slice(position, int(low or high), count))
    if position != 0:
        raise PatternError(f"'{text}' describes {width - position} bits, not {width}")
    fields.pop("_", None)
    return Pattern(text, width, mask, value, {name: tuple(parts) for name, parts in fields.items()})


def overlap(a: Pattern, b: Pattern) -> bool:
    """Whether some encoding matches both rows."""
    common = a.mask & b.mask
    return a.width == b.width and a.value & common == b.value & common
