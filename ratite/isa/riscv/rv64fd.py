"""F and D extensions: single- and double-precision floating point (Unprivileged ISA 20240411,
chapters 21 and 22).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ratite.isa.riscv.fpu import box, check_rounding, host_rounds, mark_dirty, rounding, unbox
from ratite.isa.riscv.state import RISCV, Base, Displacement, Fpr, Gpr, Hart, Rm
from ratite.isa.softfloat import (
    F32,
    F64,
    RTZ,
    Format,
    f_add,
    f_class,
    f_convert,
    f_div,
    f_eq,
    f_fma,
    f_from_int,
    f_le,
    f_lt,
    f_max,
    f_min,
    f_mul,
    f_sqrt,
    f_sub,
    f_to_int,
)
from ratite.isa.spec import Row
from ratite.native import Const, i32, i64, native, native_only, u32, u64, unlikely
from ratite.native.intrinsics import (
    host_canonical,
    host_fadd,
    host_fcvt,
    host_fdiv,
    host_feq,
    host_fle,
    host_flt,
    host_fma,
    host_fmul,
    host_fsqrt,
    host_fsub,
    host_ftosi,
    host_sitof,
    host_unordered,
)

Kind = type[Any]
Function = Callable[..., Any]
_FORMATS: tuple[tuple[str, str, Format, Kind, str], ...] = (
    ("s", "00", F32, u32, "f"),
    ("d", "01", F64, u64, "d"),
)


def _rows(
    name: str,
    pattern: str,
    formats: tuple[tuple[str, str, Format, Kind, str], ...] = _FORMATS,
    **constants: object,
) -> list[Row]:
    """A row per format: `{s}` in the name is its letter, `{f}` in the pattern its fmt field."""
    return [
        Row(
            name.format(s=letter),
            pattern.format(f=bits),
            {"fmt": fmt, "kind": kind, "ext": ext, **constants},
        )
        for letter, bits, fmt, kind, ext in formats
    ]


@RISCV.family(
    [
        Row("flw", "imm[11:0] rs1[4:0] 010 rd[4:0] 0000111", {"fmt": F32, "kind": u32, "ext": "f"}),
        Row("fld", "imm[11:0] rs1[4:0] 011 rd[4:0] 0000111", {"fmt": F64, "kind": u64, "ext": "d"}),
    ],
    spec="unpriv 21.5, 22.3",
)
def fp_load(
    hart: Hart, rd: Fpr, rs1: Base, imm: Displacement, fmt: Const[Format], kind: Const[Kind]
) -> None:
    """Load a floating-point value from rs1 + imm."""
    hart.f[rd] = box(fmt, u64(hart.load(kind, hart.x[rs1] + imm)))
    mark_dirty(hart)


@RISCV.family(
    [
        Row("fsw", "imm[11:5] rs2[4:0] rs1[4:0] 010 imm[4:0] 0100111", {"kind": u32, "ext": "f"}),
        Row("fsd", "imm[11:5] rs2[4:0] rs1[4:0] 011 imm[4:0] 0100111", {"kind": u64, "ext": "d"}),
    ],
    spec="unpriv 21.5, 22.3",
)
def fp_store(hart: Hart, rs1: Base, rs2: Fpr, imm: Displacement, kind: Const[Kind]) -> None:
    """Store the register's low bits to rs1 + imm, boxed or not."""
    hart.store(hart.x[rs1] + imm, kind(hart.f[rs2]))


@RISCV.family(
    [
        row
        for name, funct, soft, host in (
            ("fadd", "00000", f_add, host_fadd),
            ("fsub", "00001", f_sub, host_fsub),
            ("fmul", "00010", f_mul, host_fmul),
            ("fdiv", "00011", f_div, host_fdiv),
        )
        for row in _rows(
            name + ".{s}",
            funct + " {f} rs2[4:0] rs1[4:0] rm[2:0] rd[4:0] 1010011",
            soft=soft,
            host=host,
        )
    ],
    spec="unpriv 21.6",
)
def fp_binary(
    hart: Hart,
    rd: Fpr,
    rs1: Fpr,
    rs2: Fpr,
    rm: Rm,
    fmt: Const[Format],
    kind: Const[Kind],
    soft: Const[Function],
    host: Const[Function],
) -> None:
    """Arithmetic of two operands."""
    check_rounding(hart, u32(rm))
    a = unbox(hart, fmt, u32(rs1))
    b = unbox(hart, fmt, u32(rs2))
    result = u64(0)
    by_host = native_only() and host_rounds(hart, u32(rm))
    if by_host:
        result = u64(host_canonical(host(kind(a), kind(b))))
    else:
        result = soft(hart.fp, fmt, a, b, rounding(hart, u32(rm)))
    hart.f[rd] = box(fmt, result)
    mark_dirty(hart)


