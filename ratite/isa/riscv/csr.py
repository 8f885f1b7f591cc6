"""Control and status registers (Privileged ISA 20240411, chapters 2, 3 and 12; Unprivileged ISA,
chapters 6, 8, 21).

Each CSR is one entry of `CSRS`: a function that reads it and one that writes it, with their
constants. Writes apply the WARL rules; what an entry needs beyond its number's privilege and access
bits is its `gate`.

Not modelled: hardware performance events (mhpmcounter3 to 31 and their selectors are read-only
zero, as the specification allows), machine-mode security configuration, debug triggers.
"""

from __future__ import annotations

from dataclasses import dataclass

from ratite.isa.riscv.fpu import fs_state, gather_flags, set_flags, set_frm
from ratite.isa.riscv.mmu import BARE, SV39, SV48, SV57
from ratite.isa.riscv.pmp import ADDRESS_MASK, pmp_address_locked, pmp_update, pmp_write_config
from ratite.isa.riscv.state import (
    ADUE,
    CBCFE,
    CBIE,
    CBZE,
    FIOM,
    FS,
    ILLEGAL,
    MACHINE,
    MEI,
    MIE,
    MPIE,
    MPP,
    MPP_SHIFT,
    MPRV,
    MSI,
    MTI,
    MXR,
    PBMTE,
    PMP_ENTRIES,
    SD,
    SEI,
    SIE,
    SPIE,
    SPP,
    SSI,
    STCE,
    STI,
    SUM,
    SUPERVISOR,
    TSR,
    TVM,
    TW,
    USER,
    UXL,
    Hart,
)
from ratite.isa.riscv.trap import mip, poll_interrupts, request_exit, time_ticks
from ratite.native import Bound, Const, native, switch_call, u8, u32, u64

READ_ONLY, REPLACE, SET, CLEAR = 0, 1, 2, 3

SSTATUS = SIE | SPIE | SPP | FS | SUM | MXR | UXL | SD
MSTATUS_WRITABLE = SIE | MIE | SPIE | MPIE | SPP | MPP | FS | MPRV | SUM | MXR | TVM | TW | TSR
SUPERVISOR_INTERRUPTS = 1 << SSI | 1 << STI | 1 << SEI
ALL_INTERRUPTS = SUPERVISOR_INTERRUPTS | 1 << MSI | 1 << MTI | 1 << MEI
DELEGABLE = 0xB3FF
COUNTERS = 0xFFFF_FFFF
CYCLE_BIT, TIME_BIT, INSTRET_BIT = 0, 1, 2
SIP, MIP = 0x144, 0x344


# -- reading and writing, by kind of register


@native
def read_field(hart: Hart, name: Const[str]) -> u64:
    """A register that is stored as it is read."""
    return u64(getattr(hart, name))


@native
def write_field(hart: Hart, value: u64, name: Const[str], mask: Const[int]) -> None:
    """A register of which only `mask` can be written; the other bits keep their value."""
    setattr(hart, name, (getattr(hart, name) & ~mask) | (value & mask))


@native
def read_constant(hart: Hart, value: Const[int]) -> u64:
    """A read-only value."""
    return u64(value)


@native
def write_ignored(hart: Hart, value: u64) -> None:
    """A WARL register with one legal value."""


@native
def read_nothing(hart: Hart) -> u64:
    """No such register."""
    hart.raise_exception(u64(ILLEGAL), u64(0))
    return u64(0)


@native
def write_nothing(hart: Hart, value: u64) -> None:
    """No such register."""
    hart.raise_exception(u64(ILLEGAL), u64(0))


@native
def read_mstatus(hart: Hart, mask: Const[int]) -> u64:
    """mstatus, or the part of it that is sstatus."""
    return (fs_state(hart) | (2 << 32) | (2 << 34)) & mask


@native
def write_mstatus(hart: Hart, value: u64, mask: Const[int]) -> None:
    """mstatus, or the part of it that is sstatus. The reserved privilege 2 leaves MPP as it was."""
    old = fs_state(hart)
    writable = u64(mask)
    if (value >> MPP_SHIFT) & 3 == 2:
        writable &= ~MPP
    status = (old & ~writable) | (value & writable)
    if status & (MXR | MPRV) != old & (MXR | MPRV):
        hart.flush_request = u32(1)
    hart.mstatus = status & ~SD
    hart.fs_dirty = u32(0)
    hart.set_mode()
    poll_interrupts(hart)


