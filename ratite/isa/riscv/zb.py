"""Bit manipulation and conditional zeroing: Zba, Zbb, Zbc, Zbs, Zicond (Unprivileged ISA 20240411,
chapters 12, 30).
"""

from __future__ import annotations

from ratite.isa.riscv.state import RISCV, Gpr, Hart, Shamt
from ratite.isa.spec import Row
from ratite.native import Const, bswap, clz, ctz, i8, i16, i32, i64, native, popcount, u16, u32, u64

insn, family = RISCV.insn, RISCV.family


@family(
    [
        Row(f"sh{shift}add", f"0010000 rs2[4:0] rs1[4:0] {funct} rd[4:0] 0110011", {"shift": shift})
        for shift, funct in ((1, "010"), (2, "100"), (3, "110"))
    ],
    spec="unpriv 30.4",
    ext="zba",
)
def shift_add(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr, shift: Const[int]) -> None:
    """Add rs2 to rs1 shifted left."""
    hart.x[rd] = (hart.x[rs1] << shift) + hart.x[rs2]


@family(
    [Row("add.uw", "0000100 rs2[4:0] rs1[4:0] 000 rd[4:0] 0111011", {"shift": 0})]
    + [
        Row(
            f"sh{shift}add.uw",
            f"0010000 rs2[4:0] rs1[4:0] {funct} rd[4:0] 0111011",
            {"shift": shift},
        )
        for shift, funct in ((1, "010"), (2, "100"), (3, "110"))
    ],
    spec="unpriv 30.4",
    ext="zba",
)
def shift_add_word(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr, shift: Const[int]) -> None:
    """Add rs2 to the zero-extended low word of rs1 shifted left."""
    hart.x[rd] = (u64(u32(hart.x[rs1])) << shift) + hart.x[rs2]


