"""What devices tell of what the guest does to them."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest

from ratite.core import FakeClock, Log
from ratite.devices import Device
from ratite.devices.block.pflash_cfi01 import PflashCfi01
from ratite.devices.char.ns16550a import Ns16550a
from ratite.devices.intc.sifive_plic import SifivePlic
from ratite.devices.misc.fw_cfg import FwCfgMem
from ratite.devices.rtc.goldfish_rtc import GoldfishRtc
from ratite.memory import AddressSpace, Gpa, MemoryRegion, RamList

BASE = Gpa(0x10_1000)


class Traced:
    """A device at `BASE`, and what it tells."""

    def __init__(self, device: Device, space: AddressSpace, *patterns: str) -> None:
        self.out = io.StringIO()
        self.log = device.log = Log(stream=self.out)
        self.device = device
        self.space = space
        device.realize()
        space.root.add_subregion(BASE, device.mmio)
        self.trace(*patterns)

    def trace(self, *patterns: str) -> None:
        for pattern in patterns:
            assert self.log.trace_events(pattern) == ""
        self.device.follow_trace()

    def lines(self) -> list[str]:
        text = self.out.getvalue()
        self.out.truncate(0)
        self.out.seek(0)
        return text.splitlines()


def test_reads_and_writes_are_told_of_while_their_events_are_on(space: AddressSpace) -> None:
    rtc = Traced(GoldfishRtc(FakeClock(0x1234_0000_5678)), space, "goldfish_rtc_*")
    space.read(BASE, 4)
    space.write(Gpa(BASE + 0x10), 4, 1)
    assert rtc.lines() == [
        "goldfish_rtc_read addr 0x00 value 0x00005678",
        "goldfish_rtc_write addr 0x10 value 0x00000001",
    ]
    rtc.trace("-goldfish_rtc_read")
    assert space.read(BASE, 4)[0] == 0x5678
    space.write(Gpa(BASE + 0x10), 4, 0)
    assert rtc.lines() == ["goldfish_rtc_write addr 0x10 value 0x00000000"]


def test_accesses_of_any_device_have_events_of_their_own(space: AddressSpace) -> None:
    rtc = Traced(GoldfishRtc(FakeClock(7)), space, "memory_region_ops_*")
    space.read(BASE, 4)
    space.write(Gpa(BASE + 4), 4, 2)
    assert rtc.lines() == [
        "memory_region_ops_read addr 0x101000 value 0x7 size 4 name 'goldfish_rtc'",
        "memory_region_ops_write addr 0x101004 value 0x2 size 4 name 'goldfish_rtc'",
    ]


def test_what_is_not_traced_is_not_observed(space: AddressSpace) -> None:
    rtc = Traced(GoldfishRtc(FakeClock(7)), space, "goldfish_rtc_*", "-goldfish_*")
    assert rtc.device.mmio._read == rtc.device.read  # the device itself, nothing between
    assert rtc.device.mmio._write == rtc.device.write
    space.read(BASE, 4)
    assert rtc.lines() == []


def test_the_serial_ports_line(space: AddressSpace, clock: FakeClock) -> None:
    uart = Traced(Ns16550a(clock, baudbase=115_200), space, "serial_*", "-serial_read")
    for offset, value in ((3, 0x83), (0, 2), (3, 0x1B)):
        space.write(Gpa(BASE + offset), 1, value)
    assert uart.lines() == [
        "serial_write addr 0x03 val 0x83",
        "serial_write addr 0x00 val 0x02",
        "serial_update_parameters baudrate=57600 parity='N' data=8 stop=1",
        "serial_write addr 0x03 val 0x1b",
        "serial_update_parameters baudrate=57600 parity='E' data=8 stop=1",
    ]


def test_the_interrupt_controller_tells_of_claims(space: AddressSpace, harts: list[Any]) -> None:
    device = SifivePlic(harts[:1], hart_config="M", num_sources=8)
    plic = Traced(device, space, "sifive_plic_*", "-sifive_plic_*e", "-sifive_plic_read")
    plic.trace("sifive_plic_complete")
    space.write(Gpa(BASE + 4 * 5), 4, 1)
    space.write(Gpa(BASE + 0x2000), 4, 1 << 5)
    device.input(5)(True)
    space.read(Gpa(BASE + 0x20_0004), 4)
    space.write(Gpa(BASE + 0x20_0004), 4, 5)
    assert plic.lines() == [
        "sifive_plic_set_irq source 5 level 1",
        "sifive_plic_claim context 0 source 5",
        "sifive_plic_complete context 0 source 5",
    ]


def test_firmware_configuration_tells_what_is_there_and_what_is_read(space: AddressSpace) -> None:
    fw_cfg = FwCfgMem(space)
    traced = Traced(fw_cfg, space, "fw_cfg_*")
    fw_cfg.add_int(5, 4, 2)
    fw_cfg.add_file("opt/x", b"data")
    for key in (0x20, 0x3FFF):
        fw_cfg.write(0, key)
    fw_cfg.select(0)
    fw_cfg.read(0, 4)
    assert traced.lines() == [
        "fw_cfg_add_bytes key 0x0005 'nb_cpus', 2 bytes",
        "fw_cfg_add_file #0: opt/x (4 bytes)",
        "fw_cfg_select key 0x0020 'opt/x', ret: 1",
        "fw_cfg_select key 0x3fff 'unknown', ret: 0",
        "fw_cfg_select key 0x0000 'signature', ret: 1",
        "fw_cfg_read = 0x51454d55",
    ]


def test_flash_tells_of_commands(space: AddressSpace, ram_list: RamList) -> None:
    flash = Traced(PflashCfi01(ram_list, num_blocks=2, flash_name="f"), space, "pflash_*")
    space.write(BASE, 4, 0x90_0090)
    space.read(BASE, 4)
    space.write(BASE, 4, 0x33_0033)
    space.read(BASE, 4)  # the array: no command is at work
    flash.device.reset()
    assert flash.lines() == [
        "pflash_io_write f: offset:0x0000 size:4 value:0x900090 step:command",
        "pflash_write f: read id",
        "pflash_io_read f: offset:0x0000 size:4 value:0x890089 mode:id step:command",
        "pflash_io_write f: offset:0x0000 size:4 value:0x330033 step:command",
        "pflash_write_invalid_command f: invalid command 0x33",
        "pflash_mode_read_array f: read array mode",
        "pflash_reset f: reset",
    ]


def test_an_alias_does_not_hide_where_a_region_is(system: MemoryRegion) -> None:
    inner = MemoryRegion.container("inner", 0x1000)
    leaf = MemoryRegion.container("leaf", 0x10)
    inner.add_subregion(0x20, leaf)
    system.add_subregion(0x4000, inner)
    system.add_subregion(0x8000, MemoryRegion.alias("alias", inner, 0, 0x1000))
    assert leaf.absolute_address == 0x4020
    assert system.absolute_address == 0


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_observed_accesses_are_those_that_the_device_gets(space: AddressSpace, size: int) -> None:
    seen: list[tuple[int, int, int]] = []

    class Ops:
        def read(self, offset: int, size: int) -> int:
            return 0x11 * (offset + 1)

        def write(self, offset: int, value: int, size: int) -> None:
            assert seen[-1] == (offset, value, size)

    region = MemoryRegion.io("r", 16, Ops())
    space.root.add_subregion(0, region)
    region.observe(lambda *access: seen.append(access), lambda *access: seen.append(access))
    data = struct.pack("<Q", 0x8877_6655_4433_2211)[:size]
    space.write(Gpa(0), size, int.from_bytes(data, "little"))
    written = [value.to_bytes(width, "little") for _, value, width in seen]
    assert b"".join(written) == data
    seen.clear()
    space.read(Gpa(0), size)
    assert sum(width for *_, width in seen) == size and seen[0][1] == 0x11
