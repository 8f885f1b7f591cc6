"""What the state of every guest CPU has in common, and what instructions may do to the guest.

A `CpuState` is one host-memory struct that generated code and Python share. Its methods here are
the vocabulary of instruction semantics: in generated code each is an IR op, in CPython it goes
through `bus`, which the reference executor supplies.
"""

from __future__ import annotations

from typing import Any, NoReturn, Protocol, TypeVar

from ratite.isa.journal import HALF_FULL, JOURNAL_SIZE, TRAP, Note
from ratite.native import (
    Array,
    Field,
    Int,
    Struct,
    atomic_or,
    clock_ns,
    i64,
    intrinsic,
    native,
    native_only,
    u8,
    u32,
    u64,
)

T = TypeVar("T", bound=Int)

READ, WRITE, EXECUTE = 1, 2, 4
"""Kinds of access, and bits of a page's permissions."""

KICK_INTERRUPT, KICK_EXIT, KICK_LOG = 1, 1 << 8, 1 << 16
"""Bits of `CpuState.kick`: look at the interrupt lines again; return from `run`; return for the
log to be written. Each has a byte of its own, so that Python sets it with a plain byte store while
the vCPU clears the word atomically."""

ALL_PAGES = 1
"""In place of an address whose translations are forgotten: all."""
ANY_GROUP = 0xFFFF_FFFF_FFFF_FFFF
"""In place of a group of address spaces: whichever."""
STEP, STEP_OVER = 1, 2
"""How a vCPU is stepped."""

MMIO_LOG = 8
WENT = 64
"""Indirect jumps out of regions that a vCPU remembers."""

LIMIT_MASK, LIMIT_STEP = 0x7F, 0x80
"""Parts of `CpuState.block_limit`: the number; and that blocks ignore breakpoints."""


class GuestException(Exception):
    """Unwinds an instruction in CPython when the guest takes an exception. Never leaves the
    executors.
    """

    def __init__(self, cause: int, value: int) -> None:
        super().__init__(f"guest exception {cause}, value {value:#x}")
        self.cause = cause
        self.value = value


class Bus(Protocol):
    """Guest memory as CPython semantics reach it."""

    def load(self, gva: int, size: int) -> int:
        """Translate and load, little-endian; may raise `GuestException`."""

    def store(self, gva: int, value: int, size: int) -> None:
        """Translate and store, little-endian; may raise `GuestException`."""

    def pointer(self, gva: int, size: int, access: int) -> int:
        """Host address of guest RAM for an atomic access; may raise `GuestException`."""

    def physical(self, gpa: int) -> int:
        """Host address of guest RAM at `gpa`, 0 if there is none."""

    def written(self, gpa: int, size: int) -> None:
        """Tell the dirty clients of a write to guest RAM that was made by its host address."""


class PhysMap(Struct):
    """The physical memory map for native code: this header, then `count` ranges. Immutable once
    published.
    """

    count = Field(u64)


class PhysRange(Struct):
    """One range of the physical map. Sorted by start, not overlapping."""

    start = Field(u64, doc="first guest-physical address")
    end = Field(u64, doc="last guest-physical address")
    host = Field(u64, doc="host address of `start`, 0 for I/O")
    ram = Field(u64, doc="ram_addr_t of `start`")
    flags = Field(u64, doc="RANGE_* bits")
    reserved = Field(u64)


RANGE_READONLY = 1


