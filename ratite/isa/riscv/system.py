"""Zicsr, privileged instructions, cache-block operations, waiting (Unprivileged ISA 20240411,
chapters 6, 9, 10, 19; Privileged ISA 20240411, sections 3.3 and 12.2)."""

from __future__ import annotations

from ratite.isa.riscv.csr import CLEAR, READ_ONLY, REPLACE, SET, csr_access
from ratite.isa.riscv.mmu import AS_STORE, ASID_MASK
from ratite.isa.riscv.state import (
    BREAKPOINT,
    CBCFE,
    CBIE,
    CBZE,
    ECALL_USER,
    ILLEGAL,
    MACHINE,
    RISCV,
    SUPERVISOR,
    TSR,
    TVM,
    TW,
    USER,
    Base,
    Csr,
    Displacement,
    Gpr,
    Hart,
    Uimm,
)
from ratite.isa.riscv.trap import leave_machine_trap, leave_supervisor_trap, mip, poll_interrupts
from ratite.isa.spec import Row
from ratite.isa.state import ALL_PAGES, ANY_GROUP, READ, WRITE
from ratite.native import Const, inlined, native, u32, u64

insn, family = RISCV.insn, RISCV.family

EXIT_SBI = 16
"""Exit reason: an environment call for the built-in SBI."""
EXIT_WFI = 17
"""Exit reason: the hart waits for an interrupt."""
BLOCK = 64
"""Bytes of a cache block."""


@inlined
def illegal(hart: Hart) -> None:
    """End with an illegal-instruction exception. The trap value is zero, which the specification
    allows.
    """
    hart.raise_exception(u64(ILLEGAL), u64(0))


@family(
    [
        Row("csrrw", "csr[11:0] rs1[4:0] 001 rd[4:0] 1110011", {"operation": REPLACE}),
        Row("csrrs", "csr[11:0] rs1[4:0] 010 rd[4:0] 1110011", {"operation": SET}),
        Row("csrrc", "csr[11:0] rs1[4:0] 011 rd[4:0] 1110011", {"operation": CLEAR}),
    ],
    spec="unpriv 6.1",
    ext="zicsr",
    ends_block=True,
)
def csr_register(hart: Hart, rd: Gpr, csr: Csr, rs1: Gpr, operation: Const[int]) -> None:
    """Exchange a CSR with a register: write, set bits, or clear bits. Setting and clearing with x0
    only read.
    """
    hart.sync()
    if operation == REPLACE:
        hart.x[rd] = csr_access(hart, u32(csr), hart.x[rs1], u32(REPLACE))
    else:
        how = u32(READ_ONLY) if rs1 == 0 else u32(operation)
        hart.x[rd] = csr_access(hart, u32(csr), hart.x[rs1], how)


for _name, _number in (("fsflags", 1), ("fsrm", 2), ("fscsr", 3)):
    RISCV.alias(_name, "csrrw", csr=_number)


@family(
    [
        Row("csrrwi", "csr[11:0] uimm[4:0] 101 rd[4:0] 1110011", {"operation": REPLACE}),
        Row("csrrsi", "csr[11:0] uimm[4:0] 110 rd[4:0] 1110011", {"operation": SET}),
        Row("csrrci", "csr[11:0] uimm[4:0] 111 rd[4:0] 1110011", {"operation": CLEAR}),
    ],
    spec="unpriv 6.1",
    ext="zicsr",
    ends_block=True,
)
def csr_immediate(hart: Hart, rd: Gpr, csr: Csr, uimm: Uimm, operation: Const[int]) -> None:
    """Exchange a CSR with a five-bit constant. Setting and clearing with zero only read."""
    hart.sync()
    how = u32(READ_ONLY) if operation != REPLACE and uimm == 0 else u32(operation)
    hart.x[rd] = csr_access(hart, u32(csr), u64(uimm), how)


for _name, _number in (("fsflagsi", 1), ("fsrmi", 2)):
    RISCV.alias(_name, "csrrwi", csr=_number)


