"""Native functions that use every operator and intrinsic, for the comparison of CPython and
generated code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ratite.native import (
    Array,
    Bound,
    Const,
    Field,
    Nested,
    Struct,
    atomic_add,
    atomic_and,
    atomic_cas,
    atomic_load,
    atomic_max,
    atomic_min,
    atomic_or,
    atomic_store,
    atomic_swap,
    atomic_xor,
    bswap,
    clz,
    ctz,
    host_fill,
    host_load,
    host_store,
    i64,
    native,
    popcount,
    quot,
    rem,
    switch_call,
    u8,
    u16,
    u32,
    u64,
)


class Inner(Struct):
    """A struct inside."""

    flags = Field(u32)
    level = Field(i64)


class Outer(Struct):
    """Members of every kind."""

    byte = Field(u8)
    word = Field(u16)
    total = Field(u64)
    table = Array(u32, 8)
    inner = Nested(Inner)


Kind = Const[type[Any]]


@native
def arithmetic(a: u64, b: u64, kind: Kind) -> u64:
    """Wrapping arithmetic, logic and shifts in a type."""
    x = kind(a)
    y = kind(b)
    r = x + y
    r = r ^ (x * y)
    r = r - (x & ~y)
    r = r | (x << (b & 63))
    r = r ^ (y >> (a & 127))
    return u64(-r)


@native
def division(a: u64, b: u64, kind: Kind) -> u64:
    """Unsigned quotient and remainder."""
    y = kind(b) | 1
    return u64(kind(a) // y) ^ u64(kind(a) % y)


@native
def signed_division(a: u64, b: u64, kind: Kind) -> u64:
    """Signed quotient and remainder; the overflowing case left out."""
    x = kind(a) >> 1
    y = kind(b) | 1
    return u64(quot(x, y)) ^ u64(rem(x, y))


@native
def bits(a: u64, b: u64, kind: Kind) -> u64:
    """Bit counts and byte order."""
    x = kind(a)
    r = u64(clz(x)) + u64(ctz(x)) * 3 + u64(popcount(x)) * 7
    if kind.WIDTH != 8:
        r ^= u64(bswap(x))
    return r


@native
def compare(a: u64, b: u64, kind: Kind) -> u64:
    """Every comparison, chains, and short-circuit conditions."""
    x = kind(a)
    y = kind(b)
    r = u64(x < y) | u64(x <= y) << 1 | u64(x > y) << 2 | u64(x >= y) << 3
    r |= u64(x == y) << 4 | u64(x != y) << 5
    if (x < y and y != 0) or not x > 3:
        r |= 1 << 6
    if 3 < x < y:
        r |= 1 << 7
    return r + (u64(1 << 8) if x else u64(1 << 9))


@native
def loops(a: u64, b: u64, kind: Kind) -> u64:
    """while with break and continue, and an unrolled for."""
    r = u64(0)
    n = u32(a & 31)
    while n != 0:
        n -= 1
        if n == 5:
            continue
        if r > b:
            break
        r = r * 3 + u64(n)
    for k in range(4):
        r ^= b >> (k * 16)
    return r


@native
def pair(a: u64, b: u64) -> tuple[u64, bool]:
    """Two results."""
    return a * b, a < b


@native
def tuples(a: u64, b: u64, kind: Kind) -> u64:
    """Unpacking a call's results."""
    product, less = pair(a, b)
    return product + u64(less)


@native
def _plus(a: u64, n: Const[int]) -> u64:
    return a + n


@native
def _none(a: u64) -> u64:
    return a ^ 1


_TABLE = {0: Bound(_plus, {"n": 5}), 3: Bound(_plus, {"n": 9}), 7: Bound(_none)}
_DEFAULT = Bound(_none)


@native
def table(a: u64, b: u64, kind: Kind) -> u64:
    """A call chosen by a number."""
    found: u64 = switch_call(_TABLE, _DEFAULT, u32(b & 7), a)
    return found


@native
def memory(o: Outer, a: u64, b: u64) -> u64:
    """Members, elements, nested structs, host memory and atomics."""
    o.byte = u8(a)
    o.word = u16(b) + o.word
    o.total += a
    o.table[b & 7] = u32(a)
    o.table[3] ^= u32(b)
    o.inner.flags |= u32(a)
    o.inner.level = i64(b) >> 3
    place = o.pointer() + Outer.total.offset
    r = atomic_add(place, a) ^ atomic_xor(place, b) ^ atomic_swap(place, a + b)
    r += atomic_or(place, u64(1)) + atomic_and(place, ~u64(2))
    r ^= atomic_max(place, b) ^ atomic_min(place, a)
    r ^= u64(atomic_min(place, i64(a))) ^ u64(atomic_max(place, i64(b)))
    r ^= atomic_cas(place, a, b) ^ atomic_load(u64, place)
    atomic_store(o.pointer() + Outer.word.offset, u16(r))
    host_store(o.pointer() + Outer.table.offset + 8, u32(r))
    host_fill(o.pointer() + Outer.table.offset + 16, u8(b), u64(4))
    return r + u64(host_load(u32, o.pointer() + Outer.table.offset + 8)) + o.total


FUNCTIONS: tuple[Callable[..., u64], ...] = (arithmetic, bits, compare, loops, tuples, table)
