"""The `spike` board: where HTIF is, and what starts."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libfdt
import pytest

import ratite
from ratite.machines.board_riscv_spike import SpikeRiscv
from ratite.memory import Gpa
from tests.machines.images import CODE, RAM, Load, elf, image

MakeVm = Callable[..., ratite.Vm]
HTIF = 0x100_0000


@pytest.fixture
def spike(idle: MakeVm) -> Callable[..., SpikeRiscv]:
    def make(*words: object) -> SpikeRiscv:
        machine = idle("-M", "spike", *words).machine
        assert isinstance(machine, SpikeRiscv)
        return machine

    return make


def htif_reg(machine: SpikeRiscv) -> list[int]:
    """The `reg` of the device tree's node."""
    tree: Any = libfdt.Fdt(bytearray(machine.fdt_blob))
    value = tree.getprop(tree.path_offset("/htif"), "reg", libfdt.QUIET_NOTFOUND)
    return [] if isinstance(value, int) else list(struct.unpack(">2Q", value))


def named_at(machine: SpikeRiscv, address: int) -> str:
    found = machine.memory.lookup(Gpa(address))
    return "" if found is None else str(found.region.name).partition("[")[0]


def test_htif_is_where_the_device_tree_says(spike: Callable[..., SpikeRiscv]) -> None:
    machine = spike("-bios", "none")
    assert htif_reg(machine) == [HTIF, 0x1000]
    assert named_at(machine, HTIF) == "htif.fromhost"
    assert named_at(machine, HTIF + 8) == "htif.tohost"


@pytest.mark.parametrize("option", ["-kernel", "-bios"])
@pytest.mark.parametrize(
    ("symbols", "fromhost"),
    [({"tohost": RAM + 64, "fromhost": RAM + 128}, RAM + 128), ({"tohost": RAM + 64}, RAM + 72)],
)
def test_htif_is_where_a_program_says(
    spike: Callable[..., SpikeRiscv],
    tmp_path: Path,
    option: str,
    symbols: dict[str, int],
    fromhost: int,
) -> None:
    program = tmp_path / "program"
    program.write_bytes(elf(Load(), **symbols))
    machine = spike(option, program)
    assert htif_reg(machine) == []
    assert named_at(machine, RAM + 64) == "htif.tohost"
    assert named_at(machine, fromhost) == "htif.fromhost"
    assert named_at(machine, HTIF) == ""


def test_an_executable_starts_by_itself_a_kernel_through_the_firmware(
    spike: Callable[..., SpikeRiscv], tmp_path: Path
) -> None:
    kernel, data = tmp_path / "kernel", tmp_path / "data"
    data.mkdir()
    (data / "fw_dynamic.bin").write_bytes(CODE * 100)
    for content, blobs in ((elf(Load()), ["kernel.0"]), (image(0), [".bin", "kernel"])):
        kernel.write_bytes(content)
        machine = spike("-L", data, "-kernel", kernel)
        names = [blob.name for blob in machine.blobs if not blob.name.startswith(("mrom", "fdt"))]
        assert len(names) == len(blobs)
        assert all(name.endswith(end) for name, end in zip(names, blobs, strict=True))
        assert machine.entry == RAM
