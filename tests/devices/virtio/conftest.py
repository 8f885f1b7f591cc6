"""A guest-side virtio-mmio driver, small and in Python, on memory of its own."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ratite.core import FakeClock, Log, LogCategory
from ratite.devices.virtio.device import VirtioDevice
from ratite.devices.virtio.mmio import VirtioMmio
from ratite.memory import AddressSpace, Gpa, MemoryRegion, MemTxResult, RamList

MMIO = 0x1000_1000
RAM = 0x8000_0000
RAM_SIZE = 4 << 20
ROM = 0x2000_0000
VERSION_1 = 1 << 32


class Ring:
    """The driver's side of one queue."""

    def __init__(self, guest: Guest, index: int, size: int, base: int) -> None:
        self.guest, self.index, self.size = guest, index, size
        self.desc = base
        self.avail = base + 16 * size
        self.used = (self.avail + 6 + 2 * size + 4095) & ~4095
        self.end = self.used + 6 + 8 * size
        self.free = 0
        self.seen = 0
        self.avail_index = 0
        self.buffers: dict[int, list[tuple[int, int]]] = {}

    def put_desc(self, index: int, addr: int, size: int, flags: int, nxt: int = 0) -> None:
        self.guest.poke(self.desc + 16 * index, struct.pack("<QIHH", addr, size, flags, nxt))

    def offer(self, head: int) -> None:
        self.guest.poke(
            self.avail + 4 + 2 * (self.avail_index % self.size), struct.pack("<H", head)
        )
        self.avail_index = (self.avail_index + 1) & 0xFFFF
        self.guest.poke(self.avail + 2, struct.pack("<H", self.avail_index))

    def add(
        self, readable: list[bytes], writable: Sequence[int] = (), *, indirect: bool = False
    ) -> int:
        """Offer one chain; answer its head."""
        parts = [(self.guest.store(data), len(data), 0) for data in readable]
        parts += [(self.guest.alloc(size), size, 2) for size in writable]
        head = self.free
        chain = b""
        for number, (addr, size, flags) in enumerate(parts):
            last = number == len(parts) - 1
            here = number if indirect else (self.free + number) % self.size
            nxt = 0 if last else here + 1 if indirect else (here + 1) % self.size
            entry = (addr, size, flags | (0 if last else 1), nxt)
            if indirect:
                chain += struct.pack("<QIHH", *entry)
            else:
                self.put_desc(here, *entry)
        if indirect:
            self.put_desc(head, self.guest.store(chain), len(chain), 4)
        self.free = (self.free + (1 if indirect else len(parts))) % self.size
        self.buffers[head] = [(addr, size) for addr, size, flags in parts if flags]
        self.offer(head)
        return head

    def kick(self) -> None:
        self.guest.set(0x050, self.index)

    def collect(self) -> list[tuple[int, int]]:
        """Heads and lengths given back since the last call."""
        index = struct.unpack("<H", self.guest.peek(self.used + 2, 2))[0]
        result = []
        while self.seen != index:
            entry = self.guest.peek(self.used + 4 + 8 * (self.seen % self.size), 8)
            result.append(struct.unpack("<II", entry))
            self.seen = (self.seen + 1) & 0xFFFF
        return result

    def answer(self, head: int) -> bytes:
        """What is in the writable buffers of a chain."""
        return b"".join(self.guest.peek(addr, size) for addr, size in self.buffers[head])

    def exchange(self, readable: list[bytes], writable: list[int], **how: Any) -> bytes:
        """One request, and what came back: as many bytes as the device says it wrote."""
        head = self.add(readable, writable, **how)
        self.kick()
        deadline = time.monotonic() + 10
        self.guest.settle()
        while not (done := self.collect()) and time.monotonic() < deadline:
            time.sleep(0.001)  # another process's device takes its time
            self.guest.settle()
        ((used, length),) = done
        assert used == head
        return self.answer(head)[:length]


