"""Control and status registers: who may access which, and what a write leaves (Privileged ISA,
chapters 2, 3, 12).
"""

from __future__ import annotations

import pytest

from ratite.isa.riscv.csr import CSR_NUMBER, CSRS
from ratite.isa.riscv.state import EXTENSION_BIT, FS, STCE
from ratite.native import i64, u32, u64
from tests.isa.assembler import assemble
from tests.isa.guest import MACHINE, SUPERVISOR, USER, Trap, step
from tests.isa.harness import CODE, Executor

ILLEGAL = 2
ONES = (1 << 64) - 1
SEIP, STIP, SSIP, MEIP, MTIP, MSIP = 1 << 9, 1 << 5, 1 << 1, 1 << 11, 1 << 7, 1 << 3
SUPERVISOR_LEVEL = SEIP | STIP | SSIP
TVM, TW, TSR = 1 << 20, 1 << 21, 1 << 22
COUNTERS = ("cycle", "time", "instret", *(f"hpmcounter{number}" for number in range(3, 32)))


def execute(executor: Executor, text: str, privilege: int = MACHINE, *, x2: int = 0) -> Trap | None:
    """One instruction, with x2 given."""
    executor.load(CODE, assemble(text))
    executor.hart.pc, executor.hart.x[2] = u64(CODE), u64(x2)
    executor.hart.privilege = u32(privilege)
    executor.hart.set_mode()
    return step(executor)


def read(executor: Executor, csr: str | int, privilege: int = MACHINE) -> int | None:
    """The value, or None if the access is illegal."""
    number = CSR_NUMBER[csr] if isinstance(csr, str) else csr
    text = f"csrrs x1, {number}, x0"
    trap = execute(executor, text, privilege)
    if trap is None:
        return int(executor.hart.x[1])
    assert trap == Trap(ILLEGAL, int.from_bytes(assemble(text), "little"), CODE)
    return None


def write(executor: Executor, csr: str | int, value: int, privilege: int = MACHINE) -> bool:
    """Whether the write was legal."""
    number = CSR_NUMBER[csr] if isinstance(csr, str) else csr
    return execute(executor, f"csrrw x0, {number}, x2", privilege, x2=value & ONES) is None


def written(executor: Executor, csr: str, value: int, privilege: int = MACHINE) -> int | None:
    """What a register holds after a legal write."""
    assert write(executor, csr, value, privilege)
    return read(executor, csr, privilege)


def everything_open(executor: Executor) -> None:
    executor.hart.mcounteren = executor.hart.scounteren = u64(ONES)


@pytest.mark.parametrize("privilege", [USER, SUPERVISOR, MACHINE])
def test_number_says_who_may_read(executor: Executor, privilege: int) -> None:
    everything_open(executor)
    for number, entry in CSRS.items():
        assert (read(executor, number, privilege) is None) == (number >> 8 & 3 > privilege), (
            entry.name
        )


def test_number_says_what_may_be_written(executor: Executor) -> None:
    everything_open(executor)
    for number, entry in CSRS.items():
        executor.reset()
        everything_open(executor)
        before = read(executor, number)
        assert before is not None
        assert write(executor, number, before) == (number >> 10 != 3), entry.name


def test_other_numbers_are_illegal(executor: Executor) -> None:
    for number in range(0x1000):
        if (number not in CSRS and number % 7 == 0) or number in (
            0x3A1,
            0x3A3,
            0x3C0,
            0x321,
            0x7A0,
            0xC80,
        ):
            assert read(executor, number) is None, hex(number)
            assert not write(executor, number, 0), hex(number)


def test_standard_registers_exist() -> None:
    names = """
        fflags frm fcsr cycle time instret sstatus sie stvec scounteren senvcfg sscratch sepc
        scause stval sip stimecmp satp mvendorid marchid mimpid mhartid mconfigptr mstatus misa
        medeleg mideleg mie mtvec mcounteren menvcfg mscratch mepc mcause mtval mip mcycle
        minstret mcountinhibit pmpcfg0 pmpcfg2 pmpaddr0 pmpaddr15 hpmcounter3 hpmcounter31
        mhpmcounter3 mhpmcounter31 mhpmevent3 mhpmevent31
    """
    assert set(names.split()) <= set(CSR_NUMBER)


