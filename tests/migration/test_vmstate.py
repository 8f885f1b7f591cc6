"""A machine's state as a whole: every device's goes into a fresh machine, nothing else is taken."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ratite.isa.riscv import Hart
from ratite.isa.state import CpuState
from ratite.memory import PAGE_SIZE
from ratite.migration import pages
from ratite.migration.stream import Kind, Reader, Section, StreamError, Writer, pack, unpack
from ratite.migration.vmstate import (
    Arrival,
    apply_states,
    check_states,
    read_all,
    write_identity,
    write_ram,
    write_states,
)
from ratite.vm import Vm

FULL = (
    "-smp 2 -device virtio-serial-device,id=vs -device virtconsole,id=con -device virtserialport,"
    "id=port,name=p -device virtio-rng-device,id=rng -drive file={disk},format=raw,if=none,id=d0 "
    "-device virtio-blk-device,drive=d0,id=blk,num-queues=2"
)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


def save(vm: Vm) -> bytes:
    out = io.BytesIO()
    with vm.machine.lock:
        writer = Writer(out.write)
        write_identity(writer, vm.machine)
        write_ram(writer, vm.machine.ram, pages.PageCounts(), lambda size: None)
        write_states(writer, vm.machine, running=False)
        writer.end()
    return out.getvalue()


def load(vm: Vm, data: bytes) -> None:
    with vm.machine.lock:
        sections = Reader(io.BytesIO(data).read).sections()
        arrival = read_all(sections, vm.machine, pages.apply)
        apply_states(arrival, vm.machine, vm.runner.set_time)


def perturb(value: Any) -> Any:
    """Other plain data of the same shape."""
    match value:
        case bool():
            return not value
        case int():
            return value - 1 if value >= 1 << 63 else abs(value) ^ 1
        case str() | bytes():
            return value
        case dict():
            return {key: perturb(item) for key, item in value.items()}
    return [perturb(item) for item in value]


@pytest.mark.parametrize("board", ["virt", "spike"])
@pytest.mark.parametrize("bios", ["none", "builtin"])
def test_a_state_that_differs_everywhere_goes_into_a_fresh_machine(
    machine: Callable[..., Vm], disk: Path, board: str, bios: str
) -> None:
    options = FULL.format(disk=disk).split() if board == "virt" else ["-smp", "2"]
    kernel = [] if bios == "none" else ["-kernel", _kernel(disk.parent)]
    source = machine("-M", board, "-m", "8M", "-bios", bios, *kernel, *options)
    states = {}
    with source.machine.lock:
        for name, part in source.machine.state_parts().items():
            state = part.save()
            other = {key: perturb(value) for key, value in state.items()}
            other |= {key: state[key] for key in ("privilege", "retired") if key in state}
            if "accesses" in state:  # of a hart amid an instruction
                other |= {"accesses": [5, 6], "failed": 2}
            if "alarm_ns" in state:  # one in the past would go off
                other["alarm_ns"] = 1 << 62
            states[name] = other
            part.check(other)
    source.close()
    fresh = machine("-M", board, "-m", "8M", "-bios", bios, *kernel, *options)
    with fresh.machine.lock:
        for name, part in fresh.machine.state_parts().items():
            part.load(states[name])
        fresh.machine.state_loaded()
        for name, part in fresh.machine.state_parts().items():
            got = json.loads(json.dumps(part.save(), default=repr))
            want = json.loads(json.dumps(states[name], default=repr))
            driven = {key for key in ("irq_lines", "levels", "pending") if key in want}
            assert {k: v for k, v in got.items() if k not in driven} == {
                k: v for k, v in want.items() if k not in driven
            }, name


def _kernel(directory: Path) -> Path:
    path = directory / "kernel"
    path.write_bytes(bytes.fromhex("6f000000") * 64)
    return path


def test_every_member_of_a_harts_state_is_saved_or_known_not_to_be() -> None:
    """What every instruction set has is the executors' business, but for the pc and halting."""
    derived = set("host_rm pmp_low pmp_high pmp_count misa mhartid extensions".split())
    saved = {name.partition(".")[0] for name in Hart.SAVED}
    assert {"pc", "halted"} <= saved
    assert set(Hart.MEMBERS) - set(CpuState.MEMBERS) - saved == derived


def test_memory_and_time_come_along(machine: Callable[..., Vm]) -> None:
    source, target = machine(), machine()
    source.write_memory(0x8000_0000, b"data")
    source.write_memory(0x801F_F000, b"\1" * PAGE_SIZE)
    source.runner.set_time(123_456_789_000)
    target.write_memory(0x8001_0000, b"to be cleared")
    load(target, save(source))
    assert target.read_memory(0x8000_0000, 4) == b"data"
    assert target.read_memory(0x801F_F000, PAGE_SIZE) == b"\1" * PAGE_SIZE
    assert target.read_memory(0x8001_0000, 13) == bytes(13)
    assert target.machine.clock.now_ns() == 123_456_789_000


