"""RV64I base integer instructions (Unprivileged ISA 20240411, chapters 2 and 4).

Not modelled: the alignment to four bytes that jump targets and exception addresses have on a hart
without C.
"""

from __future__ import annotations

from typing import Any

from ratite.isa.riscv.state import (
    RISCV,
    Base,
    Displacement,
    Gpr,
    Hart,
    Order,
    PcRel,
    Shamt,
    Simm,
    Upper,
    UpperPcRel,
)
from ratite.isa.spec import Row
from ratite.native import Const, fence, i8, i16, i32, i64, u8, u16, u32, u64

insn, family, alias = RISCV.insn, RISCV.family, RISCV.alias
Kind = type[Any]


@insn("imm[31:12] rd[4:0] 0110111", spec="unpriv 2.4.1")
def lui(hart: Hart, rd: Gpr, imm: Upper) -> None:
    """Set rd to the sign-extended upper immediate."""
    hart.x[rd] = u64(imm)


@insn("imm[31:12] rd[4:0] 0010111", spec="unpriv 2.4.1")
def auipc(hart: Hart, rd: Gpr, imm: UpperPcRel) -> None:
    """Set rd to pc plus the upper immediate."""
    hart.x[rd] = hart.pc + imm


@insn("imm[20|10:1|11|19:12] rd[4:0] 1101111", spec="unpriv 2.5.1")
def jal(hart: Hart, rd: Gpr, imm: PcRel) -> None:
    """Jump to pc + imm, leaving the return address in rd."""
    hart.x[rd] = hart.next_pc
    hart.jump(imm)


alias("j", "jal", rd=0)


@insn("imm[11:0] rs1[4:0] 000 rd[4:0] 1100111", spec="unpriv 2.5.1")
def jalr(hart: Hart, rd: Gpr, rs1: Gpr, imm: Simm) -> None:
    """Jump to rs1 + imm with bit 0 cleared, leaving the return address in rd."""
    target = (hart.x[rs1] + imm) & ~1
    hart.x[rd] = hart.next_pc
    hart.jump_to(target)


alias("ret", "jalr", rd=0, rs1=1, imm=0)
alias("jr", "jalr", rd=0, imm=0)


@insn("imm[12|10:5] rs2[4:0] rs1[4:0] 000 imm[4:1|11] 1100011", spec="unpriv 2.5.2")
def beq(hart: Hart, rs1: Gpr, rs2: Gpr, imm: PcRel) -> None:
    """Branch to pc + imm if rs1 equals rs2."""
    if hart.x[rs1] == hart.x[rs2]:
        hart.jump(imm)


alias("beqz", "beq", rs2=0)


@insn("imm[12|10:5] rs2[4:0] rs1[4:0] 001 imm[4:1|11] 1100011", spec="unpriv 2.5.2")
def bne(hart: Hart, rs1: Gpr, rs2: Gpr, imm: PcRel) -> None:
    """Branch if rs1 differs from rs2."""
    if hart.x[rs1] != hart.x[rs2]:
        hart.jump(imm)


alias("bnez", "bne", rs2=0)


@insn("imm[12|10:5] rs2[4:0] rs1[4:0] 100 imm[4:1|11] 1100011", spec="unpriv 2.5.2")
def blt(hart: Hart, rs1: Gpr, rs2: Gpr, imm: PcRel) -> None:
    """Branch if rs1 < rs2 as signed numbers."""
    if i64(hart.x[rs1]) < i64(hart.x[rs2]):
        hart.jump(imm)


alias("bltz", "blt", rs2=0)
alias("bgtz", "blt", rs1=0)
alias("bgt", "blt", "rs2 rs1 imm")


@insn("imm[12|10:5] rs2[4:0] rs1[4:0] 101 imm[4:1|11] 1100011", spec="unpriv 2.5.2")
def bge(hart: Hart, rs1: Gpr, rs2: Gpr, imm: PcRel) -> None:
    """Branch if rs1 >= rs2 as signed numbers."""
    if i64(hart.x[rs1]) >= i64(hart.x[rs2]):
        hart.jump(imm)


