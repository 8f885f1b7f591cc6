"""Reading executables, damaged ones among them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratite.core.symbols import Symbol
from ratite.machines.elf import ElfError, ForeignElfError, Segment, read_elf, read_functions
from tests.machines.images import RAM, Load, elf


def test_segments_entry_and_symbols_are_found() -> None:
    program = elf(Load(size=0x1000), Load(RAM + 0x2000), entry=RAM + 8, tohost=RAM + 64, other=1)
    found = read_elf(program, ["tohost", "fromhost"])
    assert found.segments == (
        Segment(0x100, 4, RAM, RAM, 0x1000),
        Segment(0x100, 4, RAM + 0x2000, RAM + 0x2000, 4),
    )
    assert found.entry == found.physical_entry == RAM + 8
    assert found.symbols == {"tohost": RAM + 64} and not found.movable


def test_functions_are_found_and_other_symbols_not() -> None:
    assert read_functions(elf(Load(), symbol_type=2, start=RAM, main=RAM + 8)) == [
        Symbol(RAM, 8, "start"),
        Symbol(RAM + 8, 8, "main"),
    ]
    assert read_functions(elf(Load(), symbol_type=1, data=RAM)) == []


def test_headers_that_load_nothing_are_passed_over() -> None:
    assert read_elf(elf(Load(kind=6), Load(size=0, file_size=0))).segments == ()


def test_an_entry_point_moves_with_its_segment() -> None:
    program = bytearray(elf(Load(), entry=0xFFFF_FFFF_8000_0010))
    struct.pack_into("<QQQQ", program, 64 + 16, 0xFFFF_FFFF_8000_0000, RAM, 4, 0x100)
    assert read_elf(bytes(program)).physical_entry == RAM + 0x10


@pytest.mark.parametrize(
    ("load", "fault"),
    [
        (Load(file_size=1 << 40, size=1 << 40), "beyond the file's end"),
        (Load(offset=1 << 62), "beyond the file's end"),
        (Load(file_size=8), "more bytes in the file than in memory"),
        (Load(address=(1 << 64) - 8, size=16), "beyond 64 bits"),
        (Load(size=(1 << 64) - 1), "beyond 64 bits"),
    ],
)
def test_a_segment_that_cannot_be_is_refused(load: Load, fault: str) -> None:
    with pytest.raises(ElfError, match=fault):
        read_elf(elf(load))


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [(54, "<H", 0), (56, "<H", 0xFFFF), (58, "<H", 0), (60, "<H", 0xFFFF), (32, "<Q", 1 << 60)],
)
def test_headers_that_are_not_there_are_refused(offset: int, form: str, value: int) -> None:
    program = bytearray(elf(Load(), tohost=RAM))
    struct.pack_into(form, program, offset, value)
    with pytest.raises(ElfError, match="header"):
        read_elf(bytes(program), ["tohost"])


def test_an_executable_for_another_machine_is_named() -> None:
    with pytest.raises(ForeignElfError, match="EM_X86_64"):
        read_elf(elf(Load(), machine=62))
    with pytest.raises(ForeignElfError, match="machine 7777"):
        read_elf(elf(Load(), machine=7777))


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=12),
    st.integers(0, 1000),
)
def test_damage_is_never_worse_than_a_refusal(changes: list[tuple[int, int]], cut: int) -> None:
    loads = Load(), Load(RAM + 0x1000, size=0x100)
    program = bytearray(elf(*loads, symbol_type=2, tohost=RAM, fromhost=RAM + 8))
    for at, value in changes:
        program[at % len(program)] = value
    content = bytes(program[:cut] if cut < len(program) else program)
    try:
        found = read_elf(content, ["tohost"])
        read_functions(content)
    except ElfError:
        return
    for segment in found.segments:
        assert segment.offset + segment.file_size <= len(program)
        assert segment.file_size <= segment.size
