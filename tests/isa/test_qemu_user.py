"""The same ELF program under Debian's qemu-riscv64 and on our executors.

A program is a row of chunks: load every register from a block of random values, execute random
instructions, store every register to the output. At the end it writes the output and exits. All
addresses are below 1 MiB, so that the bare hart of the harness holds the program at the very places
where Linux user mode has it.
"""

from __future__ import annotations

import random
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from ratite.isa.decoder import Leaf
from ratite.isa.spec import Insn
from tests.isa.assembler import assemble, program
from tests.isa.harness import FAST, executor
from tests.isa.streams import BASES, Generator, is_control, is_float, name_of, rows, state
from tests.isa.test_streams import listing

QEMU = shutil.which("qemu-riscv64")
pytestmark = pytest.mark.skipif(QEMU is None, reason="needs qemu-riscv64")

BASE, DATA, CHUNKS = 0x2_0000, 0x2_1000, 0x3_0000
CONTEXT = (
    4  # tp: points to the block of values before and after; no instruction under test writes it
)
BLOCK = 8 * 65  # x, f, fcsr
OPTIONS = ["-cpu", "rv64,zba=true,zbb=true,zbc=true,zbs=true"]

SP_BASED = re.compile(r"c\.f?[ls][wd]sp")
INTEGER = frozenset(("i", "m", "c", "zba", "zbb", "zbc", "zbs"))
# ctzw: QEMU 7.2 goes on counting in the high word.
OTHERWISE = frozenset(("ecall", "ebreak", "mret", "wfi", "ctzw"))
ARITHMETIC = rows(
    lambda leaf: (
        INTEGER.issuperset(leaf.extensions)
        and not SP_BASED.match(name_of(leaf))
        and not is_control(leaf)
        and leaf.insn.name not in OTHERWISE
    )
)
FLOATING = rows(lambda leaf: is_float(leaf) and not SP_BASED.match(name_of(leaf)))
ATOMIC = rows(lambda leaf: leaf.insn.extension == "a")


def atomics(other: str) -> tuple[Leaf, ...]:
    """Without the pairs of the other width: a store-conditional of another width than the
    load-reserved fails here and succeeds in QEMU, which the manual both allows.
    """
    return tuple(leaf for leaf in ATOMIC if leaf.insn.name not in (f"lr.{other}", f"sc.{other}"))


KINDS = {
    "integer": ARITHMETIC,
    "float": FLOATING,
    "doublewords": atomics("w") + ARITHMETIC[::6],
    "words": atomics("d") + ARITHMETIC[::6],
}


@dataclass(frozen=True)
class Program:
    """A program, and what is known of it."""

    image: bytes
    output: int
    output_size: int
    instructions: int  # up to the first system call
    chunks: list[bytes]


def writes_integer(insn: Insn) -> bool:
    return any(operand.kind.name == "gpr" and operand.written for operand in insn.operands)


def instruction(generator: Generator, leaf: Leaf) -> bytes:
    """Random, but legal, and not meddling with the context register or with what is no memory of
    ours.
    """
    while True:
        code = generator.encode(leaf)
        encoding = int.from_bytes(code, "little")
        fields = (
            leaf.short.expand(encoding)
            if leaf.short
            else {
                operand.name: leaf.pattern.extract(
                    operand.name, encoding, signed=operand.kind.signed
                )
                for operand in leaf.insn.operands
            }
        )
        if fields.get("rd") in (CONTEXT, *BASES) and writes_integer(leaf.insn):
            continue
        memory = (
            "mem"
            if leaf.insn.extension == "a" or re.match("f?[ls][bhwd]u?$", leaf.insn.name)
            else ""
        )
        if memory and fields["rs1"] not in BASES[:2]:
            continue
        if fields.get("rm", 0) in (5, 6):
            continue
        return code