@pytest.mark.parametrize("name", ["mscratch", "sscratch", "mtval", "stval"])
def test_plain_registers_hold_anything(executor: Executor, name: str) -> None:
    for value in (0, ONES, 0x0123_4567_89AB_CDEF):
        assert written(executor, name, value) == value


@pytest.mark.parametrize("name", ["mepc", "sepc"])
def test_exception_address_is_even(executor: Executor, name: str) -> None:
    assert written(executor, name, ONES) == ONES - 1


@pytest.mark.parametrize("name", ["mtvec", "stvec"])
def test_vector_mode_is_direct_or_vectored(executor: Executor, name: str) -> None:
    assert written(executor, name, 0x8000) == 0x8000
    assert written(executor, name, 0x9001) == 0x9001
    found = written(executor, name, 0xA002)
    assert found is not None and found & 3 in (0, 1)
    found = written(executor, name, 0xA003)
    assert found is not None and found & 3 in (0, 1)


@pytest.mark.parametrize(
    "name", ["misa", "mvendorid", "marchid", "mimpid", "mhartid", "mconfigptr"]
)
def test_identity_does_not_change(executor: Executor, name: str) -> None:
    before = read(executor, name)
    write(executor, name, ONES)
    assert read(executor, name) == before


def test_mstatus_keeps_what_it_may_hold(executor: Executor) -> None:
    fixed = 2 << 32 | 2 << 34  # UXL, SXL
    fields = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 7 | 1 << 8 | 3 << 11 | 3 << 13 | 0x3F << 17
    assert written(executor, "mstatus", ONES) == fields | fixed | 1 << 63
    assert written(executor, "mstatus", 0) == fixed
    assert written(executor, "mstatus", 1 << 11) == fixed | 1 << 11
    found = written(executor, "mstatus", 2 << 11)
    assert found is not None and found >> 11 & 3 != 2


def test_sstatus_is_a_view_of_mstatus(executor: Executor) -> None:
    view = 1 << 1 | 1 << 5 | 1 << 8 | 3 << 13 | 1 << 18 | 1 << 19
    write(executor, "mstatus", ONES & ~(1 << 17))
    assert read(executor, "sstatus") == view | 2 << 32 | 1 << 63
    before = read(executor, "mstatus")
    assert before is not None
    assert written(executor, "sstatus", 0, SUPERVISOR) == 2 << 32
    assert read(executor, "mstatus") == before & ~view & ~(1 << 63)


def test_floating_point_state_turns_dirty(executor: Executor) -> None:
    for text in (
        "fadd.s f1, f2, f3",
        "flw f1, 0(x0)",
        "fmv.w.x f1, x0",
        "csrrwi x0, frm, 1",
        "fcvt.w.s x1, f1",
    ):
        write(executor, "mstatus", 1 << 13)
        assert execute(executor, text) is None
        status = read(executor, "mstatus")
        assert status is not None and status & (FS | 1 << 63) == FS | 1 << 63, text
    for text in ("fsw f1, 0x200(x0)", "fmv.x.w x1, f1", "fclass.d x1, f1", "csrrs x1, fcsr, x0"):
        write(executor, "mstatus", 1 << 13)
        assert execute(executor, text) is None
        status = read(executor, "mstatus")
        assert status is not None and status & FS == 1 << 13, text


def test_floating_point_registers_need_the_unit(executor: Executor) -> None:
    write(executor, "mstatus", 0)
    for name in ("fflags", "frm", "fcsr"):
        assert read(executor, name) is None
        assert not write(executor, name, 0)


def test_interrupt_enables(executor: Executor) -> None:
    assert written(executor, "mie", ONES) == SUPERVISOR_LEVEL | MEIP | MTIP | MSIP
    assert read(executor, "sie") == 0
    assert written(executor, "mideleg", ONES) == SUPERVISOR_LEVEL
    assert read(executor, "sie") == SUPERVISOR_LEVEL
    assert written(executor, "sie", STIP, SUPERVISOR) == STIP
    assert read(executor, "mie") == STIP | MEIP | MTIP | MSIP


def test_exception_delegation_mask(executor: Executor) -> None:
    assert written(executor, "medeleg", ONES) == 0xB3FF


def test_software_writes_supervisor_interrupts_only(executor: Executor) -> None:
    executor.hart.menvcfg = u64(0)
    assert written(executor, "mip", ONES) == SUPERVISOR_LEVEL
    assert written(executor, "mip", 0) == 0
    executor.hart.menvcfg = u64(STCE)
    assert written(executor, "mip", ONES) == SEIP | SSIP  # STIP is the comparator's


