"""The journal of a vCPU: what native code notes of its work while a log wants it, for Python to
write down.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ratite.native import Field, Struct, u64

JOURNAL_SIZE = 4096
"""Notes in the ring."""
HALF_FULL = JOURNAL_SIZE // 2
"""Notes that are not written yet at which the vCPU leaves run() before the next block. What a block
or a region can note until then fits into the other half."""

TRAP, FILL, FILLED, MADE, ENTERED = range(1, 6)
"""Kinds of notes. A trap: its cause and value. An access that the softmmu TLB is to be filled for:
its address; its kind, and above bit 8 the MMU index. That it was filled: the guest-physical
address; what `translate` allows. A translation block that was made, or is entered: its host
address; its mode."""


class Note(Struct):
    """One note."""

    kind = Field(u64)
    pc = Field(u64, doc="guest-virtual address of the block, or of the instruction where known")
    first = Field(u64)
    second = Field(u64)


class Noted(NamedTuple):
    """A note, as Python has it."""

    kind: int
    pc: int
    first: int
    second: int


def read_notes(journal: int, first: int, count: int) -> Iterator[Noted]:
    """Notes from number `first` on, of the journal at a host address."""
    first %= JOURNAL_SIZE
    ahead = min(count, JOURNAL_SIZE - first)
    for place, notes in ((first, ahead), (0, count - ahead)):
        data = ctypes.string_at(journal + place * Note.SIZE, notes * Note.SIZE)
        yield from map(Noted._make, _WORDS.iter_unpack(data))


_WORDS = struct.Struct("<4Q")
assert _WORDS.size == Note.SIZE
