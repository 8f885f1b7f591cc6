"""Copies of drives: what is in holes stays holes, and what was there comes back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratite.block import (
    BlockLayer,
    CacheOptions,
    Drive,
    FileOptions,
    NodeOptions,
    OverlayOptions,
    RawOptions,
)
from ratite.core.disk import DiskTerms
from ratite.core.errors import HostError
from tests.block.nodes import Loop, read, write
from tests.block.test_drive import Device

MiB = 1 << 20
SIZE = 32 * MiB


def nothing(size: int) -> None:
    """Nobody wants to know."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for at in (0, 5 * MiB + 4096, SIZE - 512):
            file.seek(at)
            file.write(b"data%d" % at)
    return path


@pytest.fixture
def layer(loop: Loop) -> Iterator[BlockLayer]:
    layer = BlockLayer(loop)
    yield layer
    layer.close()


def open_drive(
    layer: BlockLayer, path: Path, *, snapshot: bool = False, direct: bool = False
) -> Drive:
    cache = CacheOptions(direct)
    options: NodeOptions = RawOptions(
        file=FileOptions(filename=str(path)), cache=cache, read_only=snapshot
    )
    drive = layer.add_drive("d0", OverlayOptions(backing=options) if snapshot else options)
    drive.attach(Device(), DiskTerms(may_resize=True))
    return drive


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("direct", [False, True])
def test_a_copy_brings_the_content_back(
    layer: BlockLayer, image: Path, tmp_path: Path, snapshot: bool, direct: bool
) -> None:
    before = image.read_bytes()
    drive = open_drive(layer, image, snapshot=snapshot, direct=direct)
    assert drive.path == str(image) and drive.node is not None
    drive.copy_out(str(tmp_path / "copy"), nothing)
    assert (tmp_path / "copy").read_bytes() == before
    assert os.stat(tmp_path / "copy").st_blocks * 512 < 4 * MiB
    for at in (0, 7 * MiB, SIZE - 4096):
        write(drive.node, at, b"x" * 4096)
    drive.copy_in(str(tmp_path / "copy"))
    assert read(drive.node, 0, SIZE) == before
    assert image.read_bytes() == before


def test_a_part_of_an_image_is_copied_alone(layer: BlockLayer, image: Path, tmp_path: Path) -> None:
    before = image.read_bytes()
    part = RawOptions(file=FileOptions(filename=str(image)), offset=4 * MiB, size=2 * MiB)
    drive = layer.add_drive("d0", part)
    drive.attach(Device())
    drive.copy_out(str(tmp_path / "copy"), nothing)
    assert (tmp_path / "copy").read_bytes() == before[4 * MiB : 6 * MiB]
    assert drive.node is not None
    write(drive.node, 0, b"x" * 100)
    drive.copy_in(str(tmp_path / "copy"))
    assert image.read_bytes() == before


def test_a_copy_of_another_size_is_refused(layer: BlockLayer, image: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(bytes(MiB))
    drive = open_drive(layer, image)
    with pytest.raises(HostError, match="has another size than the drive"):
        drive.copy_in(str(tmp_path / "copy"))
    with pytest.raises(HostError, match=r"cannot copy the drive to '.*': File exists"):
        drive.copy_out(str(tmp_path / "copy"), nothing)


def test_an_image_that_was_left_can_be_taken_by_another_and_not_back(
    layer: BlockLayer, image: Path, loop: Loop
) -> None:
    drive = open_drive(layer, image)
    other = BlockLayer(loop)
    with pytest.raises(HostError, match="Failed to get"):
        open_drive(other, image)
    drive.deactivate()
    drive.deactivate()
    assert not drive.active
    open_drive(other, image)
    with pytest.raises(HostError, match="Failed to get"):
        drive.activate()
    assert not drive.active
    other.close()
    drive.activate()
    with pytest.raises(HostError, match="Failed to get"):
        open_drive(BlockLayer(loop), image)


def test_an_image_that_another_machine_has_is_claimed_when_the_guest_is_here(
    image: Path, loop: Loop
) -> None:
    first, second = BlockLayer(loop), BlockLayer(loop, active=False)
    before, after = open_drive(first, image), open_drive(second, image)
    assert before.active and not after.active
    with pytest.raises(HostError, match="Failed to get"):
        after.activate()
    assert before.node is not None
    first.resize(before.node, 2 * SIZE)
    before.deactivate()
    after.activate()
    assert after.size == 2 * SIZE  # as the other machine has left it
    second.resume()
    later = second.add_drive("later", None)
    assert later.active
    first.close()
    second.close()