class Guest:
    """RAM, a transport, and a device on it."""

    def __init__(self, device: VirtioDevice, *, legacy: bool = False) -> None:
        self.clock = FakeClock()
        self.ram_list = RamList()
        self.block = self.ram_list.alloc("ram", RAM_SIZE)
        root = MemoryRegion.container("system", 1 << 64)
        root.add_subregion(RAM, MemoryRegion.ram("ram", self.block))
        root.add_subregion(ROM, MemoryRegion.rom("rom", self.ram_list.alloc("rom", 4096)))
        self.root = root
        self.memory = AddressSpace(root, "memory")
        self.transport = VirtioMmio(self.memory, self.clock, 0, force_legacy=legacy)
        root.add_subregion(MMIO, self.transport.mmio)
        self.legacy = legacy
        self.device = device
        self.interrupts = 0
        self.transport.irq.connect(self._interrupt)
        self.transport.log = device.log = Log(LogCategory.GUEST_ERRORS, open("/dev/null", "w"))
        self.transport.bus.plug(device)
        self.top = RAM + 0x10_0000
        self.settle: Callable[[], None] = lambda: None

    def _interrupt(self, level: bool) -> None:
        self.interrupts += level

    # -- memory

    def alloc(self, size: int) -> int:
        addr, self.top = self.top, self.top + size
        assert self.top < RAM + RAM_SIZE
        return addr

    def store(self, data: bytes) -> int:
        addr = self.alloc(len(data))
        self.poke(addr, data)
        return addr

    def poke(self, addr: int, data: bytes) -> None:
        assert self.memory.write_bytes(Gpa(addr), data) is MemTxResult.OK

    def peek(self, addr: int, size: int) -> bytes:
        data, result = self.memory.read_bytes(Gpa(addr), size)
        assert result is MemTxResult.OK
        return data

    # -- registers

    def get(self, offset: int, size: int = 4) -> int:
        value, result = self.memory.read(Gpa(MMIO + offset), size)
        assert result is MemTxResult.OK
        return value

    def set(self, offset: int, value: int, size: int = 4) -> None:
        assert self.memory.write(Gpa(MMIO + offset), size, value) is MemTxResult.OK

    def config(self, offset: int, size: int) -> bytes:
        return bytes(self.get(0x100 + offset + i, 1) for i in range(size))

    def offered(self) -> int:
        value = 0
        for half in (0, 1):
            self.set(0x014, half)
            value |= self.get(0x010) << 32 * half
        return value

    def start(self, features: int | None = None, sizes: dict[int, int] | None = None) -> list[Ring]:
        """Bring the device up; answer the rings of the queues named (default: all)."""
        self.set(0x070, 0)
        self.set(0x070, 1)
        self.set(0x070, 3)
        features = self.offered() if features is None else features
        if not self.legacy:
            features |= VERSION_1
        for half in (0, 1):
            self.set(0x024, half)
            self.set(0x020, features >> 32 * half & 0xFFFF_FFFF)
        if self.legacy:
            self.set(0x028, 4096)
        else:
            self.set(0x070, 11)
            assert self.get(0x070) == 11
        wanted = sizes or {queue.index: min(16, queue.max_size) for queue in self.device.queues}
        base = RAM + 0x1000
        rings = []
        for index, size in wanted.items():
            ring = Ring(self, index, size, base)
            base = (ring.end + 4095) & ~4095
            self.poke(ring.desc, bytes(ring.end - ring.desc))
            self.set_up(ring)
            rings.append(ring)
        self.set(0x070, self.get(0x070) | 4)
        return rings

    def set_up(self, ring: Ring) -> None:
        self.set(0x030, ring.index)
        assert self.get(0x034) >= ring.size
        self.set(0x038, ring.size)
        if self.legacy:
            self.set(0x03C, 4096)
            self.set(0x040, ring.desc >> 12)
            assert self.get(0x040) == ring.desc >> 12
            return
        for register, addr in ((0x080, ring.desc), (0x090, ring.avail), (0x0A0, ring.used)):
            self.set(register, addr & 0xFFFF_FFFF)
            self.set(register + 4, addr >> 32)
        self.set(0x044, 1)
        assert self.get(0x044) == 1

    @property
    def needs_reset(self) -> bool:
        return bool(self.get(0x070) & 0x40)


@pytest.fixture
def make_guest() -> type[Guest]:
    return Guest


@pytest.fixture(params=[False, True], ids=["modern", "legacy"])
def legacy(request: Any) -> bool:
    return bool(request.param)
