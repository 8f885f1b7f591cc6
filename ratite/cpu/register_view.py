"""A hart's registers by name, for scripts: `vm.cpus[0]["a0"]`."""

from __future__ import annotations

from typing import Any

from ratite.cpu.riscv import RiscvVcpu
from ratite.native import u64


class RegisterView:
    """Registers of one hart, by name: `cpu["a0"]`, `cpu["pc"]`, `cpu["mstatus"]`."""

    def __init__(self, vcpu: RiscvVcpu) -> None:
        self._vcpu = vcpu

    def _place(self, name: str) -> tuple[Any, int | str]:
        from ratite.isa.riscv.state import ABI_NAMES, FLOAT_NAMES

        hart = self._vcpu.state
        if name in ABI_NAMES:
            return hart.x, ABI_NAMES.index(name)
        if name in FLOAT_NAMES:
            return hart.f, FLOAT_NAMES.index(name)
        if name[:1] in "xf" and name[1:].isdigit() and int(name[1:]) < 32:
            return (hart.x if name[0] == "x" else hart.f), int(name[1:])
        if name == "fp":
            return hart.x, 8
        return hart, name

    def __getitem__(self, name: str) -> int:
        """A register's value. Raises `KeyError`."""
        from ratite.isa.riscv.csr import CSR_NUMBER, csr_read

        place, key = self._place(name)
        if isinstance(key, int):
            return int(place[key])
        if key == "pc":
            return int(place.pc)
        return int(csr_read(self._vcpu.state, type(self._vcpu.state).kick.kind(CSR_NUMBER[key])))

    def __setitem__(self, name: str, value: int) -> None:
        """Set a register, to 64 bits; a negative value means its two's complement. Raises
        `KeyError`, and `ValueError` for a value that 64 bits cannot hold."""
        from ratite.isa.riscv.csr import CSR_NUMBER, csr_write

        if not -(1 << 63) <= value < 1 << 64:
            raise ValueError(f"{name}: {value:#x} does not fit into 64 bits")
        place, key = self._place(name)
        if isinstance(key, int):
            if place is not self._vcpu.state.x or key:
                place[key] = u64(value)
        elif key == "pc":
            place.pc = u64(value)
        else:
            csr_write(
                self._vcpu.state, type(self._vcpu.state).kick.kind(CSR_NUMBER[key]), u64(value)
            )
