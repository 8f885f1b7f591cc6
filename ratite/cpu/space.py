"""Address spaces: what a vCPU remembers of the guest's translations, one `Space` for each of the
last few that it was in, so that going back to one finds its TLB as it was.

A space holds a softmmu TLB per MMU index, a few entries that were pushed out of each (victims), and
the jump cache, which relies on the same translations. TLBs have room for `MAX_ENTRIES`, of which a
power of two is in use: it doubles when entries push each other out, and halves when few are filled
between flushes. Runs: per flush, per change of address space.
"""

from __future__ import annotations

from ratite.isa.state import CpuState
from ratite.native import (
    Array,
    Field,
    Struct,
    atomic_cas,
    host_fill,
    native,
    u8,
    u32,
    u64,
)

SPACES = 8
"""Address spaces that a vCPU remembers."""
NO_SPACE = 0xFFFF_FFFF_FFFF_FFFF
"""Key of a space of which nothing is valid."""
TLB_INDEXES = 4
MIN_ENTRIES, FIRST_ENTRIES, MAX_ENTRIES = 1 << 8, 1 << 10, 1 << 16
SPACIOUS = 1 << 18
"""Bytes of a table that are worth giving back to the host."""
VICTIMS = 8
JUMP_BITS = 13
JUMP_ENTRIES = 1 << JUMP_BITS
JUMP_BYTES = JUMP_ENTRIES * 16
CODE_PAGE_WORDS = 8

NOT_DIRTY = 2
"""TLB tag bit: a store must be noted first."""
INVALID = 0xFFFF_FFFF_FFFF_FFFF
PAGE_MASK = 0xFFFF_FFFF_FFFF_F000


class TlbEntry(Struct):
    """The half of a softmmu TLB entry that generated code reads."""

    read = Field(u64)
    write = Field(u64)
    execute = Field(u64)
    addend = Field(u64, doc="host address minus guest-virtual address")


class TlbSide(Struct):
    """The half that only the slow path reads."""

    gpa = Field(u64, doc="guest-physical page")
    ram = Field(u64, doc="its ram_addr_t, or NO_PAGE")


ENTRY_SHIFT = 12 - (TlbEntry.SIZE.bit_length() - 1)
"""From a guest-virtual address to its entry's distance in the table, before the mask."""
TABLE_SIZE = MAX_ENTRIES * TlbEntry.SIZE
SIDE_OFFSET = TABLE_SIZE * TLB_INDEXES
SIDE_TABLE_SIZE = MAX_ENTRIES * TlbSide.SIZE
VICTIM_OFFSET = SIDE_OFFSET + SIDE_TABLE_SIZE * TLB_INDEXES
VICTIM_SIDE_OFFSET = VICTIM_OFFSET + TLB_INDEXES * VICTIMS * TlbEntry.SIZE
TLB_BYTES = VICTIM_SIDE_OFFSET + TLB_INDEXES * VICTIMS * TlbSide.SIZE
SPACE_BYTES = TLB_BYTES + JUMP_BYTES
"""Host memory of a space, of which only what is in use is ever touched."""


