"""Translation blocks: finding them, and making them from guest code.

A block is a header and then fixed-size records, one per guest instruction:

    0   address of the handler
    8   operands, laid out per instruction (`Insn.operands`)
    14  length of the instruction in bytes
    15  distance from the block's pc, in units of the instruction alignment

After the last instruction come two exits of two records each: fall-through, then taken. The first
record of an exit is {go, address of the target}, the second {link, guest pc}; an exit that is not
linked yet has its own second record as its target. Runs: look-up per TB entry that is not chained;
translation per new block.
"""

from __future__ import annotations

from ratite.cpu.debug import is_breakpoint
from ratite.cpu.exits import PENDING_EXIT, Exit
from ratite.cpu.hooks import DECODE_DIRECT, DECODE_ENDS, DECODE_LENGTH, access_fault, decode
from ratite.cpu.machine import (
    BLOCK_HEADER,
    HANDLER_ANNOUNCED,
    HANDLER_ENTER,
    NO_PAGE,
    Block,
    Shared,
    bucket_of,
    protect_page,
)
from ratite.cpu.space import JUMP_ENTRIES, PAGE_MASK, Space, TlbEntry, TlbSide
from ratite.cpu.tlb import OFFSET_MASK, RECHECK, entry_at, fill, side_at
from ratite.isa.journal import MADE
from ratite.isa.state import EXECUTE, LIMIT_MASK, LIMIT_STEP, CpuState
from ratite.native import (
    Const,
    Field,
    Struct,
    atomic_load,
    atomic_store,
    host_load,
    host_store,
    i64,
    native,
    symbol_address,
    u8,
    u32,
    u64,
)

RECORD_SIZE = 16
OPERANDS_OFFSET = 8
LENGTH_OFFSET = 14
DISTANCE_OFFSET = 15
EXIT_SIZE = 2 * RECORD_SIZE
MAX_INSTRUCTIONS = 64
MAX_BLOCK = BLOCK_HEADER + MAX_INSTRUCTIONS * RECORD_SIZE + 2 * EXIT_SIZE
MAX_LENGTH = 16
NEVER_HOT = 0xFFFF_FFFF

HANDLER_GO, HANDLER_LINK = "tier0.go", "tier0.link"
HANDLER_BREAKPOINT = "tier0.debug"
HANDLER_CHAINED, HANDLER_UNCHAINED = "tier0.chained", "tier0.unchained"

CHECKED = 1 << 31
"""In a block's mode: its page is not executable as a whole."""


def block_size(count: int) -> int:
    """Bytes that a block of so many instructions takes in the buffer."""
    return BLOCK_HEADER + count * RECORD_SIZE + 2 * EXIT_SIZE


class Record(Struct):
    """One decoded instruction, or half of an exit."""

    handler = Field(u64)
    payload = Field(u64)


class JumpEntry(Struct):
    """A slot of a vCPU's jump cache."""

    pc = Field(u64)
    block = Field(u64)


@native
def jump_slot(cpu: CpuState, pc: u64) -> JumpEntry:
    """The jump cache's slot for an address."""
    return JumpEntry.at(cpu.jump_cache + ((pc >> 1) & (JUMP_ENTRIES - 1)) * JumpEntry.SIZE)


@native
def find_block(cpu: CpuState) -> u64:
    """Host address of the block for the state at `pc`, translated now if need be. 0 with a pending
    exception or exit.
    """
    pc = cpu.pc
    slot = jump_slot(cpu, pc)
    if slot.pc == pc and Block.at(slot.block).mode == cpu.mode:
        return slot.block
    return find_block_slow(cpu, pc)


