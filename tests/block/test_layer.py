"""The block layer as a whole: drives, their nodes, and what is done to them from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ratite.block import (
    BlockLayer,
    Drive,
    FileOptions,
    Limits,
    NodeOptions,
    OverlayNode,
    OverlayOptions,
    RawOptions,
)
from ratite.core.disk import DiskTerms
from ratite.core.errors import ConfigError, HostError
from tests.block.nodes import MIB, Loop, read, write
from tests.block.test_drive import Device


@pytest.fixture
def layer(loop: Loop) -> Iterator[BlockLayer]:
    layer = BlockLayer(loop)
    yield layer
    layer.close()
    layer.close()
    assert not layer.drives and not layer.graph.nodes


def options(path: Path, **more: object) -> RawOptions:
    return RawOptions(file=FileOptions(filename=str(path)), **more)  # type: ignore[arg-type]


def snapshot(path: Path) -> NodeOptions:
    return OverlayOptions(backing=options(path, read_only=True))


def test_names_of_drives_and_nodes_are_apart(layer: BlockLayer, image_path: Path) -> None:
    layer.add_drive("d0", options(image_path))
    layer.add_node(options(image_path, node_name="n0"))
    for name, more, complaint in [
        ("d0", {}, "Device with id 'd0' already exists"),
        ("n0", {}, "Device name 'n0' conflicts with an existing node name"),
        ("d1", {"node_name": "d1"}, "Device name 'd1' conflicts with an existing node name"),
        ("d1", {"node_name": "d0"}, "node-name=d0 is conflicting with a device id"),
        ("d1", {"node_name": "n0"}, "Duplicate nodes with node-name='n0'"),
    ]:
        with pytest.raises(ConfigError) as caught:
            layer.add_drive(name, options(image_path, **more))
        assert caught.value.text == complaint
    assert [drive.name for drive in layer.drives] == ["d0"]
    assert len(layer.graph.nodes) == 4


def test_a_node_may_be_put_on_that_of_a_drive(layer: BlockLayer, image_path: Path) -> None:
    layer.add_drive("d0", options(image_path))
    layer.add_drive("empty", None)
    layer.add_node(RawOptions(file="d0", node_name="on-top"))
    with pytest.raises(ConfigError, match="Device 'empty' has no medium"):
        layer.add_node(RawOptions(file="empty", node_name="x"))
    drive = layer.drive("d0")
    assert drive is not None
    layer.remove_drive(drive)
    assert list(layer.graph.nodes) == ["#block000", "#block001", "on-top"]
    layer.delete_node("on-top")
    assert not layer.graph.nodes


def test_a_device_takes_a_node_by_a_drive_without_a_name(
    layer: BlockLayer, image_path: Path
) -> None:
    layer.add_node(options(image_path, node_name="n0"))
    assert layer.claim("nope") is None
    drive = layer.claim("n0")
    assert drive is not None and (drive.id, drive.name) == ("n0", "")
    drive.attach(Device())
    assert layer.drive_of_device("disk0") is drive
    with pytest.raises(ConfigError, match="Node n0 is in use"):
        layer.delete_node("n0")
    drive.detach()
    drive.release()
    assert not layer.drives
    layer.delete_node("n0")


def test_a_drive_goes_with_its_device(layer: BlockLayer, image_path: Path) -> None:
    layer.add_drive("d0", options(image_path))
    drive = layer.claim("d0")
    assert drive is not None
    drive.attach(Device())
    drive.detach()
    drive.release()
    assert not layer.drives and not layer.graph.nodes


def test_a_device_keeps_a_drive_that_is_deleted_and_finds_it_empty(
    layer: BlockLayer, image_path: Path
) -> None:
    layer.add_drive("d0", options(image_path))
    drive = layer.claim("d0")
    assert drive is not None
    drive.attach(Device())
    layer.delete_drive(drive)
    assert (drive.name, drive.size, drive.tells_status) == ("", 0, False)
    assert layer.drives == [drive] and not layer.graph.nodes
    layer.add_drive("d0", options(image_path))


def test_media_change_in_drives_that_no_device_has(layer: BlockLayer, image_path: Path) -> None:
    drive = layer.add_drive("d0", options(image_path))
    other = image_path.with_name("other.img")
    other.write_bytes(b"other".ljust(512, b"\0"))
    layer.change(drive, options(other))
    assert drive.size == 512 and len(layer.graph.nodes) == 2
    with pytest.raises(HostError, match="Could not open"):
        layer.change(drive, options(image_path.with_name("none")))
    assert drive.size == 512
    taken = BlockLayer(Loop())
    taken.add_drive("x", options(image_path))
    with pytest.raises(HostError, match="Failed to get"):
        layer.change(drive, options(image_path))
    assert drive.size == 512 and len(layer.graph.nodes) == 2
    taken.close()
    layer.eject(drive)
    layer.eject(drive)
    assert drive.node is None and not layer.graph.nodes
    layer.change(drive, options(image_path))
    drive.attach(Device())
    with pytest.raises(ConfigError, match="Device 'd0' is not removable"):
        layer.change(drive, options(other))
    assert len(layer.graph.nodes) == 2


def test_a_resize_needs_a_node_that_may_be_written(layer: BlockLayer, image_path: Path) -> None:
    layer.add_node(options(image_path, node_name="ro", read_only=True))
    layer.add_node(options(image_path, node_name="rw"))
    writable = layer.find("", "rw")
    for node, size, complaint in [
        (layer.find("", "ro"), MIB, "Image is read-only"),
        (writable, -1, "Parameter 'size' expects a >0 size"),
        (writable, (1 << 63) - 1, "offset(9223372036854775807) exceeds maximum"),
    ]:
        with pytest.raises(ConfigError) as caught:
            layer.resize(node, size)
        assert caught.value.text.startswith(complaint)
    layer.resize(writable, 4096)
    assert image_path.stat().st_size == 4096 and not writable.users
    with pytest.raises(ConfigError, match="Cannot find device='x' nor node-name='y'"):
        layer.find("x", "y")


def test_a_part_of_an_image_keeps_its_size(layer: BlockLayer, image_path: Path) -> None:
    layer.add_node(FileOptions(filename=str(image_path), node_name="f"))
    layer.add_node(RawOptions(file="f", node_name="part", offset=512))
    with pytest.raises(ConfigError, match="Permission conflict on node 'f': permissions 'resize'"):
        layer.resize(layer.find("", "f"), 4096)
    layer.delete_node("part")
    layer.resize(layer.find("", "f"), 4096)


def commit(layer: BlockLayer, drive: Drive, meanwhile: Callable[[], object] = list) -> None:
    """Commit a drive's overlay; something else happens after most of it was copied."""
    one = layer.begin_commit(drive)
    assert one is not None
    try:
        one.copy()
        meanwhile()
        one.finish()
    finally:
        one.end()


