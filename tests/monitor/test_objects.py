"""The composition tree, devices that come and go, backends and descriptors."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from ratite.devices import Device
from ratite.qom import registry

from .conftest import MakeVm, QmpClient

SERIAL = (
    "-device virtio-serial-device,id=vs -chardev null,id=cn "
    "-device virtserialport,chardev=cn,id=vp,name=foo"
)


# -- the tree


def test_the_paths_are_those_that_clients_know(qmp: QmpClient) -> None:
    assert {entry["name"] for entry in qmp.result("qom-list", path="/")} == {
        "type", "machine", "objects", "chardevs",
    }  # fmt: skip
    for path, kind in (
        ("/machine", "virt-machine"),
        ("/machine/peripheral", "container"),
        ("/machine/peripheral-anon", "container"),
        ("/machine/unattached/sysbus", "System"),
        ("/machine/unattached/system[0]", "memory-region"),
        ("/machine/soc0", "riscv.hart_array"),
        ("/machine/soc0/harts[1]", "rv64-riscv-cpu"),
        ("/machine/fw_cfg", "fw_cfg_mem"),
        ("/machine/virt.flash0", "cfi.pflash01"),
        ("/chardevs/compat_monitor0", "chardev-socket"),
    ):
        assert qmp.result("qom-get", path=path, property="type") == kind


def test_every_object_and_property_can_be_read(qmp: QmpClient) -> None:
    paths, seen = ["/"], 0
    while paths:
        path = paths.pop()
        for entry in qmp.result("qom-list", path=path):
            value = qmp.result("qom-get", path=path, property=entry["name"])
            seen += 1
            if entry["type"].startswith("child<"):
                assert value == f"{path.rstrip('/')}/{entry['name']}"
                paths.append(value)
    assert seen > 300


def test_every_type_is_described_without_side_effects(qmp: QmpClient) -> None:
    before = qmp.hmp("info qom-tree /")
    types = qmp.result("qom-list-types", abstract=True)
    assert len(types) > 20
    for entry in types:
        assert qmp.result("qom-list-properties", typename=entry["name"])
        cls = registry.find(entry["name"])
        assert cls is not None
        if issubclass(cls, Device) and not entry.get("abstract"):
            qmp.result("device-list-properties", typename=entry["name"])
    assert qmp.hmp("info qom-tree /") == before


def test_types_are_found_by_what_they_refine(qmp: QmpClient) -> None:
    found = qmp.result("qom-list-types", implements="memory-backend")
    assert {entry["name"] for entry in found} == {
        "memory-backend-ram", "memory-backend-file", "memory-backend-memfd",
    }  # fmt: skip
    assert {entry["parent"] for entry in found} == {"memory-backend"}
    assert qmp.result("qom-list-types", implements="nope") == []
    devices = {e["name"] for e in qmp.result("qom-list-types", implements="device")}
    assert "virtio-blk-device" in devices and "rng-builtin" not in devices


def test_default_values_are_listed(qmp: QmpClient) -> None:
    listed = qmp.result("device-list-properties", typename="virtio-blk-device")
    by_name = {entry["name"]: entry for entry in listed}
    assert by_name["queue-size"] == {
        "name": "queue-size", "type": "uint16", "default-value": 256,
    }  # fmt: skip
    assert "default-value" not in by_name["drive"] and by_name["drive"]["description"]


# -- objects of the user's


def test_an_object_in_use_stays(make_vm: MakeVm) -> None:
    qmp = make_vm("-object rng-builtin,id=r0 -device virtio-rng-device,rng=r0").client()
    assert "in use" in qmp.error("object-del", id="r0")[1]
    qmp.result("object-add", qom_type="rng-builtin", id="r1")
    assert [e["name"] for e in qmp.result("qom-list", path="/objects")] == ["type", "r0", "r1"]
    qmp.result("object-del", id="r1")


def test_memory_may_come_from_a_backend(make_vm: MakeVm, tmp_path: Path) -> None:
    file = tmp_path / "ram"
    options = (
        f"-object memory-backend-file,id=m0,size=64M,mem-path={file},share=on "
        "-machine memory-backend=m0 -m 64M"
    )
    machine = make_vm(options)
    qmp = machine.client()
    (backend,) = qmp.result("query-memdev")
    assert (backend["id"], backend["size"], backend["share"]) == ("m0", 64 << 20, True)
    machine.vm.write_memory(0x8000_0000, b"hello")
    assert file.read_bytes()[:5] == b"hello"
    assert "in use" in qmp.error("object-del", id="m0")[1]


# -- devices


def test_a_port_comes_and_goes(make_vm: MakeVm) -> None:
    qmp = make_vm(SERIAL).client()
    chardev = {"type": "ringbuf", "data": {}}
    qmp.result("chardev-add", id="c1", backend=chardev)
    port = {"driver": "virtserialport", "chardev": "c1", "id": "p1", "name": "x"}
    qmp.result("device_add", **port)
    assert qmp.result("qom-get", path="/machine/peripheral/p1", property="hotplugged") is True
    assert qmp.error("chardev-remove", id="c1")[1] == "Chardev 'c1' is busy"
    assert qmp.error("device_add", **port)[1] == "Duplicate device ID 'p1'"
    qmp.result("device_del", id="p1")
    gone = qmp.event("DEVICE_DELETED")["data"]
    assert gone == {"device": "p1", "path": "/machine/peripheral/p1"}
    qmp.result("chardev-remove", id="c1")
    qmp.result("device_del", id="/machine/peripheral/vp")


def test_a_device_that_cannot_be_made_leaves_nothing_behind(make_vm: MakeVm) -> None:
    qmp = make_vm(SERIAL).client()
    qmp.result("chardev-add", id="c1", backend={"type": "null", "data": {}})
    for wrong, text in (
        ({"nope": 1}, "Property 'virtserialport.nope' not found"),
        ({"chardev": "c1", "nr": 1}, "A port already exists at id 1"),
        ({"chardev": "zz"}, "Property 'virtserialport.chardev' can't find value 'zz'"),
    ):
        assert text in qmp.error("device_add", driver="virtserialport", id="p1", **wrong)[1]
    assert "p1" not in [e["name"] for e in qmp.result("qom-list", path="/machine/peripheral")]
    qmp.result("device_add", driver="virtserialport", id="p1", chardev="c1")


# -- character backends


def test_backends_of_every_kind(qmp: QmpClient, tmp_path: Path) -> None:
    unix = {"type": "unix", "data": {"path": str(tmp_path / "s")}}
    inet = {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}
    for number, (kind, data) in enumerate(
        [
            ("null", {}),
            ("ringbuf", {"size": 16}),
            ("file", {"out": str(tmp_path / "out")}),
            ("pty", {}),
            ("socket", {"addr": unix}),
            ("socket", {"addr": inet, "server": True, "telnet": True}),
        ]
    ):
        id = f"kind{number}"
        answer = qmp.result("chardev-add", id=id, backend={"type": kind, "data": data})
        assert ("pty" in answer) == (kind == "pty")
        (info,) = [e for e in qmp.result("query-chardev") if e["label"] == id]
        assert info["frontend-open"] is False
        qmp.result("chardev-remove", id=id)
    text = qmp.error("chardev-add", id="x", backend={"type": "ringbuf", "data": {"size": 100}})[1]
    assert text.startswith("Failed to add chardev 'x': ") and "power of two" in text


def test_a_mux_shares_a_backend_by_its_id(qmp: QmpClient) -> None:
    mux = {"type": "mux", "data": {"chardev": "base"}}
    assert "'base' not found" in qmp.error("chardev-add", id="mux", backend=mux)[1]
    qmp.result("chardev-add", id="base", backend={"type": "null", "data": {}})
    qmp.result("chardev-add", id="mux", backend=mux)
    assert qmp.error("chardev-remove", id="base")[1] == "Chardev 'base' is busy"
    qmp.result("chardev-remove", id="mux")
    qmp.result("chardev-remove", id="base")


def test_a_serial_port_and_a_monitor_share_a_named_mux(make_vm: MakeVm, tmp_path: Path) -> None:
    path = tmp_path / "mux"
    machine = make_vm(
        f"-chardev socket,id=n,path={path},server=on,wait=off -chardev mux,id=m,chardev=n "
        "-serial chardev:m -mon chardev=m"
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"\x01cinfo status\r")
        data = b""
        while b"VM status: paused" not in data:
            data += client.recv(4096)
    assert machine.client().error("chardev-remove", id="n")[1] == "Chardev 'n' is busy"


def test_a_pseudo_terminal_made_by_a_person_tells_its_path(qmp: QmpClient) -> None:
    text = qmp.hmp("chardev-add pty,id=p1")
    assert re.fullmatch(r"char device redirected to /dev/\S+ \(label p1\)\n", text)
    assert qmp.hmp("chardev-remove p1") == ""


def test_a_tcp_server_listens_on_this_host_only(qmp: QmpClient) -> None:
    for host, bound in (("", "127.0.0.1"), ("*", "0.0.0.0")):
        inet = {"type": "inet", "data": {"host": host, "port": "0", "ipv6": False}}
        qmp.result("chardev-add", id="t", backend={"type": "socket", "data": {"addr": inet}})
        (info,) = [e for e in qmp.result("query-chardev") if e["label"] == "t"]
        assert f"tcp:{bound}:" in info["filename"]
        qmp.result("chardev-remove", id="t")


def test_a_ring_buffer_takes_base64(qmp: QmpClient) -> None:
    qmp.result("chardev-add", id="rb", backend={"type": "ringbuf", "data": {"size": 16}})
    qmp.result("ringbuf-write", device="rb", data="AP8=", format="base64")
    assert qmp.result("ringbuf-read", device="rb", size=9, format="base64") == "AP8="
    assert "Base64" in qmp.error("ringbuf-write", device="rb", data="%", format="base64")[1]
    qmp.result("chardev-remove", id="rb")


# -- descriptors


def send_with_fd(client: QmpClient, request: dict[str, Any], *fds: int) -> dict[str, Any]:
    socket.send_fds(client.socket, [json.dumps(request).encode()], list(fds))
    return client.reply()


def test_a_descriptor_is_kept_under_its_name(qmp: QmpClient) -> None:
    reader, writer = os.pipe()
    request = {"execute": "getfd", "arguments": {"fdname": "pipe"}}
    assert send_with_fd(qmp, request, writer) == {"return": {}}
    os.close(writer)
    assert qmp.result("closefd", fdname="pipe") == {}
    assert os.read(reader, 1) == b""  # no writer is left
    os.close(reader)


def test_a_name_must_not_look_like_a_number(qmp: QmpClient) -> None:
    reader, writer = os.pipe()
    request = {"execute": "getfd", "arguments": {"fdname": "1x"}}
    assert "digit" in send_with_fd(qmp, request, writer)["error"]["desc"]
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_descriptors_that_nobody_takes_are_closed(qmp: QmpClient) -> None:
    reader, writer = os.pipe()
    send_with_fd(qmp, {"execute": "query-name"}, writer, writer, writer)
    os.close(writer)
    send_with_fd(qmp, {"execute": "query-name"}, reader)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_sets_of_descriptors(qmp: QmpClient, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    fd = os.open(file, os.O_RDWR)
    first = send_with_fd(qmp, {"execute": "add-fd", "arguments": {"opaque": "note"}}, fd)["return"]
    assert first["fdset-id"] == 0
    (found,) = qmp.result("query-fdsets")
    assert found == {"fdset-id": 0, "fds": [{"fd": first["fd"], "opaque": "note"}]}
    assert "not found" in qmp.error("remove-fd", fdset_id=0, fd=9999)[1]
    qmp.result("remove-fd", fdset_id=0)
    assert qmp.result("query-fdsets") == []
    negative = {"execute": "add-fd", "arguments": {"fdset-id": -1}}
    assert "non-negative" in send_with_fd(qmp, negative, fd)["error"]["desc"]
    os.close(fd)


def test_a_drive_may_be_a_set_of_descriptors(make_vm: MakeVm, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    fd = os.open(image, os.O_RDWR)
    options = f"-add-fd fd={fd},set=7 -drive file=/dev/fdset/7,format=raw,if=none,id=d0"
    qmp = make_vm(f"{options} -device virtio-blk-device,drive=d0,id=vb").client()
    os.close(fd)
    (drive,) = qmp.result("query-block")
    assert drive["device"] == "d0" and drive["qdev"] == "vb"
    assert drive["inserted"]["image"]["virtual-size"] == 1 << 20


def test_drives_are_described(make_vm: MakeVm, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    options = f"-drive file={image},format=raw,if=none,id=d0,readonly=on,cache=none"
    qmp = make_vm(f"{options} -device virtio-blk-device,drive=d0").client()
    (drive,) = qmp.result("query-block")
    assert drive["qdev"] == "/machine/peripheral-anon/device[0]"
    inserted = drive["inserted"]
    assert (inserted["ro"], inserted["drv"], inserted["file"]) == (True, "raw", str(image))
    assert inserted["cache"] == {"writeback": True, "direct": True, "no-flush": False}
    (stats,) = qmp.result("query-blockstats")
    assert stats["stats"]["rd_bytes"] == 0 and stats["device"] == "d0"
    text = qmp.hmp("info block")
    assert text == (
        f"d0 (#block001): {image} (raw, read-only)\n"
        "    Attached to:      /machine/peripheral-anon/device[0]\n"
        "    Cache mode:       writeback, direct\n"
    )
    assert "virtual size: 1 MiB (1048576 bytes)" in qmp.hmp("info block -v d0")


# -- CPUs and boards


def test_cpus_have_threads_of_their_own(qmp: QmpClient) -> None:
    cpus = qmp.result("query-cpus-fast")
    assert [cpu["qom-path"] for cpu in cpus] == [f"/machine/soc0/harts[{n}]" for n in range(2)]
    threads = {cpu["thread-id"] for cpu in cpus}
    assert len(threads) == 2 and os.getpid() not in threads
    assert all(Path(f"/proc/self/task/{thread}").exists() for thread in threads)


def test_cpu_models_are_expanded(qmp: QmpClient) -> None:
    names = [entry["name"] for entry in qmp.result("query-cpu-definitions")]
    assert "rv64" in names
    answer = qmp.result("query-cpu-model-expansion", type="full", model={"name": "rv64"})
    assert answer["model"]["props"]["sv57"] is True
    model = {"name": "rv64", "props": {"sv57": False}}
    answer = qmp.result("query-cpu-model-expansion", type="full", model=model)
    assert answer["model"]["props"]["sv57"] is False


def test_boards_and_options_are_listed(qmp: QmpClient) -> None:
    boards = {entry["name"]: entry for entry in qmp.result("query-machines")}
    assert boards["virt"]["cpu-max"] == 512 and "none" in boards
    assert boards["virt"]["default-ram-id"] == "riscv_virt_board.ram"
    options = {entry["option"]: entry for entry in qmp.result("query-command-line-options")}
    assert {"name": "debug-threads", "type": "boolean"} in options["name"]["parameters"]
    assert {"name": "maxcpus", "type": "number"} in options["smp-opts"]["parameters"]
    (one,) = qmp.result("query-command-line-options", option="add-fd")
    assert one == options["add-fd"]
    assert qmp.error("query-command-line-options", option="nope")[1] == "invalid option name: nope"


@pytest.mark.parametrize("command", ["pmemsave", "memsave"])
def test_memory_is_saved(make_vm: MakeVm, tmp_path: Path, command: str) -> None:
    machine = make_vm()
    machine.vm.write_memory(0x8000_0000, bytes(range(256)) * 20)
    file = tmp_path / "dump"
    qmp = machine.client()
    qmp.result(command, val=0x8000_0010, size=5000, filename=str(file))
    assert file.read_bytes() == (bytes(range(256)) * 20)[16:5016]
    assert "Invalid addr" in qmp.error("pmemsave", val=1 << 50, size=4, filename=str(file))[1]