@native
def write_mie(hart: Hart, value: u64) -> None:
    """Enabled interrupts."""
    hart.mie = value & ALL_INTERRUPTS
    poll_interrupts(hart)


@native
def read_mip(hart: Hart) -> u64:
    """Pending interrupts."""
    return mip(hart)


@native
def write_mip(hart: Hart, value: u64) -> None:
    """Software can raise the supervisor's interrupts; STIP only while stimecmp does not drive
    it.
    """
    write_pending(hart, value, writable_pending(hart, u32(MIP)))


@native
def writable_pending(hart: Hart, number: u32) -> u64:
    """The bits that software can write through mip, or through sip."""
    if number == SIP:
        return hart.mideleg & (1 << SSI)
    if hart.menvcfg & STCE != 0:
        return u64(SUPERVISOR_INTERRUPTS & ~(1 << STI))
    return u64(SUPERVISOR_INTERRUPTS)


@native
def write_pending(hart: Hart, value: u64, writable: u64) -> None:
    """Change pending bits. A raise of SSIP by somebody else is taken in by writing that bit."""
    if writable & (1 << SSI) != 0:
        hart.ssip_sent = u32(0)
    hart.mip_soft = (hart.mip_soft & ~writable) | (value & writable)
    poll_interrupts(hart)


@native
def read_sie(hart: Hart) -> u64:
    """mie as far as it is delegated."""
    return hart.mie & hart.mideleg


@native
def write_sie(hart: Hart, value: u64) -> None:
    """mie as far as it is delegated."""
    hart.mie = (hart.mie & ~hart.mideleg) | (value & hart.mideleg)
    poll_interrupts(hart)


@native
def read_sip(hart: Hart) -> u64:
    """mip as far as it is delegated."""
    return mip(hart) & hart.mideleg


@native
def write_sip(hart: Hart, value: u64) -> None:
    """Of the delegated bits, the supervisor writes SSIP only."""
    write_pending(hart, value, writable_pending(hart, u32(SIP)))


@native
def write_delegation(hart: Hart, value: u64, name: Const[str], mask: Const[int]) -> None:
    """medeleg or mideleg."""
    setattr(hart, name, value & mask)
    poll_interrupts(hart)


@native
def write_vector(hart: Hart, value: u64, name: Const[str]) -> None:
    """A trap vector: the reserved modes 2 and 3 are not taken."""
    if value & 2 == 0:
        setattr(hart, name, value)


@native
def write_satp(hart: Hart, value: u64) -> None:
    """A write with an unsupported mode has no effect at all."""
    mode = value >> 60
    legal = (
        mode == BARE
        or (mode == SV39 and hart.has("sv39"))
        or (mode == SV48 and hart.has("sv48"))
        or (mode == SV57 and hart.has("sv57"))
    )
    if legal:
        if hart.satp != value:
            hart.space_request = u32(1)
            poll_interrupts(hart)
        hart.satp = value


@native
def write_envcfg(hart: Hart, value: u64, name: Const[str]) -> None:
    """menvcfg or senvcfg: bits of extensions that are off stay zero; 2 is reserved in CBIE."""
    mask = u64(FIOM)
    if hart.has("zicbom"):
        mask |= CBIE | CBCFE
    if hart.has("zicboz"):
        mask |= CBZE
    if name == "menvcfg":
        if hart.has("svpbmt"):
            mask |= PBMTE
        if hart.has("svadu"):
            mask |= ADUE
        if hart.has("sstc"):
            mask |= STCE
    if value & CBIE == 2 << 4:
        mask &= ~CBIE
    setattr(hart, name, (getattr(hart, name) & ~mask) | (value & mask))
    if name == "menvcfg":
        hart.flush_request = u32(1)
        poll_interrupts(hart)


@native
def write_stimecmp(hart: Hart, value: u64) -> None:
    """The supervisor's comparator; the machine's timer follows when run() returns."""
    hart.stimecmp = value
    hart.timer_changed = u32(1)
    request_exit(hart)
    poll_interrupts(hart)


@native
def read_time(hart: Hart) -> u64:
    """The platform's counter."""
    return time_ticks(hart)


@native
def read_counter(hart: Hart, name: Const[str], bit: Const[int]) -> u64:
    """mcycle or minstret: both count retired instructions."""
    offset = u64(getattr(hart, name))
    if (hart.mcountinhibit >> bit) & 1 != 0:
        return offset
    return hart.retired() + offset


@native
def write_counter(hart: Hart, value: u64, name: Const[str], bit: Const[int]) -> None:
    """The written value is what the next instruction reads."""
    if (hart.mcountinhibit >> bit) & 1 != 0:
        setattr(hart, name, value)
    else:
        setattr(hart, name, value - hart.retired() - 1)


