"""Rounding and encoding of results.

Before it is encoded, a finite non-zero number is a sign (0 or 1), an exponent and a significand
normalised to the top bit of a u64: `significand / 2**63 * 2**exponent`. Bit 0 may be sticky: it is
set if anything non-zero was shifted out below it.

Source: IEEE 754-2019, 4.3 and 7; RISC-V Unprivileged ISA 20240411, extension F.
"""

from __future__ import annotations

from ratite.isa.softfloat.format import (
    NV,
    NX,
    OF,
    RDN,
    RMM,
    RNE,
    RTZ,
    RUP,
    UF,
    FloatEnv,
    Format,
    is_signaling,
)
from ratite.native import Const, clz, i32, native, u32, u64, u128


@native
def rounds_up(rm: u32, sign: u64, last: u64, rest: u64, half: u64) -> bool:
    """Tell whether a magnitude goes up, given its last kept bit and the non-zero part below it."""
    if rm == RNE:
        return rest > half or (rest == half and (last & 1) != 0)
    if rm == RMM:
        return rest >= half
    if rm == RDN:
        return sign != 0
    return rm == RUP and sign == 0


@native
def _overflow(env: FloatEnv, fmt: Const[Format], sign: u64, rm: u32) -> u64:
    env.flags = env.flags | u32(OF | NX)
    result = u64(fmt.infinity)
    if rm == RTZ or (rm == RDN and sign == 0) or (rm == RUP and sign != 0):
        result = u64(fmt.largest)
    return result | (sign << fmt.sign_shift)


@native
def encode(env: FloatEnv, fmt: Const[Format], sign: u64, exp: i32, sig: u64, rm: u32) -> u64:
    """Encode sig / 2**63 * 2**exp, rounded; bit 63 of sig must be set."""
    biased = exp + fmt.bias
    if biased >= fmt.exp_max:
        return _overflow(env, fmt, sign, rm)
    inexact = u32(NX)
    if biased <= 0:
        inexact = u32(NX | UF)
        kept = sig >> fmt.round_shift
        if biased == 0 and kept == fmt.ones:
            # With an unbounded exponent this may round to the least normal number: not tiny.
            rest = sig & fmt.round_mask
            if rest != 0 and rounds_up(rm, sign, kept, rest, u64(fmt.round_half)):
                inexact = u32(NX)
        sig = _shift_sticky(sig, u32(1 - biased))
        biased = i32(1)
    rest = sig & fmt.round_mask
    # The hidden bit of a normal number adds the missing one to the exponent field.
    result = (u64(biased - 1) << fmt.frac_bits) + (sig >> fmt.round_shift)
    if rest != 0:
        if rounds_up(rm, sign, result, rest, u64(fmt.round_half)):
            result = result + 1
            if result == fmt.infinity:
                return _overflow(env, fmt, sign, rm)
        env.flags = env.flags | inexact
    return result | (sign << fmt.sign_shift)


@native
def encode_wide(env: FloatEnv, fmt: Const[Format], sign: u64, exp: i32, sig: u128, rm: u32) -> u64:
    """Encode sig / 2**126 * 2**exp, rounded; sig must not be zero."""
    zeros = clz(sig)
    sig = sig << zeros
    top = u64(sig >> 64) | u64(u64(sig) != 0)
    return encode(env, fmt, sign, exp + 1 - i32(zeros), top, rm)


@native
def _shift_sticky(sig: u64, count: u32) -> u64:
    if count >= 64:
        return u64(sig != 0)
    shifted = sig >> count
    return shifted | u64((shifted << count) != sig)


@native
def shift_sticky_wide(sig: u128, count: u32) -> u128:
    """Shift right by any count; bit 0 of the result is set if anything non-zero is lost."""
    if count >= 128:
        return u128(sig != 0)
    shifted = sig >> count
    return shifted | u128((shifted << count) != sig)


@native
def invalid(env: FloatEnv, fmt: Const[Format]) -> u64:
    """Raise NV; the result is a NaN."""
    env.flags = env.flags | u32(NV)
    return u64(fmt.canonical_nan)


@native
def nan_result(env: FloatEnv, fmt: Const[Format], a: u64, b: u64) -> u64:
    """Give the result of an operation on a and b of which at least one is a NaN."""
    if is_signaling(fmt, a) or is_signaling(fmt, b):
        env.flags = env.flags | u32(NV)
    return u64(fmt.canonical_nan)
