"""Copies of drives: what is in holes stays holes, and what was there comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ratite.block import CacheMode, open_image
from ratite.block.copies import copy_in, copy_out
from ratite.core.errors import HostError

MiB = 1 << 20
SIZE = 32 * MiB


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for at in (0, 5 * MiB + 4096, SIZE - 512):
            file.seek(at)
            file.write(b"data%d" % at)
    return path


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("cache", [CacheMode.WRITEBACK, CacheMode.NONE])
def test_a_copy_brings_the_content_back(
    image: Path, tmp_path: Path, snapshot: bool, cache: CacheMode
) -> None:
    before = image.read_bytes()
    node = open_image(image, snapshot=snapshot, cache=cache)
    try:
        copy_out(node, str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == before
        assert os.stat(tmp_path / "copy").st_blocks * 512 < 4 * MiB
        for at in (0, 7 * MiB, SIZE - 4096):
            node.writev(at, [memoryview(bytearray(b"x" * 4096))])
        copy_in(node, str(tmp_path / "copy"))
        now = bytearray(SIZE)
        node.readv(0, [memoryview(now)])
        assert now == before
        assert image.read_bytes() == before
    finally:
        node.close()


def test_a_copy_of_another_size_is_refused(image: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(bytes(MiB))
    node = open_image(image)
    try:
        with pytest.raises(HostError, match="has another size than the drive"):
            copy_in(node, str(tmp_path / "copy"))
        with pytest.raises(HostError, match=r"cannot copy the drive to '.*': File exists"):
            copy_out(node, str(tmp_path / "copy"))
    finally:
        node.close()


def test_an_image_that_was_left_can_be_taken_by_another_and_not_back(image: Path) -> None:
    node = open_image(image)
    with pytest.raises(HostError, match="in use by another"):
        open_image(image)
    node.deactivate()
    other = open_image(image)
    with pytest.raises(HostError, match="in use by another"):
        node.activate()
    other.close()
    node.activate()
    with pytest.raises(HostError, match="in use by another"):
        open_image(image)
    node.close()
