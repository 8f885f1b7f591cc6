"""M extension: multiplication and division (Unprivileged ISA 20240411, chapter 13)."""

from __future__ import annotations

from ratite.isa.riscv.state import RISCV, Gpr, Hart
from ratite.native import i32, i64, i128, native, quot, rem, u32, u64, u128

insn = RISCV.insn
MIN = -1 << 63


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


# Division never traps: by zero, a quotient has all bits set and a remainder is the dividend; the
# one overflow has the dividend for its quotient and no remainder. Both are written without
# branches, so that a quotient and the remainder beside it become one division of the host: by 1
# where it could not divide.


@native
def _divisor(a: i64, b: i64) -> i64:
    overflows = i64(b == -1) & i64(a == MIN)
    return (b | i64(b == 0)) + (overflows << 1)


@insn("0000001 rs2[4:0] rs1[4:0] 100 rd[4:0] 0110011", spec="unpriv 13.2", ext="m")
def div(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Signed quotient, rounded toward zero."""
    a, b = i64(hart.x[rs1]), i64(hart.x[rs2])
    hart.x[rd] = u64(quot(a, _divisor(a, b)) | -i64(b == 0))


@insn("0000001 rs2[4:0] rs1[4:0] 101 rd[4:0] 0110011", spec="unpriv 13.2", ext="m")
def divu(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Unsigned quotient; all ones for division by zero."""
    a, b = hart.x[rs1], hart.x[rs2]
    zero = u64(b == 0)
    hart.x[rd] = a // (b | zero) | -zero


@insn("0000001 rs2[4:0] rs1[4:0] 110 rd[4:0] 0110011", spec="unpriv 13.2", ext="m")
def rem_(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Signed remainder with the dividend's sign."""
    a, b = i64(hart.x[rs1]), i64(hart.x[rs2])
    hart.x[rd] = u64(rem(a, _divisor(a, b)) | a & -i64(b == 0))


@insn("0000001 rs2[4:0] rs1[4:0] 111 rd[4:0] 0110011", spec="unpriv 13.2", ext="m")
def remu(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Unsigned remainder; the dividend for division by zero."""
    a, b = hart.x[rs1], hart.x[rs2]
    zero = u64(b == 0)
    hart.x[rd] = a % (b | zero) | a & -zero


@insn("0000001 rs2[4:0] rs1[4:0] 100 rd[4:0] 0111011", spec="unpriv 13.2", ext="m")
def divw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Signed quotient of the low words, sign-extended; as numbers of 64 bits none overflows."""
    a, b = i64(i32(hart.x[rs1])), i64(i32(hart.x[rs2]))
    zero = i64(b == 0)
    hart.x[rd] = u64(i32(quot(a, b | zero) | -zero))


@insn("0000001 rs2[4:0] rs1[4:0] 101 rd[4:0] 0111011", spec="unpriv 13.2", ext="m")
def divuw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Unsigned quotient of the low words, sign-extended."""
    a, b = u32(hart.x[rs1]), u32(hart.x[rs2])
    zero = u32(b == 0)
    hart.x[rd] = u64(i32(a // (b | zero) | -zero))


@insn("0000001 rs2[4:0] rs1[4:0] 110 rd[4:0] 0111011", spec="unpriv 13.2", ext="m")
def remw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Signed remainder of the low words, sign-extended."""
    a, b = i64(i32(hart.x[rs1])), i64(i32(hart.x[rs2]))
    zero = i64(b == 0)
    hart.x[rd] = u64(i32(rem(a, b | zero) | a & -zero))


@insn("0000001 rs2[4:0] rs1[4:0] 111 rd[4:0] 0111011", spec="unpriv 13.2", ext="m")
def remuw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Unsigned remainder of the low words, sign-extended."""
    a, b = u32(hart.x[rs1]), u32(hart.x[rs2])
    zero = u32(b == 0)
    hart.x[rd] = u64(i32(a % (b | zero) | a & -zero))
