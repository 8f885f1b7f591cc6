"""Binary floating point in integers: IEEE 754 exactly, with RISC-V's choices where it leaves one.

Values are bit patterns in the low bits of a u64; the bits above the format's width are zero in
every result and must be zero in every operand. Rounding modes are RISC-V's `frm` numbers 0 to 4;
the caller refuses the others. Exceptions accumulate in `env.flags` with the bits of `fflags`.
RISC-V's choices: every NaN result is the canonical NaN; tininess is detected after rounding;
infinity times zero is invalid in a fused multiply-add even if the addend is a quiet NaN;
conversions to integers saturate.

Source: IEEE 754-2019; RISC-V Unprivileged ISA 20240411, extensions F, D, Zfh and Zfa.
Runs: per guest floating-point instruction that the host FPU cannot do.
"""

from ratite.isa.softfloat.arithmetic import f_add, f_div, f_fma, f_mul, f_sqrt, f_sub
from ratite.isa.softfloat.comparison import f_class, f_eq, f_le, f_lt, f_max, f_min
from ratite.isa.softfloat.conversion import f_convert, f_from_int, f_round_int, f_to_int
from ratite.isa.softfloat.format import (
    DZ,
    F16,
    F32,
    F64,
    NV,
    NX,
    OF,
    RDN,
    RMM,
    RNE,
    RTZ,
    RUP,
    UF,
    FloatEnv,
    Format,
)

__all__ = [
    "DZ",
    "F16",
    "F32",
    "F64",
    "NV",
    "NX",
    "OF",
    "RDN",
    "RMM",
    "RNE",
    "RTZ",
    "RUP",
    "UF",
    "FloatEnv",
    "Format",
    "f_add",
    "f_class",
    "f_convert",
    "f_div",
    "f_eq",
    "f_fma",
    "f_from_int",
    "f_le",
    "f_lt",
    "f_max",
    "f_min",
    "f_mul",
    "f_round_int",
    "f_sqrt",
    "f_sub",
    "f_to_int",
]
