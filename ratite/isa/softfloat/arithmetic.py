"""Sum, product, fused multiply-add, quotient and square root.

Source: IEEE 754-2019; RISC-V Unprivileged ISA 20240411, extensions F, D, Zfh and Zfa.
"""

from __future__ import annotations

from ratite.isa.softfloat.format import (
    DZ,
    RDN,
    FloatEnv,
    Format,
    exponent,
    is_infinite,
    is_nan,
    is_signaling,
    is_zero,
    significand,
)
from ratite.isa.softfloat.rounding import (
    encode,
    encode_wide,
    invalid,
    nan_result,
    shift_sticky_wide,
)
from ratite.native import Const, i32, native, u32, u64, u128


@native
def f_add(env: FloatEnv, fmt: Const[Format], a: u64, b: u64, rm: u32) -> u64:
    """Return a + b."""
    return f_fma(env, fmt, a, u64(fmt.one), b, rm)


@native
def f_sub(env: FloatEnv, fmt: Const[Format], a: u64, b: u64, rm: u32) -> u64:
    """Return a - b."""
    return f_fma(env, fmt, a, u64(fmt.one), b ^ fmt.sign_bit, rm)


@native
def f_mul(env: FloatEnv, fmt: Const[Format], a: u64, b: u64, rm: u32) -> u64:
    """Return a * b."""
    # Adding a zero of the product's sign changes nothing.
    return f_fma(env, fmt, a, b, (a ^ b) & fmt.sign_bit, rm)


@native
def f_fma(env: FloatEnv, fmt: Const[Format], a: u64, b: u64, c: u64, rm: u32) -> u64:
    """Return a * b + c, rounded once; the negated and subtracting forms flip signs of a and c."""
    if (
        (a & fmt.infinity) == fmt.infinity
        or (b & fmt.infinity) == fmt.infinity
        or (c & fmt.infinity) == fmt.infinity
    ):
        return _fma_special(env, fmt, a, b, c)
    sign = (a ^ b) >> fmt.sign_shift
    if is_zero(fmt, a) or is_zero(fmt, b):
        if is_zero(fmt, c):
            return _sum_of_zeros(fmt, sign, c, rm)
        return c
    exp = exponent(fmt, a) + exponent(fmt, b)
    product = u128(significand(fmt, a)) * u128(significand(fmt, b))
    if is_zero(fmt, c):
        return encode_wide(env, fmt, sign, exp, product, rm)
    return _add_to_product(env, fmt, sign, exp, product, c, rm)


@native
def _fma_special(env: FloatEnv, fmt: Const[Format], a: u64, b: u64, c: u64) -> u64:
    """Do `f_fma` when an operand is a NaN or infinite."""
    if (is_infinite(fmt, a) and is_zero(fmt, b)) or (is_zero(fmt, a) and is_infinite(fmt, b)):
        return invalid(env, fmt)
    if is_nan(fmt, a) or is_nan(fmt, b) or is_nan(fmt, c):
        if is_signaling(fmt, c):
            return invalid(env, fmt)
        return nan_result(env, fmt, a, b)
    if is_infinite(fmt, a) or is_infinite(fmt, b):
        product = ((a ^ b) & fmt.sign_bit) | fmt.infinity
        if is_infinite(fmt, c) and c != product:
            return invalid(env, fmt)
        return product
    return c


@native
def _sum_of_zeros(fmt: Const[Format], sign: u64, c: u64, rm: u32) -> u64:
    """Add a zero of the given sign and the zero c."""
    if c >> fmt.sign_shift == sign:
        return c
    return _exact_zero(fmt, rm)


@native
def _exact_zero(fmt: Const[Format], rm: u32) -> u64:
    """Give the sum of two numbers that cancel."""
    return u64(rm == RDN) << fmt.sign_shift


