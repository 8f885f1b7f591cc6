"""Guest code of any size: straight through, every eighth instruction a branch to the next."""

from __future__ import annotations

import random
import struct

REGISTERS = (5, 6, 7, *range(10, 18), *range(28, 32))  # t0 to t6, a0 to a7
BLOCK = 8
OP, OP_IMM, BRANCH, JALR = 0x33, 0x13, 0x63, 0x67
ARITHMETIC = ((0, 0), (0, 0x20), (4, 0), (6, 0), (7, 0), (2, 0))  # add sub xor or and slt
IMMEDIATE = (0, 4, 6, 7)  # addi xori ori andi
RETURN = JALR | 1 << 15  # to ra


def generate(instructions: int) -> bytes:
    """RV64I code of so many instructions, the first of which set its registers and the last of
    which returns. The same at every call.
    """
    source = random.Random(instructions)
    words = [_immediate(0, register, 0, number) for number, register in enumerate(REGISTERS, 1)]
    while len(words) < instructions - 1:
        words.append(_branch(source) if len(words) % BLOCK == BLOCK - 1 else _plain(source))
    return struct.pack(f"<{instructions}I", *words, RETURN)


def _plain(source: random.Random) -> int:
    to, first, second = (source.choice(REGISTERS) for _ in range(3))
    if source.random() < 0.4:
        return _immediate(source.choice(IMMEDIATE), to, first, source.randrange(0x800))
    kind, high = source.choice(ARITHMETIC)
    return OP | to << 7 | kind << 12 | first << 15 | second << 20 | high << 25


def _immediate(kind: int, to: int, source: int, value: int) -> int:
    return OP_IMM | to << 7 | kind << 12 | source << 15 | value << 20


def _branch(source: random.Random) -> int:
    """beq to the instruction that follows."""
    first, second = source.choice(REGISTERS), source.choice(REGISTERS)
    return BRANCH | 4 << 7 | first << 15 | second << 20
