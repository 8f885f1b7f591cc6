"""RISC-V as the log shows it. The shapes of the lines are those of QEMU's log, for the tools that
read them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from ratite.accel.jit.targets.riscv import DECODERS, TARGET
from ratite.accel.jit.tier0 import handler_name, lift_handler
from ratite.core.trace import TraceEvent, Tracer
from ratite.cpu.inspect import Disassembled
from ratite.cpu.riscv_inspect import disassemble, registers
from ratite.isa.journal import FILL, FILLED, TRAP, Noted
from ratite.isa.riscv import Hart
from ratite.isa.riscv.state import FETCH_PAGE, INTERRUPT, LOAD_PAGE, STORE_PAGE
from ratite.isa.riscv.trap import trap_name
from ratite.isa.spec import Insn
from ratite.isa.state import EXECUTE, READ, WRITE
from ratite.native import ir
from ratite.native.frontend import Program

state = Hart
PAGE = 0x1000
LARGE_SHIFT = 16
PAGE_FAULTS = (FETCH_PAGE, LOAD_PAGE, STORE_PAGE)
FAULT_OF_TABLES, FAULT_OF_PMP = 1, 2

__all__ = [
    "disassembly",
    "lifted",
    "mode_line",
    "mmu_lines",
    "registers",
    "state",
    "trace_trap",
    "trap_line",
]


@TraceEvent
def riscv_trap(hart: int, is_async: bool, cause: int, epc: int, tval: int, desc: str) -> str:
    """A hart has taken an interrupt or exception."""
    where = f"epc:0x{epc:x}, tval:0x{tval:x}"
    return f"hart:{hart}, async:{is_async:d}, cause:{cause}, {where}, desc={desc}"


def disassembly(code: bytes, pc: int) -> Iterator[tuple[int, Disassembled]]:
    """The instructions of a block, each with its address."""
    offset = 0
    while (found := disassemble(code[offset:], pc + offset, lambda name: True)) is not None:
        yield pc + offset, found
        offset += found.size


def mode_line(mode: int) -> str:
    """What of a block's mode a reader wants to know."""
    return f"Priv: {mode & 3}; Virt: 0"


def trap_line(hart: int, note: Noted) -> str:
    """A trap that was taken."""
    cause = note.first
    return (
        f"riscv_cpu_do_interrupt: hart:{hart}, async:{cause >> 63}, "
        f"cause:{cause & ~INTERRUPT:016x}, epc:0x{note.pc:016x}, "
        f"tval:0x{note.second:016x}, desc={trap_name(cause)}"
    )


def trace_trap(trace: Tracer, hart: int, note: Noted) -> None:
    """Tell of a trap that was taken."""
    cause = note.first
    number, is_async = cause & ~INTERRUPT, bool(cause & INTERRUPT)
    trace(riscv_trap, hart, is_async, number, note.pc, note.second, trap_name(cause))


def fill_line(hart: int, note: Noted) -> str:
    """An access that the TLB had no entry for."""
    access, index = note.second & 0xFF, note.second >> 8
    kind = 2 if access == EXECUTE else int(access not in (READ, EXECUTE))
    return f"riscv_cpu_tlb_fill ad {note.first:x} rw {kind} mmu_idx {index} cpu {hart}"


def outcome_line(fill: Noted, after: Noted) -> str:
    """What came of it: the note that followed tells."""
    head = f"riscv_cpu_tlb_fill address={fill.first:x}"
    if after.kind == FILLED:
        allowed = after.second
        size = 1 << (allowed >> LARGE_SHIFT) if allowed >> LARGE_SHIFT else PAGE
        prot = allowed & (READ | WRITE | EXECUTE)
        return f"{head} ret 0 physical {after.first:016x} prot {prot} size {size}"
    tables = after.kind == TRAP and after.first in PAGE_FAULTS
    return f"{head} ret {FAULT_OF_TABLES if tables else FAULT_OF_PMP} prot 0"


def mmu_lines(hart: int, before: Noted | None, note: Noted) -> Iterator[str]:
    """What a note says of the MMU, given the one before it."""
    if before is not None and before.kind == FILL:
        yield outcome_line(before, note)
    if note.kind == FILL:
        yield fill_line(hart, note)


@functools.cache
def _program() -> Program:
    return Program({**TARGET.hooks, **DECODERS})


def lifted(insn: Insn) -> ir.Function:
    """An instruction's handler as it is before the optimiser."""
    program = _program()
    found = program.functions.get(handler_name(insn))
    return found if found is not None else lift_handler(program, insn, Hart)
