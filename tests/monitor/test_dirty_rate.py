"""`calc-dirty-rate`: what a guest writes, beside migrations."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ratite.memory import DirtyClient
from tests.monitor.conftest import MakeVm, MonitoredVm, QmpClient, monitored

RAM = 0x8000_0000
START, END = RAM + (16 << 20), RAM + (64 << 20)
MACHINE = "-M virt -m 64M -S -nodefaults -display none -bios none"
PROGRAM = (
    0x0013_8393,  # addi t2, t2, 1
    5 << 15 | 28 << 7 | 0x13,  # mv t3, t0
    7 << 20 | 28 << 15 | 3 << 12 | 0x23,  # sd t2, 0(t3)
    29 << 20 | 28 << 15 | 28 << 7 | 0x33,  # add t3, t3, t4
    0xFE6E_6CE3,  # bltu t3, t1, -8
    0xFEDF_F06F,  # j -20
)


@pytest.fixture
def machine(make_vm: MakeVm) -> MonitoredVm:
    """One whose guest, when it runs, writes to each page of 48 MiB again and again."""
    made = make_vm(options=MACHINE)
    made.vm.write_memory(RAM, struct.pack("<6I", *PROGRAM))
    registers = made.vm.cpus[0]
    for name, value in (("pc", RAM), ("t0", START), ("t1", END), ("t4", 4096)):
        registers[name] = value
    return made


def measured(client: QmpClient) -> Any:
    deadline = time.monotonic() + 120
    while (found := client.result("query-dirty-rate"))["status"] != "measured":
        assert found["status"] == "measuring" and time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("mode", ["page-sampling", "dirty-bitmap"])
def test_what_a_guest_writes_is_seen(machine: MonitoredVm, mode: str) -> None:
    client = machine.client()
    client.result("cont")
    client.result("calc-dirty-rate", calc_time=1, mode=mode)
    found = measured(client)
    assert 0 < found["dirty-rate"] <= 64 and found["mode"] == mode and found["calc-time"] == 1
    assert found["sample-pages"] == (512 if mode == "page-sampling" else 0)
    assert f"Dirty rate: {found['dirty-rate']} (MB/s)\n" in client.hmp("info dirty_rate")
    client.result("stop")
    ram = machine.vm.machine.ram
    pages = sum(block.size for block in ram.blocks) // 4096
    assert ram.count_dirty(DirtyClient.MIGRATION) == pages  # as a migration needs it


@pytest.mark.parametrize("flags", ["", "-b"])
def test_a_guest_that_stands_still_writes_nothing(machine: MonitoredVm, flags: str) -> None:
    client = machine.client()
    assert client.hmp(f"calc_dirty_rate {flags} 1").startswith("Starting dirty rate measurement")
    assert "already being measured" in client.hmp("calc_dirty_rate 1")
    assert measured(client)["dirty-rate"] == 0


def test_a_migration_ends_a_measurement_and_loses_no_page(
    machine: MonitoredVm, tmp_path: Path
) -> None:
    machine.vm.write_memory(RAM + 0x5000, b"written before")
    client = machine.client()
    client.result("cont")
    client.result("calc-dirty-rate", calc_time=60, mode="dirty-bitmap")
    ram = machine.vm.machine.ram
    pages = sum(block.size for block in ram.blocks) // 4096
    deadline = time.monotonic() + 60
    while ram.count_dirty(DirtyClient.MIGRATION) == pages:  # until they are clean
        assert time.monotonic() < deadline
    client.result("stop")
    directory = tmp_path / "target"
    directory.mkdir()
    with monitored(directory, MACHINE, f"-incoming unix:{tmp_path}/wire") as target:
        client.result("migrate", uri=f"unix:{tmp_path}/wire")
        assert client.result("query-dirty-rate")["status"] == "unstarted"
        while client.result("query-migrate")["status"] not in ("completed", "failed"):
            time.sleep(0.02)
        assert client.result("query-migrate")["status"] == "completed"
        for start in (RAM, START, END - (1 << 20)):
            wanted = machine.vm.read_memory(start, 1 << 20)
            assert target.vm.read_memory(start, 1 << 20) == wanted


def test_the_bitmap_is_a_migrations_while_there_is_one(
    machine: MonitoredVm, tmp_path: Path
) -> None:
    client = machine.client()
    capabilities = [{"capability": "pause-before-switchover", "state": True}]
    client.result("migrate-set-capabilities", capabilities=capabilities)
    client.result("migrate", uri=f"file:{tmp_path}/state")
    while client.result("query-migrate")["status"] != "pre-switchover":
        time.sleep(0.02)
    text = client.error("calc-dirty-rate", calc_time=1, mode="dirty-bitmap")[1]
    assert text == "There's a migration process in progress"
    client.result("calc-dirty-rate", calc_time=1)  # samples are nobody's
    client.result("migrate_cancel")
    measured(client)


def test_a_measurement_does_not_outlive_the_machine(machine: MonitoredVm) -> None:
    machine.client().result("calc-dirty-rate", calc_time=60, mode="dirty-bitmap")
    machine.close_clients()
    before = time.monotonic()
    machine.vm.close()
    assert time.monotonic() - before < 30


def test_refusals_are_qemus(machine: MonitoredVm, make_qemu: Callable[..., QmpClient]) -> None:
    ours, qemu = machine.client(), make_qemu(options=MACHINE)
    for name, arguments in (
        ("query-dirty-rate", {}),
        ("calc-dirty-rate", {}),
        ("calc-dirty-rate", {"calc-time": 0}),
        ("calc-dirty-rate", {"calc-time": -1, "mode": "dirty-ring"}),
        ("calc-dirty-rate", {"calc-time": 61}),
        ("calc-dirty-rate", {"calc-time": 1, "sample-pages": 127}),
        ("calc-dirty-rate", {"calc-time": 1, "sample-pages": 16385, "mode": "dirty-bitmap"}),
        ("calc-dirty-rate", {"calc-time": 1, "sample-pages": 3, "mode": "dirty-ring"}),
        ("calc-dirty-rate", {"calc-time": 1, "mode": "dirty-ring"}),
        ("calc-dirty-rate", {"calc-time": 1, "mode": "nope"}),
        ("query-vcpu-dirty-limit", {}),
        ("set-vcpu-dirty-limit", {"dirty-rate": 1}),
        ("set-vcpu-dirty-limit", {"dirty-rate": 1, "cpu-index": 0}),
        ("cancel-vcpu-dirty-limit", {}),
        ("cancel-vcpu-dirty-limit", {"cpu-index": 9}),
    ):
        request = {"execute": name, "arguments": arguments}
        assert ours.ask(request) == qemu.ask(request), request
    for line in (
        "info dirty_rate",
        "calc_dirty_rate",
        "calc_dirty_rate 0",
        "calc_dirty_rate -r 1",
        "calc_dirty_rate -r -b 1",
        "info vcpu_dirty_limit",
        "set_vcpu_dirty_limit",
        "set_vcpu_dirty_limit 3 9",
        "cancel_vcpu_dirty_limit",
        "cancel_vcpu_dirty_limit 0",
    ):
        assert ours.hmp(line) == qemu.hmp(line), line
