"""What the generic native code needs of an instruction set. The bodies here only fix the
signatures; a program is generated with each of them replaced by the instruction set's own
function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ratite.isa.spec import InstructionSet
from ratite.isa.state import CpuState
from ratite.native import i64, native, u32, u64


@native
def translate(cpu: CpuState, gva: u64, size: u64, access: u32, index: u32) -> tuple[u64, u32]:
    """Translate an access; see `ratite.isa.riscv.mmu.translate`. May leave a guest exception
    pending.
    """
    return gva, u32(7)


@native
def address_space(cpu: CpuState) -> tuple[u64, u64]:
    """The address space that the vCPU is in: a name that no other has, and the name of a group of
    them, by which translations are forgotten.
    """
    return u64(0), u64(0)


@native
def access_fault(cpu: CpuState, gva: u64, access: u32) -> None:
    """Leave the exception pending that an access to nothing causes."""


@native
def take_exception(cpu: CpuState) -> None:
    """Enter the guest's handler for the pending exception of the instruction at `pc`."""


@native
def take_interrupt(cpu: CpuState) -> bool:
    """Enter the guest's handler for a pending interrupt, if one may be taken now."""
    return False


@native
def decode(cpu: CpuState, record: u64, code: u64, available: u32) -> tuple[u32, i64]:
    """Decode the instruction at host address `code`, of which `available` bytes may be read, into a
    record. Returns its length and DECODE_* flags, or 0 if it needs more bytes; and the displacement
    of its direct jump."""
    return u32(0), i64(0)


@native
def illegal_value(cpu: CpuState, code: u64) -> None:
    """Complete the pending exception of the instruction whose bytes are at `code`, where its value
    is its encoding.
    """


@native
def enter_guest(cpu: CpuState) -> None:
    """Prepare the host for guest code, as its floating-point environment."""


@native
def leave_guest(cpu: CpuState) -> None:
    """Undo `enter_guest`, saving what the guest accrued."""


DECODE_LENGTH = 0xFF
DECODE_ENDS = 1 << 8
"""The instruction ends the block by itself."""
DECODE_DIRECT = 1 << 9
"""The instruction may jump directly, and else falls through."""


@dataclass(frozen=True)
class Target:
    """An instruction set as the executors see it."""

    instructions: InstructionSet
    hooks: Mapping[Callable[..., Any], Callable[..., Any]]
    units: int
    """Alignment of instructions, in bytes."""
    exports: tuple[Callable[..., Any], ...] = ()
    """Native functions that Python calls by address."""
