"""The softmmu TLB: from guest-virtual pages to host memory, one table per vCPU and MMU index.

An entry's tags hold the page that they answer for, one tag per kind of access; a tag with one of
the low bits set, or all ones, never compares equal, so that generated code needs one comparison to
know that it may access host memory. Everything else comes here. Runs: per TLB miss, I/O access, or
store to a page that is watched.
"""

from __future__ import annotations

from ratite.cpu.debug import watched, watched_accesses
from ratite.cpu.exits import PENDING_EXIT, Exit
from ratite.cpu.hooks import access_fault, translate
from ratite.cpu.machine import (
    NO_PAGE,
    NOT_DIRTY,
    TLB_ENTRIES,
    TLB_INDEXES,
    Shared,
    TlbEntry,
    TlbSide,
    page_is_clean,
)
from ratite.isa.state import (
    CODE_PAGE_WORDS,
    EXECUTE,
    RANGE_READONLY,
    READ,
    WRITE,
    CpuState,
    PhysRange,
    find_range,
)
from ratite.native import fence, host_fill, host_load, host_store, native, u8, u16, u32, u64

PAGE_MASK = 0xFFFF_FFFF_FFFF_F000
OFFSET_MASK = 0xFFF
TABLE_SIZE = TLB_ENTRIES * TlbEntry.SIZE
SIDE_OFFSET = TABLE_SIZE * TLB_INDEXES
TLB_BYTES = SIDE_OFFSET + TLB_ENTRIES * TlbSide.SIZE * TLB_INDEXES

SLOW = 1
"""I/O, or memory that native code may not touch directly."""
RECHECK = 4
"""Translate again at each access."""
WATCH = 8
"""The page has watchpoints."""
INVALID = 0xFFFF_FFFF_FFFF_FFFF
UNCACHED = 8
LARGE_SHIFT = 16
"""In what `translate` allows: above this bit, the size of a large page as a power of two."""

JUMP_BITS = 13
JUMP_ENTRIES = 1 << JUMP_BITS
JUMP_BYTES = JUMP_ENTRIES * 16


@native
def entry_at(cpu: CpuState, index: u32, gva: u64) -> u64:
    """Host address of the entry that `gva` maps to."""
    slot = (gva >> 12) & (TLB_ENTRIES - 1)
    return cpu.tlb_base + u64(index) * TABLE_SIZE + slot * TlbEntry.SIZE


@native
def side_at(cpu: CpuState, index: u32, gva: u64) -> u64:
    """Host address of that entry's other half."""
    slot = (gva >> 12) & (TLB_ENTRIES - 1)
    return cpu.tlb_base + SIDE_OFFSET + (u64(index) * TLB_ENTRIES + slot) * TlbSide.SIZE


@native
def flush_jumps(cpu: CpuState) -> None:
    """Forget every block lookup."""
    host_fill(cpu.jump_cache, u8(0xFF), u64(JUMP_BYTES))
    index = u32(0)
    while index < CODE_PAGE_WORDS:
        cpu.code_pages[index] = u64(0)
        index += 1


@native
def note_code(cpu: CpuState, gva: u64) -> None:
    """Remember that the jump cache relies on the translation of this page; for large pages the
    range of their addresses does that.
    """
    if gva >= cpu.large_low and gva <= cpu.large_high:
        return
    page = gva >> 12
    word = u32(page >> 6) & (CODE_PAGE_WORDS - 1)
    cpu.code_pages[word] |= u64(1) << (page & 63)


@native
def may_hold_code(cpu: CpuState, gva: u64) -> bool:
    """Whether the jump cache may rely on this page: pages share bits, so it says yes too often."""
    page = gva >> 12
    word = u32(page >> 6) & (CODE_PAGE_WORDS - 1)
    return (cpu.code_pages[word] >> (page & 63)) & 1 != 0


@native
def flush(cpu: CpuState) -> None:
    """Forget every translation, and every block lookup that relied on one."""
    host_fill(cpu.tlb_base, u8(0xFF), u64(SIDE_OFFSET))
    flush_jumps(cpu)
    cpu.page_flush_request = u32(0)
    cpu.large_low = ~u64(0)
    cpu.large_high = u64(0)
    cpu.tlb_flushes += 1
    cpu.flush_request = u32(0)  # last: others wait for it


@native
def flush_page(cpu: CpuState) -> None:
    """Forget the translations of the page of `page_flush_gva`. An entry holds 4 KiB whatever the
    size of the guest's page, so that for an address where a large page was cached all are
    forgotten.
    """
    cpu.page_flush_request = u32(0)
    gva = cpu.page_flush_gva
    if gva >= cpu.large_low and gva <= cpu.large_high:
        flush(cpu)
        return
    if may_hold_code(cpu, gva):
        flush_jumps(cpu)
    index = u32(0)
    while index < TLB_INDEXES:
        entry = TlbEntry.at(entry_at(cpu, index, gva))
        entry.read = u64(INVALID)
        entry.write = u64(INVALID)
        entry.execute = u64(INVALID)
        index += 1


