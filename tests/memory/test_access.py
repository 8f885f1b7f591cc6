"""Access through an address space: sizes, byte order, splitting, results."""

from __future__ import annotations

import pytest

from ratite.memory import (
    AccessSizes,
    AddressSpace,
    BusError,
    DirtyClient,
    Gpa,
    MemoryRegion,
    MemTxResult,
    RamAddr,
    RamList,
)

OK, ERROR, DECODE_ERROR = MemTxResult.OK, MemTxResult.ERROR, MemTxResult.DECODE_ERROR
BASE = Gpa(0x1000)


class Recorder:
    """I/O operations that answer from bytes and note every access."""

    def __init__(self, data: bytes = bytes(range(1, 65))) -> None:
        self.data = bytearray(data)
        self.log: list[tuple[str, int, int, int]] = []
        self.fails = False

    def read(self, offset: int, size: int) -> int:
        self.log.append(("r", offset, size, 0))
        if self.fails:
            raise BusError
        return int.from_bytes(self.data[offset : offset + size], "little")

    def write(self, offset: int, value: int, size: int) -> None:
        self.log.append(("w", offset, size, value))
        if self.fails:
            raise BusError


@pytest.fixture
def ops() -> Recorder:
    return Recorder()


def device(
    system: MemoryRegion,
    ops: Recorder,
    *,
    endianness: str = "little",
    valid: AccessSizes | None = None,
    impl: AccessSizes | None = None,
) -> MemoryRegion:
    region = MemoryRegion.io("dev", 64, ops, endianness=endianness, valid=valid, impl=impl)
    system.add_subregion(BASE, region)
    return region


def at(offset: int) -> Gpa:
    return Gpa(BASE + offset)


def test_an_access_that_the_device_takes_reaches_it_as_it_is(
    system: MemoryRegion, space: AddressSpace, ops: Recorder
) -> None:
    device(system, ops)
    assert space.read(at(4), 4) == (0x08070605, OK)
    assert space.write(at(8), 2, 0xBEEF) is OK
    assert ops.log == [("r", 4, 4, 0), ("w", 8, 2, 0xBEEF)]


def test_a_value_too_wide_is_cut_to_the_access(
    system: MemoryRegion, space: AddressSpace, ops: Recorder
) -> None:
    device(system, ops)
    space.write(at(0), 1, 0x1FF)
    assert ops.log == [("w", 0, 1, 0xFF)]


def test_a_wide_access_is_split_in_address_order(
    system: MemoryRegion, space: AddressSpace, ops: Recorder
) -> None:
    device(system, ops)
    assert space.read(at(0), 8) == (0x0807060504030201, OK)
    space.write(at(8), 8, 0x1122334455667788)
    assert ops.log == [
        ("r", 0, 4, 0),
        ("r", 4, 4, 0),
        ("w", 8, 4, 0x55667788),
        ("w", 12, 4, 0x11223344),
    ]


def test_a_narrow_access_is_widened_to_what_the_device_can_do(
    system: MemoryRegion, space: AddressSpace, ops: Recorder
) -> None:
    device(system, ops, impl=AccessSizes(4, 4))
    assert space.read(at(6), 1) == (7, OK)
    assert space.read(at(6), 2) == (0x0807, OK)
    space.write(at(5), 1, 0xAA)
    assert ops.log == [("r", 4, 4, 0), ("r", 4, 4, 0), ("w", 4, 4, 0xAA00)]


def test_big_endian_devices_get_and_give_values_of_their_own_order(
    system: MemoryRegion, space: AddressSpace, ops: Recorder
) -> None:
    device(system, ops, endianness="big")
    assert space.read(at(0), 4) == (0x01020304, OK)  # the register is 0x04030201
    space.write(at(0), 4, 0x11223344)
    space.write(at(0), 1, 0x55)
    assert ops.log[1:] == [("w", 0, 4, 0x44332211), ("w", 0, 1, 0x55)]


def test_a_split_big_endian_access_has_its_high_part_first(
    system: MemoryRegion, space: AddressSpace, ops: Recorder
) -> None:
    device(system, ops, endianness="big")
    space.write(at(0), 8, 0x8877665544332211)
    assert ops.log == [("w", 0, 4, 0x11223344), ("w", 4, 4, 0x55667788)]


