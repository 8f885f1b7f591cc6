"""Random register accesses: a guest can never make a device raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratite.core import FakeClock
from ratite.core.char import CharEvent
from ratite.devices import Device
from ratite.devices.block.pflash_cfi01 import PflashCfi01
from ratite.devices.char.ns16550a import Ns16550a
from ratite.devices.intc.riscv_aclint import AclintMtimer, AclintSwi
from ratite.devices.intc.sifive_plic import SifivePlic
from ratite.devices.misc.fw_cfg import FwCfgMem
from ratite.devices.misc.htif import Htif
from ratite.devices.misc.sifive_test import SifiveTest
from ratite.devices.rtc.goldfish_rtc import GoldfishRtc
from ratite.memory import AddressSpace, Gpa, MemoryRegion, RamList

SPAN = 0x100_0000
RAM = 0x8000_0000


class Hart:
    def set_irq(self, number: int, level: bool) -> None:
        assert isinstance(level, bool)


class Terminal:
    """A backend with little room, which says so at times."""

    id = "t"
    room = 3

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        taken = min(len(data), self.room)
        self.room = (self.room + 1) % 4
        return taken

    def attach(self, frontend: Any, /) -> None:
        self.frontend = frontend

    def accept_input(self) -> None:
        count = self.frontend.can_receive()
        if count:
            self.frontend.receive(b"x" * min(count, 2))

    def set_guest_open(self, is_open: bool, /) -> None:
        pass


class World:
    """A device with everything it needs, its regions at multiples of `SPAN`."""

    def __init__(self, build: Callable[[World], Device]) -> None:
        self.clock = FakeClock(1_700_000_000_000_000_000)
        self.ram_list = RamList()
        self.system = MemoryRegion.container("system", 1 << 64)
        self.space = AddressSpace(self.system, "memory")
        ram = MemoryRegion.ram("ram", self.ram_list.alloc("ram", 0x10000))
        self.system.add_subregion(RAM, ram)
        self.harts = [Hart(), Hart()]
        self.terminal = Terminal()
        self.device = build(self)
        self.device.realize()
        self.device.reset()
        for number, region in enumerate(self.device.regions):
            self.system.add_subregion(number * SPAN, region)

    def request(self, action: object, status: int) -> None:
        assert 0 <= status


def fw_cfg(world: World) -> Device:
    device = FwCfgMem(world.space)
    device.add_file("etc/w", bytes(64), writable=True)
    device.add_file("etc/r", bytes(64))
    return device


BUILDERS: dict[str, Callable[[World], Device]] = {
    "ns16550a": lambda w: Ns16550a(w.clock, chardev=w.terminal),
    "ns16550a wide": lambda w: Ns16550a(w.clock, chardev=w.terminal, regshift=2, endianness=1),
    "mtimer": lambda w: AclintMtimer(w.clock, w.harts, num_harts=2),
    "mswi": lambda w: AclintSwi(w.harts, num_harts=2),
    "sswi": lambda w: AclintSwi(w.harts, num_harts=2, sswi=1),
    "plic": lambda w: SifivePlic(w.harts, hart_config="MS,MS"),
    "sifive_test": lambda w: SifiveTest(w.request),
    "goldfish_rtc": lambda w: GoldfishRtc(w.clock),
    "pflash": lambda w: PflashCfi01(w.ram_list, num_blocks=4, sector_length=0x1000),
    "pflash big": lambda w: PflashCfi01(
        w.ram_list, num_blocks=4, sector_length=0x1000, width=2, device_width=0, big_endian=True
    ),
    "fw_cfg": fw_cfg,
    "htif": lambda w: Htif(w.space, w.request, chardev=w.terminal),
}

offsets = st.one_of(
    st.integers(0, 0x40),
    st.sampled_from([0x1000, 0x1008, 0x2000, 0x2080, 0x7FF8, 0x7FFC, 0x20_0000, 0x20_1004]),
    st.integers(0, SPAN - 1),
)
values = st.one_of(
    st.sampled_from(
        [0, 1, 0x20, 0x40, 0x60, 0x70, 0x90, 0x98, 0xD0, 0xE8, 0xFF, 0x5555, RAM, RAM + 0x100]
    ),
    st.integers(0, 0xFF),
    st.integers(0, (1 << 64) - 1),
)
accesses = st.tuples(
    st.sampled_from(["r", "w", "w", "r!", "w!", "t"]),
    st.integers(0, 2),
    offsets,
    st.sampled_from([1, 2, 4, 8]),
    values,
)


@pytest.mark.parametrize("name", BUILDERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(accesses, max_size=40))
def test_nothing_escapes_and_state_survives_a_round_trip(
    name: str, steps: list[tuple[str, int, int, int, int]]
) -> None:
    world = World(BUILDERS[name])
    device, space = world.device, world.space
    for kind, region, offset, size, value in steps:
        gpa = Gpa(region * SPAN + offset)
        value &= (1 << 8 * size) - 1
        match kind:
            case "r":
                read, _ = space.read(gpa, size)
                assert 0 <= read < 1 << 8 * size
            case "w":
                space.write(gpa, size, value)
            case "r!":  # past the region's own checks
                device.read(offset, size)
            case "w!":
                device.write(offset, value, size)
            case "t":
                world.clock.advance(value >> 20)
                if isinstance(device, (Ns16550a, Htif)):
                    world.terminal.accept_input()
                    device.event(CharEvent.WRITABLE)
                    device.event(CharEvent.BREAK)
    saved = device.save()
    device.reset()
    device.load(saved)
    assert device.save() == saved
