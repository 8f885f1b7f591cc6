"""Operations of the native subset that Python has no operator for, with their CPython meaning.

An intrinsic is an ordinary function; the frontend knows it by the name that `@intrinsic` gives it
and emits the corresponding IR instead of calling it.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from ratite.native.struct import cell
from ratite.native.types import Int, u8, u32, u64

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", bound=Int)
C = TypeVar("C")


@dataclass(frozen=True)
class Bound:
    """A native function with its `Const` parameters chosen."""

    function: Callable[..., Any]
    constants: dict[str, Any] = field(default_factory=dict)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments, **self.constants)


class ConstMarker:
    """Marks an annotation as known at translation time."""


Const = Annotated[C, ConstMarker]


def intrinsic(name: str) -> Callable[[F], F]:
    """Mark a function or method as the CPython meaning of an operation that the frontend emits
    itself.
    """

    def mark(function: F) -> F:
        function.__intrinsic__ = name  # type: ignore[attr-defined]
        return function

    return mark


@intrinsic("clz")
def clz(value: T) -> T:
    """Leading zeros; the width for zero."""
    return type(value)(value.WIDTH - (int(value) & value.MASK).bit_length())


@intrinsic("ctz")
def ctz(value: T) -> T:
    """Trailing zeros; the width for zero."""
    bits = int(value) & value.MASK
    return type(value)((bits & -bits).bit_length() - 1 if bits else value.WIDTH)


@intrinsic("popcount")
def popcount(value: T) -> T:
    """Number of ones."""
    return type(value)((int(value) & value.MASK).bit_count())


@intrinsic("bswap")
def bswap(value: T) -> T:
    """Bytes in opposite order."""
    size = value.WIDTH // 8
    return type(value)(int.from_bytes((int(value) & value.MASK).to_bytes(size, "little"), "big"))


@intrinsic("quot")
def quot(a: T, b: T) -> T:
    """Signed quotient, truncated toward zero. b must not be zero, nor a/b overflow."""
    magnitude = abs(int(a)) // abs(int(b))
    return type(a)(-magnitude if (a < 0) != (b < 0) else magnitude)


@intrinsic("rem")
def rem(a: T, b: T) -> T:
    """Signed remainder with the sign of a. b must not be zero, nor a/b overflow."""
    magnitude = abs(int(a)) % abs(int(b))
    return type(a)(-magnitude if a < 0 else magnitude)


@intrinsic("switch_call")
def switch_call(table: dict[int, Bound], default: Bound, key: u32, *arguments: Any) -> Any:
    """Call the table's entry for `key`, or the default, with the arguments."""
    return table.get(int(key), default)(*arguments)


@intrinsic("host_load")
def host_load(kind: type[T], address: u64) -> T:
    """A value of `kind` from host memory, in host byte order."""
    return kind(cell(kind, int(address)).value)


@intrinsic("host_store")
def host_store(address: u64, value: Int) -> None:
    """Store `value` to host memory, in host byte order."""
    cell(type(value), int(address)).value = value


@intrinsic("host_fill")
def host_fill(address: u64, byte: u8, size: u64) -> None:
    """Set `size` bytes of host memory."""
    ctypes.memset(int(address), int(byte), int(size))


# In CPython one lock stands for the atomicity of the host's instructions. Native code does not take
# it: the two are never used on one location at a time, because a machine runs either on the
# reference executor or on generated code.
_ATOMIC = threading.Lock()


def _update(address: u64, kind: type[T], change: Callable[[T], T]) -> T:
    with _ATOMIC:
        old = host_load(kind, address)
        host_store(address, change(old))
        return old


@intrinsic("atomic_swap")
def atomic_swap(address: u64, value: T) -> T:
    """Store and return the old value."""
    return _update(address, type(value), lambda old: value)


@intrinsic("atomic_add")
def atomic_add(address: u64, value: T) -> T:
    """Add and return the old value."""
    return _update(address, type(value), lambda old: old + value)


@intrinsic("atomic_and")
def atomic_and(address: u64, value: T) -> T:
    """And, returning the old value."""
    return _update(address, type(value), lambda old: old & value)


@intrinsic("atomic_or")
def atomic_or(address: u64, value: T) -> T:
    """Or, returning the old value."""
    return _update(address, type(value), lambda old: old | value)


@intrinsic("atomic_xor")
def atomic_xor(address: u64, value: T) -> T:
    """Exclusive or, returning the old value."""
    return _update(address, type(value), lambda old: old ^ value)


