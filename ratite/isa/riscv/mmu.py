"""Virtual memory: Sv39, Sv48, Sv57, Svnapot, Svpbmt, Svade and Svadu (Privileged ISA 20240411,
chapters 12 to 15).

The walker is one function for every executor: generated code fills the softmmu TLB with it, the
reference executor and `gva2gpa` call it in CPython.
"""

from __future__ import annotations

from ratite.isa.riscv.pmp import pmp_allows, pmp_uniform
from ratite.isa.riscv.state import (
    ADUE,
    FETCH_ACCESS,
    FETCH_PAGE,
    LOAD_ACCESS,
    LOAD_PAGE,
    MACHINE,
    MMU_SUPERVISOR_SUM,
    MXR,
    PBMTE,
    STORE_ACCESS,
    STORE_PAGE,
    SUPERVISOR,
    USER,
    Hart,
)
from ratite.isa.state import EXECUTE, RANGE_READONLY, READ, WRITE, PhysRange, find_range
from ratite.native import atomic_cas, atomic_load, i64, native, u32, u64

PTE_V, PTE_R, PTE_W, PTE_X, PTE_U, PTE_G, PTE_A, PTE_D = (1 << bit for bit in range(8))
PTE_N = 1 << 63
PTE_PBMT = 3 << 61
PTE_RESERVED = 0x7F << 54
PPN_MASK = (1 << 44) - 1
ASID_SHIFT, ASID_MASK = 44, 0xFFFF
BARE, SV39, SV48, SV57 = 0, 8, 9, 10

UNCACHED = 8
"""With a translation's permissions: good for this access only."""
RETRY = 16
"""Instead of permissions: the entry changed while its A and D bits were being set."""
AS_STORE = 32
"""With a kind of access: its faults are those of a store."""
LARGE_SHIFT = 16
"""Above this bit of the permissions: the size of a large page as a power of two, 0 for 4 KiB."""
STORES = WRITE | AS_STORE


@native
def page_fault(hart: Hart, gva: u64, access: u32) -> None:
    """Raise the page fault of an access."""
    cause = u64(LOAD_PAGE)
    if access & STORES != 0:
        cause = u64(STORE_PAGE)
    elif access == EXECUTE:
        cause = u64(FETCH_PAGE)
    hart.raise_exception(cause, gva)


@native
def address_space(hart: Hart) -> tuple[u64, u64]:
    """satp names the space, by its ASID the group."""
    return hart.satp, (hart.satp >> ASID_SHIFT) & ASID_MASK


@native
def access_fault(hart: Hart, gva: u64, access: u32) -> None:
    """Raise the access fault of an access."""
    cause = u64(LOAD_ACCESS)
    if access & STORES != 0:
        cause = u64(STORE_ACCESS)
    elif access == EXECUTE:
        cause = u64(FETCH_ACCESS)
    hart.raise_exception(cause, gva)


@native
def translate(hart: Hart, gva: u64, size: u64, access: u32, index: u32) -> tuple[u64, u32]:
    """Guest-physical address of `gva` for an access to `size` bytes within one page through softmmu
    TLB `index`, and the permissions that later accesses to the page have. Write permission is
    withheld from a page that is not dirty yet. Raises page faults, and access faults of the walk
    and of PMP."""
    privilege = index
    if index == MMU_SUPERVISOR_SUM:
        privilege = u32(SUPERVISOR)
    gpa = gva
    allowed = u32(READ | WRITE | EXECUTE)
    if privilege != MACHINE and hart.satp >> 60 != BARE:
        allowed = u32(RETRY)
        while allowed & RETRY != 0:
            gpa, allowed = _walk(hart, gva, access, privilege, index == MMU_SUPERVISOR_SUM)
    if not pmp_allows(hart, gpa, size, access, privilege):
        access_fault(hart, gva, access)
    if not pmp_uniform(hart, gpa & ~0xFFF):
        allowed |= UNCACHED
    elif hart.pmp_count != 0 or privilege != MACHINE:
        if not pmp_allows(hart, gpa, u64(1), u32(READ), privilege):
            allowed &= ~READ
        if not pmp_allows(hart, gpa, u64(1), u32(WRITE), privilege):
            allowed &= ~WRITE
        if not pmp_allows(hart, gpa, u64(1), u32(EXECUTE), privilege):
            allowed &= ~EXECUTE
    return gpa, allowed


