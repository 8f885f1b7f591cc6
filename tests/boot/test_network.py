"""Linux's network driver against our card, and the world at the other end of the cable."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ratite.core.errors import HostError
from ratite.net.tap import open_tap
from tests.boot.harness import Linux

pytestmark = pytest.mark.boot

HOST_MAC = bytes.fromhex("525400000001")
HOST_IP = bytes((10, 0, 0, 1))
ARP, IPV4 = b"\x08\x06", b"\x08\x00"
ICMP, UDP = 1, 17


class Responder:
    """A host at the other end of a datagram socket: it answers ARP, pings, and name service."""

    def __init__(self, here: str, there: str) -> None:
        self.pings = 0
        self._there = there
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(here)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while frame := self._socket.recv(70_000):
            answer = self._answer(frame)
            if answer is not None:
                head = frame[6:12] + HOST_MAC + frame[12:14]
                self._socket.sendto(head + answer, self._there)

    def _answer(self, frame: bytes) -> bytes | None:
        if frame[12:14] == ARP and frame[38:42] == HOST_IP:
            asker = frame[22:32]
            return frame[14:20] + b"\0\2" + HOST_MAC + HOST_IP + asker
        packet = frame[14:]
        if frame[12:14] != IPV4 or packet[16:20] != HOST_IP:
            return None
        size = 4 * (packet[0] & 15)
        header, body = packet[:size], packet[size : int.from_bytes(packet[2:4], "big")]
        addresses = packet[16:20] + packet[12:16]
        if header[9] == ICMP and body[0] == 8:
            self.pings += 1
            body = b"\0\0\0\0" + body[4:]
            body = body[:2] + checksum(body) + body[4:]
        elif header[9] == UDP:
            data = name_found(body[8:])
            body = body[2:4] + body[:2] + struct.pack(">HH", 8 + len(data), 0) + data
        else:
            return None
        length = (len(header) + len(body)).to_bytes(2, "big")
        header = header[:2] + length + header[4:10] + b"\0\0" + addresses
        return header[:10] + checksum(header) + header[12:] + body

    def close(self) -> None:
        """Hang up: an empty datagram ends the thread."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


def name_found(query: bytes) -> bytes:
    """The answer of a name server to whom all names are 10.9.8.7 (RFC 1035)."""
    question = query[12:]
    is_address = question[-4:-2] == b"\0\1"
    record = b"\xc0\x0c" + question[-4:] + struct.pack(">IH4B", 60, 4, 10, 9, 8, 7)
    counts = struct.pack(">HHHH", 1, int(is_address), 0, 0)
    return query[:2] + b"\x81\x80" + counts + question + (record if is_address else b"")


def checksum(data: bytes) -> bytes:
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


@pytest.fixture
def responder(tmp_path: Path) -> Iterator[Responder]:
    found = Responder(str(tmp_path / "host"), str(tmp_path / "guest"))
    yield found
    found.close()


def configure(linux: Linux, address: str) -> None:
    linux.run(f"ip addr add {address}/24 dev eth0 && ip link set eth0 up")


@pytest.mark.parametrize("legacy", ["on", "off"])
def test_a_guest_pings_and_talks_to_a_program(
    boot: Callable[..., Linux], responder: Responder, tmp_path: Path, legacy: str
) -> None:
    linux = boot(
        "-global",
        f"virtio-mmio.force-legacy={legacy}",
        "-netdev",
        f"dgram,id=n0,local.type=unix,local.path={tmp_path}/guest,"
        f"remote.type=unix,remote.path={tmp_path}/host",
        "-device",
        "virtio-net-device,netdev=n0,mac=52:54:00:00:00:02",
    )
    assert linux.run("cat /sys/class/net/eth0/address") == "52:54:00:00:00:02\n"
    configure(linux, "10.0.0.2")
    assert " 0% packet loss" in linux.run("ping -c 3 -i 0.2 -s 1400 10.0.0.1")
    assert responder.pings == 3
    assert "10.9.8.7" in linux.run("nslookup some.name 10.0.0.1")
    linux.vm.loop.call(lambda: linux.vm.debugger.monitor("set_link n0 off"))
    linux.run("until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do sleep 0.1; done")
    linux.vm.loop.call(lambda: linux.vm.debugger.monitor("set_link n0 on"))
    linux.run("until [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 0.1; done")
    assert " 0% packet loss" in linux.run("ping -c 1 10.0.0.1")
    linux.run("ip link set eth0 address 52:54:00:00:00:03")
    assert "macaddr=52:54:00:00:00:03" in linux.vm.monitor("info network")
    assert " 0% packet loss" in linux.run("ping -c 1 10.0.0.1")


def test_a_guest_talks_to_the_host_through_a_tap(boot: Callable[..., Linux]) -> None:
    ip = shutil.which("ip")
    if ip is None:
        pytest.skip("no ip")
    name = f"rat{os.getpid() % 100_000}"
    try:
        fd, _ = open_tap(name)  # whether that is allowed
    except HostError as error:
        pytest.skip(str(error))
    os.close(fd)
    linux = boot("-nic", f"tap,ifname={name},script=no,downscript=no")
    for command in (f"addr add 10.98.7.1/24 dev {name}", f"link set {name} up"):
        if subprocess.run([ip, *command.split()]).returncode:
            pytest.skip("interfaces cannot be set up here")
    configure(linux, "10.98.7.2")
    assert " 0% packet loss" in linux.run("ping -c 3 -i 0.2 10.98.7.1")
    with socket.create_server(("10.98.7.1", 0)) as server:
        server.settimeout(30)
        port = server.getsockname()[1]
        linux.run(f"(head -c 3000000 /dev/zero | tr '\\0' x | nc 10.98.7.1 {port}) & true")
        connection, _ = server.accept()
        with connection:
            connection.settimeout(30)
            received = 0
            while data := connection.recv(1 << 16):
                assert not data.strip(b"x")
                received += len(data)
    assert received == 3_000_000


def test_two_guests_talk_over_a_stream(boot: Callable[..., Linux], tmp_path: Path) -> None:
    address = f"addr.type=unix,addr.path={tmp_path}/cable"
    card = "virtio-net-device,netdev=n0"
    first = boot("-netdev", f"stream,id=n0,server=on,{address}", "-device", card)
    second = boot("-netdev", f"stream,id=n0,{address}", "-device", f"{card},mac=52:54:00:00:00:02")
    configure(first, "10.0.0.1")
    configure(second, "10.0.0.2")
    assert " 0% packet loss" in second.run("ping -c 3 -i 0.2 10.0.0.1")
    first.run("(nc -l -p 7 > /tmp/heard; echo over >> /tmp/heard) & true")
    second.run(
        "head -c 1000000 /dev/urandom > /tmp/data; "
        "until nc -w 5 10.0.0.1 7 < /tmp/data; do sleep 0.2; done",
        timeout=60,
    )
    first.run("until tail -n 1 /tmp/heard | grep -q 'over$'; do sleep 0.1; done", timeout=60)
    wanted = second.run("md5sum < /tmp/data")
    assert first.run("head -c 1000000 /tmp/heard | md5sum") == wanted