@native
def write_mcountinhibit(hart: Hart, value: u64) -> None:
    """Stop or restart mcycle and minstret."""
    changed = hart.mcountinhibit ^ value
    if changed & (1 << CYCLE_BIT) != 0:
        hart.mcycle_offset = (
            read_counter(hart, "mcycle_offset", CYCLE_BIT)
            if value & (1 << CYCLE_BIT) != 0
            else hart.mcycle_offset - hart.retired()
        )
    if changed & (1 << INSTRET_BIT) != 0:
        hart.minstret_offset = (
            read_counter(hart, "minstret_offset", INSTRET_BIT)
            if value & (1 << INSTRET_BIT) != 0
            else hart.minstret_offset - hart.retired()
        )
    hart.mcountinhibit = value & (1 << CYCLE_BIT | 1 << INSTRET_BIT)


@native
def read_fflags(hart: Hart) -> u64:
    """Accrued exceptions."""
    return u64(gather_flags(hart))


@native
def write_fflags(hart: Hart, value: u64) -> None:
    """Accrued exceptions."""
    set_flags(hart, u32(value))
    hart.fs_dirty = u32(1)


@native
def read_frm(hart: Hart) -> u64:
    """Rounding mode."""
    return u64(hart.frm)


@native
def write_frm(hart: Hart, value: u64) -> None:
    """Rounding mode."""
    set_frm(hart, u32(value))
    hart.fs_dirty = u32(1)


@native
def read_fcsr(hart: Hart) -> u64:
    """Rounding mode and accrued exceptions."""
    return u64(hart.frm << 5 | gather_flags(hart))


@native
def write_fcsr(hart: Hart, value: u64) -> None:
    """Rounding mode and accrued exceptions."""
    hart.frm = u32(value >> 5) & 7
    set_flags(hart, u32(value))
    hart.fs_dirty = u32(1)


@native
def read_pmpcfg(hart: Hart, first: Const[int]) -> u64:
    """Eight configuration bytes."""
    value = u64(0)
    for index in range(8):
        value |= u64(hart.pmpcfg[first + index]) << (8 * index)
    return value


@native
def write_pmpcfg(hart: Hart, value: u64, first: Const[int]) -> None:
    """Eight configuration bytes; each keeps to its lock."""
    for index in range(8):
        pmp_write_config(hart, u32(first + index), u8(value >> (8 * index)))
    _pmp_changed(hart)


@native
def read_pmpaddr(hart: Hart, index: Const[int]) -> u64:
    """Bits 55 to 2 of an address."""
    return hart.pmpaddr[index]


@native
def write_pmpaddr(hart: Hart, value: u64, index: Const[int]) -> None:
    """Bits 55 to 2 of an address, unless locked."""
    if not pmp_address_locked(hart, u32(index)):
        hart.pmpaddr[index] = value & ADDRESS_MASK
        _pmp_changed(hart)


@native
def _pmp_changed(hart: Hart) -> None:
    pmp_update(hart)
    hart.flush_request = u32(1)
    poll_interrupts(hart)


# -- gates: what access needs beyond the number's own bits


@native
def gate_open(hart: Hart) -> bool:
    """Nothing more."""
    return True


@native
def gate_fp(hart: Hart) -> bool:
    """The FP unit must be present and on."""
    return hart.mstatus & FS != 0 and hart.has("f")


@native
def gate_counter(hart: Hart, bit: Const[int], extension: Const[str]) -> bool:
    """User-level counters need mcounteren below machine mode, and scounteren in user mode."""
    if not hart.has(extension):
        return False
    if hart.privilege != MACHINE and (hart.mcounteren >> bit) & 1 == 0:
        return False
    return hart.privilege != USER or (hart.scounteren >> bit) & 1 != 0


@native
def gate_stimecmp(hart: Hart) -> bool:
    """Sstc must be present, and enabled for the supervisor."""
    if not hart.has("sstc"):
        return False
    enabled = hart.menvcfg & STCE != 0 and (hart.mcounteren >> TIME_BIT) & 1 != 0
    return hart.privilege == MACHINE or enabled


@native
def gate_satp(hart: Hart) -> bool:
    """TVM takes satp from the supervisor."""
    return hart.has("s") and (hart.privilege != SUPERVISOR or hart.mstatus & TVM == 0)


@native
def gate_extension(hart: Hart, extension: Const[str]) -> bool:
    """Registers of an optional part."""
    return hart.has(extension)


