"""The built-in SBI, call by call, on harts that do not execute by themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import ratite
from ratite.cpu.riscv import RiscvVcpu
from ratite.isa.riscv.state import SIE, SSI
from ratite.machines.machine import Power
from ratite.machines.riscv import RiscvMachine
from ratite.machines.riscv_sbi import Sbi
from ratite.native import u32, u64

HSM, IPI, SRST, DBCN = 0x48_534D, 0x73_5049, 0x5352_5354, 0x4442_434E
START, STOP, STATUS, SUSPEND = range(4)
STARTED, STOPPED, SUSPENDED, RESUME_PENDING = 0, 1, 4, 6
SUCCESS, NOT_SUPPORTED, INVALID_PARAM, INVALID_ADDRESS, ALREADY_AVAILABLE = 0, -2, -3, -5, -6
RETENTIVE, NON_RETENTIVE = 0, 0x8000_0000
RAM, UART, ROM, NOWHERE = 0x8000_0000, 0x1000_0000, 0x1000, 0x4000_0000
CODE = RAM + 0x1000
SOFTWARE = 1 << SSI
GARBAGE = 0x1234_5678_9ABC_DEF0


class Caller:
    """Makes calls as the guest's harts would."""

    def __init__(self, machine: RiscvMachine) -> None:
        assert machine.sbi is not None
        self.machine = machine
        self.sbi: Sbi = machine.sbi
        self.harts: list[RiscvVcpu] = machine.harts
        self.printed = b""
        self.powered: list[Power] = []
        self.sbi._console_write = self._print
        machine.environment.on_power = self.powered.append

    def _print(self, data: bytes) -> int:
        self.printed += data
        return len(data)

    def call(self, extension: int, function: int, *arguments: int, hart: int = 0) -> None:
        """Make a call; a0 and a1 show what it leaves."""
        vcpu = self.harts[hart]
        vcpu.state.halted = u32(0)  # it executes
        x = vcpu.state.x
        for number in range(10, 16):
            x[number] = u64(GARBAGE)
        for number, value in enumerate(arguments):
            x[10 + number] = u64(value)
        x[16], x[17] = u64(function), u64(extension)
        with self.machine.lock:
            self.sbi.call(vcpu)

    def ask(self, extension: int, function: int, *arguments: int, hart: int = 0) -> tuple[int, int]:
        """Make a call; its error and value."""
        self.call(extension, function, *arguments, hart=hart)
        return self.result(hart)

    def result(self, hart: int) -> tuple[int, int]:
        """a0, with its sign, and a1."""
        x = self.harts[hart].state.x
        error = int(x[10])
        return error - (error >> 63 << 64), int(x[11])

    def status(self, hart: int) -> int:
        """What hart_get_status says."""
        error, value = self.ask(HSM, STATUS, hart)
        assert error == SUCCESS
        return value

    def start(self, hart: int) -> RiscvVcpu:
        """A further hart, with software interrupts enabled."""
        assert self.ask(HSM, START, hart, CODE, 0x55) == (SUCCESS, 0)
        vcpu = self.harts[hart]
        vcpu.state.mie = u64(SOFTWARE)
        return vcpu


@pytest.fixture
def sbi(idle: Callable[..., ratite.Vm]) -> Caller:
    machine = idle("-M", "virt", "-smp", 2, "-bios", "builtin").machine
    assert isinstance(machine, RiscvMachine)
    return Caller(machine)


# -- hart state management


def test_a_hart_is_stopped_started_and_stopped_again(sbi: Caller) -> None:
    assert [sbi.status(0), sbi.status(1)] == [STARTED, STOPPED]
    hart = sbi.start(1)
    assert sbi.status(1) == STARTED
    assert (hart.state.pc, hart.state.x[10], hart.state.x[11]) == (CODE, 1, 0x55)
    sbi.call(HSM, STOP, hart=1)
    assert sbi.status(1) == STOPPED
    sbi.start(1)
    assert sbi.status(1) == STARTED


def test_only_a_stopped_hart_can_be_started(sbi: Caller) -> None:
    assert sbi.ask(HSM, START, 0, CODE, 0) == (ALREADY_AVAILABLE, 0)
    sbi.start(1)
    assert sbi.ask(HSM, START, 1, CODE, 0) == (ALREADY_AVAILABLE, 0)
    sbi.call(HSM, SUSPEND, RETENTIVE, 0, 0, hart=1)
    assert sbi.ask(HSM, START, 1, CODE, 0) == (ALREADY_AVAILABLE, 0)
    assert sbi.status(1) == SUSPENDED


def test_a_hart_that_does_not_exist_is_refused(sbi: Caller) -> None:
    for number in (2, (1 << 64) - 1):
        assert sbi.ask(HSM, START, number, CODE, 0) == (INVALID_PARAM, 0)
        assert sbi.ask(HSM, STATUS, number) == (INVALID_PARAM, 0)
    assert sbi.ask(HSM, 4) == (NOT_SUPPORTED, 0)


def test_a_retentive_suspension_returns_success_when_it_ends(sbi: Caller) -> None:
    hart = sbi.start(1)
    hart.state.pc = u64(CODE + 8)
    sbi.call(HSM, SUSPEND, RETENTIVE, 0, 0, hart=1)
    assert hart.state.halted and hart.state.pc == CODE + 8
    assert sbi.status(1) == SUSPENDED
    assert sbi.result(1) == (SUCCESS, 0)


