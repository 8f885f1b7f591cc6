"""`singlestep`: blocks of one instruction, switched while the guest runs."""

from __future__ import annotations

import re
import struct
import time

import pytest

from .conftest import MakeVm, QmpClient

RAM = 0x8000_0000
LOOP = struct.pack("<4I", 0x0010_8093, 0x0010_8093, 0x0010_8093, 0xFF5F_F06F)  # ra += 3; again


def largest_block(client: QmpClient) -> int:
    """Bytes of guest code in the largest block, as `info jit` tells."""
    found = re.search(r"TB avg target size +\d+ max=(\d+)", client.hmp("info jit"))
    assert found is not None, client.hmp("info jit")
    return int(found[1])


def until_translated(client: QmpClient) -> int:
    deadline = time.monotonic() + 60
    while not (size := largest_block(client)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return size


def test_it_is_switched_while_the_guest_runs(make_vm: MakeVm) -> None:
    machine = make_vm()
    client = machine.client()
    machine.vm.write_memory(RAM, LOOP)
    for cpu in machine.vm.cpus:
        cpu["pc"] = RAM
    client.result("cont")
    assert until_translated(client) == 16
    assert client.hmp("singlestep") == ""
    assert client.result("query-status") == {
        "running": True, "singlestep": True, "status": "running",
    }  # fmt: skip
    assert client.hmp("info status") == "VM status: running (single step mode)\n"
    assert until_translated(client) == 4
    client.hmp("singlestep off")
    assert not client.result("query-status")["singlestep"]
    assert until_translated(client) == 16
    client.result("stop")
    assert machine.vm.cpus[0]["ra"] > 0
    assert client.hmp("singlestep on") == "" and client.hmp("singlestep on") == ""
    assert client.hmp("singlestep maybe") == "unexpected option maybe\n"


def test_the_option_of_the_command_line_is_what_it_switches(make_vm: MakeVm) -> None:
    client = make_vm("-accel tcg,one-insn-per-tb=on").client()
    assert client.result("query-status")["singlestep"]
    client.hmp("singlestep off")
    assert not client.result("query-status")["singlestep"]


@pytest.mark.parametrize("accel", ["reference", "qtest"])
def test_an_accelerator_without_blocks_takes_it(make_vm: MakeVm, accel: str) -> None:
    client = make_vm(f"-accel {accel}").client()
    assert client.hmp("singlestep") == ""
    assert client.result("query-status")["singlestep"]