@RISCV.family(
    _rows("fsqrt.{s}", "01011 {f} 00000 rs1[4:0] rm[2:0] rd[4:0] 1010011"), spec="unpriv 21.6"
)
def fp_sqrt(hart: Hart, rd: Fpr, rs1: Fpr, rm: Rm, fmt: Const[Format], kind: Const[Kind]) -> None:
    """Square root."""
    check_rounding(hart, u32(rm))
    a = unbox(hart, fmt, u32(rs1))
    result = u64(0)
    by_host = native_only() and host_rounds(hart, u32(rm))
    if by_host:
        result = u64(host_canonical(host_fsqrt(kind(a))))
    else:
        result = f_sqrt(hart.fp, fmt, a, rounding(hart, u32(rm)))
    hart.f[rd] = box(fmt, result)
    mark_dirty(hart)


@RISCV.family(
    [
        row
        for name, opcode, product, addend in (
            ("fmadd", "1000011", False, False),
            ("fmsub", "1000111", False, True),
            ("fnmsub", "1001011", True, False),
            ("fnmadd", "1001111", True, True),
        )
        for row in _rows(
            name + ".{s}",
            "rs3[4:0] {f} rs2[4:0] rs1[4:0] rm[2:0] rd[4:0] " + opcode,
            negate_product=product,
            negate_addend=addend,
        )
    ],
    spec="unpriv 21.6",
)
def fp_fused(
    hart: Hart,
    rd: Fpr,
    rs1: Fpr,
    rs2: Fpr,
    rs3: Fpr,
    rm: Rm,
    fmt: Const[Format],
    kind: Const[Kind],
    negate_product: Const[bool],
    negate_addend: Const[bool],
) -> None:
    """Multiply and add with one rounding; the signs of product and addend are the row's."""
    check_rounding(hart, u32(rm))
    a = unbox(hart, fmt, u32(rs1)) ^ (fmt.sign_bit if negate_product else 0)
    b = unbox(hart, fmt, u32(rs2))
    c = unbox(hart, fmt, u32(rs3)) ^ (fmt.sign_bit if negate_addend else 0)
    result = u64(0)
    by_host = native_only() and host_rounds(hart, u32(rm))
    if by_host:
        value = host_fma(kind(a), kind(b), kind(c))
        result = u64(value)
        # Hosts differ in the flags of infinity times zero plus a NaN.
        by_host = not host_unordered(value, value)
    if unlikely(not by_host):
        result = f_fma(hart.fp, fmt, a, b, c, rounding(hart, u32(rm)))
    hart.f[rd] = box(fmt, result)
    mark_dirty(hart)


@native
def sign_of_copy(fmt: Const[Format], a: u64, b: u64, how: Const[str]) -> u64:
    """The sign bit that a sign injection takes from its operands."""
    if how == "copy":
        return b & fmt.sign_bit
    if how == "negate":
        return ~b & fmt.sign_bit
    return (a ^ b) & fmt.sign_bit


@RISCV.family(
    [
        row
        for name, funct, how in (
            ("fsgnj", "000", "copy"),
            ("fsgnjn", "001", "negate"),
            ("fsgnjx", "010", "xor"),
        )
        for row in _rows(
            name + ".{s}", "00100 {f} rs2[4:0] rs1[4:0] " + funct + " rd[4:0] 1010011", how=how
        )
    ],
    spec="unpriv 21.7",
)
def fp_sign(
    hart: Hart, rd: Fpr, rs1: Fpr, rs2: Fpr, fmt: Const[Format], kind: Const[Kind], how: Const[str]
) -> None:
    """Take the magnitude of rs1 with a sign made from both operands. NaNs pass through."""
    a = unbox(hart, fmt, u32(rs1))
    b = unbox(hart, fmt, u32(rs2))
    hart.f[rd] = box(fmt, (a & (fmt.sign_bit - 1)) | sign_of_copy(fmt, a, b, how))
    mark_dirty(hart)


