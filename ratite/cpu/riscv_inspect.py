"""A RISC-V hart as a person looks at it.

Source: RISC-V Privileged ISA 20240411, chapter 12 for the page tables; the text forms are those of
QEMU's monitor.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator

from ratite.core.errors import ConfigError
from ratite.cpu.inspect import Disassembled, Mapping
from ratite.cpu.riscv import RiscvVcpu
from ratite.isa.decoder import Decoder
from ratite.isa.riscv import RISCV, Hart
from ratite.isa.riscv.csr import CSR_NUMBER, csr_read
from ratite.isa.riscv.mmu import BARE, PPN_MASK, PTE_R, PTE_V, PTE_W, PTE_X, SV39
from ratite.isa.riscv.state import ABI_NAMES, FLOAT_NAMES
from ratite.isa.state import GuestException
from ratite.memory import Gpa, MemTxResult
from ratite.native import u32

PAGE_BITS = 12
MOST_TABLES = 1 << 15
EM_RISCV = 243
_PRSTATUS = struct.Struct("<12xH18xI76x32QI4x")  # of which process number and registers are filled
_SHOWN_CSRS = (
    "mhartid mstatus mip mie mideleg medeleg mtvec stvec mepc sepc mcause scause mtval stval "
    "mscratch sscratch satp"
).split()
_ATTRIBUTES = "rwxugad"


@functools.cache
def decoder() -> Decoder:
    """The decoder of all instructions that ratite has."""
    return Decoder(RISCV)


def registers(hart: Hart, *, floating: bool = True) -> str:
    """All registers of a hart that does not execute, as `info registers` shows them; those of
    floating point, too, if they are wanted.
    """
    lines = [f" {name:<8} {register(hart, name):016x}" for name in ("pc", *_SHOWN_CSRS)]
    files = [("x", ABI_NAMES, hart.x)]
    if floating:
        files.append(("f", FLOAT_NAMES, hart.f))
    for letter, names, values in files:
        cells = [f" {f'{letter}{n}/{names[n]}':<8} {int(values[n]):016x}" for n in range(32)]
        lines += ["".join(cells[first : first + 4]) for first in range(0, 32, 4)]
    return "\n".join([*lines, ""])


def register(hart: Hart, name: str) -> int | None:
    """The value of the register that `$name` means; None if there is none."""
    if name == "pc":
        return int(hart.pc)
    if name == "fp":
        name = "s0"
    for letter, names, values in (("x", ABI_NAMES, hart.x), ("f", FLOAT_NAMES, hart.f)):
        if name in names:
            return int(values[names.index(name)])
        if name[:1] == letter and name[1:].isdecimal() and len(name) < 4 and int(name[1:]) < 32:
            return int(values[int(name[1:])])
    number = CSR_NUMBER.get(name)
    if number is None:
        return None
    try:
        return int(csr_read(hart, u32(number)))
    except GuestException:
        return None


def disassemble(code: bytes, pc: int, enabled: Callable[[str], bool]) -> Disassembled | None:
    """The instruction that begins with these bytes, or None if they are too few."""
    if len(code) < 2:
        return None
    size = 4 if code[0] & 3 == 3 else 2
    if len(code) < size:
        return None
    encoding = int.from_bytes(code[:size], "little")
    text = decoder().disassemble(encoding, size * 8, enabled, pc)
    return Disassembled(encoding, size, text.mnemonic, text.operands, text.target)


class RiscvInspector:
    """Inspects one hart."""

    elf_machine = EM_RISCV

    def __init__(self, vcpu: RiscvVcpu) -> None:
        self._vcpu = vcpu
        self._hart = vcpu.state
        self._tables = 0  # read for `mappings`

    def registers(self) -> str:
        """All registers, as `info registers` shows them."""
        return registers(self._hart)

    def register(self, name: str) -> int | None:
        """The value of the register that `$name` means; None if there is none."""
        return register(self._hart, name)

    def disassemble(self, code: bytes, pc: int) -> Disassembled | None:
        """The instruction that begins with these bytes, or None if they are too few."""
        enabled = self._vcpu.model.enabled()
        return disassemble(code, pc, lambda extension: extension in enabled or extension == "i")

    def translate(self, gva: int) -> int | None:
        """Guest-physical address; None if it is not mapped."""
        return self._vcpu.debug_translate(gva)

    def prstatus(self, pid: int) -> bytes:
        """The registers as Linux has them in a core's note, with `pid` for the thread's number."""
        hart = self._hart
        return _PRSTATUS.pack(0, pid, int(hart.pc), *(int(hart.x[n]) for n in range(1, 32)), 0)

    def mappings(self) -> Iterator[Mapping] | None:
        """The pages of the current page table, by address; None while there is none. Raises
        `ConfigError` where the table has no end."""
        satp = int(self._hart.satp)
        mode = satp >> 60
        if mode == BARE:
            return None
        levels = mode - SV39 + 3
        self._tables = 0
        return self._table((satp & PPN_MASK) << PAGE_BITS, levels, 0, levels * 9 + PAGE_BITS)

    def _table(self, address: int, levels: int, base: int, top: int) -> Iterator[Mapping]:
        self._tables += 1
        if self._tables > MOST_TABLES:  # a table that has itself as its entries
            raise ConfigError(
                f"CPU {self._vcpu.index}: its page table has more than {MOST_TABLES} parts"
            )
        data, result = self._vcpu.space.read_bytes(Gpa(address), 1 << PAGE_BITS)
        if result is not MemTxResult.OK:
            return
        shift = (levels - 1) * 9 + PAGE_BITS
        for index, pte in enumerate(memoryview(data).cast("Q")):
            if not pte & PTE_V:
                continue
            gva = base + (index << shift)
            target = (pte >> 10 & PPN_MASK) << PAGE_BITS
            if not pte & (PTE_R | PTE_W | PTE_X):
                if levels > 1:
                    yield from self._table(target, levels - 1, gva, top)
                continue
            if gva >> (top - 1):  # the upper half is at the top of the address space
                gva |= (1 << 64) - (1 << top)
            letters = (c if pte >> bit & 1 else "-" for bit, c in enumerate(_ATTRIBUTES, 1))
            yield Mapping(gva, target, 1 << shift, "".join(letters))
