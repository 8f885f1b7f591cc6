"""RAM blocks and dirty maps."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from ratite.core import ConfigError, HostError, KiB, MiB
from ratite.memory import DirtyClient, RamAddr, RamList, ramblock_info
from ratite.memory.host import HostMemory


def test_a_block_is_zeroed_page_aligned_host_memory(ram_list: RamList) -> None:
    block = ram_list.alloc("ram", MiB)
    assert block.size == MiB and block.host % 4096 == 0 and block.offset == 0
    assert block.read(0, 16) == bytes(16)
    block.write(0x100, b"hello")
    assert ctypes.string_at(block.host + 0x100, 5) == b"hello"
    ctypes.memset(block.host + 0x200, 0x55, 1)
    assert block.view[0x200] == 0x55


def test_sizes_round_up_to_pages(ram_list: RamList) -> None:
    assert ram_list.alloc("rom", 0xF001).size == 0x10000


def test_blocks_lie_in_ram_space_as_qemu_places_them(ram_list: RamList) -> None:
    ram_list.alloc("riscv_virt_board.ram", 0x10000000)
    ram_list.alloc("riscv_virt_board.mrom", 0xF000)
    ram_list.alloc("virt.flash0", 0x2000000)
    ram_list.alloc("virt.flash1", 0x2000000)
    expected = """\
              Block Name    PSize              Offset               Used              Total
    riscv_virt_board.ram    4 KiB  0x0000000000000000 0x0000000010000000 0x0000000010000000
             virt.flash0    4 KiB  0x0000000010040000 0x0000000002000000 0x0000000002000000
             virt.flash1    4 KiB  0x0000000012040000 0x0000000002000000 0x0000000002000000
   riscv_virt_board.mrom    4 KiB  0x0000000010000000 0x000000000000f000 0x000000000000f000
"""
    assert ramblock_info(ram_list) == expected


def test_a_gap_left_by_a_freed_block_is_used_again(ram_list: RamList) -> None:
    first = ram_list.alloc("a", MiB)
    ram_list.alloc("b", MiB)
    ram_list.free(first)
    assert ram_list.alloc("c", 512 * KiB).offset == 0
    assert ram_list.alloc("d", MiB).offset == 2 * MiB


def test_blocks_are_found_by_either_address(ram_list: RamList) -> None:
    ram_list.alloc("a", MiB)
    block = ram_list.alloc("b", MiB)
    assert ram_list.find(RamAddr(MiB + 5)) is block
    assert ram_list.find(RamAddr(5 * MiB)) is None
    assert ram_list.find_host(block.host) is block
    assert ram_list.find_host(type(block.host)(8)) is None
    assert [b.idstr for b in ram_list.blocks] == ["a", "b"]


def test_wrong_requests_are_refused_with_the_block_named(ram_list: RamList) -> None:
    ram_list.alloc("ram", MiB)
    with pytest.raises(ConfigError, match="'ram' exists"):
        ram_list.alloc("ram", MiB)
    with pytest.raises(ConfigError, match="more than 0"):
        ram_list.alloc("none", 0)
    with pytest.raises(HostError, match="guest memory for 'huge'"):
        ram_list.alloc("huge", 1 << 41)
    with pytest.raises(ConfigError, match="no room"):
        ram_list.alloc("vast", 1 << 43)


def test_a_file_can_back_a_block_and_keeps_its_content(tmp_path: Path, ram_list: RamList) -> None:
    path = tmp_path / "ram"
    path.write_bytes(b"old content".ljust(64 * KiB))
    with path.open("r+b") as file:
        memory = HostMemory(64 * KiB, file.fileno())
    block = ram_list.alloc("ram", 64 * KiB, memory=memory)
    assert block.read(0, 3) == b"old"
    block.write(0, b"new")
    assert path.read_bytes()[:11] == b"new content"


def test_memory_beyond_what_the_host_can_address_is_refused() -> None:
    for size in (1 << 50, 1 << 63, (1 << 64) - 1):
        with pytest.raises(OSError, match="Cannot allocate memory"):
            HostMemory(size, reserve=True)


def test_all_pages_can_be_had_at_once() -> None:
    memory = HostMemory(1 << 20)
    memory.populate(3)
    assert bytes(memory.view[:8]) == bytes(8) and memory.size == 1 << 20


def test_new_blocks_are_dirty_for_everyone_and_hold_no_code(ram_list: RamList) -> None:
    ram_list.alloc("ram", 16 * KiB)
    for client in DirtyClient:
        assert bytes(ram_list.dirty_map(client)[:6]) == b"\1\1\1\1\0\0"


def test_native_code_sees_the_dirty_map_at_its_address(ram_list: RamList) -> None:
    ram_list.alloc("ram", 16 * KiB)
    address = ram_list.dirty_address(DirtyClient.CODE)
    ctypes.memset(address + 2, 0, 1)
    assert bytes(ram_list.dirty_map(DirtyClient.CODE)[:4]) == b"\1\1\0\1"
    ram_list.alloc("more", MiB)
    assert ram_list.dirty_address(DirtyClient.CODE) == address


def test_writes_make_their_pages_dirty(ram_list: RamList) -> None:
    block = ram_list.alloc("ram", 64 * KiB)
    everything = ram_list.take_dirty(DirtyClient.MIGRATION, RamAddr(0), 64 * KiB)
    assert everything == b"\1" * 16
    block.write(0x1FFF, b"ab")
    block.write(0x5000, b"c")
    block.write(0x6000, b"")
    assert ram_list.take_dirty(DirtyClient.MIGRATION, RamAddr(0), 64 * KiB).hex() == (
        "00010100000100000000000000000000"
    )
    assert not any(ram_list.take_dirty(DirtyClient.MIGRATION, RamAddr(0), 64 * KiB))


def test_code_listeners_hear_of_writes_to_pages_with_code_only(ram_list: RamList) -> None:
    block = ram_list.alloc("ram", 64 * KiB)
    heard: list[tuple[int, int]] = []
    listener = lambda ram_addr, size: heard.append((ram_addr, size))  # noqa: E731
    ram_list.add_code_listener(listener)
    code = ram_list.dirty_map(DirtyClient.CODE)
    code[3] = 0
    block.write(0x2000, b"x" * 0x1000)
    assert heard == []
    block.write(0x3800, b"x")
    block.write(0x2FFF, b"xy")
    assert heard == [(0x3800, 1), (0x2FFF, 2)]
    ram_list.remove_code_listener(listener)
    block.write(0x3800, b"x")
    assert len(heard) == 2


def test_a_private_file_is_read_but_not_written(tmp_path: Path) -> None:
    file = tmp_path / "ram"
    file.write_bytes(b"x" * 4096)
    with file.open("r+b") as opened:
        memory = HostMemory(4096, opened.fileno(), share=False)
    block = RamList().alloc("ram", 4096, memory=memory)
    assert block.read(0, 1) == b"x"
    block.write(0, b"y")
    assert block.read(0, 1) == b"y" and file.read_bytes()[:1] == b"x"
