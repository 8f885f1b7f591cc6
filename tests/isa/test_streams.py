"""Random instruction streams: every executor ends in the same state with the same memory as the reference."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratite.isa.decoder import Decoder
from ratite.isa.riscv import RISCV
from tests.isa.assembler import program
from tests.isa.harness import (
    CODE,
    DEVICE,
    EXECUTORS,
    HANDLER,
    RAM_SIZE,
    ROM,
    Executor,
    Snapshot,
    difference,
    executor,
)
from tests.isa.streams import USER_ROWS, Generator, is_control, is_float, is_memory, rows, state

OTHERS = [name for name in EXECUTORS if name != "reference"]
SAVED = 0x800
TRAPS = ROM + 0x8000  # where no store reaches it
SKIP = program("""
    csrrw x31, mscratch, x31
    sd    x30, 0(x31)
    sd    x29, 8(x31)
    csrrs x30, mcause, x0
    ld    x29, 16(x31)     # a hash of every trap so far
    slli  x29, x29, 5
    xor   x29, x29, x30
    csrrs x30, mtval, x0
    slli  x29, x29, 7
    add   x29, x29, x30
    csrrs x30, mepc, x0
    slli  x29, x29, 3
    xor   x29, x29, x30
    sd    x29, 16(x31)
    csrrs x29, mcause, x0
    beq   x29, x0, away
    addi  x29, x29, -1
    beq   x29, x0, away
    addi  x29, x29, -11
    beq   x29, x0, away
    lhu   x29, 0(x30)      # skip the instruction
    andi  x29, x29, 3
    addi  x30, x30, 2
    addi  x29, x29, -3
    bne   x29, x0, done
    addi  x30, x30, 2
    jal   x0, done
away:                      # a bad jump: start again
    lui   x30, 1
done:
    csrrw x0, mepc, x30
    ld    x30, 0(x31)
    ld    x29, 8(x31)
    csrrw x31, mscratch, x31
    mret
""")
DECODER = Decoder(RISCV)
WORKS = settings(
    deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)

Outcome = tuple[Snapshot, bytes, list[tuple[str, int, int, int]]]


def outcome(
    which: Executor, code: bytes, values: dict[str, int], data: bytes, instructions: int
) -> Outcome:
    which.reset()
    which.load(TRAPS, SKIP)
    which.load(CODE, code)
    which.load(0x2800, data)
    which.load(ROM, data)
    which.set({"mscratch": SAVED, "mtvec": TRAPS, **values})
    which.run(instructions)
    return which.snapshot(), which.ram.read(0, RAM_SIZE), list(which.device.log)


def listing(code: bytes) -> str:
    """Disassembly, for a failure's message."""
    lines, place = [], 0
    while place < len(code):
        size = 4 if code[place] & 3 == 3 else 2
        encoding = int.from_bytes(code[place : place + size], "little")
        text = DECODER.disassemble(encoding, size * 8, lambda name: True)
        lines.append(f"{CODE + place:6x}  {encoding:0{size * 2}x}  {text}")
        place += size
    return "\n".join(lines)


def agree(code: bytes, values: dict[str, int], data: bytes, instructions: int) -> None:
    expected = outcome(executor("reference"), code, values, data, instructions)
    for name in OTHERS:
        found = outcome(executor(name), code, values, data, instructions)
        differs = difference(expected[0], found[0])
        memory = (
            [
                f"{at:#x}: {a:02x} {b:02x}"
                for at, (a, b) in enumerate(zip(expected[1], found[1], strict=True))
                if a != b
            ]
            if expected[1] != found[1]
            else []
        )
        if differs or memory or expected[2] != found[2]:
            shown = {
                key: tuple(f"{v:#x}" if v is not None else None for v in pair)
                for key, pair in differs.items()
            }
            pytest.fail(
                f"{name} differs: {shown}\nmemory {memory[:20]}\n"
                f"device {expected[2][-3:]} {found[2][-3:]}\n{listing(code)}"
            )


def bases(source: random.Random) -> tuple[int, ...]:
    return (
        0x2800 + source.randrange(0, 0x400, 8),
        0x4000 - source.randrange(0, 16),
        CODE + source.randrange(0, 64, 2),
        source.choice((DEVICE + 0x100, ROM + 0x10, DEVICE + 0xFFC, 0x2FFC)),
        source.choice((RAM_SIZE - 4, 0x4000_0000, -8, ROM - 4, RAM_SIZE)),
    )


def one_run(seed: int, choices: tuple, length: int, instructions: int) -> None:
    source = random.Random(seed)
    generator = Generator(source)
    code = generator.stream(choices, length)
    values = state(generator, bases(source))
    agree(code, values, source.randbytes(0x1000), instructions)


STRAIGHT = rows(
    lambda leaf: (
        leaf in USER_ROWS and not is_control(leaf) and leaf.insn.name not in ("ebreak", "ecall")
    )
)
FLOATS = rows(lambda leaf: is_float(leaf) or leaf.insn.name in ("addi", "csrrw"))
MEMORY = rows(
    lambda leaf: is_memory(leaf) or leaf.insn.name in ("fence.i", "addi", "beq", "bne", "c.j")
)


@pytest.mark.parametrize("kind", ["all", "straight", "floats", "memory"])
def test_streams_agree(kind: str) -> None:
    choices = {"all": USER_ROWS, "straight": STRAIGHT, "floats": FLOATS, "memory": MEMORY}[kind]
    for seed in range(40):
        one_run(seed, choices, 60, 600)
