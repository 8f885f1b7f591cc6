"""Physical memory protection (Privileged ISA 20240411, section 3.7)."""

from __future__ import annotations

from ratite.isa.riscv.state import MACHINE, PMP_ENTRIES, Hart
from ratite.isa.state import EXECUTE, READ, WRITE
from ratite.native import native, u8, u32, u64

LOCK, MODE_SHIFT, OFF, TOR, NA4, NAPOT = 0x80, 3, 0, 1, 2, 3
ADDRESS_MASK = (1 << 54) - 1


@native
def pmp_update(hart: Hart) -> None:
    """Derive each entry's range from pmpcfg and pmpaddr. Runs: per CSR write."""
    index = u32(0)
    previous = u64(0)
    hart.pmp_count = u32(0)
    while index < PMP_ENTRIES:
        config = hart.pmpcfg[index]
        address = hart.pmpaddr[index]
        mode = (config >> MODE_SHIFT) & 3
        low = u64(1)
        high = u64(0)
        if mode == TOR:
            low = previous << 2
            high = (address << 2) - 1
            if address <= previous:  # an empty range, also for address 0
                low = u64(1)
                high = u64(0)
        elif mode == NA4:
            low = address << 2
            high = low + 3
        elif mode == NAPOT:
            ones = address ^ (address + 1)  # the trailing ones and the zero above them
            low = (address & ~ones) << 2
            high = low + (ones << 2) + 3
        hart.pmp_low[index] = low
        hart.pmp_high[index] = high
        if mode != OFF:
            hart.pmp_count = index + 1
        previous = address
        index += 1


@native
def pmp_allows(hart: Hart, gpa: u64, size: u64, access: u32, privilege: u32) -> bool:
    """Whether `privilege` may make the access to `size` bytes at `gpa`. An entry decides if it
    holds any byte of the access, and refuses unless it holds all. Without a matching entry only
    machine mode may, and everybody on a hart without PMP."""
    last = gpa + size - 1
    index = u32(0)
    while index < hart.pmp_count:
        low = hart.pmp_low[index]
        high = hart.pmp_high[index]
        if low <= high and gpa <= high and last >= low:
            if gpa < low or last > high:
                return False
            config = hart.pmpcfg[index]
            if privilege == MACHINE and config & LOCK == 0:
                return True
            return access & (READ | WRITE | EXECUTE) & ~u32(config) == 0
        index += 1
    return privilege == MACHINE or not hart.has("pmp")


@native
def pmp_uniform(hart: Hart, page: u64) -> bool:
    """Whether the same entry decides about every byte of the 4 KiB page at `page`, so that it may
    be cached.
    """
    last = page + 0xFFF
    index = u32(0)
    while index < hart.pmp_count:
        low = hart.pmp_low[index]
        high = hart.pmp_high[index]
        if low <= high and page <= high and last >= low:
            return page >= low and last <= high
        index += 1
    return True


@native
def pmp_locked(hart: Hart, index: u32) -> bool:
    """Whether entry `index` may not be written."""
    return hart.pmpcfg[index] & LOCK != 0


@native
def pmp_address_locked(hart: Hart, index: u32) -> bool:
    """Whether pmpaddr `index` may not be written: its own lock, or that of a top-of-range entry
    above it.
    """
    if pmp_locked(hart, index):
        return True
    if index + 1 < PMP_ENTRIES:
        above = hart.pmpcfg[index + 1]
        return above & LOCK != 0 and (above >> MODE_SHIFT) & 3 == TOR
    return False


@native
def pmp_write_config(hart: Hart, index: u32, value: u8) -> None:
    """Write one configuration byte: locked entries keep theirs; write without read is reserved and
    becomes neither.
    """
    if not pmp_locked(hart, index):
        config = value & 0x9F
        if config & 3 == 2:
            config &= 0xFD
        hart.pmpcfg[index] = config
