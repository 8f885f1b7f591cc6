"""Floating-point operations on registers: NaN boxing, rounding modes, and the choice between the
host's FPU and the soft-float definition.

The soft-float functions define every result and flag. In generated code the host's FPU computes
what it computes the same way: operations under one of its four rounding modes that is also the
guest's current one. Its sticky flags stay in its status register until the guest reads fcsr.
"""

from __future__ import annotations

from ratite.isa.riscv.state import FS, ILLEGAL, Hart
from ratite.isa.softfloat import F32, Format
from ratite.native import Const, inlined, native, native_only, u32, u64, unlikely
from ratite.native.intrinsics import host_fp_flags, host_fp_set

HOST_UNFIT = 255
DYNAMIC = 7


@inlined
def unbox(hart: Hart, fmt: Const[Format], number: u32) -> u64:
    """The value in FP register `number`; the canonical NaN if it is not properly boxed."""
    value = hart.f[number]
    if fmt is F32:
        if unlikely(value >> 32 != 0xFFFF_FFFF):
            return u64(fmt.canonical_nan)
        return value & 0xFFFF_FFFF
    return value


@inlined
def box(fmt: Const[Format], value: u64) -> u64:
    """`value` as a register holds it."""
    if fmt is F32:
        return value | 0xFFFF_FFFF_0000_0000
    return value


@inlined
def rounding(hart: Hart, rm: u32) -> u32:
    """The rounding mode that an instruction's rm field asks for; the caller has checked that it is
    valid.
    """
    return hart.frm if rm == DYNAMIC else rm


@inlined
def valid_rounding(hart: Hart, rm: u32) -> bool:
    """Whether the rm field, or the fcsr that it refers to, names a rounding mode."""
    return rm < 5 or (rm == DYNAMIC and hart.frm < 5)


@inlined
def host_rounds(hart: Hart, rm: u32) -> bool:
    """Whether the host's FPU is in the mode that the rm field asks for."""
    return rm == hart.host_rm or (rm == DYNAMIC and hart.host_rm != HOST_UNFIT)


@inlined
def check_rounding(hart: Hart, rm: u32) -> None:
    """Raise an illegal-instruction exception for a reserved rounding mode."""
    if unlikely(not valid_rounding(hart, rm)):
        hart.raise_exception(u64(ILLEGAL), u64(0))


@native
def gather_flags(hart: Hart) -> u32:
    """All accrued exception flags."""
    if native_only():
        hart.fp.flags |= host_fp_flags()
    return hart.fp.flags & 31


@native
def load_host_fpu(hart: Hart) -> None:
    """Put the host's FPU into the guest's rounding mode with clear flags. Runs when generated code
    is entered and when fcsr changes; `gather_flags` must have saved the flags that matter."""
    hart.host_rm = hart.frm if hart.frm < 4 else u32(HOST_UNFIT)
    if native_only():
        host_fp_set(hart.frm & 3)


@native
def set_flags(hart: Hart, flags: u32) -> None:
    """Replace the accrued exception flags."""
    hart.fp.flags = flags & 31
    load_host_fpu(hart)


@native
def set_frm(hart: Hart, frm: u32) -> None:
    """Replace the rounding mode."""
    flags = gather_flags(hart)
    hart.frm = frm & 7
    set_flags(hart, flags)


@inlined
def mark_dirty(hart: Hart) -> None:
    """Note that an FP register was written, or a flag may have been raised."""
    hart.fs_dirty = u32(1)


@native
def fs_state(hart: Hart) -> u64:
    """mstatus as software sees it, with FS and SD brought up to date."""
    status = hart.mstatus
    if hart.fs_dirty != 0 and status & FS != 0:
        status |= FS
    if status & FS == FS:
        status |= 1 << 63
    return status
