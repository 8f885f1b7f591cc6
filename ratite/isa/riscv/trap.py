"""Taking and leaving traps (Privileged ISA 20240411, sections 3.1.6 to 3.1.9, 3.3.2, 12.1)."""

from __future__ import annotations

from ratite.isa.riscv.fpu import fs_state
from ratite.isa.riscv.state import (
    INTERRUPT,
    MACHINE,
    MEI,
    MIE,
    MPIE,
    MPP,
    MPP_SHIFT,
    MPRV,
    MSI,
    MTI,
    NS_PER_TICK,
    SEI,
    SIE,
    SPIE,
    SPP,
    SSI,
    STCE,
    STI,
    SUPERVISOR,
    USER,
    Hart,
)
from ratite.isa.state import KICK_EXIT, KICK_INTERRUPT
from ratite.native import atomic_or, native, u32, u64

NO_INTERRUPT = 64


@native
def time_ticks(hart: Hart) -> u64:
    """The `time` counter."""
    return hart.guest_ns() // NS_PER_TICK + hart.time_offset


@native
def mip(hart: Hart) -> u64:
    """Pending interrupts: what software wrote, what devices drive, and the stimecmp comparator."""
    pending = hart.mip_soft | hart.irq_lines
    if hart.ssip_sent != 0:
        pending |= 1 << SSI
    if hart.menvcfg & STCE != 0:
        pending &= ~(1 << STI)
        if time_ticks(hart) >= hart.stimecmp:
            pending |= 1 << STI
    return pending


@native
def pending_interrupt(hart: Hart) -> u32:
    """Number of the interrupt to take now, or NO_INTERRUPT. Machine-level ones first, then by the
    fixed priority.
    """
    ready = mip(hart) & hart.mie
    if ready == 0:
        return u32(NO_INTERRUPT)
    machine = ready & ~hart.mideleg
    if machine != 0 and (hart.privilege < MACHINE or hart.mstatus & MIE != 0):
        return _highest(machine)
    supervisor = ready & hart.mideleg
    if supervisor != 0 and (
        hart.privilege < SUPERVISOR or (hart.privilege == SUPERVISOR and hart.mstatus & SIE != 0)
    ):
        return _highest(supervisor)
    return u32(NO_INTERRUPT)


@native
def _highest(ready: u64) -> u32:
    for number in (MEI, MSI, MTI, SEI, SSI, STI):
        if ready & (1 << number) != 0:
            return u32(number)
    return u32(NO_INTERRUPT)


@native
def take_trap(hart: Hart, cause: u64, value: u64) -> None:
    """Enter the handler of an exception, or of an interrupt (bit 63 of `cause`), for the
    instruction at `hart.pc`.
    """
    hart.note_trap(cause, value)
    hart.exception_pending = u32(0)
    hart.reservation_valid = u32(0)
    number = cause & 63
    delegated = hart.medeleg
    if cause & INTERRUPT != 0:
        delegated = hart.mideleg
    status = fs_state(hart)
    hart.fs_dirty = u32(0)
    previous = u64(hart.privilege)
    if hart.privilege <= SUPERVISOR and (delegated >> number) & 1 != 0:
        hart.sepc = hart.pc
        hart.scause = cause
        hart.stval = value
        interrupts = status & SIE
        status &= ~(SIE | SPIE | SPP)
        hart.mstatus = status | (interrupts << 4) | (previous << 8)
        hart.privilege = u32(SUPERVISOR)
        hart.pc = _vector(hart.stvec, cause)
    else:
        hart.mepc = hart.pc
        hart.mcause = cause
        hart.mtval = value
        interrupts = status & MIE
        status &= ~(MIE | MPIE | MPP)
        hart.mstatus = status | (interrupts << 4) | (previous << MPP_SHIFT)
        hart.privilege = u32(MACHINE)
        hart.pc = _vector(hart.mtvec, cause)
    hart.set_mode()


@native
def _vector(base: u64, cause: u64) -> u64:
    if base & 1 != 0 and cause & INTERRUPT != 0:
        return (base & ~3) + ((cause & 63) << 2)
    return base & ~3


@native
def take_exception(hart: Hart) -> None:
    """Enter the handler of the exception left pending."""
    take_trap(hart, hart.exception_cause, hart.exception_value)


@native
def take_interrupt(hart: Hart) -> bool:
    """Enter the handler of a pending interrupt, if one may be taken at `hart.pc`."""
    number = pending_interrupt(hart)
    if number == NO_INTERRUPT:
        return False
    hart.halted = u32(0)
    take_trap(hart, u64(number) | INTERRUPT, u64(0))
    return True


@native
def poll_interrupts(hart: Hart) -> None:
    """Have the executor look at the interrupt lines before the next block. Runs after whatever may
    enable one.
    """
    atomic_or(hart.pointer() + Hart.kick.offset, u32(KICK_INTERRUPT))


@native
def request_exit(hart: Hart) -> None:
    """Have run() return before the next block."""
    atomic_or(hart.pointer() + Hart.kick.offset, u32(KICK_EXIT))


@native
def leave_machine_trap(hart: Hart) -> u64:
    """What mret does; returns where it goes."""
    status = fs_state(hart)
    hart.fs_dirty = u32(0)
    previous = u32(status >> MPP_SHIFT) & 3
    enabled = (status >> 4) & MIE
    status = status & ~(MIE | MPP) | enabled | MPIE
    if previous != MACHINE:
        status &= ~MPRV
    hart.mstatus = status | (USER << MPP_SHIFT)
    hart.privilege = previous
    hart.set_mode()
    poll_interrupts(hart)
    return hart.mepc


@native
def leave_supervisor_trap(hart: Hart) -> u64:
    """What sret does; returns where it goes."""
    status = fs_state(hart)
    hart.fs_dirty = u32(0)
    previous = u32(status >> 8) & 1
    enabled = (status >> 4) & SIE
    status = status & ~(SIE | SPP | MPRV) | enabled | SPIE
    hart.mstatus = status
    hart.privilege = previous
    hart.set_mode()
    poll_interrupts(hart)
    return hart.sepc


EXCEPTION_NAMES = {
    0: "misaligned_fetch",
    1: "fault_fetch",
    2: "illegal_instruction",
    3: "breakpoint",
    4: "misaligned_load",
    5: "fault_load",
    6: "misaligned_store",
    7: "fault_store",
    8: "user_ecall",
    9: "supervisor_ecall",
    11: "machine_ecall",
    12: "exec_page_fault",
    13: "load_page_fault",
    15: "store_page_fault",
}
INTERRUPT_NAMES = {
    SSI: "s_software",
    MSI: "m_software",
    STI: "s_timer",
    MTI: "m_timer",
    SEI: "s_external",
    MEI: "m_external",
}


def trap_name(cause: int) -> str:
    """What logs call a trap."""
    names = INTERRUPT_NAMES if cause & INTERRUPT else EXCEPTION_NAMES
    return names.get(cause & 63, "unknown")