@native
def _walk(hart: Hart, gva: u64, access: u32, privilege: u32, user_pages: bool) -> tuple[u64, u32]:
    mode = hart.satp >> 60
    levels = u64(mode - SV39 + 3)
    top = levels * 9 + 12
    extended = i64(gva << (64 - top)) >> (64 - top)
    if u64(extended) != gva:
        page_fault(hart, gva, access)
    table = (hart.satp & PPN_MASK) << 12
    level = levels
    while level != 0:
        level -= 1
        shift = level * 9 + 12
        entry_address = table + ((gva >> shift) & 0x1FF) * 8
        host = hart.physical(entry_address)
        if host == 0 or not pmp_allows(hart, entry_address, u64(8), u32(READ), u32(SUPERVISOR)):
            access_fault(hart, gva, access)
        pte = atomic_load(u64, host)
        if pte & PTE_V == 0 or pte & (PTE_R | PTE_W) == PTE_W or pte & PTE_RESERVED != 0:
            page_fault(hart, gva, access)
        if pte & (PTE_N | PTE_PBMT) != 0:
            if not _extra_bits_valid(hart, pte, level):
                page_fault(hart, gva, access)
        if pte & (PTE_R | PTE_X) == 0:
            if pte & (PTE_A | PTE_D | PTE_U | PTE_N | PTE_PBMT) != 0:
                page_fault(hart, gva, access)
            table = ((pte >> 10) & PPN_MASK) << 12
            continue
        return _leaf(hart, gva, access, privilege, user_pages, pte, host, entry_address, shift)
    page_fault(hart, gva, access)
    return u64(0), u32(0)


@native
def _extra_bits_valid(hart: Hart, pte: u64, level: u64) -> bool:
    """Svnapot and Svpbmt: what bits 61 to 63 may be."""
    if pte & PTE_N != 0:
        if not hart.has("svnapot") or level != 0 or (pte >> 10) & 0xF != 8:
            return False
    if pte & PTE_PBMT != 0:
        if hart.menvcfg & PBMTE == 0 or pte & PTE_PBMT == PTE_PBMT:
            return False
    return True


@native
def _leaf(
    hart: Hart,
    gva: u64,
    access: u32,
    privilege: u32,
    user_pages: bool,
    pte: u64,
    host: u64,
    entry_address: u64,
    shift: u64,
) -> tuple[u64, u32]:
    allowed = u32(0)
    if pte & PTE_R != 0 or (pte & PTE_X != 0 and hart.mstatus & MXR != 0):
        allowed |= READ
    if pte & PTE_W != 0:
        allowed |= WRITE
    if pte & PTE_X != 0:
        allowed |= EXECUTE
    if pte & PTE_U != 0:
        if privilege == SUPERVISOR:
            allowed &= ~EXECUTE
            if not user_pages:
                allowed = u32(0)
    elif privilege == USER:
        allowed = u32(0)
    if access & ~AS_STORE & ~allowed != 0:
        page_fault(hart, gva, access)
    ppn = (pte >> 10) & PPN_MASK
    inside = (u64(1) << shift) - 1
    if (ppn << 12) & inside & ~0xFFF != 0:
        page_fault(hart, gva, access)  # misaligned superpage
    if pte & PTE_N != 0:
        ppn = (ppn & ~0xF) | ((gva >> 12) & 0xF)
    wanted = pte | PTE_A
    if access & WRITE != 0:
        wanted |= PTE_D
    if wanted != pte:
        if hart.menvcfg & ADUE == 0:
            page_fault(hart, gva, access)
        place = PhysRange.at(find_range(hart, entry_address))
        writable = place.flags & RANGE_READONLY == 0
        if not writable or not pmp_allows(hart, entry_address, u64(8), u32(WRITE), u32(SUPERVISOR)):
            access_fault(hart, gva, access)
        if atomic_cas(host, pte, wanted) != pte:
            allowed = u32(RETRY)  # another hart changed the entry
        else:
            hart.wrote(entry_address, u64(8))
    if wanted & PTE_D == 0:
        allowed &= ~WRITE
    size_shift = shift
    if pte & PTE_N != 0:
        size_shift = u64(16)
    if size_shift != 12:
        allowed |= u32(size_shift) << LARGE_SHIFT
    return (ppn << 12) & ~inside | gva & inside, allowed


__all__ = [
    "AS_STORE",
    "PTE_G",
    "UNCACHED",
    "access_fault",
    "page_fault",
    "translate",
]
