"""Bare programs: HTIF on the spike board, the reference executor, runs that repeat exactly."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import ratite
from ratite.cli.guest import GuestFiles
from tests.boot.harness import DEMO, kernel_options

pytestmark = pytest.mark.boot


@pytest.mark.parametrize("status", [0, 1, 42])
def test_a_spike_program_prints_and_ends_with_its_status(
    machine: Callable[..., ratite.Vm], build_program: Callable[..., Path], status: int
) -> None:
    image = build_program("htif.S", f"-DSTATUS={status}")
    vm = machine("-M", "spike", "-kernel", image)
    vm.start()
    assert vm.wait(10)
    assert vm.serial.text.replace("\r", "") == "printed by a bare program\n"
    assert vm.exit_status == status


def test_a_suspended_hart_resumes_with_what_it_asked_for_and_power_off_does_not_return(
    machine: Callable[..., ratite.Vm], build_program: Callable[..., Path]
) -> None:
    image = build_program("hsm.S")
    for _ in range(40):  # the second is started at once, while its thread may still come up
        vm = machine("-M", "virt", "-smp", 2, "-bios", "builtin", "-kernel", image)
        vm.start()
        assert vm.wait(20)
        assert vm.serial.text == "1w"
        vm.close()


def test_the_reference_executor_runs_the_demo_guest_to_its_banner(
    machine: Callable[..., ratite.Vm],
) -> None:
    vm = machine(
        "-M", "virt", "-m", "64M", "-bios", "builtin", "-accel", "reference", "-kernel", DEMO
    )
    vm.run(until="Hello from inside the machine", timeout=120)
    assert all(int(vcpu.state.privilege) == 1 for vcpu in vm.machine.vcpus)


def repeated(make: Callable[..., ratite.Vm], *words: object) -> list[tuple[str, list[int]]]:
    """Output and instructions retired on each hart, of two runs to the end."""
    results = []
    for _ in range(2):
        vm = make(*words, "-icount", "shift=0,sleep=off")
        vm.start()
        assert vm.wait(60)
        results.append((vm.serial.text, [int(vcpu.state.retired()) for vcpu in vm.machine.vcpus]))
        vm.close()
    return results


def test_a_race_between_harts_under_icount_ends_the_same_each_time(
    machine: Callable[..., ratite.Vm], build_program: Callable[..., Path]
) -> None:
    image = build_program("race.S")
    options = ["-M", "virt", "-smp", 2, "-bios", "none", "-kernel", image]
    # it prints how many instructions it has retired: the machine stops some time after that
    (first, _), (second, _) = repeated(machine, *options)
    assert re.fullmatch(r"([0-9a-f]{16}\n){3}", first)
    assert int(first.split()[1], 16) > 10  # timers did interrupt
    assert first == second


def test_a_kernels_run_under_icount_ends_the_same_each_time(
    guest: GuestFiles, machine: Callable[..., ratite.Vm]
) -> None:
    options = kernel_options(guest, "rdinit=/nothing root=/dev/nothing panic=-1")
    fixed = ["-seed", 7, "-rtc", "base=2026-01-01,clock=vm"]
    first, second = repeated(machine, *options, *fixed, "-no-reboot")
    assert "Kernel panic" in first[0] and "2026-01-01T00:00:00 UTC" in first[0]
    assert first == second