_OPEN = Bound(gate_open)


@dataclass(frozen=True)
class CsrEntry:
    """One control and status register."""

    name: str
    read: Bound
    write: Bound
    gate: Bound = _OPEN


def _field(name: str, mask: int = (1 << 64) - 1, gate: Bound = _OPEN) -> CsrEntry:
    return CsrEntry(
        name,
        Bound(read_field, {"name": name}),
        Bound(write_field, {"name": name, "mask": mask}),
        gate,
    )


def _constant(name: str, value: int, gate: Bound = _OPEN) -> CsrEntry:
    return CsrEntry(name, Bound(read_constant, {"value": value}), Bound(write_ignored), gate)


def _counter(name: str, offset: str, bit: int, gate: Bound = _OPEN) -> CsrEntry:
    constants = {"name": offset, "bit": bit}
    return CsrEntry(name, Bound(read_counter, constants), Bound(write_counter, constants), gate)


def _user_counter(bit: int, extension: str = "zicntr") -> Bound:
    return Bound(gate_counter, {"bit": bit, "extension": extension})


_S = Bound(gate_extension, {"extension": "s"})
_U = Bound(gate_extension, {"extension": "u"})
_PMP = Bound(gate_extension, {"extension": "pmp"})
_FP = Bound(gate_fp)

CSRS: dict[int, CsrEntry] = {
    # user
    0x001: CsrEntry("fflags", Bound(read_fflags), Bound(write_fflags), _FP),
    0x002: CsrEntry("frm", Bound(read_frm), Bound(write_frm), _FP),
    0x003: CsrEntry("fcsr", Bound(read_fcsr), Bound(write_fcsr), _FP),
    0xC00: _counter("cycle", "mcycle_offset", CYCLE_BIT, _user_counter(CYCLE_BIT)),
    0xC01: CsrEntry("time", Bound(read_time), Bound(write_ignored), _user_counter(TIME_BIT)),
    0xC02: _counter("instret", "minstret_offset", INSTRET_BIT, _user_counter(INSTRET_BIT)),
    **{
        0xC00 + number: _constant(f"hpmcounter{number}", 0, _user_counter(number, "zihpm"))
        for number in range(3, 32)
    },
    # supervisor
    0x100: CsrEntry(
        "sstatus",
        Bound(read_mstatus, {"mask": SSTATUS}),
        Bound(write_mstatus, {"mask": SSTATUS & MSTATUS_WRITABLE}),
        _S,
    ),
    0x104: CsrEntry("sie", Bound(read_sie), Bound(write_sie), _S),
    0x105: CsrEntry(
        "stvec", Bound(read_field, {"name": "stvec"}), Bound(write_vector, {"name": "stvec"}), _S
    ),
    0x106: _field("scounteren", COUNTERS, _S),
    0x10A: CsrEntry(
        "senvcfg",
        Bound(read_field, {"name": "senvcfg"}),
        Bound(write_envcfg, {"name": "senvcfg"}),
        _S,
    ),
    0x140: _field("sscratch", gate=_S),
    0x141: _field("sepc", ~1, _S),
    0x142: _field("scause", gate=_S),
    0x143: _field("stval", gate=_S),
    SIP: CsrEntry("sip", Bound(read_sip), Bound(write_sip), _S),
    0x14D: CsrEntry(
        "stimecmp",
        Bound(read_field, {"name": "stimecmp"}),
        Bound(write_stimecmp),
        Bound(gate_stimecmp),
    ),
    0x180: CsrEntry(
        "satp", Bound(read_field, {"name": "satp"}), Bound(write_satp), Bound(gate_satp)
    ),
    # machine
    0xF11: _constant("mvendorid", 0),
    0xF12: _constant("marchid", 0),
    0xF13: _constant("mimpid", 0),
    0xF14: CsrEntry("mhartid", Bound(read_field, {"name": "mhartid"}), Bound(write_ignored)),
    0xF15: _constant("mconfigptr", 0),
    0x300: CsrEntry(
        "mstatus",
        Bound(read_mstatus, {"mask": (1 << 64) - 1}),
        Bound(write_mstatus, {"mask": MSTATUS_WRITABLE}),
    ),
    0x301: CsrEntry("misa", Bound(read_field, {"name": "misa"}), Bound(write_ignored)),
    0x302: CsrEntry(
        "medeleg",
        Bound(read_field, {"name": "medeleg"}),
        Bound(write_delegation, {"name": "medeleg", "mask": DELEGABLE}),
        _S,
    ),
    0x303: CsrEntry(
        "mideleg",
        Bound(read_field, {"name": "mideleg"}),
        Bound(write_delegation, {"name": "mideleg", "mask": SUPERVISOR_INTERRUPTS}),
        _S,
    ),
    0x304: CsrEntry("mie", Bound(read_field, {"name": "mie"}), Bound(write_mie)),
    0x305: CsrEntry(
        "mtvec", Bound(read_field, {"name": "mtvec"}), Bound(write_vector, {"name": "mtvec"})
    ),
    0x306: _field("mcounteren", COUNTERS, _U),
    0x30A: CsrEntry(
        "menvcfg",
        Bound(read_field, {"name": "menvcfg"}),
        Bound(write_envcfg, {"name": "menvcfg"}),
        _U,
    ),
    0x320: CsrEntry(
        "mcountinhibit", Bound(read_field, {"name": "mcountinhibit"}), Bound(write_mcountinhibit)
    ),
    0x340: _field("mscratch"),
    0x341: _field("mepc", ~1),
    0x342: _field("mcause"),
    0x343: _field("mtval"),
    MIP: CsrEntry("mip", Bound(read_mip), Bound(write_mip)),
    **{
        0x3A0 + number: CsrEntry(
            f"pmpcfg{number}",
            Bound(read_pmpcfg, {"first": number * 4}),
            Bound(write_pmpcfg, {"first": number * 4}),
            _PMP,
        )
        for number in (0, 2)
    },
    **{
        0x3B0 + index: CsrEntry(
            f"pmpaddr{index}",
            Bound(read_pmpaddr, {"index": index}),
            Bound(write_pmpaddr, {"index": index}),
            _PMP,
        )
        for index in range(PMP_ENTRIES)
    },
    0xB00: _counter("mcycle", "mcycle_offset", CYCLE_BIT),
    0xB02: _counter("minstret", "minstret_offset", INSTRET_BIT),
    **{0xB00 + number: _constant(f"mhpmcounter{number}", 0) for number in range(3, 32)},
    **{0x320 + number: _constant(f"mhpmevent{number}", 0) for number in range(3, 32)},
}
CSR_NUMBER = {entry.name: number for number, entry in CSRS.items()}
_READ = {number: entry.read for number, entry in CSRS.items()}
_WRITE = {number: entry.write for number, entry in CSRS.items()}
_GATE = {number: entry.gate for number, entry in CSRS.items()}
_NO_READ, _NO_WRITE, _NO_GATE = Bound(read_nothing), Bound(write_nothing), Bound(gate_open)


