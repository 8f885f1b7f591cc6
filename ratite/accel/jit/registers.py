"""What is known of the guest's registers while the text of a block is written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ratite.accel.jit.accesses import PC, Item, Place
from ratite.native.lower import constant

MASK64 = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class Halves:
    """What a value of 64 bits consists of."""

    low: str  # of type i32
    high: int
    wide: str  # the low half alone, of type i64


@dataclass(frozen=True, slots=True)
class Shift:
    """A value that is another one, shifted logically."""

    name: str  # shl or lshr
    source: str
    by: int


class Registers:
    """Values of registers within one block, by offset in the vCPU's state: the LLVM value or the
    number that each has at this place of the text, and whether the state has it, too.
    """

    def __init__(self) -> None:
        self._values: dict[int, tuple[str, Item]] = {}  # type and value
        self._unsaved: dict[int, None] = {}
        self._sums: dict[str, tuple[str, int]] = {}
        self._halves: dict[str, Halves] = {}
        self._floats: dict[str, str] = {}
        self._raw: set[str] = set()
        self._words: dict[str, str] = {}
        self._lows: dict[str, str] = {}
        self._shifts: dict[str, Shift] = {}

    def copy(self) -> Registers:
        """A copy that later changes leave alone."""
        other = Registers()
        other._values = dict(self._values)
        other._unsaved = dict(self._unsaved)
        other._sums = dict(self._sums)
        # What is true of a name stays true.
        other._halves, other._raw = self._halves, self._raw
        other._words, other._shifts = self._words, self._shifts
        other._lows = dict(self._lows)
        other._floats = dict(self._floats)
        return other

    def known(self, offset: int, type_: str) -> Item | None:
        """The value of a register; None if it is not known as this type."""
        found = self._values.get(offset)
        return found[1] if found is not None and found[0] == type_ else None

    def read(self, offset: int, type_: str, value: Item) -> None:
        """Note what a register was found to be."""
        self._values[offset] = (type_, value)

    def written(self, offset: int, type_: str, value: Item) -> None:
        """Note what was written; the state does not have it yet."""
        self._values[offset] = (type_, value)
        self._unsaved[offset] = None

    def forget(self, offset: int) -> None:
        """A register was written on one of several paths."""
        self._values.pop(offset, None)

    @property
    def touched(self) -> Collection[int]:
        """Registers that were read or written."""
        return self._values

    def is_unsaved(self, offset: int) -> bool:
        """Whether the state lacks a register."""
        return offset in self._unsaved

    def unsaved(self) -> tuple[tuple[int, str, str], ...]:
        """(offset, type, value) of what the state lacks."""
        found = []
        for offset in self._unsaved:
            type_, value = self._values[offset]
            text = constant(value, type_) if isinstance(value, int) else value
            found.append((offset, type_, text))
        return tuple(found)

    def settled(self) -> None:
        """The state has everything now."""
        self._unsaved.clear()

    # -- floating-point values

    def note_halves(self, name: str, halves: Halves) -> None:
        """The value `name` consists of these."""
        self._halves[name] = halves

    def halves(self, value: Item) -> Halves | None:
        """What a value consists of, if that is known."""
        return self._halves.get(value) if isinstance(value, str) else None

    def note_float(self, name: str, number: str) -> None:
        """The value `name` has the bits of `number`, of a floating-point type."""
        if name.startswith("%"):
            self._floats[name] = number

    def float_of(self, value: Item) -> str | None:
        """The floating-point value with the bits of an integer one, if there is one."""
        return self._floats.get(value) if isinstance(value, str) else None

    def note_raw(self, name: str) -> None:
        """Where the value `name` is the canonical NaN, its floating-point value is any NaN."""
        self._raw.add(name)

    def is_raw(self, name: str) -> bool:
        """Whether that was noted."""
        return name in self._raw

    # -- values of 32 bits, as the upper half of 64 says their sign

    def note_word(self, name: str, low: str) -> None:
        """The value `name` is `low`, of type i32, with its sign above it."""
        self._words[name] = low

    def word(self, value: Item) -> str | None:
        """What was noted of it, or the low half of a number that has its sign above it."""
        if isinstance(value, str):
            return self._words.get(value)
        low = value & 0xFFFF_FFFF
        extended = (low ^ 1 << 31) - (1 << 31) & MASK64
        return constant(low, "i32") if value == extended else None

    def note_low(self, name: str, low: str) -> None:
        """The low half of the value `name` is `low`, of type i32."""
        self._lows[name] = low

    def low(self, value: str) -> str | None:
        """The low half of a value, if it is known by a name."""
        return self._words.get(value) or self._lows.get(value)

    def note_shift(self, name: str, shift: Shift) -> None:
        """The value `name` is another one, shifted."""
        self._shifts[name] = shift

    def rotation(self, a: Item, b: Item, width: int) -> tuple[str, int] | None:
        """If two values of `width` bits are one shifted to either side, so that all of its bits are
        in one of them: it, and how far to the left.
        """
        if not (isinstance(a, str) and isinstance(b, str)):
            return None
        first, second = self._shifts.get(a), self._shifts.get(b)
        if first is None or second is None or first.source != second.source:
            return None
        if first.name == second.name or first.by + second.by != width:
            return None
        return first.source, first.by if first.name == "shl" else second.by

    # -- addresses

    def note_sum(self, name: str, base: Item, displacement: int) -> None:
        """The value `name` is `base` plus a number."""
        if isinstance(base, str):
            origin, before = self._sums.get(base, (base, 0))
            total = before + displacement & MASK64
            self._sums[name] = (origin, total - (total >> 63 << 64))

    def note_pc(self, name: str, pc: int) -> None:
        """The value `name` is this address in the region's code."""
        self._sums[name] = (PC, pc - (pc >> 63 << 64))

    def place(self, address: Item) -> Place:
        """An address as base and displacement."""
        if isinstance(address, int):
            return Place("", address)
        return Place(*self._sums.get(address, (address, 0)))