@native
def code_page(cpu: CpuState, gva: u64) -> u64:
    """The ram_addr_t of an executable page. Anything else leaves an exception pending."""
    entry = TlbEntry.at(entry_at(cpu, cpu.fetch_index, gva))
    page = gva & PAGE_MASK
    if entry.execute != page:
        fill(cpu, gva, u64(2), u32(EXECUTE), cpu.fetch_index)
    side = TlbSide.at(side_at(cpu, cpu.fetch_index, gva))
    if side.ram == NO_PAGE:
        access_fault(cpu, gva, u32(EXECUTE))
    return side.ram


@native
def code_host(cpu: CpuState, gva: u64) -> u64:
    """Host address of code that `code_page` has just found executable."""
    return TlbEntry.at(entry_at(cpu, cpu.fetch_index, gva)).addend + gva


@native
def find_block_slow(cpu: CpuState, pc: u64) -> u64:
    """The hash table's block, or a new one; entered into the jump cache."""
    cpu.lookups += 1
    ram_pc = code_page(cpu, pc) | pc & OFFSET_MASK
    shared = Shared.at(cpu.machine)
    if TlbEntry.at(entry_at(cpu, cpu.fetch_index, pc)).execute & RECHECK != 0:
        return find_checked(cpu, shared, ram_pc, pc)
    found = search(cpu, shared, ram_pc, pc, cpu.mode)
    if found == 0:
        found = translate_block(cpu, shared, ram_pc, pc, cpu.mode)
    if found != 0:
        slot = jump_slot(cpu, pc)
        slot.pc = pc
        slot.block = found
        space = Space.at(cpu.space)
        space.note_code(pc)
        if Block.at(found).second_ram != NO_PAGE:
            space.note_code(pc + OFFSET_MASK)
    return found


@native
def find_checked(cpu: CpuState, shared: Shared, ram_pc: u64, pc: u64) -> u64:
    """A block of one instruction, each part of which has been found executable just now. It is
    entered nowhere that leads to it unchecked.
    """
    mode = cpu.mode | CHECKED
    found = search(cpu, shared, ram_pc, pc, mode)
    if found == 0:
        found = translate_block(cpu, shared, ram_pc, pc, mode)
    if Block.at(found).size > 2:
        code_page(cpu, pc + 2)
    return found


@native
def search(cpu: CpuState, shared: Shared, ram_pc: u64, pc: u64, mode: u32) -> u64:
    """The block with this key, or 0. A block on two pages is good only while both are where they
    were.
    """
    here = atomic_load(u64, bucket_of(shared, ram_pc, pc, mode))
    while here != 0:
        block = Block.at(here)
        if block.ram_pc == ram_pc and block.pc == pc and block.mode == mode:
            if block.second_ram == NO_PAGE:
                return here
            if code_page(cpu, (pc & PAGE_MASK) + 0x1000) == block.second_ram:
                return here
        here = block.hash_next
    return u64(0)


