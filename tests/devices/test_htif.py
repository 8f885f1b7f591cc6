"""The host-target interface."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from ratite.devices.misc.htif import Htif
from ratite.devices.power import PowerAction
from ratite.memory import AddressSpace, Gpa, MemoryRegion, RamList

RAM = 0x8000_0000
TOHOST, FROMHOST = Gpa(0x100_0000), Gpa(0x100_0008)
PUTCHAR, GETCHAR = 1 << 56 | 1 << 48, 1 << 56


@pytest.fixture
def htif(
    system: MemoryRegion, space: AddressSpace, ram_list: RamList, power: Any, terminal: Any
) -> Htif:
    system.add_subregion(RAM, MemoryRegion.ram("ram", ram_list.alloc("ram", 0x10000)))
    device = Htif(space, power, chardev=terminal)
    device.realize()
    system.add_subregion(TOHOST, device.regions[0])
    system.add_subregion(FROMHOST, device.regions[1])
    return device


@pytest.mark.parametrize(("word", "status"), [(1, 0), (3, 1), (0x1555, 0xAAA)])
def test_an_odd_word_ends_the_run(
    htif: Htif, space: AddressSpace, power: Any, word: int, status: int
) -> None:
    space.write(TOHOST, 8, word)
    assert power.requests == [(PowerAction.SHUTDOWN, status)]


def test_halves_make_a_word(htif: Htif, space: AddressSpace, power: Any, terminal: Any) -> None:
    space.write(TOHOST, 4, ord("a"))
    space.write(Gpa(TOHOST + 4), 4, PUTCHAR >> 32)
    assert terminal.output == b"a" and power.requests == []


def test_a_program_that_repeats_the_low_half_is_heard(
    htif: Htif, space: AddressSpace, power: Any
) -> None:
    space.write(TOHOST, 4, 1)
    assert power.requests == []
    space.write(TOHOST, 4, 1)
    assert power.requests == [(PowerAction.SHUTDOWN, 0)]


def test_characters_are_printed_and_acknowledged(
    htif: Htif, space: AddressSpace, terminal: Any
) -> None:
    for byte in b"hi":
        space.write(TOHOST, 8, PUTCHAR | byte)
        assert space.read(TOHOST, 8)[0] == 0
        assert space.read(FROMHOST, 8)[0] == PUTCHAR | 0x100 | byte
        space.write(FROMHOST, 8, 0)
    assert terminal.output == b"hi"


def test_a_character_asked_for_arrives_when_typed(
    htif: Htif, space: AddressSpace, terminal: Any
) -> None:
    space.write(TOHOST, 8, GETCHAR)
    assert space.read(FROMHOST, 8)[0] == 0
    terminal.type(b"xy")
    assert space.read(FROMHOST, 8)[0] == GETCHAR | 0x100 | ord("x")
    space.write(FROMHOST, 4, 0)
    space.write(Gpa(FROMHOST + 4), 4, 0)
    assert space.read(FROMHOST, 8)[0] == 0
    space.write(TOHOST, 8, GETCHAR)
    assert space.read(FROMHOST, 8)[0] & 0xFF == ord("y")


def call(space: AddressSpace, *words: int) -> int:
    """Make a system call; answer its result."""
    block = Gpa(RAM + 0x100)
    space.write_bytes(block, struct.pack("<8Q", *words, *[0] * (8 - len(words))))
    space.write(TOHOST, 8, block)
    return int(struct.unpack("<q", space.read_bytes(block, 8)[0])[0])


def test_write_prints_from_memory(htif: Htif, space: AddressSpace, terminal: Any) -> None:
    space.write_bytes(Gpa(RAM), b"hello")
    assert call(space, 64, 1, RAM, 5) == 5
    assert terminal.output == b"hello" and space.read(FROMHOST, 8)[0] == 1
    assert call(space, 64, 7, RAM, 5) == -9
    assert call(space, 64, 1, 0x4000_0000, 5) == -14


def test_exit_is_a_system_call_too(htif: Htif, space: AddressSpace, power: Any) -> None:
    call(space, 93, 3)
    assert power.requests == [(PowerAction.SHUTDOWN, 3)]


def test_other_system_calls_do_not_exist(htif: Htif, space: AddressSpace) -> None:
    assert call(space, 1234) == -38
    space.write(TOHOST, 8, 0x4000_0000)  # no call block there


def test_unknown_devices_are_ignored(htif: Htif, space: AddressSpace, power: Any) -> None:
    space.write(TOHOST, 8, 7 << 56 | 1)
    assert space.read(TOHOST, 8)[0] == 0 and power.requests == []
