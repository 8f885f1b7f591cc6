"""Whatever a guest writes into registers, rings and buffers: nothing raises, and a reset helps."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratite.chardev import NullChardev
from ratite.core.disk import ErrorAction
from ratite.devices.virtio.blk import VirtioBlk
from ratite.devices.virtio.console import VirtConsole, VirtioSerial, VirtSerialPort
from ratite.devices.virtio.net import VirtioNet
from ratite.devices.virtio.rng import VirtioRng
from ratite.memory import Gpa

RAM = 0x8000_0000
MMIO = 0x1000_1000

FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Disk:
    """Takes everything."""

    id, size, read_only, write_cache = "d0", 1 << 20, False, True
    user: Any = None

    def attach(self, user: Any, terms: Any, /) -> None:
        self.user = user

    def detach(self) -> None:
        self.user = None

    def failed(self, is_write: bool, code: int, /) -> ErrorAction:
        return ErrorAction.REPORT

    def refused(self, access: Any, /) -> None:
        pass

    def readv(self, offset: int, buffers: Any, done: Any, /) -> None:
        assert 0 <= offset and offset + sum(map(len, buffers)) <= self.size
        done(0)

    writev = readv

    def flush(self, done: Any, /) -> None:
        done(0)

    def discard(self, offset: int, size: int, done: Any, /) -> None:
        assert 0 <= offset and offset + size <= self.size
        done(0)

    def write_zeroes(self, offset: int, size: int, unmap: bool, done: Any, /) -> None:
        self.discard(offset, size, done)

    def drain(self) -> None:
        pass


class Cable:
    """Sends back what it takes, which is not always something."""

    id = "n0"
    user: Any = None

    def __init__(self) -> None:
        self.frames = [b"\xff" * 14, bytes(3), bytes(2000)]
        self.turn = 0

    def attach(self, user: Any, /) -> None:
        self.user = user

    def send(self, buffers: Any, /) -> bool:
        self.turn = (self.turn + 1) % 3
        self.frames.append(b"".join(buffers))
        return self.turn != 0

    def accept_input(self) -> None:
        while self.frames and self.user.receive(memoryview(self.frames[0])):
            self.frames.pop(0)


class NoLoop:
    current = True

    def post(self, callback: Any) -> None:
        callback()


def make(kind: str, make_guest: Any, legacy: bool) -> Any:
    if kind == "blk":
        return make_guest(VirtioBlk(drive=Disk(), num_queues=2), legacy=legacy)
    if kind == "rng":
        return make_guest(VirtioRng(max_bytes=100, period=1), legacy=legacy)
    if kind == "net":
        return make_guest(VirtioNet(netdev=Cable()), legacy=legacy)
    guest = make_guest(VirtioSerial(max_ports=3), legacy=legacy)
    guest.device.bus.plug(VirtConsole(chardev=NullChardev("c0", NoLoop())))
    guest.device.bus.plug(VirtSerialPort(chardev=NullChardev("c1", NoLoop()), port_name="p"))
    return guest


def works_after_reset(guest: Any) -> bool:
    guest.set(0x070, 0)
    rings = guest.start()
    assert guest.get(0x044 if not guest.legacy else 0x040) != 0 or rings
    return not guest.needs_reset


register = st.one_of(
    st.sampled_from([0x14, 0x20, 0x24, 0x28, 0x30, 0x38, 0x3C, 0x40, 0x44, 0x50, 0x64, 0x70]),
    st.sampled_from([0x80, 0x84, 0x90, 0x94, 0xA0, 0xA4, 0xC0, 0x100, 0x108, 0x120]),
    st.integers(0, 0x1FF),
)
value = st.one_of(
    st.sampled_from([0, 1, 2, 3, 4, 8, 11, 15, 16, 0x80000, 0x8000_0000, 0xFFFF_FFFF]),
    st.integers(0, 0xFFFF_FFFF),
)
access = st.tuples(st.booleans(), register, value, st.sampled_from([1, 2, 4, 4, 4, 8]))


@pytest.mark.parametrize("kind", ["blk", "rng", "console", "net"])
@FUZZ
@given(accesses=st.lists(access, max_size=80))
def test_any_register_access(
    make_guest: Any, legacy: bool, kind: str, accesses: list[tuple[bool, int, int, int]]
) -> None:
    guest = make(kind, make_guest, legacy)
    for is_write, offset, data, size in accesses:
        if is_write:
            guest.memory.write(Gpa(MMIO + offset), size, data)
        else:
            guest.memory.read(Gpa(MMIO + offset), size)
    guest.clock.advance(10_000_000)
    assert works_after_reset(guest)


address = st.one_of(
    st.integers(RAM + 0x8_0000, RAM + 0x8_1000),
    st.integers(RAM - 8, RAM + 8),
    st.integers((4 << 20) + RAM - 8, (4 << 20) + RAM + 8),
    st.sampled_from([0, MMIO, 0x2000_0000, (1 << 64) - 1]),
)
length = st.one_of(st.integers(0, 64), st.sampled_from([16, 512, 513, 4096, 0xFFFF_FFFF]))
descriptor = st.tuples(address, length, st.integers(0, 7), st.integers(0, 18))
kinds = st.sampled_from([0, 1, 4, 8, 11, 13, 77])
bytes_of_a_request = st.one_of(
    st.tuples(kinds, st.integers(0, 4000)).map(lambda t: struct.pack("<IIQ", t[0], 0, t[1])),
    st.tuples(st.integers(0, 4), st.integers(0, 8), st.integers(0, 2)).map(
        lambda t: struct.pack("<IHH", *t)
    ),
    st.binary(max_size=40),
)


@pytest.mark.parametrize("kind", ["blk", "rng", "console", "net"])
@FUZZ
@given(
    table=st.lists(descriptor, min_size=1, max_size=16),
    heads=st.lists(st.integers(0, 17), max_size=20),
    content=st.lists(bytes_of_a_request, max_size=4),
    indexes=st.tuples(st.integers(0, 0xFFFF), st.booleans()),
    events=st.integers(0, 0xFFFF),
)
def test_any_ring(
    make_guest: Any,
    legacy: bool,
    kind: str,
    table: list[tuple[int, int, int, int]],
    heads: list[int],
    content: list[bytes],
    indexes: tuple[int, bool],
    events: int,
) -> None:
    guest = make(kind, make_guest, legacy)
    rings = guest.start()
    for number, data in enumerate(content):
        guest.poke(RAM + 0x8_0000 + 16 * number, data)
    for ring in rings:
        for index, entry in enumerate(table):
            if index < ring.size:
                ring.put_desc(index, *entry)
        guest.poke(ring.avail + 4 + 2 * ring.size, struct.pack("<H", events))
        for head in heads:
            ring.offer(head)
            ring.kick()
        if indexes[1]:
            guest.poke(ring.avail + 2, struct.pack("<H", indexes[0]))
            ring.kick()
    guest.clock.advance(10_000_000)
    guest.device.save()
    assert works_after_reset(guest)
