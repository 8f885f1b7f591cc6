"""Netdevs, links and filters through the monitors; texts are those of QEMU 7.2."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

CARDS = "-netdev hubport,id=h0,hubid=0 -device virtio-net-device,id=nic,netdev=h0 "
CARDS += "-device virtio-net-device"


@pytest.fixture
def vm(make_vm: Any) -> Any:
    return make_vm(CARDS).client()


GENERIC, NOT_FOUND = "GenericError", "DeviceNotFound"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"type": "hubport", "id": "h0", "hubid": 0}, "Duplicate ID 'h0'"),
        ({"type": "nope", "id": "x"}, "Parameter 'type' does not accept value 'nope'"),
        ({"type": "hubport", "id": "x"}, "Parameter 'hubid' is missing"),
        ({"id": "x"}, "Parameter 'type' is missing"),
        ({"type": "hubport", "id": "1x", "hubid": 0}, "Parameter 'id' expects an identifier"),
        (
            {"type": "hubport", "id": "x", "hubid": 0, "foo": 1},
            "Parameter 'foo' is unexpected",
        ),
        ({"type": "hubport", "id": "x", "hubid": 0, "netdev": "no"}, "netdev 'no' not found"),
        ({"type": "stream", "id": "x"}, "Parameter 'addr' is missing"),
        (
            {"type": "stream", "id": "x", "addr": {"type": "inet"}},
            "Parameter 'addr.host' is missing",
        ),
        (
            {"type": "stream", "id": "x", "addr": {"type": "foo"}},
            "Parameter 'type' does not accept value 'foo'",
        ),
        (
            {"type": "socket", "id": "x", "fd": "foo"},
            "File descriptor named 'foo' has not been found",
        ),
        ({"type": "dgram", "id": "x"}, "dgram requires local= parameter"),
    ],
)
def test_wrong_netdevs_are_refused(vm: Any, arguments: dict[str, Any], text: str) -> None:
    assert vm.error("netdev_add", **arguments) == (GENERIC, text)


def test_netdevs_come_and_go(vm: Any) -> None:
    vm.result("netdev_add", type="hubport", id="h1", hubid=0)
    expected = (
        "hub 0\n"
        " \\ h1\n"
        " \\ h0: nic: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:12:34:56\n"
        "virtio-net-device.1: "
        "index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:12:34:57\n"
    )
    assert vm.hmp("info network") == expected
    vm.result("netdev_del", id="h1")
    assert vm.hmp("info network") == expected.replace(" \\ h1\n", "")
    for id in ("h1", "nic"):
        assert vm.error("netdev_del", id=id) == (NOT_FOUND, f"Device '{id}' not found")


def test_links(vm: Any) -> None:
    assert vm.error("set_link", name="zz", up=False) == (NOT_FOUND, "Device 'zz' not found")
    for name in ("nic", "h0", "virtio-net-device.1"):
        vm.result("set_link", name=name, up=False)
        vm.result("set_link", name=name, up=True)
    assert vm.hmp("set_link zz on") == "Error: Device 'zz' not found\n"
    assert vm.hmp("set_link nic foo") == (
        "Expected 'on' or 'off'\nTry \"help set_link\" for more information\n"
    )
    assert vm.hmp("set_link nic off") == ""


def test_people_make_netdevs_too(vm: Any) -> None:
    assert vm.hmp("netdev_add hubport,id=h9,hubid=3") == ""
    assert vm.hmp("netdev_add hubport,id=hh") == "Error: Parameter 'hubid' is missing\n"
    assert vm.hmp("netdev_add foo,id=hh") == (
        "Error: Parameter 'type' does not accept value 'foo'\n"
    )
    assert vm.hmp("netdev_add foo") == "Error: Parameter 'id' is missing\n"
    kinds = "socket stream dgram hubport tap".split()
    assert vm.hmp("netdev_add help").split("\n")[1:-1] == kinds
    assert "user mode networking is not offered; use tap" in vm.hmp("netdev_add user,id=u")
    assert vm.hmp("netdev_del zzz") == "Error: Device 'zzz' not found\n"
    assert vm.hmp("netdev_del h9") == ""
    assert vm.hmp("help set_link") == (
        "set_link name on|off -- change the link status of a network adapter\n"
    )


def test_the_filter_of_a_card_without_driver(vm: Any) -> None:
    (nic, other) = vm.result("query-rx-filter")
    assert nic == {
        "promiscuous": True,
        "name": "nic",
        "main-mac": "52:54:00:12:34:56",
        "unicast": "normal",
        "vlan": "all",
        "vlan-table": list(range(4095, -1, -1)),
        "unicast-table": [],
        "multicast": "normal",
        "multicast-overflow": False,
        "unicast-overflow": False,
        "multicast-table": [],
        "broadcast-allowed": False,
    }
    assert other["name"] == "virtio-net-device.1"
    assert [found["name"] for found in vm.result("query-rx-filter", name="nic")] == ["nic"]
    assert vm.error("query-rx-filter", name="h0") == (GENERIC, "net client(h0) isn't a NIC")
    assert vm.error("query-rx-filter", name="zz") == (GENERIC, "invalid net client name: zz")


def test_a_stream_netdev_says_who_comes_and_goes(vm: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "cable")
    address = {"type": "unix", "path": path}
    vm.result("netdev_add", type="stream", id="s", addr=address, server=True)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        came = vm.event("NETDEV_STREAM_CONNECTED")
        assert came["data"] == {"netdev-id": "s", "addr": address}
        assert f"s: index=0,type=stream,unix:{path}\n" in vm.hmp("info network")
    assert vm.event("NETDEV_STREAM_DISCONNECTED")["data"] == {"netdev-id": "s"}


def test_a_descriptor_that_was_handed_over_is_used(vm: Any) -> None:
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, peer:
        request = b'{"execute": "getfd", "arguments": {"fdname": "cable"}}'
        socket.send_fds(vm.socket, [request], [peer.fileno()])
        assert vm.reply() == {"return": {}}
        vm.result("netdev_add", type="dgram", id="d", local={"type": "fd", "str": "cable"})
        assert "d: index=0,type=dgram,fd=cable unix\n" in vm.hmp("info network")


def test_announcements_reach_the_network(vm: Any) -> None:
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, peer:
        number = str(peer.fileno())
        vm.result("netdev_add", type="dgram", id="d", local={"type": "fd", "str": number})
        vm.result("netdev_add", type="hubport", id="h5", hubid=0, netdev="d")
        ours.settimeout(20)
        terms = {"initial": 1, "max": 5, "step": 1}
        vm.result("announce-self", **terms, rounds=2, interfaces=["virtio-net-device.1"])
        vm.result("announce-self", **terms, rounds=3, id="x")
        frames = [ours.recv(100) for _ in range(3)]
        assert frames == [frames[0]] * 3
        assert frames[0][6:14] == bytes.fromhex("525400123456 8035")
        assert vm.hmp("announce_self nic") == ""
        assert ours.recv(100) == frames[0]
    assert vm.error("announce-self") == (GENERIC, "Parameter 'initial' is missing")
