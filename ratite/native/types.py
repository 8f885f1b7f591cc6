"""Typed integers of the native subset.

Each class is an `int` whose arithmetic wraps to its width, so a function written with them means in
CPython what its generated machine code means. The rules, in full:

- `+ - * & | ^ ~` and unary minus wrap. Both operands have one width, or one of them is a plain
  Python integer, which takes the other's type. Signed with unsigned of one width gives unsigned, as
  in C.
- `<< >>` shift by the count modulo the width. `>>` is logical for `u`, arithmetic for `i`. The
  count may be of any type.
- `// %` exist for unsigned only, where floor and truncation agree; `quot` and `rem` truncate signed
  values toward zero. A divisor of zero is the caller's mistake (it raises here and is undefined
  natively).
- `< <= > >= == !=` want one signedness and width on both sides, or a plain integer that fits.
- A call casts as C does: `u8(x)` truncates, `i64(i32(x))` sign-extends the low word, `u64(i32(x))`
  sign-extends, `u64(u32(x))` zero-extends, `u64(a < b)` is 0 or 1.
"""

from __future__ import annotations

from typing import ClassVar, Self, SupportsIndex, cast


class Int(int):
    """Base of the typed integers; never instantiated itself."""

    WIDTH: ClassVar[int]
    SIGNED: ClassVar[bool]
    MASK: ClassVar[int]
    UNSIGNED_TWIN: ClassVar[type[Int]]

    def __new__(cls, value: SupportsIndex | int = 0) -> Self:
        bits = int(value) & cls.MASK
        if cls.SIGNED and bits >> (cls.WIDTH - 1):
            bits -= cls.MASK + 1
        return int.__new__(cls, bits)

    def _result(self, other: int) -> type[Self]:
        kind = type(self)
        if type(other) is kind or not isinstance(other, Int):
            return kind
        if other.WIDTH != self.WIDTH:
            raise TypeError(f"{kind.__name__} with {type(other).__name__}: cast one of them")
        return cast(type[Self], kind.UNSIGNED_TWIN)

    def __add__(self, other: int) -> Self:
        return self._result(other)(int.__add__(self, other))

    def __sub__(self, other: int) -> Self:
        return self._result(other)(int.__sub__(self, other))

    def __mul__(self, other: int) -> Self:
        return self._result(other)(int.__mul__(self, other))

    def __and__(self, other: int) -> Self:
        return self._result(other)(int.__and__(self, other))

    def __or__(self, other: int) -> Self:
        return self._result(other)(int.__or__(self, other))

    def __xor__(self, other: int) -> Self:
        return self._result(other)(int.__xor__(self, other))

    def __radd__(self, other: int) -> Self:
        return type(self)(int.__add__(self, other))

    def __rsub__(self, other: int) -> Self:
        return type(self)(other - int(self))

    def __rmul__(self, other: int) -> Self:
        return type(self)(int.__mul__(self, other))

    def __rand__(self, other: int) -> Self:
        return type(self)(int.__and__(self, other))

    def __ror__(self, other: int) -> Self:
        return type(self)(int.__or__(self, other))

    def __rxor__(self, other: int) -> Self:
        return type(self)(int.__xor__(self, other))

    def __floordiv__(self, other: int) -> Self:
        return self._unsigned_only(other)(int.__floordiv__(self, other))

    def __mod__(self, other: int) -> Self:
        return self._unsigned_only(other)(int.__mod__(self, other))

    def _unsigned_only(self, other: int) -> type[Self]:
        kind = self._result(other)
        if self.SIGNED or getattr(other, "SIGNED", False):
            raise TypeError("// and % are for unsigned values; use quot() and rem()")
        return kind

    def __lshift__(self, count: int) -> Self:
        return type(self)(int(self) << (int(count) & (self.WIDTH - 1)))

    def __rshift__(self, count: int) -> Self:
        return type(self)(int(self) >> (int(count) & (self.WIDTH - 1)))

    def __neg__(self) -> Self:
        return type(self)(int.__neg__(self))

    def __invert__(self) -> Self:
        return type(self)(int.__invert__(self))

    def _comparable(self, other: object) -> None:
        if isinstance(other, Int) and type(other) is not type(self):
            raise TypeError(f"comparison of {type(self).__name__} with {type(other).__name__}")

    def __lt__(self, other: int) -> bool:
        self._comparable(other)
        return int.__lt__(self, other)

    def __le__(self, other: int) -> bool:
        self._comparable(other)
        return int.__le__(self, other)

    def __gt__(self, other: int) -> bool:
        self._comparable(other)
        return int.__gt__(self, other)

    def __ge__(self, other: int) -> bool:
        self._comparable(other)
        return int.__ge__(self, other)

    def __eq__(self, other: object) -> bool:
        self._comparable(other)
        return int.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        self._comparable(other)
        return int.__ne__(self, other)

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self):#x})"


class u8(Int):
    """Unsigned, 8 bits."""

    WIDTH, SIGNED, MASK = 8, False, 0xFF


class u16(Int):
    """Unsigned, 16 bits."""

    WIDTH, SIGNED, MASK = 16, False, 0xFFFF


class u32(Int):
    """Unsigned, 32 bits."""

    WIDTH, SIGNED, MASK = 32, False, 0xFFFF_FFFF


class u64(Int):
    """Unsigned, 64 bits."""

    WIDTH, SIGNED, MASK = 64, False, (1 << 64) - 1


class u128(Int):
    """Unsigned, 128 bits."""

    WIDTH, SIGNED, MASK = 128, False, (1 << 128) - 1


class i8(Int):
    """Signed, 8 bits."""

    WIDTH, SIGNED, MASK = 8, True, 0xFF


class i16(Int):
    """Signed, 16 bits."""

    WIDTH, SIGNED, MASK = 16, True, 0xFFFF


class i32(Int):
    """Signed, 32 bits."""

    WIDTH, SIGNED, MASK = 32, True, 0xFFFF_FFFF


class i64(Int):
    """Signed, 64 bits."""

    WIDTH, SIGNED, MASK = 64, True, (1 << 64) - 1


class i128(Int):
    """Signed, 128 bits."""

    WIDTH, SIGNED, MASK = 128, True, (1 << 128) - 1


UNSIGNED: tuple[type[Int], ...] = (u8, u16, u32, u64, u128)
SIGNED: tuple[type[Int], ...] = (i8, i16, i32, i64, i128)
for _unsigned, _signed in zip(UNSIGNED, SIGNED, strict=True):
    _unsigned.UNSIGNED_TWIN = _signed.UNSIGNED_TWIN = _unsigned


def unsigned(width: int) -> type[Int]:
    """The unsigned type of `width` bits (8, 16, 32, 64 or 128)."""
    return next(kind for kind in UNSIGNED if kind.WIDTH == width)
