"""The handlers that connect instructions: entering a block, following and linking exits, traps,
returning to Python.

Like instruction handlers they run one after another by tail calls. `record` is what is being
executed, `block` the block that it belongs to (at a block's entry: the one that control comes
from), `budget` the instructions left, already less those of the current block.
"""

from __future__ import annotations

from ratite.cpu import hooks
from ratite.cpu.block import (
    CHECKED,
    DISTANCE_OFFSET,
    LENGTH_OFFSET,
    RECORD_SIZE,
    Record,
    fetch_across,
    find_block,
    jump_slot,
)
from ratite.cpu.exits import PENDING_EXIT, Exit
from ratite.cpu.machine import BLOCK_HEADER, HOT_RING, NO_PAGE, Block, Shared
from ratite.cpu.space import PAGE_MASK
from ratite.cpu.tlb import (
    OFFSET_MASK,
    keep_up,
    load_slow,
    pointer_slow,
    store_slow,
)
from ratite.isa.state import KICK_EXIT, KICK_INTERRUPT, KICK_LOG, CpuState
from ratite.native import (
    atomic_add,
    atomic_store,
    atomic_swap,
    host_load,
    i64,
    native,
    u8,
    u32,
    u64,
    unlikely,
)
from ratite.native.intrinsics import continue_with, dispatch, return_to_python

UNITS = 2