@insn("csr[11:0] 00000 010 rd[4:0] 1110011", spec="unpriv 6.1", ext="zicsr")
def csrr(hart: Hart, rd: Gpr, csr: Csr) -> None:
    """Read a CSR: `csrrs` with x0, which changes nothing and so need not end the block."""
    hart.sync()
    hart.x[rd] = csr_access(hart, u32(csr), u64(0), u32(READ_ONLY))


for _name, _number in (
    ("frflags", 0x001),
    ("frrm", 0x002),
    ("frcsr", 0x003),
    ("rdcycle", 0xC00),
    ("rdtime", 0xC01),
    ("rdinstret", 0xC02),
):
    RISCV.alias(_name, "csrr", csr=_number)
RISCV.alias("csrrs", "csrr", "rd csr zero")


@insn("000000000000 00000 000 00000 1110011", spec="unpriv 2.8", ends_block=True)
def ecall(hart: Hart) -> None:
    """Call the execution environment."""
    if hart.sbi != 0 and hart.privilege == SUPERVISOR:
        hart.leave(u32(EXIT_SBI))
    else:
        hart.raise_exception(u64(ECALL_USER) + u64(hart.privilege), u64(0))


@insn("000000000001 00000 000 00000 1110011", spec="unpriv 2.8", ends_block=True)
def ebreak(hart: Hart) -> None:
    """Trap to a debugger: a breakpoint exception at this address."""
    hart.raise_exception(u64(BREAKPOINT), hart.pc)


@insn("0011000 00010 00000 000 00000 1110011", spec="priv 3.3.2", ends_block=True)
def mret(hart: Hart) -> None:
    """Return from a machine-mode trap."""
    if hart.privilege != MACHINE:
        illegal(hart)
    else:
        hart.sync()
        hart.jump_to(leave_machine_trap(hart))


@insn("0001000 00010 00000 000 00000 1110011", spec="priv 12.2.1", ext="s", ends_block=True)
def sret(hart: Hart) -> None:
    """Return from a supervisor-mode trap."""
    if hart.privilege == USER or (hart.privilege == SUPERVISOR and hart.mstatus & TSR != 0):
        illegal(hart)
    else:
        hart.sync()
        hart.jump_to(leave_supervisor_trap(hart))


@insn("0001000 00101 00000 000 00000 1110011", spec="priv 3.3.3", ends_block=True)
def wfi(hart: Hart) -> None:
    """Wait for an interrupt that is enabled in mie, whether or not it may be taken."""
    if hart.privilege != MACHINE and (hart.privilege == USER or hart.mstatus & TW != 0):
        illegal(hart)
    else:
        hart.sync()
        if mip(hart) & hart.mie == 0:
            hart.halted = u32(1)
            hart.leave(u32(EXIT_WFI))


@insn("000000001101 00000 000 00000 1110011", spec="unpriv 15", ext="zawrs", ends_block=True)
def wrs_nto(hart: Hart) -> None:
    """Wait on the reservation set. It may end at once, and does: another hart's store is not
    watched for.
    """
    if hart.privilege != MACHINE and hart.mstatus & TW != 0:
        illegal(hart)


@insn("000000011101 00000 000 00000 1110011", spec="unpriv 15", ext="zawrs", ends_block=True)
def wrs_sto(hart: Hart) -> None:
    """Wait on the reservation set for a short time; ends at once."""
    hart.sync()


@native
def flush_translations(hart: Hart) -> None:
    """Drop every cached translation of this hart before its next instruction: done where the next
    block is looked up, without leaving generated code."""
    hart.flush_request = u32(1)
    poll_interrupts(hart)


@native
def flush_for(hart: Hart, one_page: bool, gva: u64, one_space: bool, asid: u64) -> None:
    """What sfence.vma does: drop the cached translations of one address or all, in one address
    space or all. Global ones go with the others, which is allowed.
    """
    if (one_page or one_space) and hart.page_flush_request == 0:
        hart.page_flush_gva = gva & ~u64(1) if one_page else u64(ALL_PAGES)
        hart.page_flush_group = asid & ASID_MASK if one_space else u64(ANY_GROUP)
        hart.page_flush_request = u32(1)
        poll_interrupts(hart)
    else:
        flush_translations(hart)