@native
def fill(cpu: CpuState, gva: u64, size: u64, access: u32, index: u32) -> None:
    """Translate and enter into the TLB. A fault is left pending."""
    gpa, allowed = translate(cpu, gva, size, access, index)
    cpu.tlb_fills += 1
    shift = u64(allowed >> LARGE_SHIFT)
    if shift != 0:
        inside_mask = (u64(1) << shift) - 1
        if gva & ~inside_mask < cpu.large_low:
            cpu.large_low = gva & ~inside_mask
        if gva | inside_mask > cpu.large_high:
            cpu.large_high = gva | inside_mask
    page = gva & PAGE_MASK
    gpa_page = gpa & PAGE_MASK
    entry = TlbEntry.at(entry_at(cpu, index, gva))
    side = TlbSide.at(side_at(cpu, index, gva))
    low_bits = u64(0)
    if allowed & UNCACHED != 0:
        low_bits = u64(SLOW | RECHECK)
    ram = u64(NO_PAGE)
    readonly = False
    found = find_range(cpu, gpa)
    if found != 0:
        place = PhysRange.at(found)
        if place.host != 0:
            inside = gpa_page - place.start  # wraps if the range begins within the page
            ram = place.ram + inside
            readonly = place.flags & RANGE_READONLY != 0
            entry.addend = place.host + inside - page
        if place.host == 0 or place.start > gpa_page or place.end < (gpa_page | OFFSET_MASK):
            low_bits |= SLOW
    else:
        low_bits |= SLOW
    side.gpa = gpa_page
    side.ram = ram
    watch = watched_accesses(Shared.at(cpu.machine), page)
    readable = low_bits | WATCH if watch & READ != 0 else low_bits
    if watch & WRITE != 0:
        low_bits |= WATCH
    entry.read = page | readable if allowed & READ != 0 else u64(INVALID)
    entry.execute = page | low_bits & ~WATCH if allowed & EXECUTE != 0 else u64(INVALID)
    if allowed & WRITE == 0:
        entry.write = u64(INVALID)
    elif readonly:
        entry.write = page | low_bits | SLOW
    elif ram == NO_PAGE:
        entry.write = page | low_bits
    else:
        # Whoever cleans the page marks it first and then looks through this table; here it is the
        # other way round.
        entry.write = page | low_bits
        fence()
        if page_is_clean(Shared.at(cpu.machine), ram):
            entry.write = page | low_bits | NOT_DIRTY


@native
def tag_for(cpu: CpuState, gva: u64, size: u64, access: u32) -> u64:
    """The data TLB's tag for an access, after filling the entry if need be. A fault is left
    pending.
    """
    entry = TlbEntry.at(entry_at(cpu, cpu.mmu_index, gva))
    tag = entry.write if access & WRITE != 0 else entry.read
    if (tag & PAGE_MASK) != (gva & PAGE_MASK) or tag == INVALID or tag & RECHECK != 0:
        fill(cpu, gva, size, access, cpu.mmu_index)
        tag = entry.write if access & WRITE != 0 else entry.read
    return tag


@native
def mmio(cpu: CpuState, gva: u64, gpa: u64, size: u32, value: u64, writes: bool) -> u64:
    """One access to a device: the logged result if this execution of the instruction has made the
    access before, else leave run(). `pc` and `budget` are exact."""
    serial = cpu.retired()
    if cpu.mmio_serial != serial:
        cpu.mmio_serial = serial
        cpu.mmio_count = u32(0)
        cpu.mmio_next = u32(0)
    if cpu.mmio_next < cpu.mmio_count:
        place = cpu.mmio_next & 7
        cpu.mmio_next += 1
        if (cpu.mmio_failed >> place) & 1 != 0:
            access_fault(cpu, gva, u32(WRITE) if writes else u32(READ))
        return cpu.mmio_log[place]
    cpu.mmio_address = gpa
    cpu.mmio_size = size
    cpu.mmio_value = value
    cpu.mmio_write = u32(writes)
    cpu.exit_reason = u32(Exit.MMIO)
    cpu.exception_pending = u32(PENDING_EXIT)
    return u64(0)


@native
def load_host(address: u64, size: u32) -> u64:
    """A little-endian value of 1, 2, 4 or 8 bytes."""
    if size == 1:
        return u64(host_load(u8, address))
    if size == 2:
        return u64(host_load(u16, address))
    if size == 4:
        return u64(host_load(u32, address))
    return host_load(u64, address)


@native
def store_host(address: u64, value: u64, size: u32) -> None:
    """Store 1, 2, 4 or 8 bytes, little-endian."""
    if size == 1:
        host_store(address, u8(value))
    elif size == 2:
        host_store(address, u16(value))
    elif size == 4:
        host_store(address, u32(value))
    else:
        host_store(address, value)


