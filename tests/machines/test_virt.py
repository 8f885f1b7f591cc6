"""The `virt` board: what its device tree says, and what its devices are given."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libfdt
import pytest

import ratite
from ratite.core import ConfigError
from ratite.machines.board_riscv_virt import VirtRiscv
from ratite.memory import Gpa

MakeVm = Callable[..., ratite.Vm]
PLIC, FW_CFG = 0xC00_0000, 0x1010_0000
UUID = "550e8400-e29b-41d4-a716-446655440000"


def prop(blob: bytes, path: str, name: str) -> bytes:
    """A property of a device tree."""
    tree: Any = libfdt.Fdt(bytearray(blob))
    return bytes(tree.getprop(tree.path_offset(path), name))


def board(vm: ratite.Vm) -> VirtRiscv:
    assert isinstance(vm.machine, VirtRiscv)
    return vm.machine


def test_the_plic_has_as_many_sources_as_qemus(idle: MakeVm, tmp_path: Path) -> None:
    machine = board(idle("-M", "virt", "-bios", "none"))
    path = f"/soc/plic@{PLIC:x}"
    assert prop(machine.fdt_blob, path, "riscv,ndev") == struct.pack(">I", 96)
    machine.memory.write(Gpa(PLIC + 4 * 96), 4, 5)
    machine.memory.write(Gpa(PLIC + 4 * 97), 4, 5)
    assert [machine.memory.read(Gpa(PLIC + 4 * n), 4)[0] for n in (96, 97)] == [5, 0]
    program = shutil.which("qemu-system-riscv64")
    if program is None:
        pytest.skip("qemu-system-riscv64 is not installed")
    dump = tmp_path / "qemu.dtb"
    subprocess.run(
        [program, "-M", f"virt,dumpdtb={dump}", "-display", "none"], check=True, capture_output=True
    )
    assert prop(dump.read_bytes(), path, "riscv,ndev") == struct.pack(">I", 96)


# -- fw_cfg


def item(machine: VirtRiscv, key: int, size: int) -> bytes:
    """What a guest reads after selecting an item."""
    machine.memory.write(Gpa(FW_CFG + 8), 2, int.from_bytes(key.to_bytes(2, "big"), "little"))
    return bytes(machine.memory.read(Gpa(FW_CFG), 1)[0] for _ in range(size))


def files(machine: VirtRiscv) -> dict[str, bytes]:
    """The files of the directory."""
    count = int.from_bytes(item(machine, 0x19, 4), "big")
    directory = item(machine, 0x19, 4 + 64 * count)
    found = {}
    for at in range(4, len(directory), 64):
        size, key, _, name = struct.unpack_from(">IHH56s", directory, at)
        found[name.rstrip(b"\0").decode()] = item(machine, key, size)
    return found


def test_the_guest_reads_the_number_of_cpus_and_the_uuid(idle: MakeVm) -> None:
    machine = board(idle("-M", "virt", "-bios", "none", "-smp", 3, "-uuid", UUID))
    assert item(machine, 5, 4) == b"\3\0\0\0"
    assert item(machine, 2, 16) == bytes.fromhex(UUID.replace("-", ""))


def test_the_directory_has_what_every_guest_of_qemu_finds(idle: MakeVm) -> None:
    machine = board(idle("-M", "virt", "-bios", "none", "-fw_cfg", "name=opt/x,string=y"))
    assert files(machine) == {
        "bios-geometry": b"",
        "bootorder": b"",
        "etc/boot-fail-wait": b"\xff" * 4,
        "opt/x": b"y",
    }


@pytest.mark.parametrize("name", ["opt/x", "bootorder"])
def test_a_file_that_is_there_is_not_given_twice(idle: MakeVm, name: str) -> None:
    words = ["-fw_cfg", "name=opt/x,string=y", "-fw_cfg", f"name={name},string=z"]
    with pytest.raises(ConfigError, match=f"^-fw_cfg: there is a file '{name}' already$"):
        idle("-M", "virt", "-bios", "none", *words)