class CpuState(Struct):
    """The part of a vCPU's state that every instruction set has."""

    pc = Field(
        u64, doc="address of the next instruction; exact whenever generated code is not running"
    )
    next_pc = Field(u64, doc="within an instruction in CPython: where control goes after it")
    budget = Field(i64, doc="instructions left before run() returns; exact at every exit")
    instret_base = Field(u64, doc="instructions retired = instret_base - budget")
    kick = Field(u32, doc="KICK_* bits, set by any thread, cleared by the vCPU")
    mode = Field(u32, doc="what besides the pc decides how code is decoded and what it means")
    mmu_index = Field(u32, doc="which softmmu TLB data accesses use")
    fetch_index = Field(u32, doc="which softmmu TLB instruction fetches use")
    exit_reason = Field(u32, doc="why run() returned")
    exception_pending = Field(u32)
    exception_cause = Field(u64)
    exception_value = Field(u64)
    resync = Field(
        u32,
        doc="the running block was retired by its own store: look up afresh after this instruction",
    )
    current_block = Field(u64, doc="block whose instruction is in a slow path")
    block_limit = Field(
        u32,
        doc="LIMIT_MASK: instructions per translation block at most, 0 for the translator's own "
        "limit; LIMIT_STEP",
    )
    stepping = Field(
        u32,
        doc="STEP: interrupts wait, and an exception leaves run() once its handler is entered; "
        "STEP_OVER: and watchpoints do not count",
    )
    watch_hit = Field(u32, doc="1 + the number of the watchpoint that was touched last; 0: none")
    page_flush_request = Field(
        u32,
        doc="drop the translations of `page_flush_gva` before the next instruction; set by "
        "the vCPU itself, which then polls `kick`",
    )
    page_flush_gva = Field(u64, doc="or ALL_PAGES")
    page_flush_group = Field(u64, doc="of which address spaces, or ANY_GROUP")
    space_request = Field(
        u32,
        doc="the address space may be another one from the next block on; then poll `kick`",
    )
    resize_request = Field(u32, doc="the softmmu TLB has become too small; then poll `kick`")
    spaces = Field(u64, doc="host address of the vCPU's Spaces; see `ratite.cpu.space`")
    space = Field(u64, doc="host address of the one that it is in")
    slack = Field(u32, doc="spaces have host memory that they no longer use")
    space_clock = Field(u64, doc="changes of address space, ever")
    halted = Field(u32, doc="waiting for an interrupt")
    flush_request = Field(
        u32, doc="drop cached translations before the next instruction; then poll `kick`"
    )
    tlb_base = Field(u64, doc="of the address space: host address of the softmmu TLBs")
    tlb_mask = Field(u64, doc="likewise: bytes of the entries in use, less one entry")
    jump_cache = Field(u64, doc="likewise: host address of the jump cache")
    machine = Field(u64, doc="host address of what the machine's vCPUs share")
    phys_map = Field(u64, doc="host address of the PhysMap")
    index = Field(u32, doc="number of the vCPU within the machine")
    reservation_valid = Field(u32)
    reservation_address = Field(u64, doc="host address that a load-reserved read")
    reservation_value = Field(u64)
    time_base = Field(i64, doc="host monotonic nanoseconds at guest time zero")
    time_stopped = Field(
        i64, doc="guest nanoseconds while the clock stands still; -1 while it runs"
    )
    icount_shift = Field(
        i64, doc="guest nanoseconds are instructions << shift; -1: the host's clock counts"
    )
    icount_bias = Field(i64, doc="guest nanoseconds added to the instruction clock")
    mmio_address = Field(u64, doc="guest-physical address of the access that left run()")
    mmio_value = Field(u64)
    mmio_size = Field(u32)
    mmio_write = Field(u32)
    mmio_serial = Field(u64, doc="retired-instruction count at which the log below was made")
    mmio_count = Field(u32, doc="accesses of the interrupted instruction that are done")
    mmio_next = Field(u32, doc="of those, how many its re-execution has consumed")
    mmio_log = Array(u64, MMIO_LOG, doc="values that those accesses read")
    mmio_failed = Field(u64, doc="bit n: access n of the log ended in a bus error")
    fetch_buffer = Array(u8, 32, doc="bytes of an instruction that lies across two pages")
    host_thread = Field(u64, doc="the host's number of the thread that runs it; 0 before it does")
    leaving = Field(u64, doc="how a region is being left")
    misfit = Field(u64, doc="block whose region was left at once, not being made for what it found")
    sample = Field(u64, doc="what was executed when a kick was last answered: host address")
    went_from = Array(u64, WENT, doc="pcs of indirect jumps out of compiled regions, by a hash")
    went_to = Array(u64, WENT, doc="where each of them went")
    found = Field(
        u64,
        doc="where control was when a kick was answered first since Python cleared this: host "
        "address of a record",
    )
    found_after = Field(u64, doc="and of what it came from")
    scratch = Array(u8, 32, doc="a record that is decoded only to learn its length")
    journal = Field(u64, doc="host address of the ring of notes; 0: nothing is noted")
    noted = Field(u32, doc="notes made, ever")
    written = Field(u32, doc="of those, how many the log has written")
    announced = Field(
        u64, doc="host address of the block that the log was told of, and that is entered next"
    )
    chained = Field(u32, doc="1: the block that is entered next follows in a chain")
    tlb_flushes = Field(u64)
    tlb_fills = Field(u64)
    lookups = Field(u64, doc="block lookups that missed the jump cache")

    bus: Bus  # CPython only

    def __getattr__(self, name: str) -> Any:
        if name == "bus":
            raise RuntimeError("this CPU state is not attached to a reference executor")
        raise AttributeError(name)

    # -- vocabulary of instruction semantics

    @intrinsic("guest_load")
    def load(self, kind: type[T], gva: u64) -> T:
        """Load from guest memory, little-endian. A fault ends the instruction."""
        return kind(self.bus.load(int(gva), kind.WIDTH // 8))

    @intrinsic("guest_store")
    def store(self, gva: u64, value: Int) -> None:
        """Store to guest memory, little-endian. A fault ends the instruction."""
        self.bus.store(int(gva), int(value) & value.MASK, value.WIDTH // 8)

    @intrinsic("guest_pointer")
    def pointer_to(self, gva: u64, size: int, access: int) -> u64:
        """Host address of naturally aligned guest RAM, for atomics. Anything else ends the
        instruction.
        """
        return u64(self.bus.pointer(int(gva), size, access))

    @intrinsic("guest_raise")
    def raise_exception(self, cause: u64, value: u64) -> NoReturn:
        """End the instruction with a guest exception."""
        raise GuestException(int(cause), int(value))

    @intrinsic("guest_jump")
    def jump(self, displacement: i64) -> None:
        """Go on at the instruction's own address plus its decoded displacement, and end the
        instruction.
        """
        self.next_pc = self.pc + displacement

    @intrinsic("guest_jump_to")
    def jump_to(self, gva: u64) -> None:
        """Go on at an address, and end the instruction."""
        self.next_pc = gva

    @intrinsic("guest_leave")
    def leave(self, reason: u32) -> None:
        """Retire the instruction, then return from run()."""
        self.exit_reason = u32(reason)

    @intrinsic("guest_end_block")
    def end_block(self) -> None:
        """Retire the instruction and look up its successor afresh: modes or mappings may have
        changed.
        """

    @intrinsic("guest_sync")
    def sync(self) -> None:
        """Make `pc` and `budget` exact for functions called next; instructions that read counters
        need it.
        """

    # -- shared by the native functions of every instruction set

    @native
    def retired(self) -> u64:
        """Instructions retired so far; exact after `sync`."""
        return self.instret_base - u64(self.budget)

    @native
    def note_trap(self, cause: u64, value: u64) -> None:
        """Note a trap taken at `pc`, if anybody wants to know."""
        if self.journal != 0:
            self.note(u64(TRAP), self.pc, cause, value)

    @native
    def note(self, kind: u64, pc: u64, first: u64, second: u64) -> None:
        """Make a note in the journal, which there is. Runs: while a log wants it."""
        place = u64(self.noted & (JOURNAL_SIZE - 1))
        note = Note.at(self.journal + place * Note.SIZE)
        note.kind = kind
        note.pc = pc
        note.first = first
        note.second = second
        self.noted += 1
        if self.noted - self.written >= HALF_FULL:
            atomic_or(self.pointer() + CpuState.kick.offset, u32(KICK_LOG))

    @native
    def guest_ns(self) -> u64:
        """Guest time in nanoseconds, from the host's clock or from the instruction count."""
        if self.icount_shift >= 0:
            return (self.retired() << u64(self.icount_shift)) + u64(self.icount_bias)
        if self.time_stopped >= 0:
            return u64(self.time_stopped)
        return clock_ns() - u64(self.time_base)

    @native
    def physical(self, gpa: u64) -> u64:
        """Host address of the RAM at `gpa`, 0 if there is none."""
        if native_only():
            found = find_range(self, gpa)
            if found == 0:
                return u64(0)
            place = PhysRange.at(found)
            if place.host == 0:
                return u64(0)
            return place.host + (gpa - place.start)
        return self.host_address(gpa)

    @intrinsic("guest_host_address")
    def host_address(self, gpa: u64) -> u64:
        """`physical` in CPython."""
        return u64(self.bus.physical(int(gpa)))

    @native
    def wrote(self, gpa: u64, size: u64) -> None:
        """The RAM at `gpa` was written by its host address, within one page."""
        if native_only():
            place = PhysRange.at(find_range(self, gpa))
            note_write(self, place.ram + (gpa - place.start), size)
        else:
            self.tell_written(gpa, size)

    @intrinsic("guest_written")
    def tell_written(self, gpa: u64, size: u64) -> None:
        """`wrote` in CPython."""
        self.bus.written(int(gpa), int(size))


@native
def note_write(cpu: CpuState, ram: u64, size: u64) -> None:
    """Replaced by `ratite.cpu.tlb.note_table_write`: dirty maps are not the instruction set's."""


@native
def find_range(cpu: CpuState, gpa: u64) -> u64:
    """Host address of the `PhysRange` that holds `gpa`, or 0."""
    first = cpu.phys_map + PhysMap.SIZE
    low = u64(0)
    high = PhysMap.at(cpu.phys_map).count
    while low < high:
        middle = (low + high) >> 1
        here = first + middle * PhysRange.SIZE
        place = PhysRange.at(here)
        if gpa < place.start:
            high = middle
        elif gpa > place.end:
            low = middle + 1
        else:
            return here
    return u64(0)


__all__ = [
    "ALL_PAGES",
    "ANY_GROUP",
    "EXECUTE",
    "KICK_EXIT",
    "KICK_INTERRUPT",
    "KICK_LOG",
    "MMIO_LOG",
    "RANGE_READONLY",
    "READ",
    "WRITE",
    "Bus",
    "CpuState",
    "GuestException",
    "PhysMap",
    "PhysRange",
    "find_range",
    "note_write",
]
