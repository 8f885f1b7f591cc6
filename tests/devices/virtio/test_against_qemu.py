"""The same driver on QEMU's devices and on ours: both answer alike.

QEMU runs no guest here: its qtest protocol reads and writes its memory and registers for us.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ratite.block import Discard, Drive, FileNode, FileOptions, IoPool
from ratite.chardev import NullChardev
from ratite.devices.virtio.blk import VirtioBlk
from ratite.devices.virtio.console import VirtConsole, VirtioSerial, VirtSerialPort
from ratite.devices.virtio.net import VirtioNet

QEMU = "qemu-system-riscv64"
SLOT = 0x1000_8000  # the first transport that QEMU's virt board fills
RAM = 0x8000_0000
MACHINE = "-M virt -m 64M -display none -bios none -nodefaults -qtest stdio".split()
ANY_LAYOUT, SCSI, OFFLOADS = 1 << 27, 1 << 7, 1 << 2 | 1 << 6

pytestmark = pytest.mark.skipif(not shutil.which(QEMU), reason=f"{QEMU} is not installed")


class Qtest:
    """A QEMU that waits for commands."""

    def __init__(self, legacy: bool, *devices: str) -> None:
        switch = "on" if legacy else "off"
        self.process = subprocess.Popen(
            [QEMU, *MACHINE, "-global", f"virtio-mmio.force-legacy={switch}", *devices],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # where qtest repeats every command
            text=True,
        )

    def command(self, text: str) -> list[str]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        while (answer := self.process.stdout.readline()).startswith("IRQ"):
            pass
        assert answer.startswith("OK"), answer
        return answer.split()[1:]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def qemu_guest(base: type, qtest: Qtest, legacy: bool, queues: int) -> Any:
    """The driver of these tests, on QEMU's memory and registers."""
    letters = {1: "b", 2: "w", 4: "l", 8: "q"}

    class QemuGuest(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.legacy = legacy
            self.top = RAM + 0x10_0000
            self.settle = lambda: time.sleep(0.02)
            self.device = SimpleNamespace(
                queues=[SimpleNamespace(index=n, max_size=16) for n in range(queues)]
            )

        def poke(self, addr: int, data: bytes) -> None:
            if data:
                qtest.command(f"write {addr:#x} {len(data):#x} 0x{data.hex()}")

        def peek(self, addr: int, size: int) -> bytes:
            return bytes.fromhex(qtest.command(f"read {addr:#x} {size:#x}")[0][2:])

        def get(self, offset: int, size: int = 4) -> int:
            return int(qtest.command(f"read{letters[size]} {SLOT + offset:#x}")[0], 16)

        def set(self, offset: int, value: int, size: int = 4) -> None:
            qtest.command(f"write{letters[size]} {SLOT + offset:#x} {value:#x}")

    return QemuGuest()


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def erase(sector: int, sectors: int, flags: int = 0) -> bytes:
    return struct.pack("<QII", sector, sectors, flags)


DATA = bytes(range(256)) * 2
REQUESTS: list[tuple[list[bytes], list[int]]] = [
    ([header(1, 3), DATA], [1]),
    ([header(4)], [1]),
    ([header(0, 3)], [512, 1]),
    ([header(0, 3)], [513]),
    ([header(0, 3)], [100, 412, 1]),
    ([header(8)], [20, 1]),
    ([header(8)], [4, 1]),
    ([header(8)], [60, 1]),
    ([header(0, 2048)], [512, 1]),
    ([header(0, 2047)], [1024, 1]),
    ([header(0, 0)], [511, 1]),
    ([header(0, 1 << 55)], [512, 1]),
    ([header(1, 5000), bytes(512)], [1]),
    ([header(1, 0), bytes(100)], [1]),
    ([header(99)], [1]),
    ([header(11), erase(8, 16)], [1]),
    ([header(13), erase(3, 1, 1)], [1]),
    ([header(0, 3)], [512, 1]),
    ([header(11), erase(0, 1, 1)], [1]),
    ([header(13), erase(0, 1, 2)], [1]),
    ([header(11), erase(0, 1) * 2], [1]),
    ([header(11), erase(0, 4_000_000)], [1]),
    ([header(13), erase(1 << 60, 1)], [1]),
    ([header(0, 0)], [1]),
    ([header(1, 0)], [1]),
    ([header(1, 9)[:7], header(1, 9)[7:] + DATA], [1]),
    ([header(0, 9)[:15], header(0, 9)[15:]], [512, 1]),
]


def use_disk(guest: Any) -> list[Any]:
    """What a driver sees of a disk."""
    seen: list[Any] = [[guest.get(offset) for offset in (0x0, 0x4, 0x8, 0xC)]]
    seen.append(guest.offered() & ~(ANY_LAYOUT | SCSI))
    (ring,) = guest.start(guest.offered() & 0xFFFF_FFFF & ~SCSI, {0: 16})
    seen.append(guest.config(0, 57))
    for readable, writable in REQUESTS:
        seen.append(ring.exchange(readable, writable))
        seen.append(ring.exchange(readable, writable, indirect=True))
    guest.set(0x064, 1)
    seen.append([guest.get(offset) for offset in (0x60, 0x70)])
    guest.set(0x070, 0)
    seen.append([guest.get(offset) for offset in (0x60, 0x70)])
    return seen


def use_ports(guest: Any) -> list[Any]:
    """What a driver sees of a console device with three ports."""
    seen: list[Any] = [guest.offered() & ~ANY_LAYOUT, guest.get(0x104, 4)]
    rings = guest.start(None, dict.fromkeys(range(8), 16))
    messages, commands = rings[2], rings[3]
    for _ in range(16):
        messages.add([], [64])
    messages.kick()

    def tell(port: int, event: int, value: int) -> None:
        commands.exchange([struct.pack("<IHH", port, event, value)], [])
        seen.append([messages.answer(head)[:length] for head, length in messages.collect()])

    tell(0xFFFF_FFFF, 0, 1)
    for port in range(3):
        tell(port, 3, 1)
        tell(port, 6, 1)
    tell(9, 3, 1)
    seen.append(rings[1].exchange([b"out"], []))
    seen.append(rings[5].exchange([b"out"], []))
    return seen


MACS = [bytes((2, 0, 0, 0, 0, n)) for n in range(70)]
GROUPS = [bytes((3, 0, 0, 0, 0, n)) for n in range(70)]


def table(*lists: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(macs)) + b"".join(macs) for macs in lists)


