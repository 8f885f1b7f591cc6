"""Comparisons, minimum and maximum, and classes.

Source: IEEE 754-2019; RISC-V Unprivileged ISA 20240411, extensions F, D, Zfh and Zfa.
"""

from __future__ import annotations

from ratite.isa.softfloat.format import NV, FloatEnv, Format, is_nan, is_signaling, is_zero
from ratite.isa.softfloat.rounding import nan_result
from ratite.native import Const, native, u32, u64


@native
def _precedes(fmt: Const[Format], a: u64, b: u64) -> bool:
    """Order a before b as numbers, and -0 before +0; neither is a NaN."""
    if (a & fmt.sign_bit) != (b & fmt.sign_bit):
        return (a & fmt.sign_bit) != 0
    if (a & fmt.sign_bit) != 0:
        return a > b
    return a < b


@native
def f_eq(env: FloatEnv, fmt: Const[Format], a: u64, b: u64) -> bool:
    """Tell whether a equals b; quiet NaNs raise nothing."""
    if is_nan(fmt, a) or is_nan(fmt, b):
        if is_signaling(fmt, a) or is_signaling(fmt, b):
            env.flags = env.flags | u32(NV)
        return False
    return a == b or is_zero(fmt, a | b)


@native
def f_lt(env: FloatEnv, fmt: Const[Format], a: u64, b: u64) -> bool:
    """Tell whether a is less than b; any NaN raises NV."""
    if is_nan(fmt, a) or is_nan(fmt, b):
        env.flags = env.flags | u32(NV)
        return False
    return _precedes(fmt, a, b) and not is_zero(fmt, a | b)


@native
def f_le(env: FloatEnv, fmt: Const[Format], a: u64, b: u64) -> bool:
    """Tell whether a is less than or equal to b; any NaN raises NV."""
    if is_nan(fmt, a) or is_nan(fmt, b):
        env.flags = env.flags | u32(NV)
        return False
    return not _precedes(fmt, b, a) or is_zero(fmt, a | b)


@native
def f_min(env: FloatEnv, fmt: Const[Format], a: u64, b: u64) -> u64:
    """Return the lesser number; -0 is less than +0, and a NaN loses to a number.

    This is minimumNumber of IEEE 754-2019, 9.6.
    """
    if is_nan(fmt, a) or is_nan(fmt, b):
        return _number(env, fmt, a, b)
    if _precedes(fmt, b, a):
        return b
    return a


@native
def f_max(env: FloatEnv, fmt: Const[Format], a: u64, b: u64) -> u64:
    """Return the greater number; +0 is greater than -0, and a NaN loses to a number.

    This is maximumNumber of IEEE 754-2019, 9.6.
    """
    if is_nan(fmt, a) or is_nan(fmt, b):
        return _number(env, fmt, a, b)
    if _precedes(fmt, a, b):
        return b
    return a


@native
def _number(env: FloatEnv, fmt: Const[Format], a: u64, b: u64) -> u64:
    """Give that of a and b which is not a NaN; at least one is."""
    nan = nan_result(env, fmt, a, b)
    if not is_nan(fmt, a):
        return a
    if not is_nan(fmt, b):
        return b
    return nan


@native
def f_class(fmt: Const[Format], a: u64) -> u64:
    """Return the one-bit mask of FCLASS.

    Bits from 0: -infinity, -normal, -subnormal, -0, +0, +subnormal, +normal, +infinity, signaling
    NaN, quiet NaN.
    """
    if is_nan(fmt, a):
        return u64(0x100) if is_signaling(fmt, a) else u64(0x200)
    rank = u64(3)  # infinity; the negative classes mirror the positive ones
    if is_zero(fmt, a):
        rank = u64(0)
    elif (a & fmt.infinity) == 0:
        rank = u64(1)
    elif (a & fmt.infinity) != fmt.infinity:
        rank = u64(2)
    if (a & fmt.sign_bit) != 0:
        return u64(8) >> rank
    return u64(0x10) << rank
