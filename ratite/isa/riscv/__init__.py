"""The RISC-V instruction set, RV64GC with its common extensions."""

from ratite.isa.riscv import rv64a, rv64fd, rv64i, rv64m, rvc, system, zb
from ratite.isa.riscv.state import RISCV, Hart

__all__ = ["RISCV", "Hart", "rv64a", "rv64fd", "rv64i", "rv64m", "rvc", "system", "zb"]
