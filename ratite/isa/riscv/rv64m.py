"""M extension: multiplication and division (Unprivileged ISA 20240411, chapter 13)."""

from __future__ import annotations

from ratite.isa.riscv.state import RISCV, Gpr, Hart
from ratite.native import i32, i64, i128, native, quot, rem, u32, u64, u128

insn = RISCV.insn


@insn("0000001 rs2[4:0] rs1[4:0] 000 rd[4:0] 0110011", spec="unpriv 13.1", ext="m")
def mul(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Low half of the product."""
    hart.x[rd] = hart.x[rs1] * hart.x[rs2]


@insn("0000001 rs2[4:0] rs1[4:0] 001 rd[4:0] 0110011", spec="unpriv 13.1", ext="m")
def mulh(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """High half of signed times signed."""
    product = i128(i64(hart.x[rs1])) * i128(i64(hart.x[rs2]))
    hart.x[rd] = u64(product >> 64)


@insn("0000001 rs2[4:0] rs1[4:0] 010 rd[4:0] 0110011", spec="unpriv 13.1", ext="m")
def mulhsu(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """High half of signed times unsigned."""
    product = i128(i64(hart.x[rs1])) * i128(hart.x[rs2])
    hart.x[rd] = u64(product >> 64)


@insn("0000001 rs2[4:0] rs1[4:0] 011 rd[4:0] 0110011", spec="unpriv 13.1", ext="m")
def mulhu(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """High half of unsigned times unsigned."""
    product = u128(hart.x[rs1]) * u128(hart.x[rs2])
    hart.x[rd] = u64(product >> 64)


@insn("0000001 rs2[4:0] rs1[4:0] 000 rd[4:0] 0111011", spec="unpriv 13.1", ext="m")
def mulw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Low word of the product, sign-extended."""
    hart.x[rd] = u64(i32(hart.x[rs1] * hart.x[rs2]))


@native
def _quotient(a: i64, b: i64) -> u64:
    """Division by zero gives -1; the one overflow gives the dividend."""
    if b == 0:
        return ~u64(0)
    if b == -1:
        return u64(-a)
    return u64(quot(a, b))


@native
def _remainder(a: i64, b: i64) -> u64:
    if b == 0:
        return u64(a)
    if b == -1:
        return u64(0)
    return u64(rem(a, b))


@insn("0000001 rs2[4:0] rs1[4:0] 100 rd[4:0] 0110011", spec="unpriv 13.2", ext="m")
def div(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Signed quotient, rounded toward zero."""
    hart.x[rd] = _quotient(i64(hart.x[rs1]), i64(hart.x[rs2]))


@insn("0000001 rs2[4:0] rs1[4:0] 101 rd[4:0] 0110011", spec="unpriv 13.2", ext="m")
def divu(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Unsigned quotient; all ones for division by zero."""
    if hart.x[rs2] == 0:
        hart.x[rd] = ~u64(0)
    else:
        hart.x[rd] = hart.x[rs1] // hart.x[rs2]


@insn("0000001 rs2[4:0] rs1[4:0] 110 rd[4:0] 0110011", spec="unpriv 13.2", ext="m")
def rem_(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Signed remainder with the dividend's sign."""
    hart.x[rd] = _remainder(i64(hart.x[rs1]), i64(hart.x[rs2]))


@insn("0000001 rs2[4:0] rs1[4:0] 111 rd[4:0] 0110011", spec="unpriv 13.2", ext="m")
def remu(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Unsigned remainder; the dividend for division by zero."""
    if hart.x[rs2] == 0:
        hart.x[rd] = hart.x[rs1]
    else:
        hart.x[rd] = hart.x[rs1] % hart.x[rs2]


@insn("0000001 rs2[4:0] rs1[4:0] 100 rd[4:0] 0111011", spec="unpriv 13.2", ext="m")
def divw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Signed quotient of the low words, sign-extended."""
    hart.x[rd] = u64(i32(_quotient(i64(i32(hart.x[rs1])), i64(i32(hart.x[rs2])))))


@insn("0000001 rs2[4:0] rs1[4:0] 101 rd[4:0] 0111011", spec="unpriv 13.2", ext="m")
def divuw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Unsigned quotient of the low words, sign-extended."""
    if u32(hart.x[rs2]) == 0:
        hart.x[rd] = ~u64(0)
    else:
        hart.x[rd] = u64(i32(u32(hart.x[rs1]) // u32(hart.x[rs2])))


@insn("0000001 rs2[4:0] rs1[4:0] 110 rd[4:0] 0111011", spec="unpriv 13.2", ext="m")
def remw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Signed remainder of the low words, sign-extended."""
    hart.x[rd] = u64(i32(_remainder(i64(i32(hart.x[rs1])), i64(i32(hart.x[rs2])))))


@insn("0000001 rs2[4:0] rs1[4:0] 111 rd[4:0] 0111011", spec="unpriv 13.2", ext="m")
def remuw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Unsigned remainder of the low words, sign-extended."""
    if u32(hart.x[rs2]) == 0:
        hart.x[rd] = u64(i32(hart.x[rs1]))
    else:
        hart.x[rd] = u64(i32(u32(hart.x[rs1]) % u32(hart.x[rs2])))
