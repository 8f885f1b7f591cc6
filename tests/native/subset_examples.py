"""Functions outside the native subset, each in a function of its own so that defining it is the
test.
"""

from __future__ import annotations

from ratite.native import Const, Field, Struct, i32, native, u8, u32, u64

ONE = u64(1)


class Pair(Struct):
    """Two members."""

    a = Field(u32)
    b = Field(u64)


def with_list() -> None:
    @native
    def refused(x: u64) -> u64:
        return [x][0]  # REFUSED: List


def with_try() -> None:
    @native
    def refused(x: u64) -> u64:
        try:  # REFUSED: Try
            return x
        except ValueError:
            return x


def with_default() -> None:
    @native
    def refused(x: u64 = ONE) -> u64:  # REFUSED: defaults
        return x


def with_float() -> None:
    @native
    def refused(x: u64) -> u64:
        return x + u64(1.5)  # REFUSED: 1.5


def with_lambda() -> None:
    @native
    def refused(x: u64) -> u64:
        return (lambda y: y)(x)  # REFUSED: Lambda


@native
def mixed_widths(x: u64, y: u32) -> u64:
    """u64 with u32."""
    return x + y  # REFUSED: u64 with u32: cast one of them


@native
def untyped(x: u64) -> u64:
    """A variable whose type nobody says."""
    n = 0  # REFUSED: 'n' is assigned more than once
    while x > n:
        n += 1
    return x


@native
def changed_type(x: u64) -> u64:
    """One name, two types."""
    n = u64(0)
    if x > 3:
        n = u32(1)  # REFUSED: 'n' is u64, not u32
    return n


@native
def wrong_result(x: u64) -> u32:
    """Not what is promised."""
    return x  # REFUSED: is u64, wants u32


@native
def mixed_comparison(x: u64, y: i32) -> bool:
    """Comparison of different types."""
    return x < y  # REFUSED: comparison of i32 with u64


@native
def no_member(p: Pair) -> u32:
    """A member that is not there."""
    return p.c  # REFUSED: Pair has no member 'c'


@native
def calls_python(x: u64) -> u64:
    """A function that is not native."""
    return print(x)  # REFUSED: print is not a native function


@native
def _twice(x: u64, times: Const[int]) -> u64:
    return x * times


@native
def not_constant(x: u64, n: u8) -> u64:
    """A value where a constant is wanted."""
    return _twice(x, n)  # REFUSED: 'times' of


@native
def unset(x: u64) -> u64:
    """A name that one path does not set."""
    if x > 3:
        y = x + 1
    return y  # REFUSED: before it is set