@insn("0001001 rs2[4:0] rs1[4:0] 000 00000 1110011", spec="priv 12.2.1", ext="s", ends_block=True)
def sfence_vma(hart: Hart, rs1: Gpr, rs2: Gpr) -> None:
    """Order page-table updates before later translations: of one address, or with x0 of all."""
    if hart.privilege == USER or (hart.privilege == SUPERVISOR and hart.mstatus & TVM != 0):
        illegal(hart)
    else:
        hart.sync()
        flush_for(hart, rs1 != 0, hart.x[rs1], rs2 != 0, hart.x[rs2])


@insn("0001011 rs2[4:0] rs1[4:0] 000 00000 1110011", spec="priv 14", ext="svinval", ends_block=True)
def sinval_vma(hart: Hart, rs1: Gpr, rs2: Gpr) -> None:
    """Invalidate translations; treated as sfence.vma."""
    if hart.privilege == USER or (hart.privilege == SUPERVISOR and hart.mstatus & TVM != 0):
        illegal(hart)
    else:
        hart.sync()
        flush_for(hart, rs1 != 0, hart.x[rs1], rs2 != 0, hart.x[rs2])


@family(
    [
        Row("sfence.w.inval", "0001100 00000 00000 000 00000 1110011"),
        Row("sfence.inval.ir", "0001100 00001 00000 000 00000 1110011"),
    ],
    spec="priv 14",
    ext="svinval",
    ends_block=True,
)
def sfence_inval(hart: Hart) -> None:
    """Order around sinval.vma, which has done all there is to do."""
    if hart.privilege == USER:
        illegal(hart)


# -- cache-block management


@native
def block_allowed(hart: Hart, bits: u64) -> bool:
    """Whether menvcfg and senvcfg enable a cache-block operation at this privilege."""
    if hart.privilege != MACHINE and hart.menvcfg & bits == 0:
        return False
    return hart.privilege != USER or hart.senvcfg & bits != 0


@family(
    [
        Row("cbo.inval", "000000000000 rs1[4:0] 010 00000 0001111", {"enable": CBIE}),
        Row("cbo.clean", "000000000001 rs1[4:0] 010 00000 0001111", {"enable": CBCFE}),
        Row("cbo.flush", "000000000010 rs1[4:0] 010 00000 0001111", {"enable": CBCFE}),
    ],
    spec="unpriv 19",
    ext="zicbom",
)
def cbo(hart: Hart, rs1: Base, enable: Const[int]) -> None:
    """Manage a cache block. Memory is coherent, so that only the permission to access it
    matters. The trap value of a fault is rs1, aligned or not.
    """
    if not block_allowed(hart, u64(enable)):
        illegal(hart)
    else:
        hart.pointer_to(hart.x[rs1], 1, READ | AS_STORE)
        hart.pointer_to(hart.x[rs1] & ~(BLOCK - 1), BLOCK, READ | AS_STORE)


@insn("000000000100 rs1[4:0] 010 00000 0001111", spec="unpriv 19", ext="zicboz")
def cbo_zero(hart: Hart, rs1: Base) -> None:
    """Set a cache block to zero."""
    if not block_allowed(hart, u64(CBZE)):
        illegal(hart)
    else:
        address = hart.x[rs1] & ~(BLOCK - 1)
        hart.pointer_to(hart.x[rs1], 1, WRITE)
        hart.pointer_to(address, BLOCK, WRITE)
        for offset in range(0, BLOCK, 8):
            hart.store(address + offset, u64(0))


@family(
    [
        Row("prefetch.i", "imm[11:5] 00000 rs1[4:0] 110 00000 0010011"),
        Row("prefetch.r", "imm[11:5] 00001 rs1[4:0] 110 00000 0010011"),
        Row("prefetch.w", "imm[11:5] 00011 rs1[4:0] 110 00000 0010011"),
    ],
    spec="unpriv 19",
    ext="zicbop",
)
def prefetch(hart: Hart, rs1: Base, imm: Displacement) -> None:
    """A hint: nothing happens, and nothing can fault."""
