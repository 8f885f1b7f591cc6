"""Handlers of blocks that are translated while a log wants to know which are entered (`-d exec`,
`-d cpu`), or while none may be chained (`-d nochain`). They replace `enter` and `link` of
`ratite.accel.jit.control`; no such block is worth optimising.

Where registers are wanted, the vCPU leaves run() before the block: Python writes them and enters
again. What runs then is the same block, whatever has been asked meanwhile, so that the log never
names one that was not executed.
"""

from __future__ import annotations

from ratite.cpu.block import HANDLER_CHAINED, Record, find_block
from ratite.cpu.exits import Exit
from ratite.cpu.machine import (
    BLOCK_HEADER,
    NOTE_ENTRIES,
    STOP_BEFORE,
    UNCHAINED,
    Block,
    Shared,
)
from ratite.cpu.space import PAGE_MASK
from ratite.isa.journal import ENTERED
from ratite.isa.state import CpuState
from ratite.native import host_store, i64, native, symbol_address, u32, u64
from ratite.native.intrinsics import continue_with, dispatch, return_to_python


@native
def announced(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """The first record of a block."""
    here = Block.at(record.pointer())
    left = budget - i64(here.count)
    told = cpu.announced == record.pointer()
    # One without instructions is a breakpoint.
    silent = told or cpu.chained != 0 or here.count == 0
    cpu.announced = u64(0)
    cpu.chained = u32(0)
    if left < 0 or (cpu.kick != 0 and not told):
        cpu.pc = here.pc
        continue_with("tier0.kicked", budget)
    else:
        logging = Shared.at(cpu.machine).logging
        if not silent and logging & NOTE_ENTRIES != 0 and cpu.journal != 0:
            cpu.note(u64(ENTERED), here.pc, here.pointer(), u64(here.mode))
        if not silent and logging & STOP_BEFORE != 0:
            cpu.pc = here.pc
            cpu.budget = budget
            cpu.announced = record.pointer()
            cpu.exit_reason = u32(Exit.LOG)
            return_to_python()
        else:
            here.heat -= 1  # that is how entries are counted
            dispatch(record.pointer() + BLOCK_HEADER, record.pointer(), left)


@native
def unchained(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """An exit that was never taken, or is never chained. Chains do not leave their page."""
    pc = record.payload
    cpu.pc = pc
    within = pc & PAGE_MASK == block.pc & PAGE_MASK
    if within and Shared.at(cpu.machine).logging & UNCHAINED == 0:
        host_store(record.pointer(), symbol_address(HANDLER_CHAINED))
    continue_with("tier0.lookup", budget)


@native
def chained(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """An exit that was taken before: its target is entered without a word."""
    cpu.pc = record.payload
    cpu.budget = budget
    if budget <= 0:
        continue_with("tier0.kicked", budget)
    else:
        found = find_block(cpu)
        cpu.chained = u32(1)
        dispatch(found, found, budget)


CONTROL = (announced, unchained, chained)