def test_a_non_retentive_suspension_resumes_at_its_address_with_its_argument(sbi: Caller) -> None:
    hart = sbi.start(1)
    hart.state.satp = u64(8 << 60 | 0x80000)
    hart.state.mstatus = u64(int(hart.state.mstatus) | SIE)
    sbi.call(HSM, SUSPEND, NON_RETENTIVE, CODE + 0x100, 0x77, hart=1)
    assert hart.state.halted
    assert sbi.status(1) == SUSPENDED
    assert (hart.state.x[10], hart.state.x[11]) == (1, 0x77)
    assert hart.state.pc == CODE + 0x100 and hart.state.privilege == 1
    assert hart.state.satp == 0 and not int(hart.state.mstatus) & SIE
    assert hart.state.mie == SOFTWARE


@pytest.mark.parametrize("kind", [RETENTIVE, NON_RETENTIVE])
def test_an_interrupt_resumes_a_suspended_hart(sbi: Caller, kind: int) -> None:
    hart = sbi.start(1)
    sbi.call(HSM, SUSPEND, kind, CODE, 0, hart=1)
    assert sbi.ask(IPI, 0, 1, 1) == (SUCCESS, 0)
    assert hart.has_work() and sbi.status(1) == RESUME_PENDING
    hart.state.halted = u32(0)  # as who runs the hart does
    assert sbi.status(1) == STARTED


def test_a_hart_that_resumed_and_waits_for_an_interrupt_is_started(sbi: Caller) -> None:
    hart = sbi.start(1)
    sbi.call(HSM, SUSPEND, RETENTIVE, 0, 0, hart=1)
    hart.state.halted = u32(0)
    hart.state.budget -= 2  # an instruction, and `wfi`
    hart.state.halted = u32(1)
    assert sbi.status(1) == STARTED


@pytest.mark.parametrize("kind", [RETENTIVE, NON_RETENTIVE])
def test_a_suspension_with_work_pending_ends_at_once(sbi: Caller, kind: int) -> None:
    hart = sbi.start(1)
    sbi.ask(IPI, 0, 1, 1)
    sbi.call(HSM, SUSPEND, kind, CODE, 0x77, hart=1)
    assert not hart.state.halted and sbi.status(1) == STARTED


@pytest.mark.parametrize("kind", [1, 0x1000_0000, 0x8000_0001, 0x9000_0000, 1 << 32, 1 << 63])
def test_a_kind_of_suspension_that_there_is_not_is_refused(sbi: Caller, kind: int) -> None:
    assert sbi.ask(HSM, SUSPEND, kind, CODE, 0) == (INVALID_PARAM, 0)
    assert not sbi.harts[0].state.halted


@pytest.mark.parametrize("address", [CODE + 1, UART, NOWHERE, (1 << 64) - 2])
def test_a_hart_neither_starts_nor_resumes_where_there_is_no_memory(
    sbi: Caller, address: int
) -> None:
    assert sbi.ask(HSM, START, 1, address, 0) == (INVALID_ADDRESS, 0)
    before = int(sbi.harts[0].state.pc)
    assert sbi.ask(HSM, SUSPEND, NON_RETENTIVE, address, 0) == (INVALID_ADDRESS, 0)
    assert not sbi.harts[0].state.halted and sbi.harts[0].state.pc == before


def test_a_reset_forgets_suspensions(sbi: Caller) -> None:
    sbi.harts[0].state.mie = u64(SOFTWARE)
    sbi.call(HSM, SUSPEND, RETENTIVE, 0, 0)
    with sbi.machine.lock:
        sbi.machine.reset()
    assert [sbi.status(0), sbi.status(1)] == [STARTED, STOPPED]


# -- power


@pytest.mark.parametrize(("extension", "arguments"), [(8, ()), (SRST, (0, 0)), (SRST, (1, 0))])
def test_a_call_for_power_does_not_return(
    sbi: Caller, extension: int, arguments: tuple[int, ...]
) -> None:
    sbi.call(extension, 0, *arguments)
    hart = sbi.harts[0]
    assert len(sbi.powered) == 1
    assert hart.state.halted and not hart.has_work() and not hart.started


@pytest.mark.parametrize("arguments", [(3, 0), (0, 2), (1 << 32, 0)])
def test_a_reset_of_a_kind_that_there_is_not_is_refused(
    sbi: Caller, arguments: tuple[int, int]
) -> None:
    assert sbi.ask(SRST, 0, *arguments) == (INVALID_PARAM, 0)
    assert not sbi.powered


# -- the debug console


def test_the_debug_console_prints_from_memory(sbi: Caller) -> None:
    sbi.harts[0].space.write_bytes(CODE, b"printed")  # type: ignore[arg-type]
    assert sbi.ask(DBCN, 0, 7, CODE, 0) == (SUCCESS, 7)
    assert sbi.ask(DBCN, 0, 0, CODE, 0) == (SUCCESS, 0)
    assert sbi.printed == b"printed"


@pytest.mark.parametrize("function", [0, 1])
@pytest.mark.parametrize(
    ("size", "low", "high"),
    [
        (1, UART, 0),
        (1, NOWHERE, 0),
        (7, CODE, 1),
        (2, RAM + (128 << 20) - 1, 0),
        ((1 << 64) - 1, CODE, 0),
        (16, (1 << 64) - 8, 0),
    ],
)
def test_the_debug_console_takes_only_memory(
    sbi: Caller, function: int, size: int, low: int, high: int
) -> None:
    assert sbi.ask(DBCN, function, size, low, high) == (INVALID_PARAM, 0)
    assert sbi.printed == b""


def test_the_debug_console_does_not_read_into_rom(sbi: Caller) -> None:
    assert sbi.ask(DBCN, 1, 8, ROM, 0) == (INVALID_PARAM, 0)