class Space(Struct):
    """A vCPU's view of one address space."""

    key = Field(u64, doc="the instruction set's name of it, or NO_SPACE")
    group = Field(u64, doc="by which sfence.vma and its like name it, too")
    tlb = Field(u64, doc="host address of the tables")
    mask = Field(u64, doc="bytes of the entries in use, less one entry")
    touched = Field(u64, doc="bytes of a table that may have host memory of their own")
    jumps = Field(u64, doc="host address of the jump cache")
    stamp = Field(u64, doc="when it was last entered")
    epoch = Field(u64, doc="the machine's when its write tags were last brought up to date")
    filled = Field(u64, doc="bit n: table n may hold something")
    fills = Field(u64, doc="since the last flush")
    evictions = Field(u64, doc="entries pushed out since the last flush")
    next_victim = Field(u64)
    large_low = Field(u64, doc="lowest address that a cached translation of a large page covers")
    large_high = Field(u64, doc="highest such address")
    code_pages = Array(
        u64,
        CODE_PAGE_WORDS,
        doc="pages that the jump cache relies on: a bit per hash of the address",
    )

    @native
    def entry(self, index: u32, gva: u64) -> u64:
        """Host address of the TLB entry that an address maps to."""
        return self.tlb + u64(index) * TABLE_SIZE + ((gva >> ENTRY_SHIFT) & self.mask)

    @native
    def victim(self, index: u32, number: u64) -> u64:
        """Host address of an entry that was pushed out."""
        return self.tlb + VICTIM_OFFSET + (u64(index) * VICTIMS + number) * TlbEntry.SIZE

    @native
    def victim_side(self, index: u32, number: u64) -> u64:
        """Host address of its other half."""
        return self.tlb + VICTIM_SIDE_OFFSET + (u64(index) * VICTIMS + number) * TlbSide.SIZE

    @native
    def forget_jumps(self) -> None:
        """Forget every block lookup."""
        host_fill(self.jumps, u8(0xFF), u64(JUMP_BYTES))
        index = u32(0)
        while index < CODE_PAGE_WORDS:
            self.code_pages[index] = u64(0)
            index += 1

    @native
    def forget(self) -> None:
        """Forget every translation, and every block lookup that relied on one; change the size of
        the tables if that seems right.
        """
        index = u32(0)
        while index < TLB_INDEXES:
            if (self.filled >> u64(index)) & 1 != 0:
                size = self.mask + TlbEntry.SIZE
                host_fill(self.tlb + u64(index) * TABLE_SIZE, u8(0xFF), size)
                host_fill(self.victim(index, u64(0)), u8(0xFF), u64(VICTIMS * TlbEntry.SIZE))
            index += 1
        self.filled = u64(0)
        self.forget_jumps()
        self.large_low = ~u64(0)
        self.large_high = u64(0)
        self.resize()
        self.fills = u64(0)
        self.evictions = u64(0)

    @native
    def begin(self, key: u64, group: u64) -> None:
        """Be another address space from now on, of a size that suits most."""
        self.evictions = u64(0)  # the other's: no reason to grow
        self.forget()
        if self.mask > (FIRST_ENTRIES - 1) * TlbEntry.SIZE:
            self.set_size(u64(FIRST_ENTRIES))
        self.key = key
        self.group = group

    @native
    def is_spacious(self) -> bool:
        """Whether much more host memory was touched than is in use."""
        return self.touched >= SPACIOUS and self.touched > 2 * (self.mask + TlbEntry.SIZE)

    @native
    def resize(self) -> None:
        """Choose how many entries are in use, from what happened since the last flush. Nothing is
        filled.
        """
        entries = self.mask // TlbEntry.SIZE + 1
        if self.mask == 0:  # never used
            self.set_size(u64(FIRST_ENTRIES))
        elif self.evictions > 2 * entries:
            if entries < MAX_ENTRIES:
                self.set_size(2 * entries)
        elif self.fills * 4 < entries and entries > MIN_ENTRIES:
            self.set_size(entries // 2)

    @native
    def set_size(self, entries: u64) -> None:
        """Use so many entries of each table. Nothing is filled, and what was not used before has
        never been or was emptied.
        """
        self.mask = (entries - 1) * TlbEntry.SIZE
        if self.touched < entries * TlbEntry.SIZE:
            self.touched = entries * TlbEntry.SIZE
        index = u32(0)
        while index < TLB_INDEXES:
            host_fill(self.tlb + u64(index) * TABLE_SIZE, u8(0xFF), entries * TlbEntry.SIZE)
            host_fill(self.victim(index, u64(0)), u8(0xFF), u64(VICTIMS * TlbEntry.SIZE))
            index += 1

    @native
    def forget_page(self, gva: u64) -> bool:
        """Forget the translations of a page. An entry holds 4 KiB whatever the size of the guest's
        page, so that False, and nothing done, is the answer for an address where a large page was
        cached: all must be forgotten.
        """
        if gva >= self.large_low and gva <= self.large_high:
            return False
        if self.may_hold_code(gva):
            self.forget_jumps()
        page = gva & PAGE_MASK
        index = u32(0)
        while index < TLB_INDEXES:
            invalidate(TlbEntry.at(self.entry(index, gva)))
            number = u64(0)
            while number < VICTIMS:
                victim = TlbEntry.at(self.victim(index, number))
                if is_page(victim, page):
                    invalidate(victim)
                number += 1
            index += 1
        return True

    @native
    def note_large(self, low: u64, high: u64) -> None:
        """Remember that a large page is cached."""
        if low < self.large_low:
            self.large_low = low
        if high > self.large_high:
            self.large_high = high

    @native
    def note_code(self, gva: u64) -> None:
        """Remember that the jump cache relies on the translation of this page; for large pages the
        range of their addresses does that.
        """
        if gva >= self.large_low and gva <= self.large_high:
            return
        page = gva >> 12
        word = u32(page >> 6) & (CODE_PAGE_WORDS - 1)
        self.code_pages[word] |= u64(1) << (page & 63)

    @native
    def may_hold_code(self, gva: u64) -> bool:
        """Whether the jump cache may rely on this page: pages share bits, so it says yes too
        often.
        """
        page = gva >> 12
        word = u32(page >> 6) & (CODE_PAGE_WORDS - 1)
        return (self.code_pages[word] >> (page & 63)) & 1 != 0


@native
def invalidate(entry: TlbEntry) -> None:
    """Let an entry answer for nothing."""
    entry.read = u64(INVALID)
    entry.write = u64(INVALID)
    entry.execute = u64(INVALID)


@native
def is_page(entry: TlbEntry, page: u64) -> bool:
    """Whether an entry holds something of a page."""
    return (
        entry.read & PAGE_MASK == page
        or entry.write & PAGE_MASK == page
        or entry.execute & PAGE_MASK == page
    )


@native
def holds(entry: TlbEntry) -> bool:
    """Whether an entry holds anything."""
    return entry.read & entry.write & entry.execute != INVALID


@native
def mark_watched(entry: u64) -> None:
    """Have stores through an entry noted first. Its vCPU may be running."""
    tag = TlbEntry.at(entry).write
    if tag & 7 == 0:
        atomic_cas(entry + TlbEntry.write.offset, tag, tag | NOT_DIRTY)


@native
def watch_ram(space: Space, ram: u64) -> None:
    """Mark a page's write entries. The vCPU may be running."""
    index = u32(0)
    while index < TLB_INDEXES:
        if (space.filled >> u64(index)) & 1 != 0:
            entry = space.tlb + u64(index) * TABLE_SIZE
            side = space.tlb + SIDE_OFFSET + u64(index) * SIDE_TABLE_SIZE
            left = space.mask // TlbEntry.SIZE + 1
            while left != 0:
                if TlbSide.at(side).ram == ram:
                    mark_watched(entry)
                entry += TlbEntry.SIZE
                side += TlbSide.SIZE
                left -= 1
            number = u64(0)
            while number < VICTIMS:
                if TlbSide.at(space.victim_side(index, number)).ram == ram:
                    mark_watched(space.victim(index, number))
                number += 1
        index += 1


@native
def watch_all(space: Space) -> None:
    """Mark all write entries: the store that finds its page clean takes the mark away again."""
    index = u32(0)
    while index < TLB_INDEXES:
        if (space.filled >> u64(index)) & 1 != 0:
            entry = space.tlb + u64(index) * TABLE_SIZE
            left = space.mask // TlbEntry.SIZE + 1
            while left != 0:
                mark_watched(entry)
                entry += TlbEntry.SIZE
                left -= 1
            number = u64(0)
            while number < VICTIMS:
                mark_watched(space.victim(index, number))
                number += 1
        index += 1


@native
def space_at(cpu: CpuState, number: u32) -> Space:
    """One of a vCPU's spaces."""
    return Space.at(cpu.spaces + u64(number) * Space.SIZE)