@native
def decode_into(
    cpu: CpuState, record: u64, code: u64, available: u32, distance: u64, units: Const[int]
) -> tuple[u32, i64]:
    """Decode one instruction and complete its record."""
    found, displacement = decode(cpu, record, code, available)
    host_store(record + LENGTH_OFFSET, u8(found & DECODE_LENGTH))
    host_store(record + DISTANCE_OFFSET, u8(distance // units))
    return found, displacement


@native
def fetch_across(cpu: CpuState, pc: u64, code: u64, available: u32) -> u64:
    """Collect the bytes of an instruction that goes on on the next page; returns that page's
    ram_addr_t.
    """
    second = (pc & PAGE_MASK) + 0x1000
    ram = code_page(cpu, second)
    host = code_host(cpu, second)
    index = u32(0)
    while index < available:
        cpu.fetch_buffer[index] = host_load(u8, code + u64(index))
        index += 1
    while index < MAX_LENGTH:
        cpu.fetch_buffer[index] = host_load(u8, host + u64(index - available))
        index += 1
    return ram


@native
def write_exit(shared: Shared, record: u64, target: u64) -> None:
    """An exit that is not linked yet."""
    link = symbol_address(HANDLER_LINK)
    if shared.logging != 0:
        link = symbol_address(HANDLER_UNCHAINED)
    host_store(record, symbol_address(HANDLER_GO))
    host_store(record + 8, record + RECORD_SIZE)
    host_store(record + RECORD_SIZE, link)
    host_store(record + RECORD_SIZE + 8, target)


@native
def translate_block(cpu: CpuState, shared: Shared, ram_pc: u64, pc: u64, mode: u32) -> u64:
    """Translate the block at `pc`, unless another vCPU has just done so."""
    first_code = code_host(cpu, pc)
    in_page = u32(0x1000 - (pc & OFFSET_MASK))
    second_ram = u64(NO_PAGE)
    # An instruction across the page boundary is a block of its own; its second page may fault,
    # before any lock is held.
    if in_page < MAX_LENGTH:
        found, _ = decode(cpu, cpu.pointer() + CpuState.scratch.offset, first_code, in_page)
        if found == 0:
            second_ram = fetch_across(cpu, pc, first_code, in_page)
    shared.acquire()
    existing = search_locked(shared, ram_pc, pc, mode, second_ram)
    if existing != 0:
        shared.release()
        return existing
    if shared.end - shared.next < MAX_BLOCK:
        shared.release()
        cpu.exit_reason = u32(Exit.CODE_FULL)
        cpu.exception_pending = u32(PENDING_EXIT)
        return u64(0)
    protect_page(shared, ram_pc)
    if second_ram != NO_PAGE:
        protect_page(shared, second_ram)
    block = Block.at(shared.next)
    block.pc = pc
    block.ram_pc = ram_pc
    block.second_ram = second_ram
    block.code = first_code
    block.mode = mode
    # Blocks of limited length exist to stop exactly; compiled code would not.
    hot = cpu.block_limit == 0 and mode & CHECKED == 0
    block.heat = shared.hot_threshold if hot else u32(NEVER_HOT)
    block.reports = u32(0)
    block.uses = u64(0)
    block.fetch_index = cpu.fetch_index
    fill_records(cpu, block, first_code, in_page, second_ram != NO_PAGE)
    publish(shared, block)
    shared.release()
    if cpu.journal != 0:
        cpu.note(u64(MADE), pc, block.pointer(), u64(mode))
    return block.pointer()


@native
def search_locked(shared: Shared, ram_pc: u64, pc: u64, mode: u32, second_ram: u64) -> u64:
    """`search` with the second page already known."""
    here = atomic_load(u64, bucket_of(shared, ram_pc, pc, mode))
    while here != 0:
        block = Block.at(here)
        if (
            block.ram_pc == ram_pc
            and block.pc == pc
            and block.mode == mode
            and block.second_ram == second_ram
        ):
            return here
        here = block.hash_next
    return u64(0)


@native
def fill_records(cpu: CpuState, block: Block, first_code: u64, in_page: u32, across: bool) -> None:
    """Decode instructions until one ends the block, the page ends, or the block is long enough."""
    shared = Shared.at(cpu.machine)
    limit = shared.max_instructions
    if cpu.block_limit & LIMIT_MASK != 0 and cpu.block_limit & LIMIT_MASK < limit:
        limit = cpu.block_limit & LIMIT_MASK
    if block.mode & CHECKED != 0:
        limit = u32(1)
    breakpoints = shared.breakpoint_count != 0 and cpu.block_limit & LIMIT_STEP == 0
    record = block.pointer() + BLOCK_HEADER
    done = u32(0)
    count = u32(0)
    displacement = i64(0)
    flags = u32(0)
    last = u64(0)
    while count < limit and done < in_page and flags == 0:
        if breakpoints and is_breakpoint(shared, block.pc + u64(done)):
            break
        code = first_code + u64(done)
        available = in_page - done
        if across:
            code = cpu.pointer() + CpuState.fetch_buffer.offset
            available = u32(MAX_LENGTH)
        found, displacement = decode_into(cpu, record, code, available, u64(done), 2)
        if found == 0:
            break  # it goes on on the next page
        last = block.pc + u64(done)
        done += found & DECODE_LENGTH
        flags = found & (DECODE_ENDS | DECODE_DIRECT)
        count += 1
        record += RECORD_SIZE
    if flags & DECODE_ENDS == 0:
        shared.direct += 1
    if flags & DECODE_DIRECT != 0:
        shared.branches += 1
    write_exit(shared, record, block.pc + u64(done))
    write_exit(shared, record + EXIT_SIZE, last + u64(displacement))
    block.count = count
    block.size = done
    if count == 0:  # a breakpoint: nothing of the guest's is executed
        host_store(record, symbol_address(HANDLER_BREAKPOINT))
        block.size = u32(1)


@native
def publish(shared: Shared, block: Block) -> None:
    """Enter the finished block into the tables."""
    address = block.pointer()
    size = BLOCK_HEADER + u64(block.count) * RECORD_SIZE + 2 * EXIT_SIZE
    shared.next += size
    shared.blocks += 1
    shared.code_bytes += u64(block.size)
    if u64(block.size) > shared.largest:
        shared.largest = u64(block.size)
    if block.second_ram != NO_PAGE:
        shared.across += 1
    shared.translated += 1
    shared.instructions += u64(block.count)
    head = shared.first_block + (block.ram_pc >> 12) * 8
    block.page_next = host_load(u64, head)
    host_store(head, address)
    if block.second_ram != NO_PAGE:
        head = shared.first_block + (block.second_ram >> 12) * 8
        block.second_next = host_load(u64, head)
        host_store(head, address)
    block.handler = symbol_address(HANDLER_ENTER)
    if shared.logging != 0:
        block.handler = symbol_address(HANDLER_ANNOUNCED)
    bucket = bucket_of(shared, block.ram_pc, block.pc, block.mode)
    block.hash_next = host_load(u64, bucket)
    atomic_store(bucket, address)


@native
def find_translated(cpu: CpuState, pc: u64, mode: u32, fetch_index: u32, near: Block) -> u64:
    """The block of a pc in a mode if there is one, on one page, without translating anything; 0
    otherwise. It is looked for on the page of the block `near`, or on one that the vCPU's TLB
    knows. Any thread: what the TLB says of the page may be out of date.
    """
    shared = Shared.at(cpu.machine)
    if near.pc & PAGE_MASK == pc & PAGE_MASK:
        here = near.ram_pc & PAGE_MASK | pc & OFFSET_MASK
        return search_locked(shared, here, pc, mode, u64(NO_PAGE))
    if TlbEntry.at(entry_at(cpu, fetch_index, pc)).execute != pc & PAGE_MASK:
        return u64(0)
    ram = TlbSide.at(side_at(cpu, fetch_index, pc)).ram
    if ram == NO_PAGE:
        return u64(0)
    return search_locked(shared, ram | pc & OFFSET_MASK, pc, mode, u64(NO_PAGE))


@native
def threaded_instructions(shared: Shared) -> u64:
    """Instructions of the blocks that there are, times how often each has been entered one by one
    rather than in a region: what its heat has lost. Nearly what tier 0 has retired; vCPUs that
    enter a block at once may be counted as one. Any thread.
    """
    total = u64(0)
    here = shared.buffer
    end = shared.next
    while here < end:
        block = Block.at(here)
        entries = u64(0)
        if block.heat > NEVER_HOT // 2:
            entries = u64(NEVER_HOT - block.heat)
        else:
            # Each report has set the heat anew, and has cost an entry that was none.
            entries = u64(shared.hot_threshold) - u64(block.heat)
            entries += u64(block.reports) * (u64(shared.compile_threshold) - 1)
        total += entries * u64(block.count)
        here += BLOCK_HEADER + u64(block.count) * RECORD_SIZE + 2 * EXIT_SIZE
    return total
