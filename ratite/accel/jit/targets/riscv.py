"""Tier 0 for RISC-V."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ratite.cpu import hooks
from ratite.cpu.hooks import Target
from ratite.isa.decoder import Decoder, Leaf
from ratite.isa.riscv import RISCV, Hart, target
from ratite.isa.riscv.state import EXTENSION_BIT, MODE_FS, SINK
from ratite.isa.state import CpuState
from ratite.memory import AddressSpace, RamList

if TYPE_CHECKING:  # a start from the cache does without what generates code
    from ratite.accel.jit.tier1 import Templates
    from ratite.accel.reference import ReferenceCpu
    from ratite.native.frontend import Program

TARGET = Target(
    RISCV,
    {
        hooks.translate: target.translate,
        hooks.address_space: target.address_space,
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


DECODERS: dict[Callable[..., Any], str] = {
    target.decode_short: "decode.16",
    target.decode_full: "decode.32",
}


@functools.cache
def build() -> Program:
    """The functions of tier 0."""
    from ratite.accel.jit.tier0 import build_program

    return build_program(
        TARGET,
        EXTENSION_BIT,
        target.illegal_instruction,
        (16, 32),
        DECODERS,
    )


def tier0_source() -> tuple[list[str], str]:
    """Names of the functions that regions may call, and the LLVM text of tier 0."""
    from ratite.accel.jit.tier0 import helper_names, lower_program

    program = build()
    return helper_names(program), lower_program(program, TARGET)


def reference_cpu(state: CpuState, ram: RamList, space: AddressSpace) -> ReferenceCpu:
    """A hart on the reference executor."""
    from ratite.accel.reference import ReferenceCpu

    return ReferenceCpu(
        TARGET,
        state,
        ram,
        space,
        extension_bit=EXTENSION_BIT,
        enabled=target.enabled_extensions,
        illegal=target.illegal_instruction,
    )


class RiscvReader:
    """Decodes guest code for regions."""

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self._decoder = Decoder(RISCV)
        self._known: dict[tuple[int, int], tuple[Leaf, dict[str, int]] | None] = {}

    def decode(
        self, code: bytes, offset: int, mode: int
    ) -> tuple[Leaf, dict[str, int], int] | None:
        """The instruction at `offset`; None if it is illegal."""
        encoding = int.from_bytes(code[offset : offset + 2], "little")
        length = 2
        if encoding & 3 == 3:
            encoding, length = int.from_bytes(code[offset : offset + 4], "little"), 4
        enabled = int(self._machine.cpus[0].state.extensions)
        if not mode & MODE_FS:
            enabled &= ~target.FLOAT_BITS
        key = (encoding, enabled)
        if key not in self._known:
            leaf = self._decoder.find(
                encoding, length * 8, lambda name: enabled >> EXTENSION_BIT[name] & 1 == 1
            )
            self._known[key] = (
                None if leaf is None else (leaf, self._decoder.operands(leaf, encoding))
            )
        found = self._known[key]
        return None if found is None else (*found, length)


def reader(machine: Any) -> RiscvReader:
    """The code reader of a machine."""
    return RiscvReader(machine)


@functools.cache
def templates() -> Templates:
    """What regions are made of."""
    from ratite.accel.jit.tier0 import handler_name
    from ratite.accel.jit.tier1 import Promoted, Templates
    from ratite.native.lower import parameter_types

    program = build()
    handlers = {name: program.functions[handler_name(insn)] for name, insn in RISCV.insns.items()}
    promoted = (
        Promoted(Hart.x.offset, 8, 33, zero=0, sink=SINK),
        Promoted(Hart.f.offset, 8, 32, floats="fpr"),
        Promoted(Hart.fs_dirty.offset, 4, 1),
    )
    types = parameter_types(program.functions.values())
    rounding = (Hart.frm.offset, Hart.host_rm.offset)  # what changes them ends a region
    return Templates(handlers, program.functions, promoted, rounding, types)


__all__ = [
    "DECODERS",
    "TARGET",
    "build",
    "reader",
    "reference_cpu",
    "templates",
    "tier0_source",
]
