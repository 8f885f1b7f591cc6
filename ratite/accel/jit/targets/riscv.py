"""Tier 0 for RISC-V."""

from __future__ import annotations

from ratite.accel.jit.tier0 import build_program
from ratite.accel.reference import ReferenceCpu
from ratite.cpu import hooks
from ratite.cpu.hooks import Target
from ratite.isa.riscv import RISCV, target
from ratite.isa.riscv.state import EXTENSION_BIT
from ratite.isa.state import CpuState
from ratite.memory import AddressSpace, RamList
from ratite.native.frontend import Program

TARGET = Target(
    RISCV,
    {
        hooks.translate: target.translate,
        hooks.access_fault: target.access_fault,
        hooks.take_exception: target.take_exception,
        hooks.take_interrupt: target.take_interrupt,
        hooks.decode: target.decode,
        hooks.illegal_value: target.illegal_value,
        hooks.enter_guest: target.enter_guest,
        hooks.leave_guest: target.leave_guest,
    },
    units=2,
)


def build() -> tuple[Program, str]:
    """The functions and the module's LLVM text."""
    return build_program(
        TARGET,
        EXTENSION_BIT,
        target.illegal_instruction,
        (16, 32),
        {target.decode_short: "decode.16", target.decode_full: "decode.32"},
    )


def llvm_text() -> str:
    """LLVM text of tier 0 for RISC-V."""
    return build()[1]


def reference_cpu(state: CpuState, ram: RamList, space: AddressSpace) -> ReferenceCpu:
    """A hart on the reference executor."""
    return ReferenceCpu(
        TARGET,
        state,
        ram,
        space,
        extension_bit=EXTENSION_BIT,
        enabled=target.enabled_extensions,
        illegal=target.illegal_instruction,
    )