@intrinsic("atomic_min")
def atomic_min(address: u64, value: T) -> T:
    """Minimum by the type's order, returning the old value."""
    return _update(address, type(value), lambda old: min(old, value))


@intrinsic("atomic_max")
def atomic_max(address: u64, value: T) -> T:
    """Maximum by the type's order, returning the old value."""
    return _update(address, type(value), lambda old: max(old, value))


@intrinsic("atomic_cas")
def atomic_cas(address: u64, expected: T, value: T) -> T:
    """Store `value` if memory holds `expected`; return what it held."""
    return _update(address, type(value), lambda old: value if old == expected else old)


@intrinsic("atomic_load")
def atomic_load(kind: type[T], address: u64) -> T:
    """Load with acquire order."""
    return host_load(kind, address)


@intrinsic("atomic_store")
def atomic_store(address: u64, value: Int) -> None:
    """Store with release order."""
    host_store(address, value)


@intrinsic("fence")
def fence() -> None:
    """Order every earlier memory access before every later one."""


@intrinsic("pause")
def pause() -> None:
    """Hint that this is a spin loop."""
    time.sleep(0)


@intrinsic("likely")
def likely(condition: bool) -> bool:
    """The condition, which is expected to hold."""
    return condition


@intrinsic("unlikely")
def unlikely(condition: bool) -> bool:
    """The condition, which is expected not to hold."""
    return condition


@intrinsic("clock_ns")
def clock_ns() -> u64:
    """The host's monotonic clock, in nanoseconds."""
    return u64(time.monotonic_ns())


@intrinsic("native_only")
def native_only() -> bool:
    """True in generated code, False in CPython: chooses a host shortcut for what the rest of a
    function defines.
    """
    return False


@intrinsic("symbol_address")
def symbol_address(name: str) -> u64:
    """Address of a generated function; meaningful in generated code only, zero in CPython."""
    return u64(0)


# How one generated handler goes on to the next; see `ratite.accel.jit.control`.


@intrinsic("dispatch")
def dispatch(record: u64, block: u64, budget: Int) -> None:
    """Go on at a record: call its handler and do not return."""
    raise RuntimeError("records are executed by generated code only")


@intrinsic("continue_with")
def continue_with(handler: str, budget: Int) -> None:
    """Go on in another handler, with this one's record and block."""
    raise RuntimeError("handlers run in generated code only")


@intrinsic("return_to_python")
def return_to_python() -> None:
    """Return from generated code."""
    raise RuntimeError("handlers run in generated code only")


# Host FPU operations on bit patterns, under the rounding mode and with the sticky flags of the
# host's FPU. They are reached only behind `native_only()`: their CPython meaning is the soft-float
# code beside them.


def _fpu_only(*_: object) -> Any:
    raise RuntimeError("host FPU operations exist in generated code only")


def _fpu(name: str) -> Any:
    def stand_in(*arguments: object) -> Any:
        return _fpu_only(*arguments)

    return intrinsic(name)(stand_in)


host_fadd: Callable[[T, T], T] = _fpu("fadd")
host_fsub: Callable[[T, T], T] = _fpu("fsub")
host_fmul: Callable[[T, T], T] = _fpu("fmul")
host_fdiv: Callable[[T, T], T] = _fpu("fdiv")
host_fsqrt: Callable[[T], T] = _fpu("fsqrt")
host_fma: Callable[[T, T, T], T] = _fpu("fma")
host_feq: Callable[[T, T], bool] = _fpu("feq")
host_flt: Callable[[T, T], bool] = _fpu("flt")
host_fle: Callable[[T, T], bool] = _fpu("fle")
host_unordered: Callable[[T, T], bool] = _fpu("funo")
"""Whether one of them is a NaN. A signalling one may leave a flag or not."""
host_canonical: Callable[[T], T] = _fpu("fcanon")
"""A result of the host's FPU, with the canonical NaN in place of any NaN."""
host_fcvt: Callable[[type[T], Int], T] = _fpu("fcvt")
host_ftosi: Callable[[type[T], Int], T] = _fpu("ftosi")
host_sitof: Callable[[type[T], Int], T] = _fpu("sitof")
host_uitof: Callable[[type[T], Int], T] = _fpu("uitof")
host_fp_flags: Callable[[], u32] = _fpu("host_fp_flags")
host_fp_set: Callable[[u32], None] = _fpu("host_fp_set")