def test_a_big_endian_guest_reads_native_devices_as_they_are(ops: Recorder) -> None:
    system = MemoryRegion.container("system", 1 << 64)
    space = AddressSpace(system, "memory", order="big")
    for base, endianness in ((0x0, "native"), (0x1000, "little"), (0x2000, "big")):
        region = MemoryRegion.io(endianness, 64, ops, endianness=endianness)
        system.add_subregion(base, region)
    assert space.read(Gpa(0), 4) == (0x04030201, OK)
    assert space.read(Gpa(0x1000), 4) == (0x01020304, OK)
    assert space.read(Gpa(0x2000), 4) == (0x04030201, OK)
    ops.log.clear()
    for base in (0, 0x1000, 0x2000):
        space.write(Gpa(base), 4, 0x11223344)
    assert [value for *_, value in ops.log] == [0x11223344, 0x44332211, 0x11223344]
    assert space.read_bytes(Gpa(0), 4)[0] == b"\4\3\2\1"
    assert space.read_bytes(Gpa(0x1000), 4)[0] == b"\1\2\3\4"


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (0, 8), (2, 4), (1, 2)])
def test_invalid_accesses_do_not_reach_the_device(
    system: MemoryRegion, space: AddressSpace, ops: Recorder, offset: int, size: int
) -> None:
    device(system, ops, valid=AccessSizes(2, 4))
    assert space.read(at(offset), size) == (0, DECODE_ERROR)
    assert space.write(at(offset), size, 1) is DECODE_ERROR
    assert ops.log == []


def test_unaligned_accesses_go_straight_if_the_device_does_them(
    system: MemoryRegion, space: AddressSpace, ops: Recorder
) -> None:
    device(system, ops, valid=AccessSizes(1, 4, True), impl=AccessSizes(1, 4, True))
    assert space.read(at(1), 4) == (0x05040302, OK)
    assert ops.log == [("r", 1, 4, 0)]


def test_unaligned_accesses_are_cut_to_aligned_ones_otherwise(
    system: MemoryRegion, space: AddressSpace, ops: Recorder
) -> None:
    device(system, ops, valid=AccessSizes(1, 8, True))
    assert space.read(at(1), 4) == (0x05040302, OK)
    assert ops.log == [("r", 1, 1, 0), ("r", 2, 2, 0), ("r", 4, 1, 0)]


def test_an_unaligned_access_to_words_reads_both_words(
    system: MemoryRegion, space: AddressSpace, ops: Recorder
) -> None:
    device(system, ops, valid=AccessSizes(1, 8, True), impl=AccessSizes(4, 4))
    assert space.read(at(2), 4) == (0x06050403, OK)
    assert ops.log == [("r", 0, 4, 0), ("r", 4, 4, 0)]


def test_a_device_error_is_a_result(
    system: MemoryRegion, space: AddressSpace, ops: Recorder
) -> None:
    device(system, ops)
    ops.fails = True
    assert space.read(at(0), 4) == (0, ERROR)
    assert space.read(at(0), 8) == (0, ERROR)
    assert space.write(at(0), 4, 1) is ERROR
    assert space.write(at(0), 8, 1) is ERROR


def test_where_nothing_answers_reads_are_zero_and_a_decode_error(space: AddressSpace) -> None:
    assert space.read(Gpa(0x5000), 8) == (0, DECODE_ERROR)
    assert space.write(Gpa(0x5000), 8, 1) is DECODE_ERROR
    assert space.read_bytes(Gpa(0x5000), 5) == (bytes(5), DECODE_ERROR)
    assert space.read(Gpa((1 << 64) - 4), 8) == (0, DECODE_ERROR)


@pytest.fixture
def ram(system: MemoryRegion, ram_list: RamList) -> MemoryRegion:
    region = MemoryRegion.ram("ram", ram_list.alloc("ram", 0x4000))
    system.add_subregion(0x8000, region)
    return region


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_ram_holds_scalars_in_little_endian_order(
    ram: MemoryRegion, space: AddressSpace, size: int
) -> None:
    value = 0x8877665544332211 & ((1 << 8 * size) - 1)
    assert space.write(Gpa(0x8003), size, value) is OK
    assert space.read(Gpa(0x8003), size) == (value, OK)
    assert space.read_bytes(Gpa(0x8003), size) == (value.to_bytes(size, "little"), OK)


def test_a_write_by_the_guest_marks_pages_dirty(
    ram: MemoryRegion, space: AddressSpace, ram_list: RamList
) -> None:
    ram_list.take_dirty(DirtyClient.DISPLAY, RamAddr(0), 0x4000)
    space.write(Gpa(0x9000), 4, 1)
    space.write_bytes(Gpa(0xAFFF), b"ab")
    assert ram_list.take_dirty(DirtyClient.DISPLAY, RamAddr(0), 0x4000) == b"\0\1\1\1"


def test_an_access_across_two_regions_meets_both(
    system: MemoryRegion, space: AddressSpace, ram: MemoryRegion, ops: Recorder
) -> None:
    system.add_subregion(0xC000, MemoryRegion.io("dev", 64, ops))
    space.write(Gpa(0xBFFC), 4, 0xDDCCBBAA)
    assert space.read(Gpa(0xBFFE), 4) == (0x0201DDCC, OK)
    assert space.read_bytes(Gpa(0xBFFE), 6) == (b"\xcc\xdd\1\2\3\4", OK)