for _letter, *_ in _FORMATS:
    for _alias, _base in (("fmv", "fsgnj"), ("fneg", "fsgnjn"), ("fabs", "fsgnjx")):
        RISCV.alias(f"{_alias}.{_letter}", f"{_base}.{_letter}", rs2="rs1")


@RISCV.family(
    [
        row
        for name, funct, choose in (("fmin", "000", f_min), ("fmax", "001", f_max))
        for row in _rows(
            name + ".{s}",
            "00101 {f} rs2[4:0] rs1[4:0] " + funct + " rd[4:0] 1010011",
            choose=choose,
        )
    ],
    spec="unpriv 21.6",
)
def fp_choose(
    hart: Hart,
    rd: Fpr,
    rs1: Fpr,
    rs2: Fpr,
    fmt: Const[Format],
    kind: Const[Kind],
    choose: Const[Function],
) -> None:
    """Minimum or maximum number: a NaN loses against a number, -0 is below +0."""
    a = unbox(hart, fmt, u32(rs1))
    b = unbox(hart, fmt, u32(rs2))
    hart.f[rd] = box(fmt, choose(hart.fp, fmt, a, b))
    mark_dirty(hart)


@RISCV.family(
    [
        row
        for name, funct, soft, host in (
            ("fle", "000", f_le, host_fle),
            ("flt", "001", f_lt, host_flt),
            ("feq", "010", f_eq, host_feq),
        )
        for row in _rows(
            name + ".{s}",
            "10100 {f} rs2[4:0] rs1[4:0] " + funct + " rd[4:0] 1010011",
            soft=soft,
            host=host,
        )
    ],
    spec="unpriv 21.8",
)
def fp_compare(
    hart: Hart,
    rd: Gpr,
    rs1: Fpr,
    rs2: Fpr,
    fmt: Const[Format],
    kind: Const[Kind],
    soft: Const[Function],
    host: Const[Function],
) -> None:
    """Set rd to 1 if the comparison holds. feq is quiet; flt and fle signal on every NaN."""
    a = unbox(hart, fmt, u32(rs1))
    b = unbox(hart, fmt, u32(rs2))
    if native_only():
        hart.x[rd] = u64(host(kind(a), kind(b)))
    else:
        hart.x[rd] = u64(soft(hart.fp, fmt, a, b))
    mark_dirty(hart)


@RISCV.family(
    _rows("fclass.{s}", "11100 {f} 00000 rs1[4:0] 001 rd[4:0] 1010011"), spec="unpriv 21.9"
)
def fp_class(hart: Hart, rd: Gpr, rs1: Fpr, fmt: Const[Format], kind: Const[Kind]) -> None:
    """Set one of ten bits that say what rs1 is."""
    hart.x[rd] = f_class(fmt, unbox(hart, fmt, u32(rs1)))


@RISCV.family(
    [
        Row("fmv.x.w", "1110000 00000 rs1[4:0] 000 rd[4:0] 1010011", {"bits": i32, "ext": "f"}),
        Row("fmv.x.d", "1110001 00000 rs1[4:0] 000 rd[4:0] 1010011", {"bits": i64, "ext": "d"}),
    ],
    spec="unpriv 21.7, 22.6",
)
def fp_to_bits(hart: Hart, rd: Gpr, rs1: Fpr, bits: Const[Kind]) -> None:
    """Move the register's low bits, sign-extended, boxed or not."""
    hart.x[rd] = u64(bits(hart.f[rs1]))


@RISCV.family(
    [
        Row(
            "fmv.w.x",
            "1111000 00000 rs1[4:0] 000 rd[4:0] 1010011",
            {"fmt": F32, "bits": u32, "ext": "f"},
        ),
        Row(
            "fmv.d.x",
            "1111001 00000 rs1[4:0] 000 rd[4:0] 1010011",
            {"fmt": F64, "bits": u64, "ext": "d"},
        ),
    ],
    spec="unpriv 21.7, 22.6",
)
def fp_from_bits(hart: Hart, rd: Fpr, rs1: Gpr, fmt: Const[Format], bits: Const[Kind]) -> None:
    """Move low bits into an FP register, boxed."""
    hart.f[rd] = box(fmt, u64(bits(hart.x[rs1])))
    mark_dirty(hart)


