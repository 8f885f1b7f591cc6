"""RISC-V as the executors see it: the hooks of `ratite.cpu.hooks`, and what remains of decoding."""

from __future__ import annotations

from ratite.isa.riscv.fpu import gather_flags, load_host_fpu
from ratite.isa.riscv.mmu import access_fault, address_space, translate
from ratite.isa.riscv.state import EXTENSION_BIT, FS, ILLEGAL, Hart
from ratite.isa.riscv.trap import take_exception, take_interrupt
from ratite.native import host_load, i64, native, native_only, u16, u32, u64
from ratite.native.intrinsics import host_fp_set

FLOAT_BITS = 1 << EXTENSION_BIT["f"] | 1 << EXTENSION_BIT["d"]


@native
def illegal_instruction(hart: Hart) -> None:
    """What an encoding does that is no instruction."""
    hart.raise_exception(u64(ILLEGAL), u64(0))


@native
def enabled_extensions(hart: Hart) -> u64:
    """Extensions whose instructions exist now: FP ones only while mstatus.FS is on."""
    if hart.mstatus & FS == 0:
        return hart.extensions & ~FLOAT_BITS
    return hart.extensions


@native
def decode(hart: Hart, record: u64, code: u64, available: u32) -> tuple[u32, i64]:
    """Decode one instruction of 16 or 32 bits."""
    low = host_load(u16, code)
    if low & 3 != 3:
        return decode_short(enabled_extensions(hart), record, low)
    if available < 4:
        return u32(0), i64(0)
    high = host_load(u16, code + 2)
    return decode_full(enabled_extensions(hart), record, u32(low) | u32(high) << 16)


@native
def decode_short(enabled: u64, record: u64, encoding: u16) -> tuple[u32, i64]:
    """Replaced by the decoder that is generated from the rows."""
    return u32(0), i64(0)


@native
def decode_full(enabled: u64, record: u64, encoding: u32) -> tuple[u32, i64]:
    """Replaced by the decoder that is generated from the rows."""
    return u32(0), i64(0)


@native
def illegal_value(hart: Hart, code: u64) -> None:
    """The trap value of an illegal instruction is its encoding."""
    if hart.exception_cause == ILLEGAL and hart.exception_value == 0:
        low = host_load(u16, code)
        value = u64(low)
        if low & 3 == 3:
            value |= u64(host_load(u16, code + 2)) << 16
        hart.exception_value = value


@native
def enter_guest(hart: Hart) -> None:
    """Put the host's FPU into the guest's rounding mode."""
    load_host_fpu(hart)


@native
def leave_guest(hart: Hart) -> None:
    """Save the sticky flags and give the host its FPU back."""
    gather_flags(hart)
    if native_only():
        host_fp_set(u32(0))


__all__ = [
    "access_fault",
    "address_space",
    "decode",
    "enter_guest",
    "illegal_instruction",
    "illegal_value",
    "leave_guest",
    "take_exception",
    "take_interrupt",
    "translate",
]