def test_bytes_across_a_hole_are_zeros_there(
    system: MemoryRegion, space: AddressSpace, ram: MemoryRegion
) -> None:
    space.write_bytes(Gpa(0xBFFE), b"abcd")
    assert space.read_bytes(Gpa(0xBFFE), 4) == (b"ab\0\0", DECODE_ERROR)
    assert space.write_bytes(Gpa(0x7FFF), b"xy") is DECODE_ERROR
    assert space.read_bytes(Gpa(0x8000), 1) == (b"y", OK)


def test_a_run_of_bytes_meets_a_device_in_the_largest_valid_accesses(
    system: MemoryRegion, space: AddressSpace, ops: Recorder
) -> None:
    device(system, ops, valid=AccessSizes(1, 4))
    assert space.read_bytes(at(1), 8) == (bytes(range(2, 10)), OK)
    assert [(offset, size) for _, offset, size, _ in ops.log] == [(1, 1), (2, 2), (4, 4), (8, 1)]
    ops.log.clear()
    assert space.write_bytes(at(2), b"\1\2\3") is OK
    assert ops.log == [("w", 2, 2, 0x0201), ("w", 4, 1, 3)]


def test_rom_loses_the_guests_writes_but_not_the_loaders(
    system: MemoryRegion, space: AddressSpace, ram_list: RamList
) -> None:
    system.add_subregion(0, MemoryRegion.rom("rom", ram_list.alloc("rom", 0x1000)))
    assert space.write_rom(Gpa(0x10), b"boot") is OK
    assert space.write(Gpa(0x10), 4, 0) is OK
    assert space.write_bytes(Gpa(0x10), bytes(4)) is OK
    assert space.read_bytes(Gpa(0x10), 4) == (b"boot", OK)
    assert space.write_rom(Gpa(0xFFE), b"abcd") is DECODE_ERROR


def test_a_rom_device_is_read_directly_until_told_otherwise(
    system: MemoryRegion, space: AddressSpace, ram_list: RamList, ops: Recorder
) -> None:
    flash = MemoryRegion.rom_device("flash", ram_list.alloc("flash", 0x1000), ops)
    system.add_subregion(0, flash)
    space.write_rom(Gpa(0), b"abcd")
    assert space.read(Gpa(0), 4) == (0x64636261, OK)
    space.write(Gpa(0), 4, 0x98)
    space.write_bytes(Gpa(4), b"\xf0")
    assert ops.log == [("w", 0, 4, 0x98), ("w", 4, 1, 0xF0)]
    assert space.map(Gpa(0), 16) is not None
    flash.set_romd(False)
    assert space.read(Gpa(0), 4) == (0x04030201, OK)
    assert space.map(Gpa(0), 16) is None
    space.write(Gpa(0), 1, 0xFF)
    assert space.read_bytes(Gpa(0), 2) == (b"\1\2", OK)


def test_map_gives_the_memory_itself(
    system: MemoryRegion, space: AddressSpace, ram: MemoryRegion, ram_list: RamList
) -> None:
    view = space.map(Gpa(0x8100), 16)
    assert view is not None and len(view) == 16
    ram_list.take_dirty(DirtyClient.MIGRATION, RamAddr(0), 0x4000)
    view[:2] = b"ok"
    space.mark_written(Gpa(0x8100), 16)
    assert space.read_bytes(Gpa(0x8100), 2) == (b"ok", OK)
    assert ram_list.take_dirty(DirtyClient.MIGRATION, RamAddr(0), 0x4000) == b"\1\0\0\0"
    assert space.map(Gpa(0xBFF8), 16) is None
    assert space.map(Gpa(0x100), 1) is None


def test_read_only_memory_maps_read_only(space: AddressSpace, ram: MemoryRegion) -> None:
    ram.set_readonly(True)
    view = space.map(Gpa(0x8000), 4)
    assert view is not None and view.readonly
    assert space.write(Gpa(0x8000), 4, 1) is OK
    assert space.read(Gpa(0x8000), 4) == (0, OK)


def test_an_aliased_window_reaches_the_right_part_of_ram(
    system: MemoryRegion, space: AddressSpace, ram: MemoryRegion
) -> None:
    system.add_subregion(0, MemoryRegion.alias("low", ram, 0x1000, 0x1000))
    space.write(Gpa(0x9010), 4, 0x1234)
    assert space.read(Gpa(0x10), 4) == (0x1234, OK)
    space.write(Gpa(0x20), 4, 0x5678)
    assert space.read(Gpa(0x9020), 4) == (0x5678, OK)
