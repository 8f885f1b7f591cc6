"""Random instruction streams: every executor ends in the same state with the same memory as the
reference.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratite.cpu.riscv_inspect import disassemble
from ratite.isa.decoder import Leaf
from tests.isa.assembler import program
from tests.isa.guest import A, D, Pages, R, U, V, W, X
from tests.isa.harness import (
    CODE,
    DEVICE,
    EXECUTORS,
    RAM_SIZE,
    ROM,
    Executor,
    Snapshot,
    difference,
    executor,
)
from tests.isa.streams import USER_ROWS, Generator, is_control, is_float, is_memory, rows, state

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
ALIAS = 0x20_0000
"""Where virtual memory holds RAM a second time."""

STRAIGHT = rows(lambda leaf: leaf in USER_ROWS and not is_control(leaf))
FLOATS = rows(lambda leaf: is_float(leaf) or leaf.insn.name in ("addi", "csrrw"))
MEMORY = rows(lambda leaf: is_memory(leaf) or leaf.insn.name in ("fence.i", "addi", "beq", "bne"))
SUPERVISOR = (
    MEMORY
    + rows(
        lambda leaf: (
            leaf.insn.name in ("sret", "sfence.vma", "sinval.vma", "ecall")
            or leaf.insn.extension == "zicsr"
        )
    )
    * 3
)
KINDS = {
    "all": USER_ROWS,
    "straight": STRAIGHT,
    "floats": FLOATS,
    "memory": MEMORY,
    "supervisor": SUPERVISOR,
}

Outcome = tuple[Snapshot, bytes, list[tuple[str, int, int, int]]]


class Guest:
    """What one run starts from."""

    def __init__(self, kind: str, seeds: Sequence[int], start: int) -> None:
        choices = KINDS[kind]
        self.paged = kind == "supervisor"
        self.code = b"".join(one_instruction(choices, seed) for seed in seeds) + program(
            "jal x0, 0"
        )
        self.source = random.Random(start)
        self.values = state(Generator(self.source), self._bases())
        self.values |= {"mscratch": SAVED, "mtvec": TRAPS, "privilege": 3}
        self.data = self.source.randbytes(0x1000)
        self.permissions = [
            self.source.choice((R | W | X, R | W | X, R | W, R, R | X, 0)) for _ in range(8)
        ]
        if self.paged:
            self.values["privilege"] = self.source.choice((0, 1, 1, 1))

    def _bases(self) -> tuple[int, ...]:
        source = self.source
        alias = ALIAS * source.randrange(2) if self.paged else 0
        return (
            0x2800 + source.randrange(0, 0x400, 8) + alias,
            0x4000 - source.randrange(0, 16) + alias,
            CODE + source.randrange(0, 64, 2) + alias,
            source.choice((DEVICE + 0x100, ROM + 0x10, DEVICE + 0xFFC, 0x2FFC)),
            source.choice((RAM_SIZE - 4, 0x4000_0000, (1 << 64) - 8, ROM - 4, RAM_SIZE)),
        )

    def prepare(self, which: Executor) -> None:
        """Reset an executor to the start."""
        which.reset()
        which.load(TRAPS, SKIP)
        which.load(CODE, self.code)
        which.load(0x2800, self.data)
        which.load(ROM, self.data)
        if self.paged:
            self._map(which)
        which.set(self.values)

    def _map(self, which: Executor) -> None:
        pages = Pages(which)
        user = U if self.values["privilege"] == 0 else 0
        for page in range(8):
            gpa = page * 0x1000
            bits = V | A * (page % 3 != 0) | user
            pages.map(gpa, gpa, bits | (R | W | X if gpa == CODE else self.permissions[page]))
            pages.map(ALIAS + gpa, gpa, bits | R | W | X | D)
        for gpa in (DEVICE, ROM, RAM_SIZE - 0x1000):
            pages.map(gpa, gpa, V | R | W | X | A | user)


def one_instruction(choices: Sequence[Leaf], seed: int) -> bytes:
    """An instruction made of a number, so that a failing stream shrinks one by one."""
    source = random.Random(seed)
    return Generator(source).encode(choices[seed % len(choices)])


def outcome(which: Executor, guest: Guest, instructions: int) -> Outcome:
    guest.prepare(which)
    which.run(instructions)
    return which.snapshot(), which.ram.read(0, RAM_SIZE), list(which.device.log)


def listing(code: bytes) -> str:
    """Disassembly, for a failure's message."""
    lines, place = [], 0
    while (found := disassemble(code[place:], CODE + place, lambda name: True)) is not None:
        lines.append(found.line(CODE + place))
        place += found.size
    return "\n".join(lines)


def agree(guest: Guest, names: Sequence[str], instructions: int = 400) -> None:
    """Fail unless the executors of those names end as the reference does."""
    expected = outcome(executor("reference"), guest, instructions)
    for name in names:
        found = outcome(executor(name), guest, instructions)
        if found == expected:
            continue
        differs = difference(expected[0], found[0])
        memory = [
            f"{at:#x}: {a:02x} {b:02x}"
            for at, (a, b) in enumerate(zip(expected[1], found[1], strict=True))
            if a != b
        ]
        shown = {
            key: tuple(f"{v:#x}" if v is not None else None for v in pair)
            for key, pair in differs.items()
        }
        pytest.fail(
            f"{name} differs (reference, {name}): {shown}\nmemory {memory[:20]}\n"
            f"device {expected[2][-3:]} {found[2][-3:]}\n{listing(guest.code)}"
        )


def property_of(names: Sequence[str], examples: int, kind: str) -> None:
    numbers = st.integers(0, (1 << 32) - 1)

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(seeds=st.lists(numbers, min_size=1, max_size=60), start=numbers)
    def streams_agree(seeds: list[int], start: int) -> None:
        agree(Guest(kind, seeds, start), names)

    streams_agree()


@pytest.mark.parametrize("kind", KINDS)
def test_streams_agree(kind: str) -> None:
    property_of(["tier0"], 8 if kind == "supervisor" else 25, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_agree_while_all_is_logged(kind: str) -> None:
    property_of(["logged"], 3, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_streams_agree(kind: str) -> None:
    property_of(["tier0"], 120, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_streams_agree_as_regions(kind: str) -> None:
    property_of(["tier1", "tier1-full"], 8, kind)


def test_every_executor_is_compared() -> None:
    assert set(EXECUTORS) == {"reference", "tier0", "tier1", "tier1-full"}
