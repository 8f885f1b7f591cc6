"""Types and what they refine; names and links of buses; what can only be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import MACHINE, MakeVm, QmpClient

CONSOLES = (
    "-device virtio-serial-device,id=vs -device virtio-serial-device -device virtio-serial-device "
    "-chardev null,id=c1 -device virtconsole,chardev=c1,id=first,bus=vs.0 "
    "-chardev null,id=c2 -device virtconsole,chardev=c2,id=second,bus=virtio-serial-bus.1"
)


def names(qmp: QmpClient, **arguments: Any) -> set[str]:
    """The types that `qom-list-types` lists."""
    return {entry["name"] for entry in qmp.result("qom-list-types", **arguments)}


@pytest.mark.parametrize(
    ("type_name", "some"),
    [
        ("machine", {"virt-machine", "spike-machine", "none-machine"}),
        ("chardev", {"chardev-socket", "chardev-mux", "chardev-null"}),
        ("cpu", {"rv64-riscv-cpu", "max-riscv-cpu", "sifive-u54-riscv-cpu"}),
        ("riscv-cpu", {"rv64-riscv-cpu"}),
        ("virtio-device", {"virtio-blk-device", "virtio-rng-device", "virtio-serial-device"}),
        ("device", {"virtio-mmio", "virtio-blk-device", "rv64-riscv-cpu"}),
        ("rng-backend", {"rng-builtin", "rng-random"}),
        ("user-creatable", {"rng-builtin", "memory-backend-ram"}),
        ("virtserialport", {"virtserialport", "virtconsole"}),
        ("virtio-serial-port", {"virtserialport", "virtconsole"}),
    ],
)
def test_a_type_is_listed_by_whatever_it_refines(
    qmp: QmpClient, type_name: str, some: set[str]
) -> None:
    found = names(qmp, implements=type_name)
    assert some <= found
    assert type_name not in found or type_name in some  # bases have no instances of their own
    if type_name != "user-creatable":
        assert type_name in names(qmp, implements=type_name, abstract=True)


def test_parents_are_types_too(qmp: QmpClient) -> None:
    types = {entry["name"]: entry for entry in qmp.result("qom-list-types", abstract=True)}
    for entry in types.values():
        assert entry["parent"] == "object" or entry["parent"] in types
    assert types["virtio-device"] == {"name": "virtio-device", "abstract": True, "parent": "device"}
    assert types["rv64-riscv-cpu"]["parent"] == "riscv-cpu"
    assert types["accel"] == {"name": "accel", "parent": "object"}


def test_what_has_no_instances_cannot_be_made(qmp: QmpClient) -> None:
    text = "Parameter 'driver' expects a non-abstract device type"
    assert qmp.error("device_add", driver="virtio-device")[1] == text
    text = "Parameter 'qom-type' does not accept value 'memory-backend'"
    assert qmp.error("object-add", qom_type="memory-backend", id="m")[1] == text
    text = "Parameter 'typename' expects a non-abstract device type"
    assert qmp.error("device-list-properties", typename="virtio-device")[1] == text
    schema = {entry["name"]: entry for entry in qmp.result("query-qmp-schema")}
    cases = {case["case"] for case in schema[schema["object-add"]["arg-type"]]["variants"]}
    assert cases == names(qmp, implements="user-creatable")


def test_cpu_models_are_devices_to_clients(qmp: QmpClient) -> None:
    listed = {e["name"] for e in qmp.result("device-list-properties", typename="rv64-riscv-cpu")}
    assert {"zba", "sv57"} <= listed
    path = qmp.result("query-cpus-fast")[0]["qom-path"]
    assert qmp.result("qom-get", path=path, property="realized") is True


def test_buses_are_named_after_their_devices(make_vm: MakeVm) -> None:
    qmp = make_vm(CONSOLES).client()
    tree = qmp.hmp("info qtree")
    for name in ("vs.0", "virtio-serial-bus.0", "virtio-serial-bus.1"):
        assert tree.count(f"bus: {name}\n") == 1
    for port, bus in (("first", "vs.0"), ("second", "virtio-serial-bus.1")):
        path = qmp.result("qom-get", path=f"/machine/peripheral/{port}", property="parent_bus")
        assert path.endswith(f"/{bus}")
        links = [e for e in qmp.result("qom-list", path=path) if e["name"] == "child[0]"]
        assert links == [{"name": "child[0]", "type": "link<virtconsole>"}]
        target = qmp.result("qom-get", path=path, property="child[0]")
        assert target == f"/machine/peripheral/{port}"
    qmp.result("device_del", id="first")
    assert "child[0]" not in {
        e["name"] for e in qmp.result("qom-list", path="/machine/peripheral/vs/vs.0")
    }


def test_a_name_is_for_one_port(make_vm: MakeVm) -> None:
    qmp = make_vm(CONSOLES).client()
    qmp.result("chardev-add", id="c3", backend={"type": "null", "data": {}})
    port = {"driver": "virtserialport", "chardev": "c3", "name": "x", "bus": "vs.0"}
    qmp.result("device_add", **port, id="third")
    answer = qmp.error("device_add", driver="virtserialport", name="x", bus="vs.0")
    assert answer[1] == "virtio-serial-bus: A port already exists by name x"


def test_links_are_paths(make_vm: MakeVm) -> None:
    qmp = make_vm("-object rng-builtin,id=r0 -device virtio-rng-device,rng=r0,id=d0").client()
    path = "/machine/peripheral/d0"
    assert qmp.result("qom-get", path=path, property="rng") == "/objects/r0"
    assert qmp.result("qom-get", path=path, property="hotpluggable") is False
    text = "Property 'virtio-rng-device.hotpluggable' is not writable"
    assert qmp.error("qom-set", path=path, property="hotpluggable", value=True)[1] == text


def test_a_machine_tells_how_it_was_asked_for(make_vm: MakeVm, tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(bytes(4096))
    options = f"{MACHINE} -kernel {kernel} -append quiet"
    options += " -object memory-backend-ram,id=m0,size=256M -machine memory-backend=m0"
    qmp = make_vm(options=options).client()
    for name, value in {
        "kernel": str(kernel),
        "initrd": "",
        "append": "quiet",
        "firmware": "none",
        "memory": {"size": 256 << 20},
        "memory-backend": "/objects/m0",
        "smp": {"cpus": 2, "maxcpus": 2, "sockets": 1, "cores": 2, "threads": 1},
    }.items():
        assert qmp.result("qom-get", path="/machine", property=name) == value
    assert "not writable" in qmp.error("qom-set", path="/machine", property="kernel", value="x")[1]