def build(seed: int, kind: str, count: int, length: int) -> Program:
    """A program of `count` chunks of `length` random instructions."""
    source = random.Random(seed)
    generator = Generator(source)
    choices = KINDS[kind]
    chunks = [
        b"".join(instruction(generator, source.choice(choices)) for _ in range(length))
        for _ in range(count)
    ]
    load = [f"fld f{n}, {8 * (32 + n)}(x{CONTEXT})" for n in range(32)]
    load += [f"ld x1, {8 * 64}(x{CONTEXT})", "csrrw x0, fcsr, x1"]
    load += [f"ld x{n}, {8 * n}(x{CONTEXT})" for n in range(1, 32) if n != CONTEXT]
    store = [f"sd x{n}, {8 * n}(x{CONTEXT})" for n in range(1, 32) if n != CONTEXT]
    store += ["csrrs x1, fcsr, x0", f"sd x1, {8 * 64}(x{CONTEXT})"]
    store += [f"fsd f{n}, {8 * (32 + n)}(x{CONTEXT})" for n in range(32)]
    step = [f"addi x{CONTEXT}, x{CONTEXT}, {BLOCK}"]
    before, after = (b"".join(map(assemble, part)) for part in (load, store + step))
    code = assemble(f"lui x{CONTEXT}, {CHUNKS >> 12}")
    code += b"".join(before + chunk + after for chunk in chunks)
    instructions = 1 + count * (len(load) + length + len(store) + 1)
    blocks = b"".join(block(generator) for _ in range(count))
    place = CHUNKS + len(blocks) + 0xFFF & -0x1000
    code += program(f"""
        addi x17, x0, 64
        addi x10, x0, 1
        lui  x11, {DATA >> 12}
        lui  x12, {(CHUNKS - DATA) >> 12}
        lui  x13, {(len(blocks) + 0xFFF) >> 12}
        add  x12, x12, x13
        ecall
        addi x17, x0, 93
        addi x10, x0, 0
        ecall
    """)
    memory = bytearray(place + len(code) - BASE)
    memory[DATA - BASE : DATA - BASE + 0x4000] = source.randbytes(0x4000)
    memory[CHUNKS - BASE : CHUNKS - BASE + len(blocks)] = blocks
    memory[place - BASE :] = code
    assert BASE + len(memory) < 1 << 20
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 243, 1, place, 64, 0, 5, 64, 56, 1, 0, 0, 0
    )
    header += struct.pack("<IIQQQQQQ", 1, 7, 0, BASE, BASE, len(memory), len(memory), 0x1000)
    memory[: len(header)] = header
    size = (CHUNKS - DATA) + (len(blocks) + 0xFFF & -0x1000)
    return Program(bytes(memory), DATA, size, instructions, chunks)


def block(generator: Generator) -> bytes:
    values = state(generator, (DATA + 0x1000, DATA + 0x2FF8, 0, 0, 0))
    source = generator.source
    fcsr = source.randrange(5) << 5 | source.choice((0, source.getrandbits(5)))
    x = [0, *(values[f"x{n}"] for n in range(1, 32))]
    return struct.pack("<65Q", *x, *(values[f"f{n}"] for n in range(32)), fcsr)


def run_externally(program: Program, folder: Path) -> bytes:
    """What the program writes under qemu-riscv64."""
    path = folder / "program"
    path.write_bytes(program.image)
    path.chmod(0o755)
    assert QEMU is not None
    done = subprocess.run([QEMU, *OPTIONS, path], check=True, capture_output=True)
    return done.stdout


def run_here(program: Program, name: str) -> bytes:
    """What it would write on one of our executors."""
    which = executor(name)
    which.reset()
    which.load(BASE, program.image)
    which.set({"pc": struct.unpack_from("<Q", program.image, 24)[0]})
    which.run(program.instructions)
    assert which.hart.mcause == 0, (
        f"trap {which.hart.mcause} at {which.hart.mepc:#x}, {which.hart.mtval:#x}"
    )
    return which.ram.read(program.output, program.output_size)


def explain(program: Program, expected: bytes, found: bytes) -> str:
    """The first chunk that differs."""
    start = CHUNKS - DATA
    names = [f"x{n}" for n in range(32)] + [f"f{n}" for n in range(32)] + ["fcsr"]
    for index, chunk in enumerate(program.chunks):
        at = start + index * BLOCK
        theirs, ours = (struct.unpack_from("<65Q", data, at) for data in (expected, found))
        if theirs != ours:
            before = struct.unpack_from("<65Q", program.image, CHUNKS - BASE + index * BLOCK)
            lines = [
                f"{name}: qemu {a:#x} ours {b:#x}"
                for name, a, b in zip(names, theirs, ours, strict=True)
                if a != b
            ]
            inputs = " ".join(
                f"{name}={value:#x}" for name, value in zip(names, before, strict=True)
            )
            return "\n".join([*lines, listing(chunk), inputs])
    return "memory differs"


def compare(
    seed: int, kind: str, count: int, length: int, folder: Path, names: tuple[str, ...]
) -> None:
    made = build(seed, kind, count, length)
    expected = run_externally(made, folder)
    for name in names:
        found = run_here(made, name)
        assert found == expected, f"{name}, seed {seed}\n" + explain(made, expected, found)


@pytest.mark.parametrize("kind", KINDS)
def test_programs_end_as_under_qemu(kind: str, tmp_path: Path) -> None:
    compare(1, kind, 40, 12, tmp_path, FAST)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_programs_end_as_under_qemu(kind: str, tmp_path: Path) -> None:
    for seed in range(100, 104):
        compare(seed, kind, 400, 12, tmp_path, ("tier0",))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_programs_end_as_under_qemu(kind: str, tmp_path: Path) -> None:
    compare(7, kind, 30, 12, tmp_path, ("tier1",))