@native
def start(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """Where run() enters. An instruction that a device access interrupted is completed before
    anything else.
    """
    keep_up(cpu)
    if cpu.mmio_next < cpu.mmio_count and cpu.mmio_serial == cpu.retired():
        found = find_block(cpu)
        left = budget - i64(Block.at(found).count)
        if unlikely(left < 0):
            cpu.exit_reason = u32(Exit.BUDGET)
            return_to_python()
        else:
            dispatch(found + BLOCK_HEADER, found, left)
    else:
        if cpu.stepping == 0 and cpu.announced == 0:
            hooks.take_interrupt(cpu)
        continue_with("tier0.lookup", budget)


@native
def enter(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """The first record of every block: pay for its instructions, and see whether anybody wants
    something.
    """
    here = Block.at(record.pointer())
    left = budget - i64(here.count)
    if unlikely(cpu.kick != 0 or left < 0):
        cpu.pc = here.pc
        continue_with("tier0.kicked", budget)
    else:
        heat = here.heat - 1
        here.heat = heat
        if unlikely(heat == 0):
            continue_with("tier0.hot", budget)
        else:
            dispatch(record.pointer() + BLOCK_HEADER, record.pointer(), left)


@native
def hot(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """A block that was entered often: report it for tier 1, and go on. It is reported again after
    as many entries more as make compiling it worth while.
    """
    shared = Shared.at(cpu.machine)
    here = Block.at(record.pointer())
    here.heat = shared.compile_threshold
    here.reports += 1
    place = atomic_add(shared.pointer() + Shared.hot_head.offset, u32(1)) & (HOT_RING - 1)
    shared.hot_cpu[place] = cpu.index
    shared.hot_ring[place] = record.pointer()
    continue_with("tier0.enter", budget)


@native
def step(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """Go on at `pc` in tier 0, even where a region begins: its first instruction is not for it."""
    cpu.budget = budget
    if unlikely(cpu.kick != 0):
        continue_with("tier0.kicked", budget)
    else:
        found = find_block(cpu)
        here = Block.at(found)
        left = budget - i64(here.count)
        if left < 0:
            continue_with("tier0.kicked", budget)
        else:
            dispatch(found + BLOCK_HEADER, found, left)


@native
def kicked(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """Between blocks, with `pc` exact: answer a kick or an empty budget."""
    cpu.budget = budget
    cpu.sample = record.pointer()
    if cpu.found == 0:
        cpu.found = record.pointer()
        cpu.found_after = block.pointer()
    bits = atomic_swap(cpu.pointer() + CpuState.kick.offset, u32(0))
    keep_up(cpu)
    if bits & KICK_EXIT != 0:
        cpu.exit_reason = u32(Exit.INTERRUPTED)
        return_to_python()
    elif bits & KICK_LOG != 0:
        cpu.exit_reason = u32(Exit.LOG)
        return_to_python()
    elif bits == 0:
        cpu.exit_reason = u32(Exit.BUDGET)
        return_to_python()
    else:
        if bits & KICK_INTERRUPT != 0 and cpu.stepping == 0:
            hooks.take_interrupt(cpu)
        continue_with("tier0.lookup", budget)


@native
def lookup(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """Go on at `pc`. The jump cache answers here, where no call needs registers saved."""
    pc = cpu.pc
    slot = jump_slot(cpu, pc)
    found = slot.block
    if unlikely(slot.pc != pc or budget <= 0):
        continue_with("tier0.search", budget)
    elif unlikely(Block.at(found).mode != cpu.mode):
        continue_with("tier0.search", budget)
    else:
        dispatch(found, record.pointer(), budget)  # `kicked` notes what control comes from


@native
def search(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """Go on at `pc`. An empty budget ends the run before anything can go wrong there."""
    cpu.budget = budget
    if unlikely(budget <= 0):
        continue_with("tier0.kicked", budget)
    else:
        found = find_block(cpu)
        dispatch(found, record.pointer(), budget)


@native
def retired(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """The entry of a block that is no longer valid."""
    cpu.pc = Block.at(record.pointer()).pc
    continue_with("tier0.lookup", budget)


@native
def go(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """An exit: jump to its target."""
    dispatch(record.payload, block.pointer(), budget)


@native
def link(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """An exit that is not linked: find its target. The link is kept if both ends lie in one page,
    so that a change of the mapping, which flushes the look-ups, cannot leave a stale one in use."""
    cpu.pc = record.payload
    cpu.budget = budget
    if unlikely(budget <= 0):
        continue_with("tier0.kicked", budget)
    else:
        found = find_block(cpu)
        target = Block.at(found)
        if (
            (target.mode | block.mode) & CHECKED == 0
            and target.second_ram == NO_PAGE
            and target.pc & PAGE_MASK == block.pc & PAGE_MASK
            and block.second_ram == NO_PAGE
        ):
            atomic_store(record.pointer() - RECORD_SIZE + 8, found)
        dispatch(found, found, budget)


@native
def remaining(record: Record, block: Block) -> i64:
    """Instructions of the block from `record` on."""
    done = (record.pointer() - block.pointer() - BLOCK_HEADER) // RECORD_SIZE
    return i64(u64(block.count) - done)


@native
def pc_of(record: Record, block: Block) -> u64:
    """Address of the instruction of `record`."""
    return block.pc + u64(host_load(u8, record.pointer() + DISTANCE_OFFSET)) * UNITS


@native
def sync(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """Make `pc` and `budget` exact for the instruction of `record`, which has not retired."""
    cpu.pc = pc_of(record, block)
    cpu.budget = budget + remaining(record, block)
    cpu.current_block = block.pointer()


@native
def raised(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """An instruction ended with something pending."""
    sync(cpu, record, block, budget)
    if cpu.exception_pending != PENDING_EXIT:
        code = block.code + (cpu.pc - block.pc)
        if block.second_ram != NO_PAGE:
            pending = cpu.exception_pending
            cpu.exception_pending = u32(0)  # what the fetch may leave takes its place
            fetch_across(cpu, block.pc, block.code, u32(0x1000 - (block.pc & OFFSET_MASK)))
            cpu.exception_pending = pending
            code = cpu.pointer() + CpuState.fetch_buffer.offset
        hooks.illegal_value(cpu, code)
    continue_with("tier0.fault", cpu.budget)


@native
def fault(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """With `pc` and `budget` exact: enter the guest's handler, or return to Python."""
    cpu.budget = budget
    if cpu.exception_pending == PENDING_EXIT:
        cpu.exception_pending = u32(0)
        return_to_python()
    else:
        cpu.mmio_count = u32(0)
        hooks.take_exception(cpu)
        if cpu.stepping != 0:
            cpu.exit_reason = u32(Exit.DEBUG)
            return_to_python()
        elif cpu.kick != 0:
            continue_with("tier0.kicked", budget)
        else:
            continue_with("tier0.lookup", budget)


@native
def resync(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """An instruction retired the block that it is in: it has completed, the rest of the block is
    void.
    """
    cpu.resync = u32(0)
    cpu.pc = pc_of(record, block) + u64(host_load(u8, record.pointer() + LENGTH_OFFSET))
    continue_with("tier0.lookup", budget + remaining(record, block) - 1)


@native
def debug(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """The only record of a block at a breakpoint."""
    cpu.pc = block.pc
    cpu.budget = budget
    cpu.exit_reason = u32(Exit.DEBUG)
    return_to_python()


@native
def leave(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """An instruction that ends its block retired, with `pc` set and an exit reason."""
    cpu.budget = budget
    return_to_python()


# Slow paths of compiled regions: `pc` is the instruction's, `budget` the instructions left with it
# not retired. The status is 1, or 0 for "leave for tier0.pending": what a call that leaves
# something pending returns by itself.


@native
def at(cpu: CpuState, pc: u64, budget: i64) -> None:
    """Make `pc` and `budget` exact for a region's instruction."""
    cpu.pc = pc
    cpu.budget = budget
    cpu.current_block = u64(0)


@native
def region_load(cpu: CpuState, gva: u64, size: u32, pc: u64, budget: i64) -> tuple[u64, u32]:
    """A load that the TLB did not answer at once."""
    at(cpu, pc, budget)
    return load_slow(cpu, gva, size), u32(1)


@native
def region_store(
    cpu: CpuState, gva: u64, value: u64, size: u32, length: u32, pc: u64, budget: i64
) -> u32:
    """A store that the TLB did not answer at once. One that retired code of a region has completed,
    and what follows in the region may be void.
    """
    at(cpu, pc, budget)
    store_slow(cpu, gva, value, size)
    if cpu.resync != 0:
        cpu.resync = u32(0)
        cpu.pc = pc + u64(length)
        cpu.budget = budget - 1
        return u32(0)
    return u32(1)


@native
def region_pointer(
    cpu: CpuState, gva: u64, size: u32, access: u32, pc: u64, budget: i64
) -> tuple[u64, u32]:
    """An atomic access that the TLB did not answer at once."""
    at(cpu, pc, budget)
    place = pointer_slow(cpu, gva, size, access)
    if cpu.resync != 0:  # code of a region was retired: the instruction is done again in tier 0
        cpu.resync = u32(0)
        return u64(0), u32(0)
    return place, u32(1)


@native
def pending(cpu: CpuState, record: Record, block: Block, budget: i64) -> None:
    """A region's slow path ended with something pending; `pc` and `budget` are exact."""
    if cpu.exception_pending != 0:
        continue_with("tier0.fault", cpu.budget)
    else:
        continue_with("tier0.lookup", cpu.budget)


CONTROL = (
    start,
    enter,
    hot,
    step,
    kicked,
    lookup,
    search,
    retired,
    go,
    link,
    raised,
    fault,
    resync,
    debug,
    leave,
    pending,
)
COLD = (region_load, region_store, region_pointer)
"""They keep every register of the host but a few, so that their callers stay small."""
