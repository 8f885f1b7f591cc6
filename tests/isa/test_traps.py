"""Traps and interrupts (Privileged ISA 20240411, sections 3.1.6 to 3.1.9, 3.3, 12.1)."""

from __future__ import annotations

import itertools

import pytest

from ratite.cpu.exits import Exit
from ratite.isa.riscv.state import MIE, MPIE, MPP_SHIFT, SIE, SPIE, SPP, TSR, TW
from ratite.native import u32, u64
from tests.isa.assembler import assemble, program
from tests.isa.guest import MACHINE, SUPERVISOR, USER, run_program
from tests.isa.harness import CODE, HANDLER, JUMP_TO_SELF, Executor

SUPERVISOR_HANDLER = 0x200
INTERRUPT = 1 << 63
BITS = {"SSI": 1, "MSI": 3, "STI": 5, "MTI": 7, "SEI": 9, "MEI": 11}
PRIORITY = ["MEI", "MSI", "MTI", "SEI", "SSI", "STI"]
MACHINE_ONES = ("MEI", "MSI", "MTI")


def prepare(executor: Executor, privilege: int, *, status: int = 0, delegated: int = 0) -> None:
    hart = executor.hart
    hart.stvec = u64(SUPERVISOR_HANDLER)
    executor.load(SUPERVISOR_HANDLER, JUMP_TO_SELF)
    executor.load(CODE, assemble("addi x1, x1, 1") * 8)
    hart.privilege, hart.mstatus = u32(privilege), u64(status)
    hart.mideleg = u64(delegated)
    hart.menvcfg = u64(0)  # no comparator in the way of STIP
    hart.set_mode()


def interrupt(executor: Executor, lines: int, enabled: int) -> tuple[int, int] | None:
    """(privilege, cause) of the interrupt taken before the next instruction, if any."""
    hart = executor.hart
    hart.irq_lines, hart.mie = u64(lines), u64(enabled)
    hart.mcause = hart.scause = u64(0)
    executor.cpu.kick(leave=False)
    before = int(hart.x[1])
    executor.run(1)
    if hart.pc == HANDLER or hart.pc == SUPERVISOR_HANDLER:
        assert hart.x[1] == before
        cause = hart.mcause if hart.pc == HANDLER else hart.scause
        return int(hart.privilege), int(cause) & ~INTERRUPT
    assert hart.x[1] == before + 1
    return None


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize("privilege", [USER, SUPERVISOR, MACHINE])
def test_machine_interrupt_is_taken_when_enabled(
    executor: Executor, name: str, privilege: int
) -> None:
    bit = 1 << BITS[name]
    for enable in (0, MIE):
        prepare(executor, privilege, status=enable)
        taken = interrupt(executor, bit, bit)
        wanted = privilege < MACHINE or enable != 0
        assert taken == ((MACHINE, BITS[name]) if wanted else None)
        prepare(executor, privilege, status=enable)
        executor.hart.pc = u64(CODE)
        assert interrupt(executor, bit, 0) is None
        executor.hart.pc = u64(CODE)


@pytest.mark.parametrize("name", ["SSI", "STI", "SEI"])
@pytest.mark.parametrize("privilege", [USER, SUPERVISOR, MACHINE])
def test_delegated_interrupt_goes_to_the_supervisor(
    executor: Executor, name: str, privilege: int
) -> None:
    bit = 1 << BITS[name]
    for enable in (0, SIE, MIE, SIE | MIE):
        executor.reset()
        prepare(executor, privilege, status=enable, delegated=bit)
        executor.hart.menvcfg = u64(0)
        taken = interrupt(executor, bit, bit)
        wanted = privilege == USER or (privilege == SUPERVISOR and enable & SIE != 0)
        assert taken == ((SUPERVISOR, BITS[name]) if wanted else None)


def test_priority_of_simultaneous_interrupts(executor: Executor) -> None:
    executor.hart.menvcfg = u64(0)
    for chosen in itertools.combinations(PRIORITY, 2):
        prepare(executor, MACHINE, status=MIE)
        executor.hart.pc = u64(CODE)
        executor.hart.menvcfg = u64(0)
        lines = sum(1 << BITS[name] for name in chosen)
        assert interrupt(executor, lines, lines) == (MACHINE, BITS[min(chosen, key=PRIORITY.index)])


def test_machine_level_comes_before_delegated(executor: Executor) -> None:
    prepare(executor, USER, delegated=1 << BITS["SEI"])
    lines = 1 << BITS["SEI"] | 1 << BITS["SSI"]
    assert interrupt(executor, lines, lines) == (MACHINE, BITS["SSI"])


