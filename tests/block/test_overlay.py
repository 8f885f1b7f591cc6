"""Temporary overlays: writes are kept apart, forgotten, or committed."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ratite.block import BlockGraph, FileOptions, OverlayNode, OverlayOptions, RawOptions
from ratite.core.errors import ConfigError, HostError
from tests.block.nodes import MIB, READ, WRITE, NodeUser, read, write


def open_overlay(path: Path, graph: BlockGraph | None = None) -> OverlayNode:
    base = RawOptions(file=FileOptions(filename=str(path)), read_only=True)
    node = (graph or BlockGraph()).open(OverlayOptions(backing=base))
    assert isinstance(node, OverlayNode)
    return node


def test_an_overlay_takes_the_writes_and_leaves_the_image_alone(image_path: Path) -> None:
    before = image_path.read_bytes()
    overlay = open_overlay(image_path)
    assert not overlay.read_only and overlay.base.read_only
    expected = bytearray(before)
    for offset, data in [
        (5, b"abc"),
        (65530, b"z" * 20),
        (MIB - 3, b"end"),
        (131072, b"q" * 65536),
    ]:
        write(overlay, offset, data)
        expected[offset : offset + len(data)] = data
    overlay.write_zeroes(200000, 100000, unmap=True)
    expected[200000:300000] = bytes(100000)
    assert read(overlay, 0, MIB) == expected
    small = memoryview(bytearray(4))
    if overlay.read_cached(5, [small]):
        assert small == b"abc\x08"
    overlay.flush()
    overlay.close()
    overlay.close()
    assert image_path.read_bytes() == before


def test_an_overlay_checks_ranges(image_path: Path) -> None:
    overlay = open_overlay(image_path)
    for call in (lambda: write(overlay, MIB, b"x"), lambda: read(overlay, MIB - 1, 2)):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EINVAL
    assert not overlay.read_cached(MIB, [memoryview(bytearray(1))])
    overlay.close()


def test_what_is_cut_off_does_not_come_back(image_path: Path) -> None:
    overlay = open_overlay(image_path)
    write(overlay, 5000, b"cut off")
    overlay.resize(4096)
    overlay.resize(2 * MIB)
    assert overlay.size == 2 * MIB
    assert read(overlay, 4090, 1000) == bytes(range(0xFA, 0x100)) + bytes(994)
    assert read(overlay, MIB - 10, 20) == bytes(20)
    write(overlay, 2 * MIB - 4, b"last")
    write(overlay, 70000, b"!")
    assert read(overlay, 2 * MIB - 6, 6) == b"\0\0last"
    assert read(overlay, 69999, 3) == b"\0!\0"
    overlay.close()


def test_a_commit_writes_to_the_image_below_and_forgets(image_path: Path) -> None:
    graph = BlockGraph()
    overlay = open_overlay(image_path, graph)
    expected = bytearray(image_path.read_bytes())
    for offset, data in [(7, b"seven"), (MIB - 5, b"right"), (300000, b"x" * 70000)]:
        write(overlay, offset, data)
        expected[offset : offset + len(data)] = data
    graph.set_read_only(overlay.base, False)
    overlay.commit()
    assert image_path.read_bytes() == expected
    assert overlay.allocated_size == 0
    assert read(overlay, 0, MIB) == expected
    write(overlay, 0, b"again")
    assert image_path.read_bytes() == expected
    overlay.close()


def test_the_base_of_an_overlay_may_not_change_under_a_device(image_path: Path) -> None:
    overlay = open_overlay(image_path)
    NodeUser().use(overlay, READ | WRITE, READ)
    with pytest.raises(ConfigError, match="Permission conflict"):
        NodeUser().use(overlay.base, READ | WRITE)
    other = BlockGraph().open(FileOptions(filename=str(image_path)))
    with pytest.raises(HostError, match='Failed to get "write" lock'):
        NodeUser().use(other, READ | WRITE)
    other.close()
    overlay.close()


def test_an_overlay_that_cannot_be_made_leaves_nothing_open(
    image_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = BlockGraph()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(HostError, match="TMPDIR"):
        open_overlay(image_path, graph)
    assert not graph.nodes
