"""The firmware configuration device."""

from __future__ import annotations

import struct

import pytest

from ratite.core import ConfigError
from ratite.devices.misc.fw_cfg import FwCfgMem, Key
from ratite.memory import AddressSpace, Gpa, MemoryRegion, MemTxResult, RamList

BASE, DATA, SELECTOR, DMA = 0x1010_0000, 0x1010_0000, 0x1010_0008, 0x1010_0010
RAM = 0x8000_0000
DESCRIPTOR = Gpa(RAM)
BUFFER = RAM + 0x1000
ERROR, READ, SKIP, SELECT, WRITE = 1, 2, 4, 8, 16


@pytest.fixture
def fw_cfg(system: MemoryRegion, space: AddressSpace, ram_list: RamList) -> FwCfgMem:
    system.add_subregion(RAM, MemoryRegion.ram("ram", ram_list.alloc("ram", 0x10000)))
    device = FwCfgMem(space)
    for region, gpa in zip(device.regions, (SELECTOR, DATA, DMA), strict=True):
        system.add_subregion(gpa, region)
    return device


def select(space: AddressSpace, key: int) -> None:
    space.write(Gpa(SELECTOR), 2, int.from_bytes(key.to_bytes(2, "big"), "little"))


def dma(space: AddressSpace, control: int, length: int = 0, address: int = BUFFER) -> int:
    """Run a descriptor; answer the control word it leaves."""
    space.write_bytes(DESCRIPTOR, struct.pack(">IIQ", control, length, address))
    space.write_bytes(Gpa(DMA), struct.pack(">Q", DESCRIPTOR))
    return int.from_bytes(space.read_bytes(DESCRIPTOR, 4)[0], "big")


def test_the_signature_is_read_byte_by_byte(fw_cfg: FwCfgMem, space: AddressSpace) -> None:
    select(space, Key.SIGNATURE)
    assert bytes(space.read(Gpa(DATA), 1)[0] for _ in range(6)) == b"QEMU\0\0"


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_wide_reads_keep_memory_order(fw_cfg: FwCfgMem, space: AddressSpace, size: int) -> None:
    fw_cfg.add_bytes(Key.UUID, bytes(range(16)))
    select(space, Key.UUID)
    value = space.read(Gpa(DATA), size)[0]
    assert value.to_bytes(size, "little") == bytes(range(size))
    assert space.read(Gpa(DATA), 1)[0] == size


def test_the_id_says_that_there_is_dma(fw_cfg: FwCfgMem, space: AddressSpace) -> None:
    select(space, Key.ID)
    assert space.read(Gpa(DATA), 4)[0] == 3
    without = FwCfgMem(space, dma_enabled=False)
    without.select(Key.ID)
    assert without.take(4) == b"\1\0\0\0" and len(without.regions) == 2


def test_the_dma_register_reads_as_its_signature(fw_cfg: FwCfgMem, space: AddressSpace) -> None:
    assert space.read_bytes(Gpa(DMA), 8)[0] == b"QEMU CFG"
    assert space.read(Gpa(DMA + 4), 4)[0].to_bytes(4, "little") == b" CFG"


def test_numbers_and_strings(fw_cfg: FwCfgMem) -> None:
    fw_cfg.add_int(Key.NB_CPUS, 4, 2)
    fw_cfg.add_string(Key.CMDLINE_DATA, "console=ttyS0")
    fw_cfg.select(Key.NB_CPUS)
    assert fw_cfg.take(2) == b"\4\0"
    fw_cfg.select(Key.CMDLINE_DATA)
    assert fw_cfg.take(16) == b"console=ttyS0\0\0\0"


def test_an_unknown_item_reads_as_zeros(fw_cfg: FwCfgMem) -> None:
    fw_cfg.select(0x1234)
    assert fw_cfg.take(4) == bytes(4)


def test_files_are_listed_by_name_and_found_by_their_selector(fw_cfg: FwCfgMem) -> None:
    fw_cfg.add_file("opt/zeta", b"z" * 5)
    fw_cfg.add_file("etc/alpha", b"alpha")
    fw_cfg.select(Key.FILE_DIR)
    count = int.from_bytes(fw_cfg.take(4), "big")
    entries = [struct.unpack(">IHH56s", fw_cfg.take(64)) for _ in range(count)]
    assert [(e[3].rstrip(b"\0"), e[0], e[1]) for e in entries] == [
        (b"etc/alpha", 5, 0x20),
        (b"opt/zeta", 5, 0x21),
    ]
    fw_cfg.select(fw_cfg.files["etc/alpha"])
    assert fw_cfg.take(5) == b"alpha"
    fw_cfg.add_file("etc/alpha", b"new")
    fw_cfg.select(0x20)
    assert fw_cfg.take(5) == b"new\0\0"