alias("blez", "bge", rs1=0)
alias("bgez", "bge", rs2=0)
alias("ble", "bge", "rs2 rs1 imm")


@insn("imm[12|10:5] rs2[4:0] rs1[4:0] 110 imm[4:1|11] 1100011", spec="unpriv 2.5.2")
def bltu(hart: Hart, rs1: Gpr, rs2: Gpr, imm: PcRel) -> None:
    """Branch if rs1 < rs2 as unsigned numbers."""
    if hart.x[rs1] < hart.x[rs2]:
        hart.jump(imm)


alias("bgtu", "bltu", "rs2 rs1 imm")


@insn("imm[12|10:5] rs2[4:0] rs1[4:0] 111 imm[4:1|11] 1100011", spec="unpriv 2.5.2")
def bgeu(hart: Hart, rs1: Gpr, rs2: Gpr, imm: PcRel) -> None:
    """Branch if rs1 >= rs2 as unsigned numbers."""
    if hart.x[rs1] >= hart.x[rs2]:
        hart.jump(imm)


alias("bleu", "bgeu", "rs2 rs1 imm")


def _load(name: str, width: str, memory: Kind, extended: Kind) -> Row:
    row = f"imm[11:0] rs1[4:0] {width} rd[4:0] 0000011"
    return Row(name, row, {"memory": memory, "extended": extended})


@family(
    (
        _load("lb", "000", i8, i64),
        _load("lh", "001", i16, i64),
        _load("lw", "010", i32, i64),
        _load("ld", "011", u64, u64),
        _load("lbu", "100", u8, u64),
        _load("lhu", "101", u16, u64),
        _load("lwu", "110", u32, u64),
    ),
    spec="unpriv 2.6, 4.3",
)
def load(
    hart: Hart, rd: Gpr, rs1: Base, imm: Displacement, memory: Const[Kind], extended: Const[Kind]
) -> None:
    """Load from rs1 + imm, sign- or zero-extended to 64 bits."""
    hart.x[rd] = u64(extended(hart.load(memory, hart.x[rs1] + imm)))


def _store(name: str, width: str, memory: Kind) -> Row:
    return Row(name, f"imm[11:5] rs2[4:0] rs1[4:0] {width} imm[4:0] 0100011", {"memory": memory})


@family(
    (
        _store("sb", "000", u8),
        _store("sh", "001", u16),
        _store("sw", "010", u32),
        _store("sd", "011", u64),
    ),
    spec="unpriv 2.6, 4.3",
)
def store(hart: Hart, rs1: Base, rs2: Gpr, imm: Displacement, memory: Const[Kind]) -> None:
    """Store the low bits of rs2 to rs1 + imm."""
    hart.store(hart.x[rs1] + imm, memory(hart.x[rs2]))


@insn("imm[11:0] rs1[4:0] 000 rd[4:0] 0010011", spec="unpriv 2.4.1")
def addi(hart: Hart, rd: Gpr, rs1: Gpr, imm: Simm) -> None:
    """Add the immediate."""
    hart.x[rd] = hart.x[rs1] + imm


alias("nop", "addi", rd=0, rs1=0, imm=0)
alias("mv", "addi", imm=0)


@insn("imm[11:0] rs1[4:0] 010 rd[4:0] 0010011", spec="unpriv 2.4.1")
def slti(hart: Hart, rd: Gpr, rs1: Gpr, imm: Simm) -> None:
    """Set rd to 1 if rs1 < imm as signed numbers, else to 0."""
    hart.x[rd] = u64(i64(hart.x[rs1]) < imm)


@insn("imm[11:0] rs1[4:0] 011 rd[4:0] 0010011", spec="unpriv 2.4.1")
def sltiu(hart: Hart, rd: Gpr, rs1: Gpr, imm: Simm) -> None:
    """Set rd to 1 if rs1 is below the sign-extended immediate as unsigned numbers."""
    hart.x[rd] = u64(hart.x[rs1] < u64(imm))


alias("seqz", "sltiu", imm=1)