@insn("000010 shamt[5:0] rs1[4:0] 001 rd[4:0] 0011011", spec="unpriv 30.4", ext="zba")
def slli_uw(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Shift the zero-extended low word left."""
    hart.x[rd] = u64(u32(hart.x[rs1])) << shamt


@insn("0100000 rs2[4:0] rs1[4:0] 111 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbb")
def andn(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """And with the complement of rs2."""
    hart.x[rd] = hart.x[rs1] & ~hart.x[rs2]


@insn("0100000 rs2[4:0] rs1[4:0] 110 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbb")
def orn(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Or with the complement of rs2."""
    hart.x[rd] = hart.x[rs1] | ~hart.x[rs2]


@insn("0100000 rs2[4:0] rs1[4:0] 100 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbb")
def xnor(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Complement of the exclusive or."""
    hart.x[rd] = ~(hart.x[rs1] ^ hart.x[rs2])


@insn("0110000 00000 rs1[4:0] 001 rd[4:0] 0010011", spec="unpriv 30.4", ext="zbb")
def clz_(hart: Hart, rd: Gpr, rs1: Gpr) -> None:
    """Count leading zeros; 64 for zero."""
    hart.x[rd] = clz(hart.x[rs1])


@insn("0110000 00001 rs1[4:0] 001 rd[4:0] 0010011", spec="unpriv 30.4", ext="zbb")
def ctz_(hart: Hart, rd: Gpr, rs1: Gpr) -> None:
    """Count trailing zeros; 64 for zero."""
    hart.x[rd] = ctz(hart.x[rs1])


@insn("0110000 00010 rs1[4:0] 001 rd[4:0] 0010011", spec="unpriv 30.4", ext="zbb")
def cpop(hart: Hart, rd: Gpr, rs1: Gpr) -> None:
    """Count ones."""
    hart.x[rd] = popcount(hart.x[rs1])


@insn("0110000 00000 rs1[4:0] 001 rd[4:0] 0011011", spec="unpriv 30.4", ext="zbb")
def clzw(hart: Hart, rd: Gpr, rs1: Gpr) -> None:
    """Count leading zeros of the low word; 32 for zero."""
    hart.x[rd] = u64(clz(u32(hart.x[rs1])))


@insn("0110000 00001 rs1[4:0] 001 rd[4:0] 0011011", spec="unpriv 30.4", ext="zbb")
def ctzw(hart: Hart, rd: Gpr, rs1: Gpr) -> None:
    """Count trailing zeros of the low word; 32 for zero."""
    hart.x[rd] = u64(ctz(u32(hart.x[rs1])))


@insn("0110000 00010 rs1[4:0] 001 rd[4:0] 0011011", spec="unpriv 30.4", ext="zbb")
def cpopw(hart: Hart, rd: Gpr, rs1: Gpr) -> None:
    """Count ones of the low word."""
    hart.x[rd] = u64(popcount(u32(hart.x[rs1])))


@insn("0000101 rs2[4:0] rs1[4:0] 110 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbb")
def max_(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Signed maximum."""
    a, b = hart.x[rs1], hart.x[rs2]
    hart.x[rd] = a if i64(a) > i64(b) else b


@insn("0000101 rs2[4:0] rs1[4:0] 111 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbb")
def maxu(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Unsigned maximum."""
    a, b = hart.x[rs1], hart.x[rs2]
    hart.x[rd] = a if a > b else b


@insn("0000101 rs2[4:0] rs1[4:0] 100 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbb")
def min_(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Signed minimum."""
    a, b = hart.x[rs1], hart.x[rs2]
    hart.x[rd] = a if i64(a) < i64(b) else b


@insn("0000101 rs2[4:0] rs1[4:0] 101 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbb")
def minu(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Unsigned minimum."""
    a, b = hart.x[rs1], hart.x[rs2]
    hart.x[rd] = a if a < b else b


@insn("0110000 00100 rs1[4:0] 001 rd[4:0] 0010011", spec="unpriv 30.4", ext="zbb")
def sext_b(hart: Hart, rd: Gpr, rs1: Gpr) -> None:
    """Sign-extend the low byte."""
    hart.x[rd] = u64(i8(hart.x[rs1]))


@insn("0110000 00101 rs1[4:0] 001 rd[4:0] 0010011", spec="unpriv 30.4", ext="zbb")
def sext_h(hart: Hart, rd: Gpr, rs1: Gpr) -> None:
    """Sign-extend the low half word."""
    hart.x[rd] = u64(i16(hart.x[rs1]))


@insn("0000100 00000 rs1[4:0] 100 rd[4:0] 0111011", spec="unpriv 30.4", ext="zbb")
def zext_h(hart: Hart, rd: Gpr, rs1: Gpr) -> None:
    """Zero-extend the low half word."""
    hart.x[rd] = u64(u16(hart.x[rs1]))


@native
def rotate_left(value: u64, count: u64) -> u64:
    """Rotate by the low six bits of `count`."""
    return (value << count) | (value >> (u64(0) - count))


@native
def rotate_left_word(value: u32, count: u64) -> u64:
    """Rotate a word by the low five bits of `count` and sign-extend it."""
    return u64(i32((value << count) | (value >> (u64(0) - count))))


@insn("0110000 rs2[4:0] rs1[4:0] 001 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbb")
def rol(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Rotate left."""
    hart.x[rd] = rotate_left(hart.x[rs1], hart.x[rs2])


@insn("0110000 rs2[4:0] rs1[4:0] 101 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbb")
def ror(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Rotate right."""
    hart.x[rd] = rotate_left(hart.x[rs1], u64(0) - hart.x[rs2])


@insn("011000 shamt[5:0] rs1[4:0] 101 rd[4:0] 0010011", spec="unpriv 30.4", ext="zbb")
def rori(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Rotate right by a constant."""
    hart.x[rd] = rotate_left(hart.x[rs1], u64(0) - u64(shamt))


@insn("0110000 rs2[4:0] rs1[4:0] 001 rd[4:0] 0111011", spec="unpriv 30.4", ext="zbb")
def rolw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Rotate the low word left."""
    hart.x[rd] = rotate_left_word(u32(hart.x[rs1]), hart.x[rs2])


@insn("0110000 rs2[4:0] rs1[4:0] 101 rd[4:0] 0111011", spec="unpriv 30.4", ext="zbb")
def rorw(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Rotate the low word right."""
    hart.x[rd] = rotate_left_word(u32(hart.x[rs1]), u64(0) - hart.x[rs2])


@insn("0110000 shamt[4:0] rs1[4:0] 101 rd[4:0] 0011011", spec="unpriv 30.4", ext="zbb")
def roriw(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Rotate the low word right by a constant."""
    hart.x[rd] = rotate_left_word(u32(hart.x[rs1]), u64(0) - u64(shamt))


@insn("001010000111 rs1[4:0] 101 rd[4:0] 0010011", spec="unpriv 30.4", ext="zbb")
def orc_b(hart: Hart, rd: Gpr, rs1: Gpr) -> None:
    """Set each byte that is not zero to all ones."""
    value = hart.x[rs1]
    low = value & 0x7F7F_7F7F_7F7F_7F7F
    tops = ((low + 0x7F7F_7F7F_7F7F_7F7F) | value) & 0x8080_8080_8080_8080
    hart.x[rd] = (tops >> 7) * 255


@insn("011010111000 rs1[4:0] 101 rd[4:0] 0010011", spec="unpriv 30.4", ext="zbb")
def rev8(hart: Hart, rd: Gpr, rs1: Gpr) -> None:
    """Reverse the bytes."""
    hart.x[rd] = bswap(hart.x[rs1])


@native
def carryless(a: u64, b: u64, high: Const[int]) -> u64:
    """The low 64 bits (high=0) of the carry-less product, its bits from 64 (high=64), or from 63
    (high=63).
    """
    result = u64(0)
    index = u64(0)
    while index < 64:
        if (b >> index) & 1 != 0:
            if high == 0:
                result ^= a << index
            elif high == 64:
                if index != 0:
                    result ^= a >> (64 - index)
            else:
                result ^= a >> (63 - index)
        index += 1
    return result


@family(
    [
        Row(name, f"0000101 rs2[4:0] rs1[4:0] {funct} rd[4:0] 0110011", {"high": high})
        for name, funct, high in (("clmul", "001", 0), ("clmulh", "011", 64), ("clmulr", "010", 63))
    ],
    spec="unpriv 30.4",
    ext="zbc",
)
def clmul(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr, high: Const[int]) -> None:
    """Carry-less product."""
    hart.x[rd] = carryless(hart.x[rs1], hart.x[rs2], high)


@insn("0100100 rs2[4:0] rs1[4:0] 001 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbs")
def bclr(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Clear one bit."""
    hart.x[rd] = hart.x[rs1] & ~(u64(1) << hart.x[rs2])


@insn("010010 shamt[5:0] rs1[4:0] 001 rd[4:0] 0010011", spec="unpriv 30.4", ext="zbs")
def bclri(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Clear one bit."""
    hart.x[rd] = hart.x[rs1] & ~(u64(1) << shamt)


@insn("0100100 rs2[4:0] rs1[4:0] 101 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbs")
def bext(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Extract one bit."""
    hart.x[rd] = (hart.x[rs1] >> hart.x[rs2]) & 1


@insn("010010 shamt[5:0] rs1[4:0] 101 rd[4:0] 0010011", spec="unpriv 30.4", ext="zbs")
def bexti(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Extract one bit."""
    hart.x[rd] = (hart.x[rs1] >> shamt) & 1


@insn("0110100 rs2[4:0] rs1[4:0] 001 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbs")
def binv(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Invert one bit."""
    hart.x[rd] = hart.x[rs1] ^ (u64(1) << hart.x[rs2])


@insn("011010 shamt[5:0] rs1[4:0] 001 rd[4:0] 0010011", spec="unpriv 30.4", ext="zbs")
def binvi(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Invert one bit."""
    hart.x[rd] = hart.x[rs1] ^ (u64(1) << shamt)


@insn("0010100 rs2[4:0] rs1[4:0] 001 rd[4:0] 0110011", spec="unpriv 30.4", ext="zbs")
def bset(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Set one bit."""
    hart.x[rd] = hart.x[rs1] | (u64(1) << hart.x[rs2])


@insn("001010 shamt[5:0] rs1[4:0] 001 rd[4:0] 0010011", spec="unpriv 30.4", ext="zbs")
def bseti(hart: Hart, rd: Gpr, rs1: Gpr, shamt: Shamt) -> None:
    """Set one bit."""
    hart.x[rd] = hart.x[rs1] | (u64(1) << shamt)


@insn("0000111 rs2[4:0] rs1[4:0] 101 rd[4:0] 0110011", spec="unpriv 12", ext="zicond")
def czero_eqz(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Zero if rs2 is zero, else rs1."""
    hart.x[rd] = u64(0) if hart.x[rs2] == 0 else hart.x[rs1]


@insn("0000111 rs2[4:0] rs1[4:0] 111 rd[4:0] 0110011", spec="unpriv 12", ext="zicond")
def czero_nez(hart: Hart, rd: Gpr, rs1: Gpr, rs2: Gpr) -> None:
    """Zero if rs2 is not zero, else rs1."""
    hart.x[rd] = u64(0) if hart.x[rs2] != 0 else hart.x[rs1]
