"""The interrupt inputs of RISC-V harts."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol


class HartIrq(IntEnum):
    """Bit numbers in `mip` (RISC-V Privileged ISA, 3.1.9)."""

    SSIP = 1
    MSIP = 3
    STIP = 5
    MTIP = 7
    UEIP = 8
    SEIP = 9
    HEIP = 10
    MEIP = 11


class HartPins(Protocol):
    """One hart, seen from an interrupt controller."""

    def set_irq(self, number: int, level: bool) -> None:
        """Drive the input behind bit `number` of `mip`. Called with the machine lock held."""