def test_lines_are_read_but_not_latched(executor: Executor) -> None:
    executor.hart.irq_lines = u64(SEIP | MTIP)
    write(executor, "mideleg", ONES)
    assert execute(executor, f"csrrs x1, {CSR_NUMBER['mip']}, x2", x2=STIP) is None
    assert executor.hart.x[1] == SEIP | MTIP
    assert execute(executor, f"csrrs x1, {CSR_NUMBER['sip']}, x2", SUPERVISOR, x2=0x100) is None
    assert executor.hart.x[1] == SEIP
    executor.hart.irq_lines = u64(0)
    assert read(executor, "mip") == 0


def test_software_interrupt_from_elsewhere_ends_when_it_is_cleared(executor: Executor) -> None:
    write(executor, "mideleg", ONES)
    for name, operation, operand, pending in (
        ("mip", "csrrs", SEIP, True), ("mip", "csrrc", STIP, True), ("sip", "csrrc", STIP, True),
        ("sip", "csrrs", SSIP, True), ("sip", "csrrc", SSIP, False), ("mip", "csrrc", SSIP, False),
        ("mip", "csrrw", 0, False), ("sip", "csrrw", 0, False), ("sip", "csrrw", SSIP, True),
    ):  # fmt: skip
        executor.hart.mip_soft, executor.hart.ssip_sent = u64(0), u32(1)
        text = f"{operation} x1, {CSR_NUMBER[name]}, x2"
        assert execute(executor, text, x2=operand) is None
        assert executor.hart.x[1] == SSIP
        found = read(executor, "mip")
        assert found is not None and bool(found & SSIP) == pending, text
        executor.hart.ssip_sent = u32(0)


def test_supervisor_clears_its_software_interrupt_only(executor: Executor) -> None:
    executor.hart.menvcfg = u64(0)
    write(executor, "mideleg", ONES)
    write(executor, "mip", ONES)
    assert read(executor, "sip", SUPERVISOR) == SUPERVISOR_LEVEL
    assert written(executor, "sip", 0, SUPERVISOR) == SEIP | STIP
    assert written(executor, "sip", SSIP, SUPERVISOR) == SUPERVISOR_LEVEL
    write(executor, "mideleg", SEIP)
    assert written(executor, "sip", 0, SUPERVISOR) == SEIP
    assert read(executor, "mip") == SUPERVISOR_LEVEL


def test_satp_takes_supported_modes_only(executor: Executor) -> None:
    for mode in range(16):
        executor.hart.satp = u64(0)
        value = mode << 60 | 0x1234 << 44 | 0xABC
        legal = mode in (0, 8, 9, 10)
        assert written(executor, "satp", value) == (value if legal else 0)
    executor.hart.extensions &= ~(1 << EXTENSION_BIT["sv57"])
    executor.hart.satp = u64(0)
    assert written(executor, "satp", 10 << 60) == 0


def test_tvm_takes_satp_from_the_supervisor(executor: Executor) -> None:
    write(executor, "mstatus", TVM)
    assert read(executor, "satp", SUPERVISOR) is None
    assert not write(executor, "satp", 0, SUPERVISOR)
    assert read(executor, "satp", MACHINE) == 0


@pytest.mark.parametrize("bit", range(32))
def test_counter_enables(executor: Executor, bit: int) -> None:
    name = COUNTERS[bit]
    assert read(executor, name, MACHINE) is not None
    for machine, supervisor in ((0, 0), (1, 0), (0, 1), (1, 1)):
        executor.hart.mcounteren, executor.hart.scounteren = (
            u64(machine << bit),
            u64(supervisor << bit),
        )
        assert (read(executor, name, SUPERVISOR) is not None) == bool(machine)
        assert (read(executor, name, USER) is not None) == bool(machine and supervisor)
    executor.hart.mcounteren = u64(0xFFFF_FFFF & ~(1 << bit))
    assert read(executor, name, SUPERVISOR) is None


def test_counter_enable_registers_have_32_bits(executor: Executor) -> None:
    assert written(executor, "mcounteren", ONES) == 0xFFFF_FFFF
    assert written(executor, "scounteren", ONES) == 0xFFFF_FFFF