@insn("imm[11:0] rs1[4:0] 100 rd[4:0] 0010011", spec="unpriv 2.4.1")
def xori(hart: Hart, rd: Gpr, rs1: Gpr, imm: Simm) -> None:
    """Exclusive or with the immediate."""
    hart.x[rd] = hart.x[rs1] ^ imm


alias("not", "xori", imm=-1)


@insn("imm[11:0] rs1[4:0] 110 rd[4:0] 0010011", spec="unpriv 2.4.1")
def ori(hart: Hart, rd: Gpr, rs1: Gpr, imm: Simm) -> None:
    """Or with the immediate."""
    hart.x[rd] = hart.x[rs1] | imm


@insn("imm[11:0] rs1[4:0] 111 rd[4:0] 0010011", spec="unpriv 2.4.1")
def andi(hart: Hart, rd: Gpr, rs1: Gpr, imm: Simm) -> None:
    """And with the immediate."""
    hart.x[rd] = hart.x[rs1] & imm


@insn("000000 shamt[5:0] rs1[4:0] 001 rd[4:0] 0010011", spec="unpriv 4.2.1")
def slli(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Shift left."""
    hart.x[rd] = hart.x[rs1] << shamt


@insn("000000 shamt[5:0] rs1[4:0] 101 rd[4:0] 0010011", spec="unpriv 4.2.1")
def srli(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Shift right, filling with zeros."""
    hart.x[rd] = hart.x[rs1] >> shamt


@insn("010000 shamt[5:0] rs1[4:0] 101 rd[4:0] 0010011", spec="unpriv 4.2.1")
def srai(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Shift right, filling with the sign."""
    hart.x[rd] = u64(i64(hart.x[rs1]) >> shamt)


@insn("imm[11:0] rs1[4:0] 000 rd[4:0] 0011011", spec="unpriv 4.2.1")
def addiw(hart: Hart, rd: Gpr, rs1: Gpr, imm: Simm) -> None:
    """Add the immediate and sign-extend the low word."""
    hart.x[rd] = u64(i32(hart.x[rs1] + imm))


alias("sext.w", "addiw", imm=0)


@insn("0000000 shamt[4:0] rs1[4:0] 001 rd[4:0] 0011011", spec="unpriv 4.2.1")
def slliw(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Shift the low word left and sign-extend it."""
    hart.x[rd] = u64(i32(u32(hart.x[rs1]) << shamt))


@insn("0000000 shamt[4:0] rs1[4:0] 101 rd[4:0] 0011011", spec="unpriv 4.2.1")
def srliw(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Shift the low word right, filling with zeros, and sign-extend it."""
    hart.x[rd] = u64(i32(u32(hart.x[rs1]) >> shamt))


@insn("0100000 shamt[4:0] rs1[4:0] 101 rd[4:0] 0011011", spec="unpriv 4.2.1")
def sraiw(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Shift the low word right, filling with its sign."""
    hart.x[rd] = u64(i32(hart.x[rs1]) >> shamt)


@insn("0000000 rs2[4:0] rs1[4:0] 000 rd[4:0] 0110011", spec="unpriv 2.4.2")
def add(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Add."""
    hart.x[rd] = hart.x[rs1] + hart.x[rs2]


alias("mv", "add", rs1=0)


@insn("0100000 rs2[4:0] rs1[4:0] 000 rd[4:0] 0110011", spec="unpriv 2.4.2")
def sub(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Subtract."""
    hart.x[rd] = hart.x[rs1] - hart.x[rs2]


alias("neg", "sub", rs1=0)


@insn("0000000 rs2[4:0] rs1[4:0] 001 rd[4:0] 0110011", spec="unpriv 2.4.2")
def sll(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Shift left by the low six bits of rs2."""
    hart.x[rd] = hart.x[rs1] << hart.x[rs2]


@insn("0000000 rs2[4:0] rs1[4:0] 010 rd[4:0] 0110011", spec="unpriv 2.4.2")
def slt(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Set rd to 1 if rs1 < rs2 as signed numbers, else to 0."""
    hart.x[rd] = u64(i64(hart.x[rs1]) < i64(hart.x[rs2]))


alias("sltz", "slt", rs2=0)
alias("sgtz", "slt", rs1=0)


@insn("0000000 rs2[4:0] rs1[4:0] 011 rd[4:0] 0110011", spec="unpriv 2.4.2")
def sltu(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Set rd to 1 if rs1 < rs2 as unsigned numbers, else to 0."""
    hart.x[rd] = u64(hart.x[rs1] < hart.x[rs2])


alias("snez", "sltu", rs1=0)


@insn("0000000 rs2[4:0] rs1[4:0] 100 rd[4:0] 0110011", spec="unpriv 2.4.2")
def xor(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Exclusive or."""
    hart.x[rd] = hart.x[rs1] ^ hart.x[rs2]


@insn("0000000 rs2[4:0] rs1[4:0] 101 rd[4:0] 0110011", spec="unpriv 2.4.2")
def srl(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Shift right by the low six bits of rs2, filling with zeros."""
    hart.x[rd] = hart.x[rs1] >> hart.x[rs2]


@insn("0100000 rs2[4:0] rs1[4:0] 101 rd[4:0] 0110011", spec="unpriv 2.4.2")
def sra(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Shift right by the low six bits of rs2, filling with the sign."""
    hart.x[rd] = u64(i64(hart.x[rs1]) >> hart.x[rs2])


@insn("0000000 rs2[4:0] rs1[4:0] 110 rd[4:0] 0110011", spec="unpriv 2.4.2")
def or_(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Or."""
    hart.x[rd] = hart.x[rs1] | hart.x[rs2]


@insn("0000000 rs2[4:0] rs1[4:0] 111 rd[4:0] 0110011", spec="unpriv 2.4.2")
def and_(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """And."""
    hart.x[rd] = hart.x[rs1] & hart.x[rs2]


@insn("0000000 rs2[4:0] rs1[4:0] 000 rd[4:0] 0111011", spec="unpriv 4.2.2")
def addw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Add and sign-extend the low word."""
    hart.x[rd] = u64(i32(hart.x[rs1] + hart.x[rs2]))


@insn("0100000 rs2[4:0] rs1[4:0] 000 rd[4:0] 0111011", spec="unpriv 4.2.2")
def subw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Subtract and sign-extend the low word."""
    hart.x[rd] = u64(i32(hart.x[rs1] - hart.x[rs2]))


alias("negw", "subw", rs1=0)


@insn("0000000 rs2[4:0] rs1[4:0] 001 rd[4:0] 0111011", spec="unpriv 4.2.2")
def sllw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Shift the low word left by the low five bits of rs2 and sign-extend it."""
    hart.x[rd] = u64(i32(u32(hart.x[rs1]) << hart.x[rs2]))


@insn("0000000 rs2[4:0] rs1[4:0] 101 rd[4:0] 0111011", spec="unpriv 4.2.2")
def srlw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Shift the low word right, filling with zeros, and sign-extend it."""
    hart.x[rd] = u64(i32(u32(hart.x[rs1]) >> hart.x[rs2]))


@insn("0100000 rs2[4:0] rs1[4:0] 101 rd[4:0] 0111011", spec="unpriv 4.2.2")
def sraw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Shift the low word right, filling with its sign."""
    hart.x[rd] = u64(i32(hart.x[rs1]) >> hart.x[rs2])


@insn("_[3:0] pred[3:0] succ[3:0] _[4:0] 000 _[4:0] 0001111", spec="unpriv 2.7")
def fence_(hart: Hart, pred: Order, succ: Order) -> None:
    """Order memory accesses; every fence is treated as the strongest one. `pause` is one that
    orders nothing.
    """
    fence()


@insn("_[11:0] _[4:0] 001 _[4:0] 0001111", spec="unpriv 5", ext="zifencei", ends_block=True)
def fence_i(hart: Hart) -> None:
    """Make earlier stores visible to instruction fetch: translated code follows stores at once, so
    that only the current block must end."""
    hart.sync()