@RISCV.family(
    [
        Row(
            "fcvt.s.d",
            "0100000 00001 rs1[4:0] rm[2:0] rd[4:0] 1010011",
            {"source": F64, "source_kind": u64, "fmt": F32, "kind": u32, "ext": "d"},
        ),
        Row(
            "fcvt.d.s",
            "0100001 00000 rs1[4:0] rm[2:0] rd[4:0] 1010011",
            {"source": F32, "source_kind": u32, "fmt": F64, "kind": u64, "ext": "d"},
        ),
    ],
    spec="unpriv 22.5",
)
def fp_convert(
    hart: Hart,
    rd: Fpr,
    rs1: Fpr,
    rm: Rm,
    source: Const[Format],
    source_kind: Const[Kind],
    fmt: Const[Format],
    kind: Const[Kind],
) -> None:
    """Convert between formats. To the wider one it is exact, so that any rounding mode will do."""
    check_rounding(hart, u32(rm))
    a = unbox(hart, source, u32(rs1))
    result = u64(0)
    by_host = native_only() and (fmt.width > source.width or host_rounds(hart, u32(rm)))
    if by_host:
        result = u64(host_canonical(host_fcvt(kind, source_kind(a))))
    else:
        result = f_convert(hart.fp, source, fmt, a, rounding(hart, u32(rm)))
    hart.f[rd] = box(fmt, result)
    mark_dirty(hart)


_INTEGERS = (
    ("w", "00000", 32, True),
    ("wu", "00001", 32, False),
    ("l", "00010", 64, True),
    ("lu", "00011", 64, False),
)


@native
def truncates_on_host(fmt: Const[Format], a: u64, width: Const[int], signed: Const[bool]) -> bool:
    """Whether the value is certainly in range of the integer type, so that the host's truncation is
    exact.
    """
    magnitude = a & (fmt.sign_bit - 1)
    bits = width - 1 if signed or width == 64 else width
    limit = fmt.bias + bits
    small = magnitude >> fmt.frac_bits < limit
    return small and (signed or a == magnitude)


@RISCV.family(
    [
        row
        for suffix, funct, width, signed in _INTEGERS
        for row in _rows(
            f"fcvt.{suffix}.{{s}}",
            "11000 {f} " + funct + " rs1[4:0] rm[2:0] rd[4:0] 1010011",
            width=width,
            signed=signed,
        )
    ],
    spec="unpriv 21.7, 22.5",
)
def fp_to_int(
    hart: Hart,
    rd: Gpr,
    rs1: Fpr,
    rm: Rm,
    fmt: Const[Format],
    kind: Const[Kind],
    width: Const[int],
    signed: Const[bool],
) -> None:
    """Convert to an integer, saturating; 32-bit results are sign-extended."""
    check_rounding(hart, u32(rm))
    a = unbox(hart, fmt, u32(rs1))
    if native_only() and rm == RTZ and truncates_on_host(fmt, a, width, signed):
        result = host_ftosi(i64, kind(a))
        if width == 32:
            hart.x[rd] = u64(i32(result))
        else:
            hart.x[rd] = u64(result)
    else:
        hart.x[rd] = f_to_int(hart.fp, fmt, a, rounding(hart, u32(rm)), width, signed)
    mark_dirty(hart)


@RISCV.family(
    [
        row
        for suffix, funct, width, signed in _INTEGERS
        for row in _rows(
            f"fcvt.{{s}}.{suffix}",
            "11010 {f} " + funct + " rs1[4:0] rm[2:0] rd[4:0] 1010011",
            width=width,
            signed=signed,
        )
    ],
    spec="unpriv 21.7, 22.5",
)
def fp_from_int(
    hart: Hart,
    rd: Fpr,
    rs1: Gpr,
    rm: Rm,
    fmt: Const[Format],
    kind: Const[Kind],
    width: Const[int],
    signed: Const[bool],
) -> None:
    """Convert an integer to floating point."""
    check_rounding(hart, u32(rm))
    value = hart.x[rs1]
    wide = i64(value)
    if width == 32 and signed:
        wide = i64(i32(value))
    if width == 32 and not signed:
        wide = i64(u32(value))
    fits = signed or width == 32 or wide >= 0
    if native_only() and fits and host_rounds(hart, u32(rm)):
        hart.f[rd] = box(fmt, u64(host_sitof(kind, wide)))
    else:
        hart.f[rd] = box(
            fmt, f_from_int(hart.fp, fmt, value, rounding(hart, u32(rm)), width, signed)
        )
    mark_dirty(hart)