def test_counters_count_retired_instructions(executor: Executor) -> None:
    write(executor, "mcycle", 100)
    write(executor, "minstret", 1000)
    # minstret was set by an instruction that is not counted, then read by the next.
    assert read(executor, "minstret") == 1000
    assert read(executor, "minstret") == 1001
    assert read(executor, "mcycle") == 103
    assert read(executor, "cycle") == 104


def test_inhibited_counters_stand_still(executor: Executor) -> None:
    write(executor, "minstret", 50)
    assert written(executor, "mcountinhibit", ONES) == 0b101
    before = read(executor, "minstret")
    assert before is not None
    assert read(executor, "minstret") == before
    assert written(executor, "minstret", 7) == 7
    write(executor, "mcountinhibit", 0)
    after = read(executor, "minstret")
    assert after in (7, 8)
    assert read(executor, "minstret") == after + 1


def test_event_counters_are_zero(executor: Executor) -> None:
    for name in ("mhpmcounter3", "mhpmcounter31", "mhpmevent3", "mhpmevent31"):
        assert written(executor, name, ONES) == 0


def test_time_is_guest_time(executor: Executor) -> None:
    executor.hart.time_stopped = i64(12_345_678)
    assert read(executor, "time") == 123_456  # 10 MHz


def test_environment_configuration(executor: Executor) -> None:
    bits = 1 | 3 << 4 | 1 << 6 | 1 << 7
    assert written(executor, "menvcfg", ONES) == bits | 7 << 61
    assert written(executor, "senvcfg", ONES, SUPERVISOR) == bits
    assert written(executor, "senvcfg", 0) == 0
    found = written(executor, "senvcfg", 2 << 4)
    assert found is not None and found >> 4 & 3 != 2
    executor.hart.extensions &= ~sum(
        1 << EXTENSION_BIT[name] for name in ("zicbom", "zicboz", "svadu", "svpbmt", "sstc")
    )
    executor.hart.menvcfg = executor.hart.senvcfg = u64(0)
    assert written(executor, "menvcfg", ONES) == 1
    assert written(executor, "senvcfg", ONES) == 1


def test_stimecmp_needs_permission(executor: Executor) -> None:
    executor.hart.menvcfg, executor.hart.mcounteren = u64(0), u64(0)
    assert read(executor, "stimecmp", SUPERVISOR) is None
    assert read(executor, "stimecmp", MACHINE) is not None
    executor.hart.menvcfg = u64(STCE)
    assert read(executor, "stimecmp", SUPERVISOR) is None
    executor.hart.mcounteren = u64(2)
    assert read(executor, "stimecmp", SUPERVISOR) is not None
    assert read(executor, "stimecmp", USER) is None
    executor.hart.extensions &= ~(1 << EXTENSION_BIT["sstc"])
    assert read(executor, "stimecmp", MACHINE) is None


def test_stimecmp_drives_the_timer_interrupt(executor: Executor) -> None:
    executor.hart.menvcfg = u64(STCE)
    executor.hart.time_stopped = i64(1000 * 100)
    write(executor, "stimecmp", 1001)
    assert executor.hart.timer_changed == 1
    executor.hart.kick = u32(0)  # the executor would have left run()
    pending = read(executor, "mip")
    assert pending is not None and not pending & STIP
    executor.hart.time_stopped = i64(1001 * 100)
    pending = read(executor, "mip")
    assert pending is not None and pending & STIP
    executor.hart.menvcfg = u64(0)
    assert read(executor, "mip") == 0


def test_registers_of_absent_extensions_are_illegal(executor: Executor) -> None:
    everything_open(executor)
    for extension, names in {
        "s": "sstatus sie stvec scounteren senvcfg sscratch sepc scause stval sip satp medeleg",
        "u": "mcounteren menvcfg",
        "pmp": "pmpcfg0 pmpaddr0",
        "zicntr": "cycle time instret",
        "zihpm": "hpmcounter3 hpmcounter31",
        "f": "fflags frm fcsr",
        "sstc": "stimecmp",
    }.items():
        executor.reset()
        everything_open(executor)
        executor.hart.extensions &= ~(1 << EXTENSION_BIT[extension])
        executor.hart.set_mode()
        for name in names.split():
            assert read(executor, name) is None, name


def test_without_zicsr_there_are_none(executor: Executor) -> None:
    executor.hart.extensions &= ~(1 << EXTENSION_BIT["zicsr"])
    executor.hart.set_mode()
    assert read(executor, "mscratch") is None