def test_a_commit_writes_an_overlay_down(layer: BlockLayer, image_path: Path) -> None:
    drive = layer.add_drive("d0", snapshot(image_path))
    plain = layer.add_drive("d1", None)
    drive.attach(Device(), DiskTerms(may_resize=True))
    assert drive.node is not None
    write(drive.node, 5, b"committed")
    layer.resize(drive.node, 2 * MIB)
    assert image_path.read_bytes()[5:14] != b"committed"
    commit(layer, drive)
    data = image_path.read_bytes()
    assert data[5:14] == b"committed" and len(data) == 2 * MIB
    assert read(drive.node, 5, 9) == b"committed"
    write(drive.node, 5, b"not yet..")
    assert image_path.read_bytes() == data
    base = drive.node.backing
    assert base is not None and base.read_only
    assert layer.begin_commit(plain) is None


def test_what_is_written_while_an_overlay_is_committed_is_not_lost(
    layer: BlockLayer, image_path: Path
) -> None:
    drive = layer.add_drive("d0", snapshot(image_path))
    drive.attach(Device())
    node = drive.node
    assert isinstance(node, OverlayNode)
    expected = bytearray(b"a" * MIB)
    write(node, 0, bytes(expected))
    write(node, MIB - 70000, b"b" * 70000)
    expected[MIB - 70000 :] = b"b" * 70000
    going, changes = threading.Event(), 0

    def change() -> None:
        nonlocal changes
        while not going.is_set():
            at = changes * 4093 % (MIB - 9)
            write(node, at, b"%09d" % changes)
            expected[at : at + 9] = b"%09d" % changes
            assert read(node, at, 9) == b"%09d" % changes
            changes += 1

    guest = threading.Thread(target=change)
    guest.start()

    def stop() -> None:
        going.set()
        guest.join()

    commit(layer, drive, stop)
    assert changes
    assert read(node, 0, MIB) == expected
    assert image_path.read_bytes()[:MIB] == expected


