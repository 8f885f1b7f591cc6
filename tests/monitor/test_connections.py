"""Backends that are exchanged, connections broken by force, clients that are handed over."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.monitor.conftest import MakeVm, QmpClient

UART = 0x1000_0000
SMALL = "-M virt -m 8M -S -nodefaults -display none -bios none"


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def chardevs(client: QmpClient) -> dict[str, Any]:
    return {entry["label"]: entry for entry in client.result("query-chardev")}


# -- chardev-change


def put(machine: Any, text: bytes) -> None:
    with machine.vm.machine.lock:
        for byte in text:
            machine.vm.machine.memory.write(UART, 1, byte)


def test_a_serial_port_goes_on_with_another_backend(make_vm: MakeVm, tmp_path: Path) -> None:
    machine = make_vm(f"-chardev file,id=s,path={tmp_path}/one -serial chardev:s")
    client = machine.client()
    put(machine, b"a")
    backend = {"type": "file", "data": {"out": f"{tmp_path}/two"}}
    assert client.result("chardev-change", id="s", backend=backend) == {}
    put(machine, b"b")
    until(lambda: (tmp_path / "two").read_bytes() == b"b")
    assert (tmp_path / "one").read_bytes() == b"a"
    assert chardevs(client)["s"] == {"label": "s", "filename": "file", "frontend-open": True}
    client.result("chardev-change", id="s", backend={"type": "ringbuf", "data": {}})
    put(machine, b"c")
    assert client.result("ringbuf-read", device="s", size=9) == "c"
    assert client.hmp("chardev-change s null") == ""
    assert chardevs(client)["s"]["filename"] == "null"
    assert [*chardevs(client)] == ["s", "compat_monitor0"]
    assert client.result("qom-get", path="/chardevs/s", property="type") == "chardev-null"


def test_input_comes_from_the_new_backend(make_vm: MakeVm, tmp_path: Path) -> None:
    machine = make_vm("-chardev null,id=s -serial chardev:s")
    client = machine.client()
    address = {"type": "unix", "data": {"path": f"{tmp_path}/line"}}
    backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
    client.result("chardev-change", id="s", backend=backend)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(f"{tmp_path}/line")
        line.sendall(b"x")

        def received() -> int:
            with machine.vm.machine.lock:
                status, _ = machine.vm.machine.memory.read(UART + 5, 1)
                return int(status) & 1

        until(received)
        with machine.vm.machine.lock:
            assert machine.vm.machine.memory.read(UART, 1)[0] == ord("x")


def test_what_cannot_be_opened_leaves_the_old_backend(make_vm: MakeVm) -> None:
    machine = make_vm("-chardev ringbuf,id=s -serial chardev:s -chardev null,id=free")
    client = machine.client()
    for id in ("s", "free"):
        backend = {"type": "file", "data": {"out": "/nope/x"}}
        assert "/nope/x" in client.error("chardev-change", id=id, backend=backend)[1]
    put(machine, b"still")
    assert client.result("ringbuf-read", device="s", size=9) == "still"
    assert "leave it out" in client.hmp("chardev-change s null,id=t")
    mux = {"type": "mux", "data": {"chardev": "free"}}
    assert "Mux device" in client.error("chardev-change", id="s", backend=mux)[1]
    client.result("chardev-change", id="free", backend={"type": "ringbuf", "data": {}})
    assert chardevs(client)["free"]["filename"] == "ringbuf"


def test_a_monitor_keeps_its_backend(make_vm: MakeVm) -> None:
    client = make_vm().client()
    backend = {"type": "null", "data": {}}
    text = client.error("chardev-change", id="compat_monitor0", backend=backend)[1]
    assert text == "Chardev user does not support chardev hotswap"


def test_a_port_of_the_guests_sees_the_other_end_change(make_vm: MakeVm, tmp_path: Path) -> None:
    machine = make_vm(
        "-device virtio-serial-device -chardev pty,id=p -device virtserialport,chardev=p,id=port"
    )
    client = machine.client()
    client.result("chardev-change", id="p", backend={"type": "ringbuf", "data": {}})
    assert client.result("qom-get", path="/machine/peripheral/port", property="chardev") == "p"
    assert "busy" in client.error("chardev-remove", id="p")[1]
    client.result("device_del", id="port")
    until(lambda: client.command("chardev-remove", id="p") == {"return": {}})


# -- yank


def test_a_connection_is_broken_by_force(make_vm: MakeVm, tmp_path: Path) -> None:
    server = f"path={tmp_path}/line,server=on,wait=off"
    machine = make_vm(f"-chardev socket,id=s,{server} -serial chardev:s -chardev null,id=n")
    client = machine.client()
    instance = {"type": "chardev", "id": "s"}
    assert instance in client.result("query-yank") and len(client.result("query-yank")) == 2
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(30)
        line.connect(f"{tmp_path}/line")
        until(lambda: "disconnected" not in chardevs(client)["s"]["filename"])
        wrong = [instance, {"type": "chardev", "id": "n"}]
        assert client.error("yank", instances=wrong) == ("DeviceNotFound", "Instance not found")
        assert client.ask({"exec-oob": "yank", "arguments": {"instances": [instance]}}) == {
            "return": {}
        }
        assert line.recv(9) == b""
    until(lambda: "disconnected" in chardevs(client)["s"]["filename"])
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(f"{tmp_path}/line")  # the next client is welcome
        until(lambda: "disconnected" not in chardevs(client)["s"]["filename"])


def test_a_migration_whose_other_end_is_dead_fails_by_force(
    make_vm: MakeVm, tmp_path: Path
) -> None:
    client = make_vm(options=SMALL).client()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/dead")
        dead.listen(1)
        client.result("migrate", uri=f"unix:{tmp_path}/dead")
        other, _ = dead.accept()
        with other:  # which reads nothing, and answers nothing
            assert {"type": "migration"} in client.result("query-yank")
            until(lambda: client.result("query-migrate")["status"] in ("setup", "active"))
            client.result("yank", instances=[{"type": "migration"}])
            until(lambda: client.result("query-migrate")["status"] == "failed")
    assert "yank" in client.result("query-migrate")["error-desc"]
    assert {"type": "migration"} not in client.result("query-yank")
    client.result("cont")


# -- add_client


def test_a_client_is_handed_to_a_socket_backend(make_vm: MakeVm, tmp_path: Path) -> None:
    server = f"path={tmp_path}/line,server=on,wait=off"
    machine = make_vm(f"-chardev socket,id=s,{server} -serial chardev:s -chardev null,id=n")
    client = machine.client()

    def hand_over(fd: int, protocol: str) -> dict[str, Any]:
        message = b'{"execute": "getfd", "arguments": {"fdname": "c"}}'
        socket.send_fds(client.socket, [message], [fd])
        assert client.reply() == {"return": {}}
        return client.command("add_client", protocol=protocol, fdname="c")

    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(30)
        assert hand_over(theirs.fileno(), "s") == {"return": {}}
        put(machine, b"hello")
        assert b"hello".startswith(ours.recv(9))
        assert "failed to add client" in hand_over(theirs.fileno(), "s")["error"]["desc"]
    until(lambda: "disconnected" in chardevs(client)["s"]["filename"])
    with open(os.devnull, "rb") as file:
        for protocol, text in (
            ("s", "failed to add client"),
            ("n", "failed to add client"),
            ("zz", "protocol 'zz' is invalid"),
            ("spice", "SPICE is not in use"),
        ):
            assert hand_over(file.fileno(), protocol)["error"]["desc"] == text
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(f"{tmp_path}/line")
        until(lambda: "disconnected" not in chardevs(client)["s"]["filename"])


# -- and more


def test_the_device_tree_is_written_to_a_file(make_vm: MakeVm, tmp_path: Path) -> None:
    client = make_vm().client()
    client.result("dumpdtb", filename=f"{tmp_path}/dtb")
    assert (tmp_path / "dtb").read_bytes().startswith(b"\xd0\x0d\xfe\xed")
    assert "/nope/dtb" in client.error("dumpdtb", filename="/nope/dtb")[1]
    assert "dtb dumped to" in client.hmp(f"dumpdtb {tmp_path}/again")
