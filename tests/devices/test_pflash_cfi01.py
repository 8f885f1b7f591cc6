"""CFI flash with Intel's commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ratite.core import ConfigError, HostError
from ratite.devices.block.pflash_cfi01 import PflashCfi01
from ratite.memory import AddressSpace, Gpa, MemoryRegion, RamList

BLOCK = 0x1000
READY = 0x0080_0080
ERASED = 0xFFFF_FFFF


@pytest.fixture
def make(
    ram_list: RamList, system: MemoryRegion, space: AddressSpace
) -> Callable[..., PflashCfi01]:
    def make(**properties: Any) -> PflashCfi01:
        properties = {"num_blocks": 4, "sector_length": BLOCK, **properties}
        flash = PflashCfi01(ram_list, **properties)
        flash.realize()
        flash.reset()
        system.add_subregion(0, flash.mmio)
        return flash

    return make


@pytest.fixture
def flash(make: Callable[..., PflashCfi01]) -> PflashCfi01:
    return make()


@pytest.fixture
def poke(space: AddressSpace) -> Callable[[int, int], None]:
    return lambda offset, value: space.write(Gpa(offset), 4, value) and None


@pytest.fixture
def peek(space: AddressSpace) -> Callable[[int], int]:
    return lambda offset: space.read(Gpa(offset), 4)[0]


Poke = Callable[[int, int], None]
Peek = Callable[[int], int]


def erase(poke: Poke, offset: int) -> None:
    poke(offset, 0x0020_0020)
    poke(offset, 0x00D0_00D0)


def program(poke: Poke, offset: int, value: int) -> None:
    poke(offset, 0x0040_0040)
    poke(offset, value)


def test_the_array_is_memory_until_a_command_comes(
    flash: PflashCfi01, space: AddressSpace, poke: Poke
) -> None:
    assert space.map(Gpa(0), 16) is not None
    poke(0, 0x0070_0070)
    assert space.map(Gpa(0), 16) is None
    poke(0, 0x00FF_00FF)
    assert space.map(Gpa(0), 16) is not None


def test_erasing_sets_a_block_and_only_that(flash: PflashCfi01, poke: Poke, peek: Peek) -> None:
    erase(poke, BLOCK + 0x10)
    assert peek(0) == READY
    poke(0, 0xFF)
    assert peek(BLOCK) == ERASED == peek(2 * BLOCK - 4)
    assert peek(BLOCK - 4) == 0 == peek(2 * BLOCK)


def test_programming_only_clears_bits(flash: PflashCfi01, poke: Poke, peek: Peek) -> None:
    erase(poke, 0)
    program(poke, 8, 0x1234_5678)
    assert peek(8) == READY
    program(poke, 8, 0xFF00_FFFF)
    poke(0, 0xFF)
    assert peek(8) == 0x1200_5678
    assert peek(12) == ERASED


def test_the_buffer_programs_many_words_at_once(flash: PflashCfi01, poke: Poke, peek: Peek) -> None:
    erase(poke, 0)
    poke(0x40, 0x00E8_00E8)
    assert peek(0x40) == READY
    poke(0x40, 0x0003_0003)
    for index in range(4):
        poke(0x40 + 4 * index, 0x1111_1111 * (index + 1))
    poke(0x40, 0x00D0_00D0)
    assert peek(0x40) == READY
    poke(0, 0xFF)
    assert [peek(0x40 + 4 * i) for i in range(5)] == [
        0x1111_1111,
        0x2222_2222,
        0x3333_3333,
        0x4444_4444,
        ERASED,
    ]


@pytest.mark.parametrize(
    "sequence",
    [
        [(0, 0x20), (0, 0x12)],  # erase without its confirmation
        [(0, 0x60), (0, 0x99)],  # no such lock operation
        [(0, 0xE8), (0, 0xFFFF_FFFF)],  # more words than the buffer holds
        [(0, 0xE8), (0, 0), (0, 0), (0, 0xFF)],  # buffer without its confirmation
    ],
)
def test_a_wrong_sequence_shows_in_the_status(
    flash: PflashCfi01, poke: Poke, peek: Peek, sequence: list[tuple[int, int]]
) -> None:
    for offset, value in sequence:
        poke(offset, value)
    assert peek(0) & 0xFF == 0xB0
    poke(0, 0x50)
    poke(0, 0x70)
    assert peek(0) == READY


def test_a_buffer_stays_in_its_page(
    make: Callable[..., PflashCfi01], poke: Poke, peek: Peek
) -> None:
    make(sector_length=0x4000)
    poke(0, 0xE8)
    poke(0, 1)
    poke(0xFFC, 0)
    poke(0x1000, 0)
    poke(0, 0xD0)
    assert peek(0) & 0xFF == 0xB0


def test_a_locked_block_refuses_until_unlocked(flash: PflashCfi01, poke: Poke, peek: Peek) -> None:
    erase(poke, BLOCK)
    poke(BLOCK, 0x60)
    poke(BLOCK, 0x01)
    poke(0, 0x90)
    assert peek(BLOCK + 8) == 0x0001_0001 and peek(8) == 0
    program(poke, BLOCK, 0)
    assert peek(0) & 0xFF == 0x92
    poke(0, 0x50)
    erase(poke, BLOCK)
    assert peek(0) & 0xFF == 0xA2
    poke(0, 0x50)
    poke(0, 0x60)
    poke(0, 0xD0)
    program(poke, BLOCK, 0x5555_5555)
    poke(0, 0xFF)
    assert peek(BLOCK) == 0x5555_5555


def test_chips_identify_themselves(flash: PflashCfi01, poke: Poke, peek: Peek) -> None:
    poke(0, 0x90)
    assert (peek(0), peek(4)) == (0x0089_0089, 0x0018_0018)


def test_the_query_describes_the_bank(flash: PflashCfi01, poke: Poke, peek: Peek) -> None:
    poke(0x55 * 4, 0x98)

    def word(index: int) -> int:
        value = peek(4 * index)
        assert value >> 16 == value & 0xFFFF  # both chips alike
        return value & 0xFF

    assert bytes(word(0x10 + i) for i in range(3)) == b"QRY"
    assert word(0x13) | word(0x14) << 8 == 1
    assert 1 << word(0x27) == 4 * BLOCK // 2  # of one chip
    assert word(0x2C) == 1
    assert (word(0x2D) | word(0x2E) << 8) + 1 == 4
    assert (word(0x2F) | word(0x30) << 8) * 256 == BLOCK // 2
    extended = word(0x15)
    assert bytes(word(extended + i) for i in range(3)) == b"PRI"
    assert peek(BLOCK - 4) == 0


def test_one_byte_wide_chips_are_commanded_bytewise(
    make: Callable[..., PflashCfi01], space: AddressSpace
) -> None:
    make(width=1, device_width=1, max_device_width=1)
    space.write(Gpa(0), 1, 0x98)
    assert bytes(space.read(Gpa(0x10 + i), 1)[0] for i in range(3)) == b"QRY"
    space.write(Gpa(0), 1, 0x20)
    space.write(Gpa(0), 1, 0xD0)
    assert space.read(Gpa(0), 1)[0] == 0x80


def test_a_wide_chip_in_narrow_mode_repeats_its_answers(
    make: Callable[..., PflashCfi01], space: AddressSpace
) -> None:
    make(width=1, device_width=1, max_device_width=2)
    space.write(Gpa(0xAA), 1, 0x98)
    assert bytes(space.read(Gpa(0x20 + i), 1)[0] for i in range(6)) == b"QQRRYY"


def test_an_old_board_description_has_one_wide_chip(
    make: Callable[..., PflashCfi01], space: AddressSpace
) -> None:
    make(width=2, device_width=0, max_device_width=0, id0=1, id1=2, id2=3, id3=4)
    space.write(Gpa(0), 2, 0x90)
    assert (space.read(Gpa(0), 2)[0], space.read(Gpa(2), 2)[0]) == (0x0102, 0x0304)


def test_reset_shows_the_array_and_keeps_content(
    flash: PflashCfi01, poke: Poke, peek: Peek
) -> None:
    erase(poke, 0)
    poke(0, 0x40)
    flash.reset()
    assert peek(0) == ERASED


def test_content_lives_on_the_drive(
    make: Callable[..., PflashCfi01], make_disk: Any, poke: Poke, peek: Peek
) -> None:
    disk = make_disk(b"firmware".ljust(4 * BLOCK, b"\xff"))
    make(drive=disk)
    assert peek(0) == int.from_bytes(b"firm", "little")
    program(poke, 2 * BLOCK + 4, 0x0403_0201)
    assert disk.data[2 * BLOCK :][:8] == b"\xff\xff\xff\xff\1\2\3\4"
    erase(poke, 0)
    assert disk.data[:BLOCK] == b"\xff" * BLOCK


def test_a_read_only_drive_refuses_programs_and_erases(
    make: Callable[..., PflashCfi01], make_disk: Any, poke: Poke, peek: Peek
) -> None:
    disk = make_disk(b"\xff" * (4 * BLOCK), read_only=True)
    make(drive=disk)
    program(poke, 0, 0)
    assert peek(0) & 0xFF == 0x92
    assert disk.data == b"\xff" * (4 * BLOCK)


def test_a_drive_that_fails_shows_in_the_status(
    make: Callable[..., PflashCfi01], make_disk: Any, poke: Poke, peek: Peek
) -> None:
    disk = make_disk(bytes(4 * BLOCK))
    make(drive=disk)
    disk.error = 5
    program(poke, 0, 0)
    assert peek(0) & 0xFF == 0x90


def test_a_drive_must_fit_and_be_readable(make: Callable[..., PflashCfi01], make_disk: Any) -> None:
    with pytest.raises(ConfigError, match="requires 16384 bytes, block backend provides 512"):
        make(drive=make_disk(bytes(512)))
    broken = make_disk(bytes(4 * BLOCK))
    broken.error = 5
    with pytest.raises(HostError, match="read the flash image 'd0'"):
        make(drive=broken)
    assert broken.user is None


@pytest.mark.parametrize(
    "properties",
    [
        {"secure": True},
        {"flash_name": ""},
        {"num_blocks": 0},
        {"width": 3},
        {"width": 2, "device_width": 4},
        {"sector_length": 0x1001},
    ],
)
def test_impossible_geometry_is_refused(
    make: Callable[..., PflashCfi01], properties: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        make(**properties)


def test_unrealize_gives_the_memory_back(ram_list: RamList, make_disk: Any) -> None:
    disk = make_disk(bytes(4 * BLOCK))
    flash = PflashCfi01(ram_list, num_blocks=4, sector_length=BLOCK, drive=disk)
    flash.realize()
    assert disk.user is flash
    flash.unrealize()
    assert disk.user is None
    assert ram_list.blocks == () and flash.regions == []
    flash.realize()


def test_saved_state_resumes_a_sequence(
    flash: PflashCfi01, poke: Poke, peek: Peek, space: AddressSpace
) -> None:
    poke(0, 0xE8)
    poke(0, 1)
    poke(0, 0x1111_1111)
    saved = flash.save()
    flash.reset()
    assert space.map(Gpa(0), 4) is not None
    flash.load(saved)
    assert space.map(Gpa(0), 4) is None
    poke(4, 0)
    poke(0, 0xD0)
    assert peek(0) == READY


def test_properties_are_qemus_in_its_order() -> None:
    assert list(PflashCfi01.properties()) == [
        "drive",
        "num-blocks",
        "sector-length",
        "width",
        "device-width",
        "max-device-width",
        "big-endian",
        "secure",
        "id0",
        "id1",
        "id2",
        "id3",
        "name",
        "old-multiple-chip-handling",
    ]
