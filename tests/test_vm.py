"""The Python API: what it takes, what it refuses, and what a closed machine answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import ratite.cli.main
from ratite import ConfigError, Vm
from ratite.machines.machine import RunState

DEMO = Path(ratite.cli.main.__file__).parent / "demo" / "demo.bin"


@pytest.fixture(scope="module")
def vm() -> Iterator[Vm]:
    """A machine that has not run."""
    with Vm(bios="none", memory="16M") as vm:
        yield vm


def test_a_closed_machine_does_not_run_again() -> None:
    with Vm(kernel=DEMO, bios="builtin", memory="64M") as vm:
        vm.run(until="demo>", timeout=30)
    for attempt in (vm.start, vm.run, vm.reset):
        with pytest.raises(RuntimeError, match="the machine is closed"):
            attempt()
    assert not vm.runner.running
    vm.stop()
    vm.runner.pause()
    vm.close()
    assert vm.wait(0)


def test_a_stopped_machine_goes_on() -> None:
    with Vm(kernel=DEMO, bios="builtin", memory="64M") as vm:
        vm.run(until="demo>", timeout=30)
        vm.stop()
        assert vm.machine.run_state is RunState.PAUSED
        vm.serial.send("uptime\n")
        vm.run(until="demo>", timeout=30)


def test_a_cpu_may_have_properties() -> None:
    with Vm(cpu="rv64,zba=off,+zbb", accel="tcg,thread=multi", bios="none", memory="16M") as vm:
        assert dict(vm.config.cpu.properties) == {"zba": "off", "zbb": "on"}
    with pytest.raises(ConfigError, match=r"Property 'rv64-riscv-cpu\.nosuch' not found"):
        Vm(cpu="rv64,nosuch=on")


@pytest.mark.parametrize(("machine", "most"), [("virt", 512), ("spike", 8)])
@pytest.mark.parametrize("cpus", [-1, 0, 513])
def test_the_number_of_cpus_is_the_boards_to_say(machine: str, most: int, cpus: int) -> None:
    with pytest.raises(ConfigError, match=f"cpus: {cpus} is out of range: 1 to {most} for machine"):
        Vm(machine, cpus=cpus)


def test_memory_of_a_negative_size_is_refused(vm: Vm) -> None:
    assert vm.read_memory(0x8000_0000, 0) == b""
    with pytest.raises(ValueError, match="size -1 is negative"):
        vm.read_memory(0x8000_0000, -1)


@pytest.mark.parametrize("address", [-1, -(1 << 70), 1 << 64, (1 << 64) - 1])
def test_there_is_no_memory_outside_64_bits(vm: Vm, address: int) -> None:
    with pytest.raises(ValueError):
        vm.read_memory(address, 16)
    with pytest.raises(ValueError):
        vm.write_memory(address, bytes(16))


@pytest.mark.parametrize("name", ["a0", "fa0", "pc", "mscratch"])
def test_registers_take_64_bits(vm: Vm, name: str) -> None:
    cpu = vm.cpus[0]
    cpu[name] = (1 << 64) - 2
    assert cpu[name] == (1 << 64) - 2
    cpu[name] = -(1 << 63)
    assert cpu[name] == 1 << 63
    for value in (1 << 64, -(1 << 63) - 1):
        with pytest.raises(ValueError, match=f"{name}: .* does not fit into 64 bits"):
            cpu[name] = value
    assert cpu[name] == 1 << 63
