"""Questions that QEMU 7.2, where it is installed, answers on the same machine word for word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import MACHINE, MakeVm, MonitoredVm, QmpClient, monitored, peer_of

QMP: tuple[tuple[str, dict[str, Any]], ...] = (
    ("x-query-irq", {}),
    ("x-query-numa", {}),
    ("x-query-opcount", {}),
    ("x-query-profile", {}),
    ("x-query-ramblock", {}),
    ("x-query-usb", {}),
    ("query-tpm", {}),
    ("query-vm-generation-id", {}),
    ("query-acpi-ospm-status", {}),
    ("query-pr-managers", {}),
    ("query-replay", {}),
    ("query-colo-status", {}),
    ("query-rocker", {}),
    ("query-rocker", {"name": "x"}),
    ("query-rocker-ports", {"name": "x"}),
    ("query-rocker-of-dpa-flows", {"name": "x", "tbl-id": 1}),
    ("query-rocker-of-dpa-groups", {"name": "x"}),
    ("query-display-options", {}),
    ("query-mice", {}),
    ("query-vnc", {}),
    ("query-vnc-servers", {}),
    ("query-spice", {}),
    ("set_password", {"protocol": "vnc", "password": "x"}),
    ("set_password", {"protocol": "vnc", "password": "x", "connected": "fail"}),
    ("set_password", {"protocol": "vnc", "password": "x", "connected": "keep", "display": "a"}),
    ("set_password", {"protocol": "spice", "password": "x"}),
    ("set_password", {"protocol": "spice", "password": "x", "display": "a"}),
    ("set_password", {"protocol": "zz", "password": "x"}),
    ("expire_password", {"protocol": "vnc", "time": "never"}),
    ("expire_password", {"protocol": "spice", "time": "never"}),
    ("change-vnc-password", {"password": "x"}),
    ("screendump", {"filename": "/nope/x"}),
    ("screendump", {"filename": "/nope/x", "device": "x"}),
    ("screendump", {"filename": "/nope/x", "device": "r"}),
    ("screendump", {"filename": "/nope/x", "device": "r", "head": 3}),
    ("screendump", {"filename": "/nope/x", "head": 1}),
    ("screendump", {"filename": "/nope/x", "format": "zz"}),
    ("input-send-event", {"events": []}),
    ("input-send-event", {"events": [], "device": "x"}),
    ("input-send-event", {"events": [], "device": "r", "head": 2}),
    ("input-send-event", {"events": [{"type": "zz", "data": {}}]}),
    ("input-send-event", {"events": [{"type": "btn", "data": {"down": True}}]}),
    ("add_client", {"protocol": "vnc", "fdname": "x"}),
    ("query-stats-schemas", {}),
    ("query-stats", {"target": "vcpu"}),
    ("yank", {"instances": []}),
    ("yank", {"instances": [{"type": "chardev", "id": "x"}]}),
    ("yank", {"instances": [{"type": "migration"}]}),
    ("yank", {"instances": [{"type": "block-node", "node-name": "x"}]}),
    ("yank", {"instances": [{"type": "zz"}]}),
    ("chardev-change", {"id": "zz", "backend": {"type": "null", "data": {}}}),
    ("chardev-change", {"id": "c", "backend": {"type": "null", "data": {}}}),
    ("transaction", {"actions": []}),
    ("transaction", {"actions": [{"type": "abort", "data": {}}]}),
    ("transaction", {"actions": [{"type": "zz", "data": {}}]}),
    ("transaction", {"actions": [], "properties": {"completion-mode": "zz"}}),
    ("transaction", {"actions": [], "properties": {"completion-mode": "grouped"}}),
)
RUNNING = tuple(
    {"execute": "input-send-event", "arguments": {"events": events}}
    for events in (
        [],
        [{"type": "key", "data": {"down": True, "key": {"type": "qcode", "data": "a"}}}],
        [{"type": "btn", "data": {"down": True, "button": "left"}}],
        [{"type": "rel", "data": {"axis": "x", "value": 3}}],
        [{"type": "abs", "data": {"axis": "y", "value": 3}}],
    )
)
HMP = (
    "info profile|info usb|info opcount|info tpm|info vm-generation-id|info spice|info capture|"
    "info rocker x|info rocker|info rocker-ports x|info rocker-of-dpa-flows x|"
    "info rocker-of-dpa-groups x|info vnc|info mice|info replay|info stats|info stats vm|"
    "info stats vcpu|info stats zz|info stats vm * kvm|info stats vm x|info stats vm * zz|"
    "boot_set|boot_set c|i 0x10|i /b 0x10|i /w 0x10|i /xw 3|i/h 3|i /l 0x10|i|i/zz 3|o 0x10 5|"
    "o /b 0x10 5|o 5|set_password vnc a|set_password vnc a -d x|set_password vnc a zz|"
    "set_password vnc a fail|set_password spice a|set_password zz a|expire_password vnc|"
    "expire_password vnc never|expire_password spice 3|expire_password zz 3|screendump|"
    "screendump /nope/x|screendump /nope/x -f png zz|screendump /nope/x -f zz|mouse_move 1 1|"
    "mouse_button 1|mouse_set 0|chardev-change|chardev-change zz null|singlestep zz"
).split("|")
OPTIONS = f"{MACHINE} -device virtio-rng-device,id=r -chardev null,id=c,mux=on"


@pytest.fixture(scope="module")
def qemu() -> Iterator[QmpClient]:
    """A QEMU of the shared machine's options."""
    with peer_of(OPTIONS) as client:
        yield client


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoredVm]:
    """Ours."""
    with monitored(tmp_path_factory.mktemp("vm"), OPTIONS) as machine:
        yield machine


@pytest.fixture
def qmp(shared: MonitoredVm) -> Iterator[QmpClient]:
    yield shared.client()
    shared.close_clients()


@pytest.mark.parametrize(("name", "arguments"), QMP, ids=[f"{n}-{a}" for n, a in QMP])
def test_programs_are_answered_alike(
    qmp: QmpClient, qemu: QmpClient, name: str, arguments: dict[str, Any]
) -> None:
    request = {"execute": name, "arguments": arguments}
    assert qmp.ask(request) == qemu.ask(request)


@pytest.mark.parametrize("line", HMP)
def test_people_are_answered_alike(qmp: QmpClient, qemu: QmpClient, line: str) -> None:
    assert qmp.hmp(line) == qemu.hmp(line)


def test_input_for_a_guest_that_runs_finds_no_device(
    make_vm: MakeVm, make_qemu: Callable[..., QmpClient]
) -> None:
    ours, theirs = make_vm().client(), make_qemu()
    for client in (ours, theirs):
        client.result("cont")
    for request in RUNNING:
        assert ours.ask(request) == theirs.ask(request)
