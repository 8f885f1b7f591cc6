"""One instruction at a time against Unicorn: I, M, A, F, D and C on random operands.

Unicorn 2 is QEMU 5.0 inside, from before NaN boxing and minimumNumber; what it is known to get
wrong is left out below.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from ratite.isa.decoder import Leaf
from tests.isa.harness import CODE, FAST, HANDLER, JUMP_TO_SELF, RAM_SIZE, executor
from tests.isa.streams import USER_ROWS, Generator, is_float, name_of, state
from tests.isa.test_streams import listing

unicorn = pytest.importorskip("unicorn")
consts = pytest.importorskip("unicorn.riscv_const")

SKIPPED = {
    "ecall", "ebreak", "c.ebreak", "wfi",  # leave the machine
    "fmin.s", "fmin.d", "fmax.s", "fmax.d",  # there a signaling NaN wins
    "lr.w", "lr.d", "sc.w", "sc.d",  # need one another
}  # fmt: skip
ROWS = [
    leaf
    for leaf in USER_ROWS
    if set(leaf.extensions) <= set("imafdc") and name_of(leaf) not in SKIPPED
]
X = [getattr(consts, f"UC_RISCV_REG_X{n}") for n in range(32)]
F = [getattr(consts, f"UC_RISCV_REG_F{n}") for n in range(32)]


BOX = 0xFFFF_FFFF_0000_0000


class Oracle:
    """A Unicorn machine with the harness's RAM."""

    def __init__(self) -> None:
        self.machine: Any = unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV64)
        self.machine.mem_map(0, RAM_SIZE)

    def run(self, code: bytes, values: dict[str, int], data: bytes) -> dict[str, int] | None:
        """The state after one instruction; None if it trapped."""
        machine = self.machine
        machine.mem_write(0, bytes(0x8000))
        machine.mem_write(HANDLER, JUMP_TO_SELF)
        machine.mem_write(CODE, code)
        machine.ctl_flush_tb()
        machine.mem_write(0x2000, data)
        machine.reg_write(consts.UC_RISCV_REG_MSTATUS, 3 << 13)
        for number in range(1, 32):
            machine.reg_write(X[number], values[f"x{number}"])
        for number in range(32):
            machine.reg_write(F[number], values[f"f{number}"])
        machine.reg_write(consts.UC_RISCV_REG_FCSR, values["frm"] << 5 | values["fflags"])
        try:
            machine.emu_start(CODE, 1 << 40, count=1)
        except unicorn.UcError:
            return None
        found = {f"x{number}": machine.reg_read(X[number]) for number in range(32)}
        found |= {f"f{number}": machine.reg_read(F[number]) for number in range(32)}
        found["fcsr"] = machine.reg_read(consts.UC_RISCV_REG_FCSR)
        found["pc"] = machine.reg_read(consts.UC_RISCV_REG_PC)
        found["memory"] = hash(bytes(machine.mem_read(0x2000, 0x2000)))
        return found


def run_here(name: str, code: bytes, values: dict[str, int], data: bytes) -> dict[str, int] | None:
    which = executor(name)
    which.reset()
    which.load(CODE, code)
    which.load(0x2000, data)
    which.set(values)
    which.run(1)
    hart = which.hart
    if hart.mcause != 0:
        return None
    found = {f"x{number}": int(hart.x[number]) for number in range(32)}
    found |= {f"f{number}": int(hart.f[number]) for number in range(32)}
    found["fcsr"] = int(hart.frm) << 5 | int(hart.fp.flags)
    found["pc"] = int(hart.pc)
    found["memory"] = hash(which.ram.read(0x2000, 0x2000))
    return found


def single(leaf: Leaf) -> bool:
    """Whether it reads or writes single-precision numbers, whose boxes Unicorn neither makes nor
    looks at.
    """
    return (
        is_float(leaf) and not leaf.insn.name.endswith((".d", "fld", "fsd", ".d.x"))
    ) or "cvt" in leaf.insn.name


def same(leaf: Leaf, theirs: dict[str, int] | None, ours: dict[str, int] | None) -> bool:
    """Equal, but for the box around a single, and for jumps out of memory, which Unicorn fails at
    once.
    """
    if theirs is None and ours is not None and ours["pc"] >= RAM_SIZE:
        return True
    if theirs is not None and ours is not None and single(leaf):
        theirs = {
            key: value | BOX if key[0] == "f" and ours[key] >> 32 == 0xFFFF_FFFF else value
            for key, value in theirs.items()
        }
    return theirs == ours


def cases(leaf: Leaf, count: int) -> Iterator[tuple[bytes, dict[str, int], bytes]]:
    source = random.Random(name_of(leaf))
    generator = Generator(source)
    for _ in range(count):
        bases = (0x2800, 0x3008, CODE, 0x3100, 0x2FF8)
        values = state(generator, bases)
        values["frm"] %= 5
        if single(leaf):
            values |= {f"f{number}": BOX | values[f"f{number}"] for number in range(32)}
        yield generator.encode(leaf), values, source.randbytes(0x1000)


@pytest.mark.parametrize("count", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_single_instructions_agree(count: int) -> None:
    oracle = Oracle()
    wrong = []
    for leaf in ROWS:
        for code, values, data in cases(leaf, count):
            theirs = oracle.run(code, values, data)
            for name in FAST:
                ours = run_here(name, code, values, data)
                if not same(leaf, theirs, ours):
                    shown = (
                        "traps"
                        if theirs is None or ours is None
                        else {
                            key: (hex(theirs[key]), hex(ours[key]))
                            for key in ours
                            if ours[key] != theirs[key]
                        }
                    )
                    wrong.append(f"{name} {listing(code)} {shown} {theirs is None} {ours is None}")
    assert not wrong, "\n".join(wrong[:50]) + f"\n{len(wrong)}"
