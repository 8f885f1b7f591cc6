"""The softmmu TLB: from guest-virtual pages to host memory, one table per vCPU and MMU index.

An entry's tags hold the page that they answer for, one tag per kind of access; a tag with one of
the low bits set, or all ones, never compares equal, so that generated code needs one comparison to
know that it may access host memory. Everything else comes here. Runs: per TLB miss, I/O access, or
store to a page that is watched.
"""

from __future__ import annotations

from ratite.cpu.debug import watched, watched_accesses
from ratite.cpu.exits import PENDING_EXIT, Exit
from ratite.cpu.hooks import access_fault, address_space, translate
from ratite.cpu.machine import NO_PAGE, Shared, page_is_clean
from ratite.cpu.space import (
    ENTRY_SHIFT,
    INVALID,
    MAX_ENTRIES,
    NO_SPACE,
    NOT_DIRTY,
    PAGE_MASK,
    SIDE_OFFSET,
    SIDE_TABLE_SIZE,
    SPACES,
    TABLE_SIZE,
    VICTIMS,
    Space,
    TlbEntry,
    TlbSide,
    holds,
    invalidate,
    is_page,
    space_at,
    watch_all,
)
from ratite.isa.journal import FILL, FILLED
from ratite.isa.state import (
    ALL_PAGES,
    ANY_GROUP,
    EXECUTE,
    KICK_INTERRUPT,
    RANGE_READONLY,
    READ,
    WRITE,
    CpuState,
    PhysRange,
    find_range,
)
from ratite.native import (
    atomic_or,
    fence,
    host_load,
    host_store,
    native,
    u8,
    u16,
    u32,
    u64,
    unlikely,
)

OFFSET_MASK = 0xFFF

SLOW = 1
"""I/O, or memory that native code may not touch directly."""
RECHECK = 4
"""Translate again at each access."""
WATCH = 8
"""The page has watchpoints."""
UNCACHED = 8
LARGE_SHIFT = 16
"""In what `translate` allows: above this bit, the size of a large page as a power of two."""


@native
def entry_at(cpu: CpuState, index: u32, gva: u64) -> u64:
    """Host address of the entry that `gva` maps to."""
    return cpu.tlb_base + u64(index) * TABLE_SIZE + ((gva >> ENTRY_SHIFT) & cpu.tlb_mask)


@native
def side_at(cpu: CpuState, index: u32, gva: u64) -> u64:
    """Host address of that entry's other half."""
    distance = ((gva >> ENTRY_SHIFT) & cpu.tlb_mask) // (TlbEntry.SIZE // TlbSide.SIZE)
    return cpu.tlb_base + SIDE_OFFSET + u64(index) * SIDE_TABLE_SIZE + distance


@native
def enter_space(cpu: CpuState, space: Space) -> None:
    """Be in a space from now on. One that was left before other pages came to be watched watches
    them all: whoever protects a page looks through the space that it finds here, or is seen here.
    """
    cpu.space = space.pointer()
    cpu.tlb_base = space.tlb
    cpu.tlb_mask = space.mask
    cpu.jump_cache = space.jumps
    space.stamp = cpu.space_clock
    fence()
    epoch = Shared.at(cpu.machine).epoch
    if space.epoch != epoch:
        space.epoch = epoch
        watch_all(space)


@native
def note_slack(cpu: CpuState, space: Space) -> None:
    """Have host memory given back when the vCPU leaves the guest next, if that is worth it."""
    if unlikely(space.is_spacious()):
        cpu.slack = u32(1)


@native
def change_space(cpu: CpuState) -> None:
    """Go to the space that the vCPU's state names: as it was left, or in place of the one that was
    left longest ago.
    """
    cpu.space_request = u32(0)
    key, group = address_space(cpu)
    if Space.at(cpu.space).key == key:
        return
    oldest = u64(0)
    left_at = ~u64(0)
    found = u64(0)
    number = u32(0)
    while number < SPACES:
        space = space_at(cpu, number)
        if space.key == key:
            found = space.pointer()
        if space.stamp < left_at:
            left_at = space.stamp
            oldest = space.pointer()
        number += 1
    cpu.space_clock += 1
    if found == 0:
        found = oldest
        fresh = Space.at(found)
        fresh.begin(key, group)
        note_slack(cpu, fresh)
        cpu.tlb_flushes += 1
    enter_space(cpu, Space.at(found))


@native
def flush(cpu: CpuState) -> None:
    """Forget every translation of every space, and every block lookup that relied on one."""
    number = u32(0)
    while number < SPACES:
        other = space_at(cpu, number)
        other.key = u64(NO_SPACE)
        other.stamp = u64(0)
        number += 1
    space = Space.at(cpu.space)
    space.forget()
    note_slack(cpu, space)
    key, group = address_space(cpu)
    space.key = key
    space.group = group
    cpu.space_request = u32(0)
    cpu.page_flush_request = u32(0)
    cpu.resize_request = u32(0)
    cpu.tlb_flushes += 1
    enter_space(cpu, space)
    cpu.flush_request = u32(0)  # last: others wait for it


@native
def flush_here(cpu: CpuState) -> None:
    """Forget all of the space that the vCPU is in; its size may change."""
    space = Space.at(cpu.space)
    space.forget()
    note_slack(cpu, space)
    cpu.resize_request = u32(0)
    cpu.tlb_flushes += 1
    cpu.tlb_mask = space.mask


