"""`info mtree` and `info mtree -f`, held against QEMU's text form."""

from __future__ import annotations

from ratite.memory import AddressSpace, MemoryRegion, RamList, mtree, mtree_flat

TREE = """\
address-space: cpu-memory-0
address-space: memory
  0000000000000000-ffffffffffffffff (prio 0, i/o): system
    0000000000001000-000000000000ffff (prio 0, rom): riscv_virt_board.mrom
    0000000003000000-000000000300ffff (prio 0, i/o): gpex_ioport_window
      0000000003000000-000000000300ffff (prio 0, i/o): gpex_ioport
    0000000020000000-0000000021ffffff (prio 0, romd): virt.flash0
    0000000030000000-000000003fffffff (prio 0, i/o): alias pcie-ecam @pcie-mmcfg-mmio \
0000000000000000-000000000fffffff
    0000000040000000-000000007fffffff (prio 0, i/o): alias pcie-mmio @gpex_mmio_window \
0000000040000000-000000007fffffff
    0000000080000000-000000008fffffff (prio 0, ram): riscv_virt_board.ram
    0000000400000000-00000007ffffffff (prio 0, i/o): alias pcie-mmio-high @gpex_mmio_window \
0000000400000000-00000007ffffffff

address-space: gpex-root
  0000000000000000-ffffffffffffffff (prio 0, i/o): bus master container

memory-region: pcie-mmcfg-mmio
  0000000000000000-000000000fffffff (prio 0, i/o): pcie-mmcfg-mmio

memory-region: gpex_mmio_window
  0000000000000000-ffffffffffffffff (prio 0, i/o): gpex_mmio_window
    0000000000000000-ffffffffffffffff (prio 0, i/o): gpex_mmio

memory-region: system
  0000000000000000-ffffffffffffffff (prio 0, i/o): system
"""

FLAT = """\
FlatView #0
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000001000-000000000000ffff (prio 0, rom): riscv_virt_board.mrom
  0000000003000000-000000000300ffff (prio 0, i/o): gpex_ioport_window
  0000000020000000-0000000021ffffff (prio 0, romd): virt.flash0
  0000000030000000-000000003fffffff (prio 0, i/o): pcie-mmcfg-mmio
  0000000040000000-000000007fffffff (prio 0, i/o): gpex_mmio_window @0000000040000000
  0000000080000000-000000008fffffff (prio 0, ram): riscv_virt_board.ram
  0000000400000000-00000007ffffffff (prio 0, i/o): gpex_mmio_window @0000000400000000

FlatView #1
 AS "gpex-root", root: bus master container
 Root memory region: (none)
  No rendered FlatView

"""


class Silent:
    """I/O operations that answer 0."""

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, value: int, size: int) -> None:
        pass


def board() -> tuple[list[AddressSpace], MemoryRegion]:
    """The parts of the virt board that show every kind of line."""
    ops, ram_list = Silent(), RamList()
    system = MemoryRegion.container("system", 1 << 64)
    memory = AddressSpace(system, "memory")
    cpu = AddressSpace(system, "cpu-memory-0")

    def block(name: str, size: int) -> MemoryRegion:
        return MemoryRegion.ram(name, ram_list.alloc(name, size))

    ports = MemoryRegion.io("gpex_ioport_window", 0x10000, ops)
    ports.add_subregion(0, MemoryRegion.container("gpex_ioport", 0x10000))
    pci = MemoryRegion.io("gpex_mmio_window", 1 << 64, ops)
    pci.add_subregion(0, MemoryRegion.container("gpex_mmio", 1 << 64))
    ecam = MemoryRegion.io("pcie-mmcfg-mmio", 0x10000000, ops)
    flash = ram_list.alloc("virt.flash0", 0x2000000)
    with system.transaction():
        system.add_subregion(0x80000000, block("riscv_virt_board.ram", 0x10000000))
        rom = MemoryRegion.rom("riscv_virt_board.mrom", ram_list.alloc("mrom", 0xF000))
        system.add_subregion(0x1000, rom)
        system.add_subregion(0x20000000, MemoryRegion.rom_device("virt.flash0", flash, ops))
        system.add_subregion(0x3000000, ports)
        system.add_subregion(0x30000000, MemoryRegion.alias("pcie-ecam", ecam, 0, 0x10000000))
        low = MemoryRegion.alias("pcie-mmio", pci, 0x40000000, 0x40000000)
        system.add_subregion(0x40000000, low)
        high = MemoryRegion.alias("pcie-mmio-high", pci, 0x400000000, 0x400000000)
        system.add_subregion(0x400000000, high)
    bus = MemoryRegion.container("bus master container", 1 << 64)
    master = MemoryRegion.alias("bus master", system, 0, 1 << 64)
    master.set_enabled(False)
    bus.add_subregion(0, master)
    return [memory, cpu, AddressSpace(bus, "gpex-root")], master


def test_the_tree_is_printed_as_qemu_prints_it() -> None:
    spaces, _ = board()
    text = mtree(spaces)
    tree_of_system = text.partition("memory-region: system\n")
    assert text.startswith(TREE)
    assert tree_of_system[2].count("\n    ") == 9 - 1


def test_disabled_regions_are_printed_on_request() -> None:
    spaces, _ = board()
    line = (
        "    0000000000000000-ffffffffffffffff (prio 0, i/o): alias bus master @system"
        " 0000000000000000-ffffffffffffffff [disabled]\n"
    )
    assert line in mtree(spaces, show_disabled=True)
    assert line not in mtree(spaces)


def test_the_flat_views_are_printed_as_qemu_prints_them() -> None:
    spaces, _ = board()
    assert mtree_flat(spaces) == FLAT


def test_address_spaces_that_come_to_share_a_view_are_listed_together() -> None:
    spaces, master = board()
    master.set_enabled(True)
    text = mtree_flat(spaces)
    assert ' AS "gpex-root", root: bus master container\n Root memory region: system\n' in text
    assert "FlatView #1" not in text