@native
def load_in_page(cpu: CpuState, gva: u64, size: u32) -> u64:
    """Load from one page."""
    tag = tag_for(cpu, gva, u64(size), u32(READ))
    if tag & WATCH != 0 and watched(cpu, gva, u64(size), u32(READ)):
        return u64(0)
    if tag & SLOW == 0:
        entry = TlbEntry.at(entry_at(cpu, cpu.mmu_index, gva))
        return load_host(entry.addend + gva, size)
    gpa = TlbSide.at(side_at(cpu, cpu.mmu_index, gva)).gpa | gva & OFFSET_MASK
    host = cpu.physical(gpa)
    if host != 0 and cpu.physical(gpa + u64(size) - 1) == host + u64(size) - 1:
        return load_host(host, size)
    return mmio(cpu, gva, gpa, size, u64(0), False)


@native
def load_slow(cpu: CpuState, gva: u64, size: u32) -> u64:
    """Any load that the TLB did not answer at once. What it could not do is left pending."""
    if (gva & OFFSET_MASK) + u64(size) <= OFFSET_MASK + 1:
        return load_in_page(cpu, gva, size)
    value = u64(0)
    done = u32(0)
    while done < size:
        part = load_in_page(cpu, gva + u64(done), u32(1))
        value |= part << (8 * done)
        done += 1
    return value


@native
def note_store(cpu: CpuState, gva: u64, size: u64) -> None:
    """Before a store to a page marked NOT_DIRTY: log it, and retire translated code that it
    changes.
    """
    entry = TlbEntry.at(entry_at(cpu, cpu.mmu_index, gva))
    side = TlbSide.at(side_at(cpu, cpu.mmu_index, gva))
    shared = Shared.at(cpu.machine)
    if shared.note_write(cpu.current_block, side.ram | gva & OFFSET_MASK, size):
        cpu.resync = u32(1)
    if not page_is_clean(shared, side.ram):
        entry.write &= ~NOT_DIRTY


@native
def store_in_page(cpu: CpuState, gva: u64, value: u64, size: u32) -> None:
    """Store to one page."""
    tag = tag_for(cpu, gva, u64(size), u32(WRITE))
    if tag & WATCH != 0 and watched(cpu, gva, u64(size), u32(WRITE)):
        return
    side = TlbSide.at(side_at(cpu, cpu.mmu_index, gva))
    gpa = side.gpa | gva & OFFSET_MASK
    if tag & SLOW != 0:
        host = cpu.physical(gpa)
        found = find_range(cpu, gpa)
        whole = host != 0 and cpu.physical(gpa + u64(size) - 1) == host + u64(size) - 1
        if not whole or PhysRange.at(found).flags & RANGE_READONLY != 0:
            mmio(cpu, gva, gpa, size, value, True)
            return
        note_store(cpu, gva, u64(size))
        store_host(host, value, size)
        return
    if tag & NOT_DIRTY != 0:
        note_store(cpu, gva, u64(size))
    entry = TlbEntry.at(entry_at(cpu, cpu.mmu_index, gva))
    store_host(entry.addend + gva, value, size)


@native
def store_slow(cpu: CpuState, gva: u64, value: u64, size: u32) -> None:
    """Any store that the TLB did not answer at once. Nothing is written unless all of it may be."""
    if (gva & OFFSET_MASK) + u64(size) <= OFFSET_MASK + 1:
        store_in_page(cpu, gva, value, size)
        return
    tag_for(cpu, gva, u64(1), u32(WRITE))
    tag_for(cpu, (gva & PAGE_MASK) + 0x1000, u64(1), u32(WRITE))
    done = u32(0)
    while done < size:
        store_in_page(cpu, gva + u64(done), (value >> (8 * done)) & 0xFF, u32(1))
        done += 1


@native
def pointer_slow(cpu: CpuState, gva: u64, size: u32, access: u32) -> u64:
    """Host address for an atomic access to naturally aligned RAM. Devices do not take atomics: an
    access fault.
    """
    entry = TlbEntry.at(entry_at(cpu, cpu.mmu_index, gva))
    page = gva & PAGE_MASK
    readable = access & READ == 0 or entry.read == page
    writable = access & WRITE == 0 or (entry.write & ~NOT_DIRTY) == page
    if not (readable and writable):
        fill(cpu, gva, u64(size), access, cpu.mmu_index)
    if (entry.read | entry.write) & WATCH != 0 and watched(cpu, gva, u64(size), access):
        return u64(0)
    side = TlbSide.at(side_at(cpu, cpu.mmu_index, gva))
    gpa = side.gpa | gva & OFFSET_MASK
    host = cpu.physical(gpa)
    found = find_range(cpu, gpa)
    if host == 0:
        access_fault(cpu, gva, access)
    if access & WRITE != 0:
        if PhysRange.at(found).flags & RANGE_READONLY != 0:
            access_fault(cpu, gva, access)
        if entry.write & NOT_DIRTY != 0:
            note_store(cpu, gva, u64(size))
    return host
