"""A RISC-V hart: registers, operand kinds, and the names of bits.

Source: RISC-V Unprivileged and Privileged ISA, version 20240411.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from ratite.isa.softfloat import FloatEnv
from ratite.isa.spec import InstructionSet, OperandKind
from ratite.isa.state import CpuState
from ratite.native import Array, Const, Field, Nested, i64, native, u8, u16, u32, u64

ABI_NAMES = (
    "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 "
    "s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6"
).split()
FLOAT_NAMES = (
    "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 "
    "fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11"
).split()
ROUNDING_NAMES = ("rne", "rtz", "rdn", "rup", "rmm", "inv", "inv", "dyn")

SINK = 32
"""Index of the slot of `x` that swallows writes to x0, so that generated code need not test for
it.
"""

Gpr = Annotated[u8, OperandKind("gpr", u8, 1, sink=SINK, show=lambda number: ABI_NAMES[number])]
Base = Annotated[
    u8, OperandKind("gpr", u8, 1, sink=SINK, show=lambda number: ABI_NAMES[number], role="base")
]
Fpr = Annotated[u8, OperandKind("fpr", u8, 1, show=lambda number: FLOAT_NAMES[number])]
Simm = Annotated[i64, OperandKind("simm", i64, 4, signed=True)]
Displacement = Annotated[i64, OperandKind("simm", i64, 4, signed=True, role="displacement")]
Upper = Simm
UpperPcRel = Annotated[i64, OperandKind("simm", i64, 4, signed=True, role="target")]
PcRel = Annotated[i64, OperandKind("pcrel", i64, 4, signed=True, pc_relative=True, role="target")]
Shamt = Annotated[u8, OperandKind("shamt", u8, 1)]
Uimm = Annotated[u8, OperandKind("uimm", u8, 1)]
Csr = Annotated[u16, OperandKind("csr", u16, 2, show=lambda number: csr_name(number))]
Rm = Annotated[u8, OperandKind("rm", u8, 1, show=lambda mode: ROUNDING_NAMES[mode], role="mode")]
Order = Annotated[u8, OperandKind("order", u8, 1, show=lambda bits: ordered(bits))]
Bit = Annotated[u8, OperandKind("bit", u8, 1, role="order")]


def csr_name(number: int) -> str:
    """What the specification calls a CSR; its number where there is none."""
    from ratite.isa.riscv.csr import CSRS  # which is made of what is here

    return CSRS[number].name if number in CSRS else hex(number)


def ordered(bits: int) -> str:
    """Letters for the accesses that a fence orders."""
    return "".join(letter for bit, letter in zip((8, 4, 2, 1), "iorw", strict=True) if bits & bit)


USER, SUPERVISOR, MACHINE = 0, 1, 3

# Exception causes (privileged, table 14).
FETCH_MISALIGNED, FETCH_ACCESS, ILLEGAL, BREAKPOINT = 0, 1, 2, 3
LOAD_MISALIGNED, LOAD_ACCESS, STORE_MISALIGNED, STORE_ACCESS = 4, 5, 6, 7
ECALL_USER, ECALL_SUPERVISOR, ECALL_MACHINE = 8, 9, 11
FETCH_PAGE, LOAD_PAGE, STORE_PAGE = 12, 13, 15
INTERRUPT = 1 << 63

# Interrupt numbers, also bits of mip and mie.
SSI, MSI, STI, MTI, SEI, MEI = 1, 3, 5, 7, 9, 11

# mstatus.
SIE, MIE, SPIE, MPIE, SPP = 1 << 1, 1 << 3, 1 << 5, 1 << 7, 1 << 8
MPP_SHIFT, FS_SHIFT = 11, 13
MPP, FS = 3 << MPP_SHIFT, 3 << FS_SHIFT
MPRV, SUM, MXR, TVM, TW, TSR = 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22
UXL, SXL, SD = 3 << 32, 3 << 34, 1 << 63

# menvcfg and senvcfg.
FIOM, CBIE, CBCFE, CBZE = 1 << 0, 3 << 4, 1 << 6, 1 << 7
ADUE, PBMTE, STCE = 1 << 61, 1 << 62, 1 << 63

EXTENSIONS = (
    "i m a f d c zicsr zifencei zicntr zihpm zba zbb zbc zbs zicond zicbom zicboz zicbop "
    "zihintpause zawrs sstc svadu svade svinval svnapot svpbmt sv39 sv48 sv57 s u pmp"
).split()
"""Every optional part, in the order of the bits of `Hart.extensions`."""
EXTENSION_BIT = {name: index for index, name in enumerate(EXTENSIONS)}

PMP_ENTRIES = 16
TIMEBASE_HZ = 10_000_000
NS_PER_TICK = 1_000_000_000 // TIMEBASE_HZ

# TB mode bits: everything that changes what an encoding means.
MODE_FS = 1 << 2
MODE_LIMIT_SHIFT = 8

# softmmu TLBs.
MMU_USER, MMU_SUPERVISOR, MMU_SUPERVISOR_SUM, MMU_MACHINE = 0, 1, 2, 3


class Hart(CpuState):
    """State of one hart."""

    SAVED: ClassVar[tuple[str, ...]] = tuple(
        "pc halted x f fp.flags frm fs_dirty privilege mstatus mtvec medeleg mideleg mie mip_soft "
        "ssip_sent irq_lines mscratch mepc mcause mtval mcounteren mcountinhibit menvcfg stvec "
        "sscratch sepc scause stval scounteren senvcfg satp stimecmp time_offset timer_changed sbi "
        "mcycle_offset minstret_offset pmpcfg pmpaddr".split()
    )
    """What is saved and migrated besides the count of instructions retired and the device accesses
    that the instruction at `pc` has made; all else is derived, set up anew, or the executors'."""

    x = Array(u64, 33, doc="integer registers; slot 32 swallows writes to x0")
    f = Array(u64, 32, doc="floating-point registers, narrower values NaN-boxed")
    fp = Nested(FloatEnv, doc="sticky flags beyond those that the host's FPU still holds")
    frm = Field(u32, doc="rounding mode of fcsr")
    host_rm = Field(u32, doc="frm if the host's FPU rounds so, else 255")
    fs_dirty = Field(u32, doc="an FP register was written since mstatus.FS was")
    privilege = Field(u32)
    extensions = Field(u64, doc="bit per entry of EXTENSIONS")
    mhartid = Field(u64)
    misa = Field(u64)
    mstatus = Field(u64, doc="FS and SD as last written: see `fs_dirty`")
    mtvec = Field(u64)
    medeleg = Field(u64)
    mideleg = Field(u64)
    mie = Field(u64)
    mip_soft = Field(u64, doc="the bits of mip that software writes")
    ssip_sent = Field(u32, doc="not 0: another hart or a device raised SSIP; cleared by this hart")
    irq_lines = Field(u64, doc="the bits of mip that devices drive; written by the machine only")
    mscratch = Field(u64)
    mepc = Field(u64)
    mcause = Field(u64)
    mtval = Field(u64)
    mcounteren = Field(u64)
    mcountinhibit = Field(u64)
    menvcfg = Field(u64)
    stvec = Field(u64)
    sscratch = Field(u64)
    sepc = Field(u64)
    scause = Field(u64)
    stval = Field(u64)
    scounteren = Field(u64)
    senvcfg = Field(u64)
    satp = Field(u64)
    stimecmp = Field(u64)
    time_offset = Field(
        u64, doc="ticks of `time` minus those of guest time: what the machine timer was set to"
    )
    timer_changed = Field(u32, doc="stimecmp was written: the machine's timer must follow")
    sbi = Field(u32, doc="1: environment calls from S mode leave run(), for the built-in SBI")
    mcycle_offset = Field(u64, doc="mcycle minus the retired count; while inhibited, mcycle itself")
    minstret_offset = Field(u64, doc="likewise for minstret")
    pmpcfg = Array(u8, PMP_ENTRIES)
    pmpaddr = Array(u64, PMP_ENTRIES)
    pmp_low = Array(u64, PMP_ENTRIES, doc="first address of each entry, derived")
    pmp_high = Array(
        u64, PMP_ENTRIES, doc="last address of each entry, derived; below `pmp_low` if off"
    )
    pmp_count = Field(u32, doc="entries up to the last that is on")

    @native
    def has(self, extension: Const[str]) -> bool:
        """Whether an extension is on."""
        return self.extensions & (1 << EXTENSION_BIT[extension]) != 0

    @native
    def set_mode(self) -> None:
        """Derive what translation and memory access depend on from privilege and mstatus."""
        data = self.privilege
        if data == MACHINE and self.mstatus & MPRV != 0:
            data = u32(self.mstatus >> MPP_SHIFT) & 3
        if data == SUPERVISOR and self.mstatus & SUM != 0:
            data = u32(MMU_SUPERVISOR_SUM)
        self.mmu_index = data
        self.fetch_index = self.privilege
        mode = self.privilege | (self.block_limit << MODE_LIMIT_SHIFT)
        if self.mstatus & FS != 0:
            mode |= MODE_FS
        self.mode = mode


RISCV = InstructionSet("riscv64", Hart)