@native
def csr_read(hart: Hart, number: u32) -> u64:
    """The register's value, without checking access. Raises an illegal-instruction exception if
    there is none.
    """
    result: u64 = switch_call(_READ, _NO_READ, number, hart)
    return result


@native
def csr_write(hart: Hart, number: u32, value: u64) -> None:
    """Write the register, without checking access."""
    switch_call(_WRITE, _NO_WRITE, number, hart, value)


@native
def csr_permitted(hart: Hart, number: u32, writes: bool) -> bool:
    """Whether the hart may access the register now, as far as it exists."""
    if (number >> 8) & 3 > hart.privilege:
        return False
    if writes and number >> 10 == 3:
        return False
    allowed: bool = switch_call(_GATE, _NO_GATE, number, hart)
    return allowed


@native
def csr_access(hart: Hart, number: u32, operand: u64, operation: u32) -> u64:
    """Read a CSR and write it, or set or clear its bits. Returns what it held."""
    if not csr_permitted(hart, number, operation != READ_ONLY):
        hart.raise_exception(u64(ILLEGAL), u64(0))
    old = csr_read(hart, number)
    if operation == REPLACE:
        csr_write(hart, number, operand)
    elif operation != READ_ONLY and (number == MIP or number == SIP):
        # Devices' lines are read but not written back (priv 3.1.9); and what another thread raises
        # meanwhile stays raised.
        raised = operand if operation == SET else u64(0)
        write_pending(hart, raised, writable_pending(hart, number) & operand)
    elif operation == SET:
        csr_write(hart, number, old | operand)
    elif operation == CLEAR:
        csr_write(hart, number, old & ~operand)
    return old


__all__ = [
    "ALL_INTERRUPTS",
    "CLEAR",
    "CSRS",
    "CSR_NUMBER",
    "READ_ONLY",
    "REPLACE",
    "SET",
    "csr_access",
    "csr_read",
    "csr_write",
]
