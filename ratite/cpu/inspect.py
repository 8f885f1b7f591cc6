"""A vCPU as a person looks at it: registers and mappings as text, disassembly. The vCPU does not
execute meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ratite.core.errors import ConfigError
from ratite.cpu.riscv import RiscvVcpu
from ratite.cpu.vcpu import Vcpu


@dataclass(frozen=True, slots=True)
class Mapping:
    """A run of mapped pages: sizes in bytes, `attributes` a letter or `-` per permission bit."""

    gva: int
    gpa: int
    size: int
    attributes: str


@dataclass(frozen=True, slots=True)
class Disassembled:
    """One instruction: its bytes as a number of `size` bytes, its text, and the address that it
    makes with pc, if any.
    """

    encoding: int
    size: int
    mnemonic: str
    operands: str
    target: int | None

    def line(self, gva: int) -> str:
        """Address, encoding and text, as the monitor and the log show them."""
        encoding = f"{self.encoding:0{self.size * 2}x}"
        line = f"0x{gva:016x}:  {encoding:<18}{self.mnemonic:<24}{self.operands}"
        return line if self.target is None else f"{line:<87}# {self.target:#x}"


class Inspector(Protocol):
    """What the monitors show of a vCPU, and what a core has of it."""

    elf_machine: int  # ELF's number of the instruction set

    def registers(self) -> str:
        """All registers, as `info registers` shows them."""

    def register(self, name: str) -> int | None:
        """The value of the register that `$name` means; None if there is none."""

    def disassemble(self, code: bytes, pc: int) -> Disassembled | None:
        """The instruction that begins with these bytes, or None if they are too few."""

    def translate(self, gva: int) -> int | None:
        """Guest-physical address; None if it is not mapped."""

    def mappings(self) -> Iterator[Mapping] | None:
        """The pages of the current page table, by address; None while there is none. Raises
        `ConfigError` where the table has no end."""

    def prstatus(self, pid: int) -> bytes:
        """The registers as Linux has them in a core's note, with `pid` for the thread's number."""


def inspector(vcpu: Vcpu) -> Inspector:
    """The inspector for a vCPU's instruction set."""
    from ratite.cpu.riscv_inspect import RiscvInspector

    if isinstance(vcpu, RiscvVcpu):
        return RiscvInspector(vcpu)
    raise ConfigError(f"CPU {vcpu.index}: this kind of CPU cannot be shown")
