"""What an expression of the native subset evaluates to while it is lifted, besides objects that are
known already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ratite.native import ir
from ratite.native.struct import Array, Struct
from ratite.native.types import Int


@dataclass(frozen=True, slots=True)
class Val:
    """A value of the generated code; `kind` is a typed integer class or `bool`."""

    kind: type[Any]
    operand: ir.Operand


@dataclass(frozen=True, slots=True)
class Ref:
    """A pointer to a struct, at a constant offset from an IR value."""

    kind: type[Struct]
    base: ir.Operand
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ArrayRef:
    """An array member of a struct."""

    member: Array[Any]
    base: ir.Operand
    offset: int


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a struct, bound to a pointer."""

    ref: Ref
    function: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Deferred:
    """A name whose value is read anew at each use: what is cheap to load need not be kept in a
    register.
    """

    read: Callable[[ir.Builder], Val]


@dataclass(frozen=True, slots=True)
class PcOffset:
    """A decoded operand that is a displacement from the instruction's own address: the target of a
    direct jump.
    """

    slot: int


def ir_type(kind: type[Any]) -> str:
    """The IR type of a Python annotation."""
    if kind is bool:
        return "i1"
    if issubclass(kind, Int):
        return f"i{kind.WIDTH}"
    if issubclass(kind, Struct):
        return "ptr"
    raise TypeError(f"{kind!r} is not a native type")
