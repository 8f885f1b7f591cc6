"""Binary interchange formats, and the parts of a number.

Source: IEEE 754-2019; RISC-V Unprivileged ISA 20240411, extensions F, D, Zfh and Zfa.
"""

from __future__ import annotations

from dataclasses import dataclass

from ratite.native import Const, Field, Struct, clz, i32, native, u32, u64

# Rounding modes, as `frm` numbers them.
RNE = 0  # to nearest, ties to even
RTZ = 1  # towards zero
RDN = 2  # down
RUP = 3  # up
RMM = 4  # to nearest, ties away from zero

# Exceptions, as `fflags` holds them.
NX = 1  # inexact
UF = 2  # underflow
OF = 4  # overflow
DZ = 8  # division by zero
NV = 16  # invalid operation


class FloatEnv(Struct):
    """State that holds the accrued exceptions."""

    flags = Field(u32, doc="sticky; bits NX UF OF DZ NV")


@dataclass(frozen=True)
class Format:
    """Encoding of a binary interchange format, with the constants that follow from it.

    The round_* fields describe the bits below the last place of a significand normalised to
    bit 63; the div_* and sqrt_* fields size the loops of `f_div` and `f_sqrt`.
    """

    name: str
    width: int
    exp_bits: int
    frac_bits: int
    sign_shift: int
    sign_bit: int
    magnitude_mask: int
    exp_max: int
    frac_mask: int
    hidden_bit: int
    quiet_bit: int
    bias: int
    infinity: int
    largest: int
    one: int
    half: int
    canonical_nan: int
    round_shift: int
    round_mask: int
    round_half: int
    ones: int  # a significand, hidden bit included, of all ones
    div_width: int  # quotient bits a step yields: what a remainder can be shifted left in a u64
    div_steps: int
    div_align: int
    sqrt_first: int  # the root's integer bit
    sqrt_align: int


def _interchange_format(exp_bits: int, frac_bits: int) -> Format:
    width = 1 + exp_bits + frac_bits
    exp_max = (1 << exp_bits) - 1
    infinity = exp_max << frac_bits
    quiet_bit = 1 << (frac_bits - 1)
    bias = exp_max >> 1
    round_shift = 63 - frac_bits
    div_steps = -(-(frac_bits + 2) // round_shift)
    return Format(
        name=f"f{width}",
        width=width,
        exp_bits=exp_bits,
        frac_bits=frac_bits,
        sign_shift=width - 1,
        sign_bit=1 << (width - 1),
        magnitude_mask=(1 << (width - 1)) - 1,
        exp_max=exp_max,
        frac_mask=(1 << frac_bits) - 1,
        hidden_bit=1 << frac_bits,
        quiet_bit=quiet_bit,
        bias=bias,
        infinity=infinity,
        largest=infinity - 1,
        one=bias << frac_bits,
        half=(bias - 1) << frac_bits,
        canonical_nan=infinity | quiet_bit,
        round_shift=round_shift,
        round_mask=(1 << round_shift) - 1,
        round_half=1 << (round_shift - 1),
        ones=(2 << frac_bits) - 1,
        div_width=round_shift,
        div_steps=div_steps,
        div_align=63 - div_steps * round_shift,
        sqrt_first=1 << (frac_bits + 2),
        sqrt_align=61 - frac_bits,
    )


F16 = _interchange_format(5, 10)
F32 = _interchange_format(8, 23)
F64 = _interchange_format(11, 52)


@native
def is_nan(fmt: Const[Format], a: u64) -> bool:
    """Tell whether a is a NaN of either kind."""
    return (a & fmt.magnitude_mask) > fmt.infinity


@native
def is_signaling(fmt: Const[Format], a: u64) -> bool:
    """Tell whether a is a signaling NaN."""
    return (a & fmt.magnitude_mask) > fmt.infinity and (a & fmt.quiet_bit) == 0


@native
def is_infinite(fmt: Const[Format], a: u64) -> bool:
    """Tell whether a is an infinity of either sign."""
    return (a & fmt.magnitude_mask) == fmt.infinity


@native
def is_zero(fmt: Const[Format], a: u64) -> bool:
    """Tell whether a is a zero of either sign."""
    return (a & fmt.magnitude_mask) == 0


@native
def exponent(fmt: Const[Format], a: u64) -> i32:
    """Give floor(log2(abs(a))) of a finite non-zero a."""
    field = i32((a >> fmt.frac_bits) & fmt.exp_max)
    if field != 0:
        return field - fmt.bias
    return i32(fmt.round_shift) + 1 - fmt.bias - i32(clz(a & fmt.frac_mask))


@native
def significand(fmt: Const[Format], a: u64) -> u64:
    """Give the significand of a finite non-zero a, normalised to bit 63."""
    fraction = a & fmt.frac_mask
    if (a & fmt.infinity) == 0:
        return fraction << clz(fraction)
    return (fraction | fmt.hidden_bit) << fmt.round_shift