def test_files_must_have_room(fw_cfg: FwCfgMem) -> None:
    with pytest.raises(ConfigError, match="longer than 55"):
        fw_cfg.add_file("x" * 56, b"")
    for number in range(fw_cfg.x_file_slots):
        fw_cfg.add_file(f"file{number}", b"")
    with pytest.raises(ConfigError, match="x-file-slots is 32"):
        fw_cfg.add_file("one more", b"")


def test_dma_selects_and_reads(fw_cfg: FwCfgMem, space: AddressSpace) -> None:
    fw_cfg.add_file("etc/data", b"0123456789")
    assert dma(space, fw_cfg.files["etc/data"] << 16 | SELECT | READ, 4) == 0
    assert space.read_bytes(Gpa(BUFFER), 4)[0] == b"0123"
    assert dma(space, SKIP, 2) == 0
    assert dma(space, READ, 6) == 0
    assert space.read_bytes(Gpa(BUFFER), 6)[0] == b"6789\0\0"


def test_dma_can_be_started_by_halves(fw_cfg: FwCfgMem, space: AddressSpace) -> None:
    descriptor = struct.pack(">IIQ", SELECT | READ, 4, BUFFER)
    space.write_bytes(DESCRIPTOR, descriptor)
    space.write_bytes(Gpa(DMA), struct.pack(">I", DESCRIPTOR >> 32))
    assert space.read_bytes(DESCRIPTOR, 16)[0] == descriptor
    space.write_bytes(Gpa(DMA + 4), struct.pack(">I", DESCRIPTOR & 0xFFFF_FFFF))
    assert space.read_bytes(Gpa(BUFFER), 4)[0] == b"QEMU"


def test_dma_writes_only_to_files_that_take_it(fw_cfg: FwCfgMem, space: AddressSpace) -> None:
    written: list[bytes] = []
    fw_cfg.add_file("etc/fixed", b"abcd")
    fw_cfg.add_file("etc/vmcoreinfo", bytes(8), writable=True, on_write=written.append)
    space.write_bytes(Gpa(BUFFER), b"12345678")
    assert dma(space, fw_cfg.files["etc/fixed"] << 16 | SELECT | WRITE, 4) == ERROR
    assert dma(space, fw_cfg.files["etc/vmcoreinfo"] << 16 | SELECT | WRITE, 4) == 0
    assert dma(space, WRITE, 5) == ERROR
    assert dma(space, WRITE, 4) == 0
    assert written == [b"1234\0\0\0\0", b"12341234"]


def test_dma_outside_of_memory_is_an_error(fw_cfg: FwCfgMem, space: AddressSpace) -> None:
    assert dma(space, SELECT | READ, 4, 0x4000_0000) == ERROR
    assert dma(space, READ, 0xFFFF_FFFF) == ERROR
    assert space.write_bytes(Gpa(DMA), struct.pack(">Q", 0x4000_0000)) is MemTxResult.OK
    fw_cfg.add_file("etc/w", bytes(8), writable=True)
    assert dma(space, 0x20 << 16 | SELECT | WRITE, 8, 0x4000_0000) == ERROR


def test_guests_cannot_write_through_the_data_register(
    fw_cfg: FwCfgMem, space: AddressSpace
) -> None:
    fw_cfg.add_file("etc/w", bytes(8), writable=True)
    select(space, 0x20)
    space.write(Gpa(DATA), 1, 0xFF)
    assert fw_cfg.take(1) == b"\0"


def test_properties_and_regions_are_qemus(fw_cfg: FwCfgMem) -> None:
    assert list(FwCfgMem.properties()) == [
        "data_width",
        "dma_enabled",
        "x-file-slots",
        "acpi-mr-restore",
    ]
    assert [(r.region_name, r.size) for r in fw_cfg.regions] == [
        ("fwcfg.ctl", 2),
        ("fwcfg.data", 8),
        ("fwcfg.dma", 8),
    ]