def test_trap_to_machine_mode_saves_state(executor: Executor) -> None:
    for privilege, enabled in itertools.product((USER, SUPERVISOR, MACHINE), (0, MIE)):
        executor.reset()
        prepare(executor, privilege, status=enabled | SIE | SPP | MPIE * (not enabled))
        executor.hart.medeleg = u64(0)
        executor.load(CODE, assemble("ecall"))
        executor.run(1)
        hart = executor.hart
        assert (hart.pc, hart.mepc, hart.mcause, hart.mtval) == (
            HANDLER,
            CODE,
            {0: 8, 1: 9, 3: 11}[privilege],
            0,
        )
        assert hart.privilege == MACHINE
        assert (
            hart.mstatus & 0x1FFF == SIE | SPP | (MPIE if enabled else 0) | privilege << MPP_SHIFT
        )
        assert (hart.scause, hart.sepc) == (0, 0)


def test_trap_to_supervisor_saves_state(executor: Executor) -> None:
    for privilege, enabled in itertools.product((USER, SUPERVISOR), (0, SIE)):
        executor.reset()
        prepare(
            executor, privilege, status=enabled | MIE | MPIE | 3 << MPP_SHIFT | SPIE * (not enabled)
        )
        executor.hart.medeleg = u64(1 << 2 | 1 << 8 | 1 << 9)
        executor.load(CODE, b"\0\0")
        executor.run(1)
        hart = executor.hart
        assert (hart.pc, hart.sepc, hart.scause, hart.stval) == (SUPERVISOR_HANDLER, CODE, 2, 0)
        assert hart.privilege == SUPERVISOR
        previous = SPP if privilege == SUPERVISOR else 0
        assert (
            hart.mstatus & 0x1FFF
            == MIE | MPIE | 3 << MPP_SHIFT | (SPIE if enabled else 0) | previous
        )
        assert (hart.mcause, hart.mepc) == (0, 0)


def test_machine_mode_never_delegates(executor: Executor) -> None:
    prepare(executor, MACHINE)
    executor.hart.medeleg = u64(0xFFFF)
    executor.load(CODE, b"\0\0")
    executor.run(1)
    assert (executor.hart.pc, executor.hart.privilege) == (HANDLER, MACHINE)


@pytest.mark.parametrize("name", BITS)
def test_vectored_mode_spreads_interrupts_only(executor: Executor, name: str) -> None:
    prepare(executor, USER)
    executor.hart.menvcfg = u64(0)
    executor.hart.mtvec = u64(0x400 | 1)
    place = 0x400 + 4 * BITS[name]
    executor.load(place, JUMP_TO_SELF)
    executor.load(0x400, JUMP_TO_SELF)
    executor.hart.irq_lines = executor.hart.mie = u64(1 << BITS[name])
    executor.cpu.kick(leave=False)
    executor.run(1)
    assert (executor.hart.pc, executor.hart.mcause) == (place, INTERRUPT | BITS[name])
    executor.hart.irq_lines = u64(0)
    executor.hart.pc = u64(CODE)
    executor.load(CODE, b"\0\0")
    executor.run(1)
    assert (executor.hart.pc, executor.hart.mcause) == (0x400, 2)


def test_return_restores_and_reenables(executor: Executor) -> None:
    executor.hart.mepc, executor.hart.sepc = u64(0x3000), u64(0x3100)
    executor.load(CODE, assemble("mret"))
    executor.hart.mstatus = u64(MPIE | SUPERVISOR << MPP_SHIFT | TW | TSR)
    executor.hart.set_mode()
    executor.run(1)
    hart = executor.hart
    assert (hart.pc, hart.privilege) == (0x3000, SUPERVISOR)
    assert hart.mstatus & 0xFF_FFFF == MIE | MPIE | TW | TSR
    executor.load(0x3000, assemble("sret"))
    hart.mstatus = u64(SPP | SPIE)
    hart.set_mode()
    executor.run(1)
    assert (hart.pc, hart.privilege) == (0x3100, SUPERVISOR)
    assert hart.mstatus & 0x1FFF == SIE | SPIE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("mret", 0x3020_0073), ("c.ldsp x0, 8(sp)", 0x6022), ("csrrw x0, 0x7c0, x0", 0x7C00_1073),
        ("fadd.s f1, f2, f3, 5", 0x0031_50D3), (".half 0x8000", 0x8000),
    ],
)  # fmt: skip
def test_illegal_instruction_reports_its_encoding(
    executor: Executor, text: str, value: int
) -> None:
    executor.load(CODE, assemble(text))
    executor.hart.privilege = u32(SUPERVISOR)
    executor.hart.set_mode()
    executor.run(1)
    assert (executor.hart.mcause, executor.hart.mtval) == (2, value)


def test_enabling_an_interrupt_lets_it_in_before_the_next_instruction(executor: Executor) -> None:
    hart = executor.hart
    hart.irq_lines = u64(1 << 7)
    text = """
        addi   x2, x0, 0x80
        csrrs  x0, mie, x2
        csrrsi x0, mstatus, 8
        addi   x1, x1, 1
    """
    hart.mstatus = u64(0)
    run_program(executor, text, 4)
    assert (hart.mcause, hart.mepc, hart.x[1]) == (INTERRUPT | 7, CODE + 12, 0)
    executor.reset()
    hart.irq_lines, hart.mstatus = u64(1 << 7), u64(MIE)
    hart.set_mode()
    run_program(executor, text, 3)
    assert (hart.mcause, hart.mepc, hart.x[1]) == (INTERRUPT | 7, CODE + 8, 0)


