"""A network card through qtest: the driver is here, and so is what the cable leads to."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.qtest.client import Qtest

SLOTS = [0x1000_1000 + 0x1000 * number for number in range(8)]
RAM = 0x8000_0000
NETWORK_CARD = 1
RX, TX = 0, 1
MAC = bytes.fromhex("525400123456")
FRAME = MAC + bytes.fromhex("525400abcdef 88b5") + bytes(range(50))
SIZE = 8  # of the queues


class Card:
    """The driver's side: rings at fixed places, a buffer for each queue."""

    def __init__(self, client: Qtest) -> None:
        self.client = client
        self.base = next(slot for slot in SLOTS if client.read("l", slot + 8) == NETWORK_CARD)
        self.used = [0, 0]
        self.available = [0, 0]

    def set(self, register: int, value: int) -> None:
        self.client.write("l", self.base + register, value)

    def start(self) -> None:
        """Bring the card up, with merged buffers off."""
        for status in (0, 1, 3):
            self.set(0x070, status)
        for half, features in ((0, 1 << 5), (1, 1)):  # MAC; version 1
            self.set(0x024, half)
            self.set(0x020, features)
        self.set(0x070, 11)
        assert self.client.read("l", self.base + 0x070) == 11
        for queue in (RX, TX):
            self.set(0x030, queue)
            self.set(0x038, SIZE)
            for register, place in ((0x080, 0), (0x090, 0x100), (0x0A0, 0x200)):
                self.set(register, self.ring(queue) + place)
                self.set(register + 4, 0)
            self.set(0x044, 1)
        self.set(0x070, 15)

    def ring(self, queue: int) -> int:
        return RAM + 0x1000 * (queue + 1)

    def buffer(self, queue: int) -> int:
        return RAM + 0x1_0000 * (queue + 1)

    def offer(self, queue: int, size: int) -> None:
        """Make the queue's buffer available."""
        flags = 2 if queue == RX else 0
        descriptor = struct.pack("<QIHH", self.buffer(queue), size, flags, 0)
        self.client.write_bytes(self.ring(queue), descriptor)
        slot = self.available[queue] % SIZE
        self.client.write("w", self.ring(queue) + 0x104 + 2 * slot, 0)
        self.available[queue] += 1
        self.client.write("w", self.ring(queue) + 0x102, self.available[queue])
        self.set(0x050, queue)

    def wait(self, queue: int) -> int:
        """Wait until the buffer was used; the bytes that were written."""
        for _ in range(10_000):
            if self.client.read("w", self.ring(queue) + 0x202) != self.used[queue] & 0xFFFF:
                break
        else:
            pytest.fail("the card does nothing")
        slot = self.used[queue] % SIZE
        self.used[queue] += 1
        return self.client.read("l", self.ring(queue) + 0x208 + 8 * slot)

    def send(self, frame: bytes) -> None:
        self.client.write_bytes(self.buffer(TX), bytes(12) + frame)
        self.offer(TX, 12 + len(frame))
        self.wait(TX)

    def receive(self) -> bytes:
        """The frame that came; the next buffer is offered."""
        size = self.wait(RX)
        header, frame = (data := self.client.read_bytes(self.buffer(RX), size))[:12], data[12:]
        assert header == bytes(10) + b"\1\0"
        self.offer(RX, 2048)
        return frame


def words(path: Path) -> list[str]:
    netdev = f"dgram,id=n0,local.type=unix,local.path={path}/guest"
    netdev += f",remote.type=unix,remote.path={path}/host"
    card = ["-netdev", netdev, "-device", "virtio-net-device,netdev=n0"]
    return ["-m", "4M", "-global", "virtio-mmio.force-legacy=off", *card]


@pytest.fixture
def peer(tmp_path: Path) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(f"{tmp_path}/host")
        peer.settimeout(20)
        yield peer


def test_frames_go_through_a_card_both_ways(qtest: Any, peer: Any, tmp_path: Path) -> None:
    card = Card(qtest(*words(tmp_path)))
    assert card.client.read_bytes(card.base + 0x100, 6) == MAC
    card.start()
    card.send(FRAME)
    assert peer.recv(2000) == FRAME
    peer.sendto(FRAME, f"{tmp_path}/guest")  # it waits for a buffer
    card.offer(RX, 2048)
    assert card.receive() == FRAME
    peer.sendto(FRAME[::-1], f"{tmp_path}/guest")
    assert card.receive() == FRAME[::-1]


def test_a_snapshot_holds_the_card(machine: Any, peer: Any, tmp_path: Path) -> None:
    vm, client = machine(*words(tmp_path))
    card = Card(client)
    card.start()
    card.offer(RX, 2048)
    before = (list(card.used), list(card.available))
    vm.save_snapshot("x", path=tmp_path / "snapshot")
    card.send(FRAME)
    assert peer.recv(2000) == FRAME
    peer.sendto(FRAME, f"{tmp_path}/guest")
    card.receive()
    card.set(0x070, 0)
    vm.load_snapshot("x", path=tmp_path / "snapshot")
    card.used, card.available = before
    card.send(FRAME)
    assert peer.recv(2000) == FRAME
    peer.sendto(FRAME, f"{tmp_path}/guest")
    assert card.receive() == FRAME
