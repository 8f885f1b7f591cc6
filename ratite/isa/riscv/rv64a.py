"""A extension: atomic memory operations (Unprivileged ISA 20240411, chapter 14).

Each is one atomic operation of the host, sequentially consistent, which is at least what any aq/rl
bits ask for. Store-conditional compares memory with the value that load-reserved read, so that it
also succeeds where another hart wrote that very value in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ratite.isa.riscv.state import LOAD_MISALIGNED, RISCV, STORE_MISALIGNED, Base, Bit, Gpr, Hart
from ratite.isa.spec import Row
from ratite.isa.state import READ, WRITE
from ratite.native import (
    Const,
    atomic_add,
    atomic_and,
    atomic_cas,
    atomic_load,
    atomic_max,
    atomic_min,
    atomic_or,
    atomic_swap,
    atomic_xor,
    i32,
    i64,
    u32,
    u64,
)

Kind = type[Any]
_FORMS: tuple[tuple[str, str, Kind, Kind], ...] = (("w", "010", i32, u32), ("d", "011", i64, u64))
_UPDATES: tuple[tuple[str, str, Callable[..., Any], bool], ...] = (
    ("amoswap", "00001", atomic_swap, True),
    ("amoadd", "00000", atomic_add, True),
    ("amoxor", "00100", atomic_xor, True),
    ("amoand", "01100", atomic_and, True),
    ("amoor", "01000", atomic_or, True),
    ("amomin", "10000", atomic_min, True),
    ("amomax", "10100", atomic_max, True),
    ("amominu", "11000", atomic_min, False),
    ("amomaxu", "11100", atomic_max, False),
)


def _rows() -> list[Row]:
    return [
        Row(
            f"{name}.{suffix}",
            f"{funct} aq[0] rl[0] rs2[4:0] rs1[4:0] {width} rd[4:0] 0101111",
            {
                "update": update,
                "kind": signed_kind if signed else unsigned_kind,
                "signed_kind": signed_kind,
            },
        )
        for name, funct, update, signed in _UPDATES
        for suffix, width, signed_kind, unsigned_kind in _FORMS
    ]


@RISCV.family(_rows(), spec="unpriv 14.4", ext="a")
def amo(
    hart: Hart,
    rd: Gpr,
    rs1: Base,
    rs2: Gpr,
    aq: Bit,
    rl: Bit,
    update: Const[Callable[..., Any]],
    kind: Const[Kind],
    signed_kind: Const[Kind],
) -> None:
    """Atomically combine memory at rs1 with rs2; rd gets the old value, sign-extended."""
    address = hart.x[rs1]
    if address & (kind.WIDTH // 8 - 1) != 0:
        hart.raise_exception(u64(STORE_MISALIGNED), address)
    else:
        place = hart.pointer_to(address, kind.WIDTH // 8, READ | WRITE)
        old = update(place, kind(hart.x[rs2]))
        hart.x[rd] = u64(signed_kind(old))


@RISCV.family(
    [
        Row(
            f"lr.{suffix}",
            f"00010 aq[0] rl[0] 00000 rs1[4:0] {width} rd[4:0] 0101111",
            {"kind": kind},
        )
        for suffix, width, kind, _ in _FORMS
    ],
    spec="unpriv 14.2",
    ext="a",
)
def lr(hart: Hart, rd: Gpr, rs1: Base, aq: Bit, rl: Bit, kind: Const[Kind]) -> None:
    """Load a value and reserve its address."""
    address = hart.x[rs1]
    if address & (kind.WIDTH // 8 - 1) != 0:
        hart.raise_exception(u64(LOAD_MISALIGNED), address)
    else:
        place = hart.pointer_to(address, kind.WIDTH // 8, READ)
        value = u64(atomic_load(kind, place))
        hart.reservation_address = place
        hart.reservation_value = value
        hart.reservation_valid = u32(kind.WIDTH)
        hart.x[rd] = value


@RISCV.family(
    [
        Row(
            f"sc.{suffix}",
            f"00011 aq[0] rl[0] rs2[4:0] rs1[4:0] {width} rd[4:0] 0101111",
            {"kind": kind},
        )
        for suffix, width, kind, _ in _FORMS
    ],
    spec="unpriv 14.2",
    ext="a",
)
def sc(hart: Hart, rd: Gpr, rs1: Base, rs2: Gpr, aq: Bit, rl: Bit, kind: Const[Kind]) -> None:
    """Store if the reservation still holds: rd gets 0 for success, 1 for failure."""
    address = hart.x[rs1]
    if address & (kind.WIDTH // 8 - 1) != 0:
        hart.raise_exception(u64(STORE_MISALIGNED), address)
    else:
        place = hart.pointer_to(address, kind.WIDTH // 8, READ | WRITE)
        failed = u64(1)
        if hart.reservation_valid == kind.WIDTH and hart.reservation_address == place:
            expected = kind(hart.reservation_value)
            if atomic_cas(place, expected, kind(hart.x[rs2])) == expected:
                failed = u64(0)
        hart.reservation_valid = u32(0)
        hart.x[rd] = failed