def test_returning_to_enabled_interrupts_takes_one_at_once(executor: Executor) -> None:
    hart = executor.hart
    hart.irq_lines = hart.mie = u64(1 << 7)
    hart.mstatus, hart.mepc = u64(MPIE | MACHINE << MPP_SHIFT), u64(0x3000)
    executor.load(CODE, assemble("mret"))
    executor.load(0x3000, assemble("addi x1, x1, 1"))
    hart.set_mode()
    executor.run(2)
    assert (hart.mcause, hart.mepc, hart.x[1]) == (INTERRUPT | 7, 0x3000, 0)


def test_pending_software_interrupt_of_the_guest(executor: Executor) -> None:
    hart = executor.hart
    hart.mideleg, hart.mie, hart.stvec = u64(2), u64(2), u64(SUPERVISOR_HANDLER)
    executor.load(SUPERVISOR_HANDLER, JUMP_TO_SELF)
    hart.mstatus = u64(SIE)
    run_program(executor, "csrrsi x0, sip, 2\naddi x1, x1, 1", 2, SUPERVISOR)
    assert (hart.pc, hart.scause, hart.sepc, hart.x[1]) == (
        SUPERVISOR_HANDLER,
        INTERRUPT | 1,
        CODE + 4,
        0,
    )


def test_waiting_leaves_run_until_something_is_pending(executor: Executor) -> None:
    hart = executor.hart
    executor.load(CODE, program("wfi\naddi x1, x1, 1"))
    hart.mie = u64(1 << 7)
    assert executor.run(2) == Exit.HALT
    assert (hart.halted, hart.pc, hart.x[1]) == (1, CODE + 4, 0)
    hart.halted = u32(0)
    hart.irq_lines = u64(1 << 7)
    executor.run(1)
    assert hart.x[1] == 1  # interrupts are off: execution goes on behind it
    hart.pc = u64(CODE)
    executor.run(2)
    assert (hart.halted, hart.x[1]) == (0, 2)


def test_interrupt_while_waiting_returns_behind_the_instruction(executor: Executor) -> None:
    hart = executor.hart
    executor.load(CODE, program("wfi\naddi x1, x1, 1"))
    hart.mie, hart.mstatus = u64(1 << 7), u64(MIE)
    assert executor.run(2) == Exit.HALT
    hart.irq_lines = u64(1 << 7)
    executor.cpu.kick(leave=False)
    executor.run(1)
    assert (hart.mcause, hart.mepc, hart.halted) == (INTERRUPT | 7, CODE + 4, 0)


def test_faulting_instruction_changes_nothing(executor: Executor) -> None:
    hart = executor.hart
    for text in (
        "ld x2, 0(x2)",
        "amoadd.d x2, x2, (x2)",
        "lr.d x2, (x2)",
        "sc.d x2, x2, (x2)",
        "c.ldsp x2, 0(sp)",
    ):
        executor.reset()
        hart.x[2] = u64(0x4000_0000)
        executor.load(CODE, assemble(text))
        retired = hart.retired()
        executor.run(1)
        assert (hart.pc, hart.x[2]) == (HANDLER, 0x4000_0000), text
        assert hart.retired() == retired + 1  # the handler's, not the one that trapped


def test_device_error_is_an_access_fault(executor: Executor) -> None:
    hart = executor.hart
    for text, cause in (("ld x1, 0(x2)", 5), ("sd x1, 0(x2)", 7)):
        executor.reset()
        hart.x[2], hart.x[1] = u64(0x5000_0004), u64(7)
        executor.load(CODE, assemble(text))
        executor.run(1)
        assert (hart.mcause, hart.mtval, hart.mepc, hart.x[1]) == (cause, 0x5000_0004, CODE, 7)


@pytest.mark.parametrize("pc", [0x4000_0000, 0x1000_0000, 0xFFFF_FFFF_FFFF_FFFE])
def test_fetch_from_no_memory_is_an_access_fault(executor: Executor, pc: int) -> None:
    executor.hart.pc = u64(pc)
    executor.run(1)
    hart = executor.hart
    assert (hart.mcause, hart.mtval, hart.mepc, hart.pc) == (1, pc, pc, HANDLER)


def test_last_halfword_of_memory_cannot_hold_a_long_instruction(executor: Executor) -> None:
    executor.load(0xF_FFFE, b"\x13\x00")
    executor.hart.pc = u64(0xF_FFFE)
    executor.run(1)
    assert (executor.hart.mcause, executor.hart.mtval, executor.hart.mepc) == (
        1,
        0x10_0000,
        0xF_FFFE,
    )
    executor.load(0xF_FFFE, assemble("c.addi x0, 0"))
    executor.hart.pc = u64(0xF_FFFE)
    executor.run(1)
    assert executor.hart.pc == 0x10_0000