COMMANDS: list[tuple[int, int, bytes]] = [
    *((0, mode, bytes((on,))) for on in (1, 0, 7) for mode in range(7)),
    (1, 0, table(MACS[:3], GROUPS[:2])),
    (1, 0, table(MACS[:64], GROUPS[:1])),
    (1, 0, table(MACS, GROUPS)),
    (1, 0, table([], [])),
    (1, 0, table(MACS[:1])),
    (1, 0, table(MACS[:1], [])[:-1]),
    (1, 0, table(MACS[:1], []) + b"\0"),
    (1, 0, struct.pack("<I", 0xFFFF_FFFF)),
    (1, 0, b"\1"),
    (1, 1, MACS[1]),
    (1, 1, MACS[2] + b"\0"),
    (1, 1, MACS[2][:5]),
    (1, 2, MACS[2]),
    (2, 0, b"\5\0"),
    (2, 0, b"\xff\x0f"),
    (2, 0, b"\0\x10"),
    (2, 1, b"\5\0"),
    (2, 2, b"\5\0"),
    (2, 0, b"\5"),
    (3, 0, b"\0"),
    (3, 1, b"\0"),
    (9, 0, b"\0"),
]


def use_card(guest: Any) -> list[Any]:
    """What a driver sees of a network card, as far as it needs no network."""
    seen: list[Any] = [[guest.get(offset) for offset in (0x0, 0x4, 0x8, 0xC)]]
    features = guest.offered() & ~(ANY_LAYOUT | OFFLOADS)
    seen.append(features)
    rings = guest.start(features & 0xFFFF_FFFF, dict.fromkeys(range(3), 16))
    seen.append(guest.config(0, 12))
    for kind, command, data in COMMANDS:
        seen.append(rings[2].exchange([bytes((kind, command)), data], [1]))
        seen.append(rings[2].exchange([bytes((kind, command)) + data], [1]))
    seen.append(guest.config(0, 12))
    guest.set(0x070, 0)
    seen.append([guest.get(offset) for offset in (0x60, 0x70)])
    seen.append(guest.config(0, 12))
    return seen


def test_network_cards_look_alike(make_guest: Any, legacy: bool) -> None:
    ours = use_card(make_guest(VirtioNet(host_mtu=1400), legacy=legacy))
    qtest = Qtest(legacy, "-device", "virtio-net-device,host_mtu=1400")
    try:
        theirs = use_card(qemu_guest(make_guest, qtest, legacy, 3))
    finally:
        qtest.close()
    assert ours == theirs


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.fixture
def our_drive(image: Path) -> Iterator[Drive]:
    pool = IoPool()
    drive = Drive("d", SimpleNamespace(post=lambda _: None), pool)
    drive.insert(FileNode("f", FileOptions(filename=str(image), discard=Discard.UNMAP)))
    yield drive
    drive.close()
    pool.close()


def test_disks_look_alike(make_guest: Any, legacy: bool, our_drive: Drive, image: Path) -> None:
    guest = make_guest(VirtioBlk(drive=our_drive, serial="S1"), legacy=legacy)
    guest.settle = our_drive.drain
    ours = use_disk(guest)
    our_drive.close()
    image.write_bytes(bytes(1 << 20))
    drive = f"file={image},if=none,id=d,format=raw,discard=unmap"
    qtest = Qtest(legacy, "-drive", drive, "-device", "virtio-blk-device,drive=d,serial=S1")
    try:
        theirs = use_disk(qemu_guest(make_guest, qtest, legacy, 1))
    finally:
        qtest.close()
    assert ours == theirs


def test_ports_look_alike(make_guest: Any, legacy: bool) -> None:
    guest = make_guest(VirtioSerial(), legacy=legacy)
    loop = SimpleNamespace()
    guest.device.bus.plug(VirtConsole(chardev=NullChardev("c0", loop)))
    guest.device.bus.plug(VirtSerialPort(chardev=NullChardev("c1", loop), port_name="org.a"))
    guest.device.bus.plug(VirtSerialPort(chardev=NullChardev("c2", loop)))
    ours = use_ports(guest)
    devices = ["virtio-serial-device", "virtconsole,chardev=c0"]
    devices += ["virtserialport,chardev=c1,name=org.a", "virtserialport,chardev=c2"]
    options = [word for device in devices for word in ("-device", device)]
    chardevs = [word for n in range(3) for word in ("-chardev", f"null,id=c{n}")]
    qtest = Qtest(legacy, *chardevs, *options)
    try:
        theirs = use_ports(qemu_guest(make_guest, qtest, legacy, 8))
    finally:
        qtest.close()
    assert ours == theirs
