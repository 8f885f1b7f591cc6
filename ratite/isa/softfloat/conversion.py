"""Conversions between formats, to and from integers, and to integral values.

Source: IEEE 754-2019; RISC-V Unprivileged ISA 20240411, extensions F, D, Zfh and Zfa.
"""

from __future__ import annotations

from ratite.isa.softfloat.format import (
    NV,
    NX,
    FloatEnv,
    Format,
    exponent,
    is_infinite,
    is_nan,
    is_signaling,
    is_zero,
    significand,
)
from ratite.isa.softfloat.rounding import encode, nan_result, rounds_up
from ratite.native import Const, clz, i32, i64, native, u32, u64

_HALF = 1 << 63  # of a unit, in a fraction scaled by 2**64


@native
def f_convert(env: FloatEnv, src: Const[Format], dst: Const[Format], a: u64, rm: u32) -> u64:
    """Return a, of format src, in format dst."""
    if is_nan(src, a):
        if is_signaling(src, a):
            env.flags = env.flags | u32(NV)
        return u64(dst.canonical_nan)
    sign = a >> src.sign_shift
    if is_infinite(src, a):
        return (sign << dst.sign_shift) | dst.infinity
    if is_zero(src, a):
        return sign << dst.sign_shift
    return encode(env, dst, sign, exponent(src, a), significand(src, a), rm)


@native
def f_to_int(
    env: FloatEnv, fmt: Const[Format], a: u64, rm: u32, width: Const[int], signed: Const[bool]
) -> u64:
    """Return a as an integer of 32 or 64 bits; 32 bits, signed or not, are sign-extended to 64.

    What does not fit, infinities included, gives the nearest integer that does, and a NaN the
    largest; they raise NV and not NX.
    """
    if is_zero(fmt, a):
        return u64(0)
    sign = a >> fmt.sign_shift
    if is_nan(fmt, a):
        sign = u64(0)
    result = _integer_limit(sign, width, signed)
    flags = u32(NV)
    exp = exponent(fmt, a)
    if (a & fmt.infinity) != fmt.infinity and exp <= 63:
        integer = u64(0)
        rest = u64(1)  # stands for all below one half
        sig = significand(fmt, a)
        if exp >= 0:
            integer = sig >> (63 - exp)
            rest = (sig << exp) << 1
        elif exp == -1:
            rest = sig
        inexact = u32(0)
        if rest != 0:
            inexact = u32(NX)
            integer = integer + u64(rounds_up(rm, sign, integer, rest, u64(_HALF)))
        if integer <= result:
            result = integer
            flags = inexact
    env.flags = env.flags | flags
    if sign != 0:
        result = -result
    if width == 32:
        result = u64(i32(result))
    return result


@native
def _integer_limit(sign: u64, width: Const[int], signed: Const[bool]) -> u64:
    """Give the largest magnitude that an integer of that sign can have."""
    top = u64(1) << (width - 1)
    if signed:
        return top - 1 + sign
    if sign != 0:
        return u64(0)
    return top + (top - 1)


@native
def f_from_int(
    env: FloatEnv, fmt: Const[Format], value: u64, rm: u32, width: Const[int], signed: Const[bool]
) -> u64:
    """Return the integer in the low `width` bits (32 or 64) of value as a number of format fmt."""
    sign = u64(0)
    if signed:
        if width == 32:
            value = u64(i32(value))
        if i64(value) < 0:
            sign = u64(1)
            value = -value
    elif width == 32:
        value = u64(u32(value))
    if value == 0:
        return u64(0)
    zeros = clz(value)
    return encode(env, fmt, sign, 63 - i32(zeros), value << zeros, rm)


@native
def f_round_int(env: FloatEnv, fmt: Const[Format], a: u64, rm: u32, exact: Const[bool]) -> u64:
    """Return a rounded to an integral value of its format; if exact, raise NX when that differs."""
    if is_nan(fmt, a):
        return nan_result(env, fmt, a, a)
    exp = i32((a >> fmt.frac_bits) & fmt.exp_max) - fmt.bias
    if exp >= fmt.frac_bits or is_zero(fmt, a):
        return a
    sign = a >> fmt.sign_shift
    if exp < 0:
        # Encodings of one sign are ordered as the numbers are.
        result = a & fmt.sign_bit
        if rounds_up(rm, sign, u64(0), a & fmt.magnitude_mask, u64(fmt.half)):
            result = result | fmt.one
    else:
        # If exp is 0, unit is the lowest exponent bit, which is odd as the hidden bit is.
        unit = u64(1) << (fmt.frac_bits - exp)
        rest = a & (unit - 1)
        result = a - rest
        if rest != 0 and rounds_up(rm, sign, u64((a & unit) != 0), rest, unit >> 1):
            result = result + unit
    if exact and result != a:
        env.flags = env.flags | u32(NX)
    return result