def test_a_commit_that_another_thing_ends_loses_nothing(
    layer: BlockLayer, image_path: Path
) -> None:
    drive = layer.add_drive("d0", snapshot(image_path))
    drive.attach(Device())
    node = drive.node
    assert node is not None
    write(node, 0, b"c" * MIB)
    one = layer.begin_commit(drive)
    assert one is not None
    with pytest.raises(OSError, match="busy"):
        layer.begin_commit(drive)
    one.copy()
    drive.deactivate()  # the image is another machine's
    with pytest.raises(OSError, match="cancel"):
        one.finish()
    one.end()
    drive.activate()
    assert read(node, 0, MIB) == b"c" * MIB


def test_an_overlay_on_an_image_that_others_use_cannot_be_committed(
    layer: BlockLayer, image_path: Path, loop: Loop
) -> None:
    drive = layer.add_drive("d0", snapshot(image_path))
    assert drive.node is not None
    write(drive.node, 0, b"mine")
    other = BlockLayer(loop)
    reader = other.add_drive("r", options(image_path, read_only=True))
    reader.attach(Device())
    with pytest.raises(HostError, match="Failed to get"):
        commit(layer, drive)
    base = drive.node.backing
    assert base is not None and base.read_only
    other.close()
    commit(layer, drive)
    assert image_path.read_bytes()[:4] == b"mine"


def test_drives_join_and_leave_groups(layer: BlockLayer, image_path: Path) -> None:
    first, second = (layer.add_drive(name, None) for name in ("a", "b"))
    limits = Limits.of({"iops": 10})
    layer.set_limits(first, limits, None, "a")
    assert first.throttle is not None and first.throttle.name == "a"
    layer.set_limits(second, Limits.of({"bps": 5}), "a", "b")
    assert second.throttle is first.throttle
    assert first.throttle.limits.rate("iops").average == 0
    layer.set_limits(second, limits, None, "b")
    assert second.throttle is first.throttle
    layer.set_limits(first, Limits(), None, "a")
    assert first.throttle is None and second.throttle is not None
    with pytest.raises(ConfigError, match="iops size requires"):
        layer.set_limits(second, Limits.of({"iops_size": 1}), None, "b")
    layer.remove_drive(second)
    layer.set_limits(first, limits, "a", "x")
    assert first.throttle is not None and first.throttle.members == {first}


def test_a_threshold_is_told_on_the_loop(layer: BlockLayer, image_path: Path, loop: Loop) -> None:
    told: list[tuple[str, int, int]] = []
    layer.on_threshold = lambda node, *what: told.append((node.name, *what))
    node = layer.add_node(options(image_path, node_name="n"))
    node.write_threshold = 100
    write(node, 0, bytes(512))
    assert not told
    loop.run_one()
    assert told == [("n", 412, 100)]