@native
def flush_page(cpu: CpuState) -> None:
    """Forget the translations of the page of `page_flush_gva`, or all, in the spaces of
    `page_flush_group`.
    """
    cpu.page_flush_request = u32(0)
    gva = cpu.page_flush_gva
    number = u32(0)
    while number < SPACES:
        space = space_at(cpu, number)
        chosen = cpu.page_flush_group == ANY_GROUP or space.group == cpu.page_flush_group
        if space.key != NO_SPACE and chosen:
            if gva == ALL_PAGES or not space.forget_page(gva):
                if space.pointer() == cpu.space:
                    flush_here(cpu)
                else:
                    space.key = u64(NO_SPACE)
        number += 1


@native
def keep_up(cpu: CpuState) -> None:
    """Between blocks: do what was asked for about cached translations."""
    if cpu.flush_request != 0:
        flush(cpu)
    else:
        if cpu.page_flush_request != 0:
            flush_page(cpu)
        if cpu.space_request != 0:
            change_space(cpu)
        if cpu.resize_request != 0:
            flush_here(cpu)


@native
def push_out(cpu: CpuState, space: Space, index: u32, entry: TlbEntry, side: TlbSide) -> None:
    """Make room where an entry is, and keep it among the victims."""
    space.evictions += 1
    entries = space.mask // TlbEntry.SIZE + 1
    if space.evictions > 2 * entries and entries < MAX_ENTRIES and cpu.resize_request == 0:
        cpu.resize_request = u32(1)
        atomic_or(cpu.pointer() + CpuState.kick.offset, u32(KICK_INTERRUPT))
    if not is_cached(entry):
        return
    number = space.next_victim & (VICTIMS - 1)
    space.next_victim += 1
    victim = TlbEntry.at(space.victim(index, number))
    victim_side = TlbSide.at(space.victim_side(index, number))
    # Its page may come to be watched meanwhile: by whom it is found here or there.
    victim_side.gpa = side.gpa
    victim_side.ram = side.ram
    victim.addend = entry.addend
    victim.read = entry.read
    victim.execute = entry.execute
    victim.write = entry.write if entry.write & 7 != 0 else entry.write | NOT_DIRTY


@native
def is_cached(entry: TlbEntry) -> bool:
    """Whether an entry is good for more than one access: each of its tags is."""
    read = entry.read == INVALID or entry.read & RECHECK == 0
    write = entry.write == INVALID or entry.write & RECHECK == 0
    execute = entry.execute == INVALID or entry.execute & RECHECK == 0
    return read and write and execute


@native
def answers(tag: u64, page: u64) -> bool:
    """Whether a tag allows its kind of access to a page, be it by the slow path."""
    return tag & PAGE_MASK == page and tag != INVALID


@native
def take_back(cpu: CpuState, gva: u64, access: u32, index: u32) -> bool:
    """Put a victim that answers for an access back to where it belongs, in exchange for what is
    there. False if there is none.
    """
    space = Space.at(cpu.space)
    page = gva & PAGE_MASK
    number = u64(0)
    while number < VICTIMS:
        victim = TlbEntry.at(space.victim(index, number))
        readable = access & READ == 0 or answers(victim.read, page)
        writable = access & WRITE == 0 or answers(victim.write, page)
        executable = access & EXECUTE == 0 or answers(victim.execute, page)
        if readable and writable and executable:
            side = TlbSide.at(space.victim_side(index, number))
            entry = TlbEntry.at(entry_at(cpu, index, gva))
            entry_side = TlbSide.at(side_at(cpu, index, gva))
            read, write, execute = victim.read, victim.write, victim.execute
            addend, gpa, ram = victim.addend, side.gpa, side.ram
            invalidate(victim)
            if holds(entry) and not is_page(entry, page):
                push_out(cpu, space, index, entry, entry_side)
            entry_side.gpa = gpa
            entry_side.ram = ram
            entry.addend = addend
            entry.read = read
            entry.execute = execute
            # A store finds out by itself whether its page is still watched.
            entry.write = write if write & 7 != 0 else write | NOT_DIRTY
            return True
        number += 1
    return False


@native
def fill(cpu: CpuState, gva: u64, size: u64, access: u32, index: u32) -> None:
    """Translate and enter into the TLB, or find what was pushed out of it. A fault is left
    pending.
    """
    if take_back(cpu, gva, access, index):
        return
    if cpu.journal != 0:
        cpu.note(u64(FILL), cpu.pc, gva, u64(access | index << 8))
    gpa, allowed = translate(cpu, gva, size, access, index)
    if cpu.journal != 0:
        cpu.note(u64(FILLED), cpu.pc, gpa, u64(allowed))
    cpu.tlb_fills += 1
    space = Space.at(cpu.space)
    space.fills += 1
    space.filled |= u64(1) << u64(index)
    shift = u64(allowed >> LARGE_SHIFT)
    if shift != 0:
        inside_mask = (u64(1) << shift) - 1
        space.note_large(gva & ~inside_mask, gva | inside_mask)
    page = gva & PAGE_MASK
    gpa_page = gpa & PAGE_MASK
    entry = TlbEntry.at(entry_at(cpu, index, gva))
    side = TlbSide.at(side_at(cpu, index, gva))
    if holds(entry) and not is_page(entry, page):
        push_out(cpu, space, index, entry, side)
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
    read_bits = low_bits | WATCH if watch & READ != 0 else low_bits
    entry.read = page | read_bits if allowed & READ != 0 else u64(INVALID)
    entry.execute = page | low_bits if allowed & EXECUTE != 0 else u64(INVALID)
    # What answers for a store at once must do so for a load: generated code that does both compares
    # with that tag alone.
    if watch != 0:
        low_bits |= WATCH
    if allowed & READ == 0:
        low_bits |= SLOW
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
def note_table_write(cpu: CpuState, ram: u64, size: u64) -> None:
    """After the page walker set A and D bits: log it as any other store. No lock is held."""
    Shared.at(cpu.machine).note_write(u64(0), ram, size)


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