@pytest.mark.parametrize(
    ("there", "text"),
    [
        (["-smp", "2"], "section 'identity': cpus is 2 there and 1 here"),
        (["-m", "4M"], r"section 'identity': memory is riscv_virt_board.ram=4194304 there"),
        (["-cpu", "rv64,zba=off"], "section 'identity': cpu is "),
        (["-M", "spike"], "section 'identity': machine is 'spike' there and 'virt' here"),
        (["-device", "virtio-rng-device"], "section 'identity': devices: .*virtio-rng-device"),
    ],
)
def test_another_machines_state_is_refused(
    machine: Callable[..., Vm], there: list[str], text: str
) -> None:
    data = save(machine(*there))
    with pytest.raises(StreamError, match=text):
        load(machine(), data)


def edited(data: bytes, change: Callable[[dict[str, Any]], object], name: str) -> bytes:
    """A stream, made anew with one state changed."""
    out = io.BytesIO()
    writer = Writer(out.write)
    for section in Reader(io.BytesIO(data).read).sections():
        payload = section.payload
        if section.name == name:
            entry = unpack(section)
            change(entry)
            payload = pack(entry)
        writer.section(section.kind, section.name, payload)
    writer.end()
    return out.getvalue()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda e: e.update(version=99), "has version 99; this program reads up to 1"),
        (lambda e: e.update(version="1"), "is damaged: it is not a state"),
        (lambda e: e["state"].pop("pending"), "lacks 'pending'"),
        (lambda e: e["state"].update(more=1), "has unknown 'more'"),
        (lambda e: e["state"].update(pending="x"), "has a wrong 'pending'"),
        (lambda e: e["state"].update(priority=[1]), "has a wrong 'priority'"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(
    machine: Callable[..., Vm], change: Callable[[dict[str, Any]], object], text: str
) -> None:
    vm = machine()
    data = save(vm)
    plic = next(
        name
        for name, part in vm.machine.state_parts().items()
        if getattr(part, "type_name", "") == "riscv.sifive.plic"
    )
    with pytest.raises(StreamError, match=rf"section '{plic[:8]}.*{text}"):
        load(vm, edited(data, change, plic))
    assert save(vm) == data


def test_a_missing_and_an_unknown_part_are_refused(machine: Callable[..., Vm]) -> None:
    vm = machine()
    sections = Reader(io.BytesIO(save(vm)).read).sections()
    arrival = read_all(sections, vm.machine, pages.check)
    state = arrival.states.pop("cpu/0")
    with pytest.raises(StreamError, match="section 'cpu/0' is missing"):
        check_states(arrival, vm.machine)
    arrival.states |= {"cpu/0": state, "cpu/7": state}
    with pytest.raises(StreamError, match="section 'cpu/7': this machine has no such part"):
        check_states(arrival, vm.machine)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\1\0\0\0",
        b"\xff\xff\xff\xff",
        (1).to_bytes(4, "little") + bytes(8) + b"\1\0\0\0" * 2,
        (1).to_bytes(4, "little") + b"\xff" * 8 + b"\1\0\0\0" + bytes(4),
    ],
)
def test_pages_that_do_not_fit_are_refused(machine: Callable[..., Vm], payload: bytes) -> None:
    ram = machine().machine.ram
    section = Section(Kind.RAM, "ram/riscv_virt_board.ram", payload)
    with pytest.raises(StreamError, match=r"'ram/riscv_virt_board.ram' is damaged: its pages"):
        pages.apply(section, ram)
    with pytest.raises(StreamError, match="this machine has no such memory"):
        pages.apply(Section(Kind.RAM, "ram/other", payload), ram)


def test_the_layout_names_every_device_that_saves_something() -> None:
    from ratite.migration.describe import vmstate_json

    found = json.loads(vmstate_json("virt"))
    assert found["vmschkmachine"] == {"Name": "virt"}
    plic = found["riscv.sifive.plic"]
    assert plic["Name"] == "riscv.sifive.plic" and plic["version_id"] == 1
    fields = [field["field"] for field in plic["Description"]["Fields"]]
    assert {"priority", "pending", "claimed"} <= set(fields)
    assert set(plic["Description"]["Fields"][0]) == {"field", "version_id", "field_exists", "size"}


def test_endless_state_is_refused() -> None:
    arrival = Arrival()
    payload = pack({"x": bytes(8 << 20)})
    with pytest.raises(StreamError, match="section 's3': more state than any machine has"):
        for number in range(100):
            arrival.take(Section(Kind.STATE, f"s{number}", payload))