@native
def _add_to_product(
    env: FloatEnv, fmt: Const[Format], sign: u64, exp: i32, product: u128, c: u64, rm: u32
) -> u64:
    """Add product / 2**126 * 2**exp, negated if sign is 1, and c, which is finite and not zero.

    A product of two significands has zeros at its low end, so halving it loses nothing, and an
    alignment that does lose bits is so far that the sum cancels at most one leading bit.
    """
    sign_c = c >> fmt.sign_shift
    exp_c = exponent(fmt, c) + 1
    addend = u128(significand(fmt, c)) << 62
    product = product >> 1  # bit 127 is room for a carry
    exp = exp + 1
    # Both are now scaled by 2**126, product in [2**125, 2**127) and addend in [2**125, 2**126).
    if exp < exp_c:
        product = shift_sticky_wide(product, u32(exp_c - exp))
        exp = exp_c
    else:
        addend = shift_sticky_wide(addend, u32(exp - exp_c))
    if sign == sign_c:
        return encode_wide(env, fmt, sign, exp, product + addend, rm)
    if product > addend:
        return encode_wide(env, fmt, sign, exp, product - addend, rm)
    if product < addend:
        return encode_wide(env, fmt, sign_c, exp, addend - product, rm)
    return _exact_zero(fmt, rm)


@native
def f_div(env: FloatEnv, fmt: Const[Format], a: u64, b: u64, rm: u32) -> u64:
    """Return a / b."""
    sign = (a ^ b) & fmt.sign_bit
    if is_nan(fmt, a) or is_nan(fmt, b):
        return nan_result(env, fmt, a, b)
    if is_infinite(fmt, a):
        if is_infinite(fmt, b):
            return invalid(env, fmt)
        return sign | fmt.infinity
    if is_infinite(fmt, b):
        return sign
    if is_zero(fmt, b):
        if is_zero(fmt, a):
            return invalid(env, fmt)
        env.flags = env.flags | u32(DZ)
        return sign | fmt.infinity
    if is_zero(fmt, a):
        return sign
    exp = exponent(fmt, a) - exponent(fmt, b)
    return _divide(
        env, fmt, sign >> fmt.sign_shift, exp, significand(fmt, a), significand(fmt, b), rm
    )


@native
def _divide(
    env: FloatEnv, fmt: Const[Format], sign: u64, exp: i32, dividend: u64, divisor: u64, rm: u32
) -> u64:
    """Give dividend / divisor * 2**exp, by long division with digits of div_width bits."""
    remainder = dividend >> fmt.round_shift
    divisor = divisor >> fmt.round_shift
    if remainder < divisor:
        remainder = remainder << 1
        exp = exp - 1
    remainder = remainder - divisor
    quotient = u64(1)
    for _ in range(fmt.div_steps):
        remainder = remainder << fmt.div_width
        digit = remainder // divisor
        remainder = remainder - digit * divisor
        quotient = (quotient << fmt.div_width) | digit
    sig = (quotient << fmt.div_align) | u64(remainder != 0)
    return encode(env, fmt, sign, exp, sig, rm)


@native
def f_sqrt(env: FloatEnv, fmt: Const[Format], a: u64, rm: u32) -> u64:
    """Return the square root of a; that of -0 is -0."""
    if is_nan(fmt, a):
        return nan_result(env, fmt, a, a)
    if is_zero(fmt, a):
        return a
    if (a & fmt.sign_bit) != 0:
        return invalid(env, fmt)
    if is_infinite(fmt, a):
        return a
    exp = exponent(fmt, a)
    # In units of sqrt_first: the radicand is in [1, 4), its root in [1, 2).
    remainder = significand(fmt, a) >> (fmt.round_shift - 2)
    if (exp & 1) != 0:
        remainder = remainder << 1
    root = u64(fmt.sqrt_first)
    remainder = remainder - root
    bit = root >> 1
    while bit != 0 and remainder != 0:
        # The remainder is radicand - root**2, doubled at every step to the scale of `bit`; trial
        # is what taking `bit` into the root would subtract from it.
        remainder = remainder << 1
        trial = (root << 1) | bit
        if remainder >= trial:
            remainder = remainder - trial
            root = root | bit
        bit = bit >> 1
    sig = (root << fmt.sqrt_align) | u64(remainder != 0)
    return encode(env, fmt, u64(0), exp >> 1, sig, rm)
