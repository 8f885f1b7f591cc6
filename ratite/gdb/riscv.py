"""RISC-V's registers for gdb, from the declarations of the hart's state and of its CSRs.

Source: "Debugging with GDB", appendix G.5.11 (RISC-V features). Numbers are those of gdb and QEMU:
x0 to x31, pc, f0 to f31, then the CSRs in the order of their own numbers, then the privilege.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ratite.cpu.riscv import RiscvVcpu
from ratite.gdb.registers import Feature, Register, RegisterFile
from ratite.isa.riscv.csr import CSRS, csr_read, csr_write
from ratite.isa.riscv.state import ABI_NAMES, FLOAT_NAMES, Hart
from ratite.isa.state import GuestException
from ratite.native import u32, u64

_PC, _FIRST_FLOAT, _FIRST_CSR, _PRIVILEGE = 32, 33, 65, 4161
_FLOAT_CSRS = ("fflags", "frm", "fcsr")
_POINTERS = {"ra": "code_ptr", **dict.fromkeys(("sp", "gp", "tp", "s0"), "data_ptr")}
_EXTENSION_OF_GATE = {"gate_fp": "f", "gate_stimecmp": "sstc", "gate_satp": "s"}
_DOUBLE = (
    '<union id="riscv_double"><field name="float" type="ieee_single"/>'
    '<field name="double" type="ieee_double"/></union>'
)

Reader, Writer = Callable[[], int], Callable[[int], None]


def register_file(vcpu: RiscvVcpu) -> RegisterFile:
    """The registers that a hart has."""
    hart = vcpu.state
    features = [Feature("org.gnu.gdb.riscv.cpu", (*_integers(hart), _pc(hart)))]
    csrs = [_csr(hart, number) for number in sorted(CSRS) if _exists(hart, number)]
    floats = [register for register in csrs if register.name in _FLOAT_CSRS]
    if floats:
        features.append(Feature("org.gnu.gdb.riscv.fpu", (*_floats(hart), *floats), _DOUBLE))
    others = tuple(register for register in csrs if register not in floats)
    features.append(Feature("org.gnu.gdb.riscv.csr", others))
    features.append(Feature("org.gnu.gdb.riscv.virtual", (_privilege(hart),)))
    return RegisterFile("riscv:rv64", features)


def _integers(hart: Hart) -> Iterator[Register]:
    for number, name in enumerate(ABI_NAMES):

        def read(number: int = number) -> int:
            return int(hart.x[number])

        def write(value: int, number: int = number) -> None:
            if number:
                hart.x[number] = u64(value)

        name = "fp" if name == "s0" else name
        yield Register(name, number, 64, _POINTERS.get(ABI_NAMES[number], "int"), read, write)


def _pc(hart: Hart) -> Register:
    def write(value: int) -> None:
        hart.pc = u64(value & ~1)
        hart.mmio_count = u32(0)  # what an unfinished instruction has read belongs to that one

    return Register("pc", _PC, 64, "code_ptr", lambda: int(hart.pc), write)


def _floats(hart: Hart) -> Iterator[Register]:
    for number, name in enumerate(FLOAT_NAMES):

        def read(number: int = number) -> int:
            return int(hart.f[number])

        def write(value: int, number: int = number) -> None:
            hart.f[number] = u64(value)
            hart.fs_dirty = u32(1)

        yield Register(name, _FIRST_FLOAT + number, 64, "riscv_double", read, write)


def _exists(hart: Hart, number: int) -> bool:
    """Whether the hart has the extension that a CSR belongs to."""
    gate = CSRS[number].gate
    name = gate.constants.get("extension") or _EXTENSION_OF_GATE.get(gate.function.__name__)
    return name is None or hart.has(name)


def _csr(hart: Hart, number: int) -> Register:
    def read() -> int:
        return int(csr_read(hart, u32(number)))

    def write(value: int) -> None:
        try:
            csr_write(hart, u32(number), u64(value))
        except GuestException:
            raise ValueError(f"CSR {number:#x} takes no such value") from None

    name = CSRS[number].name
    if name in _FLOAT_CSRS:
        return Register(name, _FIRST_CSR + number, 32, "int", read, write, "float")
    return Register(name, _FIRST_CSR + number, 64, "uint64", read, write, "csr")


def _privilege(hart: Hart) -> Register:
    def write(value: int) -> None:
        if value & 3 != 2:
            hart.privilege = u32(value & 3)
            hart.set_mode()
            hart.flush_request = u32(1)

    return Register("priv", _PRIVILEGE, 64, "int", lambda: int(hart.privilege), write, "virtual")


__all__ = ["register_file"]
