"""Random instructions: encodings of every row with random operands, kept mostly useful.

Memory accesses start from a few base registers that point to data, to the ends of pages, to code
and to nothing; other instructions seldom write those.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from ratite.isa.decoder import Leaf, leaves
from ratite.isa.riscv import RISCV
from tests.isa.assembler import insert

BASES = (8, 9, 10, 11, 12)
"""Registers that memory accesses start from."""

_CONTROL = frozenset("jal jalr beq bne blt bge bltu bgeu".split())
_SYSTEM = frozenset(
    "mret sret wfi ecall ebreak sfence.vma sinval.vma sfence.w.inval sfence.inval.ir".split()
)
_MEMORY_BASED = frozenset("flw fld fsw fsd lb lh lw ld lbu lhu lwu sb sh sw sd".split())
CORNERS = (
    0,
    1,
    2,
    -1,
    -2,
    63,
    64,
    31,
    32,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 63,
    (1 << 63) - 1,
    1 << 32,
    0xFFFF_FFFF,
)
FLOAT_CORNERS = (
    0x0000_0000,
    0x8000_0000,
    0x3F80_0000,
    0xBF80_0000,
    0x7F80_0000,
    0xFF80_0000,
    0x7FC0_0000,
    0x7F80_0001,
    0xFFC1_2345,
    0x0000_0001,
    0x807F_FFFF,
    0x0080_0000,
    0x7F7F_FFFF,
    0x4F00_0000,
    0xCF00_0000,
    0x4F80_0000,
    0x5F00_0000,
    0xDF00_0000,
    0x5F80_0000,
    0x3F00_0000,
    0x3FC0_0000,
    0x4B00_0001,
    0x3300_0000,
    0x3F7F_FFFF,
)
DOUBLE_CORNERS = (
    0x0000_0000_0000_0000,
    0x8000_0000_0000_0000,
    0x3FF0_0000_0000_0000,
    0xBFF0_0000_0000_0000,
    0x7FF0_0000_0000_0000,
    0xFFF0_0000_0000_0000,
    0x7FF8_0000_0000_0000,
    0x7FF0_0000_0000_0001,
    0xFFF8_1234_5678_9ABC,
    0x0000_0000_0000_0001,
    0x800F_FFFF_FFFF_FFFF,
    0x0010_0000_0000_0000,
    0x7FEF_FFFF_FFFF_FFFF,
    0x41E0_0000_0000_0000,
    0xC1E0_0000_0000_0000,
    0x41DF_FFFF_FFC0_0000,
    0x43E0_0000_0000_0000,
    0xC3E0_0000_0000_0000,
    0x43F0_0000_0000_0000,
    0x3FE0_0000_0000_0000,
    0x3FF8_0000_0000_0000,
    0x47EF_FFFF_F000_0000,
    0x3690_0000_0000_0000,
    0x3810_0000_0000_0000,
    0x380F_FFFF_FFFF_FFFF,
    0x3FEF_FFFF_FFFF_FFFF,
)


def is_control(leaf: Leaf) -> bool:
    """Whether it may jump."""
    return leaf.insn.name in _CONTROL


def is_memory(leaf: Leaf) -> bool:
    """Whether it accesses guest memory."""
    return (
        leaf.insn.name in _MEMORY_BASED
        or leaf.insn.extension == "a"
        or leaf.insn.name.startswith("cbo")
    )


def is_system(leaf: Leaf) -> bool:
    """Whether it concerns privilege."""
    return leaf.insn.name in _SYSTEM or leaf.insn.extension in ("zicsr", "zawrs")


def is_float(leaf: Leaf) -> bool:
    """Whether it belongs to F or D."""
    return leaf.insn.extension in ("f", "d")


def rows(accept: Callable[[Leaf], bool]) -> tuple[Leaf, ...]:
    """The rows that `accept` takes, in the order of their names."""
    return tuple(sorted((leaf for leaf in leaves(RISCV) if accept(leaf)), key=name_of))


def name_of(leaf: Leaf) -> str:
    """Mnemonic of the row."""
    return leaf.short.name if leaf.short else leaf.insn.name


USER_ROWS = rows(lambda leaf: not is_system(leaf))


class Generator:
    """Makes instructions from a source of randomness."""

    def __init__(self, source: random.Random) -> None:
        self.source = source

    def integer(self) -> int:
        """A 64-bit operand: a corner, something near one, a narrow or a wide number."""
        source = self.source
        kind = source.randrange(4)
        if kind == 0:
            value = source.choice(CORNERS)
        elif kind == 1:
            value = source.choice(CORNERS) + source.randrange(-3, 4)
        elif kind == 2:
            value = source.getrandbits(64) >> source.randrange(64)
        else:
            value = source.getrandbits(64)
        return value & (1 << 64) - 1

    def single(self) -> int:
        """Bits of a binary32."""
        source = self.source
        kind = source.randrange(4)
        if kind == 0:
            return source.choice(FLOAT_CORNERS)
        if kind == 1:  # near others, so that sums cancel and quotients round
            return (
                (source.getrandbits(1) << 31)
                | (source.randrange(120, 136) << 23)
                | source.getrandbits(23)
            )
        if kind == 2:
            return source.choice(FLOAT_CORNERS) ^ source.getrandbits(3)
        return source.getrandbits(32)

    def double(self) -> int:
        """Bits of a binary64."""
        source = self.source
        kind = source.randrange(5)
        if kind == 0:
            return source.choice(DOUBLE_CORNERS)
        if kind == 1:
            return (
                (source.getrandbits(1) << 63)
                | (source.randrange(1015, 1032) << 52)
                | source.getrandbits(52)
            )
        if kind == 2:
            return source.choice(DOUBLE_CORNERS) ^ source.getrandbits(3)
        if kind == 3:  # around the ends of binary32
            exponent = source.choice((source.randrange(860, 905), source.randrange(1140, 1155)))
            return (source.getrandbits(1) << 63) | (exponent << 52) | source.getrandbits(52)
        return source.getrandbits(64)

    def float_register(self) -> int:
        """Contents of an FP register: mostly a boxed single or a double, at times a single badly
        boxed.
        """
        kind = self.source.randrange(9)
        if kind < 4:
            return 0xFFFF_FFFF_0000_0000 | self.single()
        if kind < 8:
            return self.double()
        return self.source.getrandbits(32) << 32 | self.single()

    def encode(self, leaf: Leaf, *, reach: int = 64) -> bytes:
        """The row with random operands; branches go at most `reach` bytes either way, except for
        jalr.
        """
        short, pattern = leaf.short, leaf.pattern
        fields: dict[str, int] = {}
        for field in pattern.fields:
            width = sum(part.width for part in pattern.fields[field])
            fields[field] = self._field(leaf, field, width, reach)
        for field in short.nonzero if short else ():
            if pattern.insert(field, fields[field]) == 0:
                fields[field] = 1 << pattern.fields[field][0].target
        encoding = insert(pattern, fields)
        ignored = (1 << pattern.width) - 1 & ~pattern.mask
        for field in pattern.fields:
            ignored &= ~pattern.insert(field, -1)
        encoding |= self.source.getrandbits(32) & ignored
        return encoding.to_bytes(pattern.width // 8, "little")

    def _field(self, leaf: Leaf, field: str, width: int, reach: int) -> int:
        source = self.source
        if field == "imm" and leaf.insn.name in _CONTROL and leaf.insn.name != "jalr":
            return source.randrange(-reach, reach + 1, 2)
        if field == "imm":
            small = source.random() < 0.5
            return source.randrange(-32, 33) if small else source.getrandbits(32)
        if field == "rm":
            return source.choice((0, 1, 2, 3, 4, 7, 7, 7, 0, source.randrange(8)))
        if (
            field == "rs1"
            and (is_memory(leaf) or leaf.insn.name == "jalr")
            and source.random() < 0.98
        ):
            return self._base(leaf) - (8 if width == 3 else 0)
        value = source.getrandbits(width)
        if field == "rd" and not is_float(leaf):
            real = value + 8 if width == 3 else value
            if real in BASES and source.random() < 0.97:
                return source.randrange(5, 8) if width == 3 else source.randrange(13, 32)
        return value

    def _base(self, leaf: Leaf) -> int:
        if leaf.insn.name == "jalr":
            return BASES[2]
        if leaf.insn.extension == "a":
            return self.source.choices(BASES, (30, 1, 3, 1, 1))[0]
        return self.source.choices(BASES, (50, 20, 15, 8, 2))[0]

    def stream(self, choices: Sequence[Leaf], count: int) -> bytes:
        """So many instructions of the given rows."""
        return b"".join(self.encode(self.source.choice(choices)) for _ in range(count))


def state(generator: Generator, bases: Iterable[int]) -> dict[str, int]:
    """Random registers, with `bases` in the base registers, as `Executor.set` takes them."""
    values = {f"x{number}": generator.integer() for number in range(1, 32)}
    values |= {f"f{number}": generator.float_register() for number in range(32)}
    values |= {f"x{number}": value for number, value in zip(BASES, bases, strict=True)}
    values["frm"] = generator.source.choice((0, 1, 2, 3, 4, 0, 0, 5, 7))
    values["fflags"] = generator.source.choice((0, 0, 31, generator.source.getrandbits(5)))
    return values
