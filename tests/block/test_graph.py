"""Nodes by name: how they come, change and go, and who may do what with them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ratite.block import (
    BlockGraph,
    CacheOptions,
    DetectZeroes,
    Discard,
    FileNode,
    FileOptions,
    NodeOptions,
    NullAioOptions,
    NullCoOptions,
    RawNode,
    RawOptions,
)
from ratite.core.errors import ConfigError, HostError
from tests.block.nodes import ALONE, MIB, READ, WRITE, NodeUser, read, write


@pytest.fixture
def graph() -> BlockGraph:
    return BlockGraph(is_taken=lambda name: name == "d0")


def file(path: Path, name: str | None = None, **options: object) -> FileOptions:
    return FileOptions(filename=str(path), node_name=name, **options)  # type: ignore[arg-type]


def raw(below: NodeOptions | str, name: str | None = None, **options: object) -> RawOptions:
    return RawOptions(file=below, node_name=name, **options)  # type: ignore[arg-type]


# -- making and deleting


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("1f", "Invalid node-name: '1f'"),
        ("", "Invalid node-name: ''"),
        ("#block000", "Invalid node-name: '#block000'"),
        ("a b", "Invalid node-name: 'a b'"),
        ("n" * 32, "Node name too long"),
        ("d0", "node-name=d0 is conflicting with a device id"),
        ("f0", "Duplicate nodes with node-name='f0'"),
        (None, "'node-name' must be specified for the root node"),
    ],
)
def test_names_are_checked(
    graph: BlockGraph, image_path: Path, name: str | None, complaint: str
) -> None:
    graph.add(file(image_path, "f0"))
    with pytest.raises(ConfigError) as caught:
        graph.add(NullCoOptions(node_name=name))
    assert caught.value.text == complaint
    assert list(graph.nodes) == ["f0"]


def test_a_node_below_may_not_take_the_name_of_the_one_above(
    graph: BlockGraph, image_path: Path
) -> None:
    with pytest.raises(ConfigError, match="Duplicate nodes with node-name='r3'"):
        graph.add(raw(file(image_path, "r3"), "r3"))
    assert not graph.nodes


def test_nodes_without_a_name_get_one(graph: BlockGraph, image_path: Path) -> None:
    graph.add(raw(raw(file(image_path)), "top"))
    assert list(graph.nodes) == ["#block000", "#block001", "top"]


def test_a_node_is_deleted_when_nobody_uses_it(graph: BlockGraph, image_path: Path) -> None:
    below = graph.add(file(image_path, "f"))
    graph.add(raw("f", "r"))
    user = NodeUser().use(graph.nodes["r"], READ)
    for name, complaint in [
        ("nope", "Failed to find node with node-name='nope'"),
        ("f", "Block device f is in use"),
        ("r", "Node r is in use"),
    ]:
        with pytest.raises(ConfigError) as caught:
            graph.delete(name)
        assert caught.value.text == complaint
    user.remove()
    graph.delete("r")
    assert list(graph.nodes) == ["f"] and not below.users
    graph.delete("f")
    assert not graph.nodes
    with pytest.raises(OSError):
        read(below, 0, 1)


def test_a_node_described_inside_another_goes_with_it(graph: BlockGraph, image_path: Path) -> None:
    graph.add(raw(file(image_path, "f"), "r"))
    with pytest.raises(ConfigError, match="Node f is not owned by the monitor"):
        graph.delete("f")
    graph.delete("r")
    assert not graph.nodes


def test_a_node_that_fails_leaves_nothing(graph: BlockGraph, image_path: Path) -> None:
    with pytest.raises(ConfigError, match="Offset"):
        graph.add(raw(raw(file(image_path)), "r", offset=MIB + 1))
    with pytest.raises(ConfigError, match="Cannot find device='x' nor node-name='x'"):
        graph.add(raw("x", "r"))
    assert not graph.nodes


def test_a_node_inside_takes_over_what_it_does_not_say(graph: BlockGraph, image_path: Path) -> None:
    cache = CacheOptions(no_flush=True)
    graph.add(raw(file(image_path, "f"), "r", read_only=True, cache=cache))
    inside = graph.nodes["f"]
    assert inside.read_only and inside.options.no_flush and inside.discards
    said = file(image_path, "g", read_only=False, cache=CacheOptions(no_flush=False))
    graph.add(raw(said, "s", read_only=True, cache=cache))
    assert not graph.nodes["g"].read_only and not graph.nodes["g"].options.no_flush


def test_nodes_do_not_pile_up_without_end(graph: BlockGraph) -> None:
    graph.add(NullCoOptions(node_name="n1"))
    for number in range(2, 65):
        graph.add(raw(f"n{number - 1}", f"n{number}"))
    for wanted in (raw("n64", "n65"), raw(raw("n63"), "n65")):
        with pytest.raises(ConfigError, match="More than 64 nodes on top of each other"):
            graph.add(wanted)
    assert len(graph.nodes) == 64
    graph.add(NullCoOptions(node_name="m1"))
    graph.add(raw("m1", "m2"))
    with pytest.raises(ConfigError, match="More than 64 nodes"):
        graph.reopen([raw("n64", "m2")])
    graph.add(raw("m2", "m3"))
    with pytest.raises(ConfigError, match="More than 64 nodes"):
        graph.reopen([raw("n63", "m2")])  # with the one above there are 65
    assert graph.nodes["m2"].height == 2
    graph.reopen([raw("n62", "m2")])


# -- permissions


def test_users_that_stand_against_each_other_are_named(graph: BlockGraph, image_path: Path) -> None:
    graph.add(file(image_path, "f"))
    graph.add(raw("f", "a"))
    graph.add(raw("f", "b"))
    NodeUser("block device 'one'").use(graph.nodes["a"], READ | WRITE, ALONE)
    with pytest.raises(ConfigError) as caught:
        NodeUser("block device 'two'").use(graph.nodes["b"], READ | WRITE, ALONE)
    assert caught.value.text == (
        "Permission conflict on node 'f': permissions 'write' are both required by node 'a' "
        "(uses node 'f' as 'file' child) and unshared by node 'b' (uses node 'f' as 'file' child)."
    )
    with pytest.raises(ConfigError, match=r"required by block device 'one' .* unshared by block"):
        NodeUser("block device 'two'").use(graph.nodes["a"], READ | WRITE, ALONE)
    NodeUser().use(graph.nodes["b"], READ)


def test_a_read_only_node_below_keeps_writers_out(graph: BlockGraph, image_path: Path) -> None:
    graph.add(file(image_path, "f", read_only=True))
    graph.add(raw("f", "r"))
    assert not graph.nodes["r"].read_only
    with pytest.raises(ConfigError, match="Block node is read-only"):
        NodeUser().use(graph.nodes["r"], READ | WRITE)
    NodeUser().use(graph.nodes["r"], READ)


def test_force_share_is_for_readers(graph: BlockGraph, image_path: Path) -> None:
    with pytest.raises(ConfigError, match="force-share=on can only be used with read-only images"):
        graph.add(file(image_path, "f", force_share=True))


# -- changing


def test_a_node_is_reopened_read_only_and_back(graph: BlockGraph, image_path: Path) -> None:
    graph.add(file(image_path, "f"))
    graph.reopen([file(image_path, "f", read_only=True)])
    with pytest.raises(ConfigError, match="Block node is read-only"):
        NodeUser().use(graph.nodes["f"], READ | WRITE)
    graph.reopen([file(image_path, "f")])
    NodeUser().use(graph.nodes["f"], READ | WRITE)
    write(graph.nodes["f"], 0, b"again")


def test_a_node_with_writers_stays_writable(graph: BlockGraph, image_path: Path) -> None:
    graph.add(file(image_path, "f"))
    graph.add(raw("f", "r"))
    NodeUser().use(graph.nodes["r"], READ | WRITE)
    for options in (file(image_path, "f", read_only=True), raw("f", "r", read_only=True)):
        with pytest.raises(ConfigError) as caught:
            graph.reopen([options])
        name = options.node_name
        assert caught.value.text == f"Read-only block node '{name}' cannot support read-write users"
    write(graph.nodes["r"], 0, b"still")


def test_all_nodes_are_reopened_or_none(graph: BlockGraph, image_path: Path) -> None:
    graph.add(file(image_path, "f"))
    graph.add(raw("f", "r"))
    before = graph.nodes["f"].options
    with pytest.raises(ConfigError, match="Failed to find node with node-name='nope'"):
        graph.reopen([file(image_path, "f", read_only=True), raw("f", "nope")])
    with pytest.raises(ConfigError, match="Offset"):
        graph.reopen([file(image_path, "f", read_only=True), raw("f", "r", offset=2 * MIB)])
    assert graph.nodes["f"].options == before and not graph.nodes["f"].read_only
    NodeUser().use(graph.nodes["r"], READ | WRITE)


def test_what_a_node_keeps_for_life_is_refused(graph: BlockGraph, image_path: Path) -> None:
    graph.add(file(image_path, "f"))
    graph.add(NullCoOptions(node_name="n"))
    other = image_path.with_name("other")
    for options, complaint in [
        (raw("n", "f"), "Cannot change the option 'driver'"),
        (file(other, "f"), "Cannot change the option 'filename'"),
        (NullCoOptions(node_name="n", size=5), "Cannot change the option 'size'"),
        (NullAioOptions(node_name="n"), "Cannot change the option 'driver'"),
        (NullCoOptions(), "node-name not specified"),
        (
            file(image_path, "f", detect_zeroes=DetectZeroes.UNMAP),
            "setting detect-zeroes to unmap is not allowed without setting discard operation to "
            "unmap",
        ),
    ]:
        with pytest.raises(ConfigError) as caught:
            graph.reopen([options])
        assert caught.value.text == complaint


def test_a_node_can_be_put_on_another(graph: BlockGraph, image_path: Path) -> None:
    graph.add(raw(file(image_path, "inside"), "r", offset=512))
    graph.add(NullCoOptions(node_name="n", size=MIB, read_zeroes=True))
    user = NodeUser()
    user.use(graph.nodes["r"], READ)
    graph.reopen([raw("n", "r")])
    assert list(graph.nodes) == ["r", "n"]
    assert graph.nodes["r"].size == MIB and user.resizes == 1
    assert read(graph.nodes["r"], 0, 4) == bytes(4)
    with pytest.raises(ConfigError, match="Making 'r' a file child of 'r' would create a cycle"):
        graph.reopen([raw("r", "r")])
    with pytest.raises(ConfigError, match="Block device n is in use"):
        graph.delete("n")


def test_a_change_of_the_node_below_that_fails_is_taken_back(
    graph: BlockGraph, image_path: Path
) -> None:
    graph.add(file(image_path, "f"))
    graph.add(raw("f", "r"))
    graph.add(NullCoOptions(node_name="n", read_only=True))
    NodeUser().use(graph.nodes["r"], READ | WRITE, ALONE)
    with pytest.raises(ConfigError, match="Block node is read-only"):
        graph.reopen([raw("n", "r")])
    write(graph.nodes["r"], 0, b"as before")
    assert image_path.read_bytes()[:9] == b"as before"
    other = FileNode("o", file(image_path))
    with pytest.raises(HostError, match="Failed to get"):
        NodeUser().use(other, READ | WRITE)
    other.close()


def test_a_node_described_inside_is_reopened_with_the_one_above(
    graph: BlockGraph, image_path: Path
) -> None:
    graph.add(raw(file(image_path, "f"), "r"))
    graph.reopen([raw(file(image_path), "r", read_only=True)])
    assert graph.nodes["r"].read_only and graph.nodes["f"].read_only
    graph.reopen([raw(file(image_path, read_only=True), "r")])
    assert not graph.nodes["r"].read_only and graph.nodes["f"].read_only


# -- raw


@pytest.mark.parametrize(
    ("offset", "size", "complaint"),
    [
        (-1, None, "Parameter 'offset' expects a non-negative number below 2^64"),
        (1 << 64, None, "Parameter 'offset' expects a non-negative number below 2^64"),
        (2 * MIB, None, "Offset (2097152) cannot be greater than size of the containing file"),
        (512, MIB, "The sum of offset (512) and size (1048576) has to be smaller or equal"),
        (None, 100, "Specified size is not multiple of 512"),
        (None, -512, "Parameter 'size' expects a non-negative number below 2^64"),
    ],
)
def test_a_part_must_be_there(
    graph: BlockGraph, image_path: Path, offset: int | None, size: int | None, complaint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        graph.add(raw(file(image_path), "r", offset=offset, size=size))
    assert caught.value.text.startswith(complaint)


def test_a_part_of_a_file_is_a_disk(graph: BlockGraph, image_path: Path) -> None:
    part = graph.add(raw(file(image_path), "r", offset=100, size=1024, discard=Discard.UNMAP))
    assert part.size == 1024
    assert read(part, 0, 4) == b"\x64\x65\x66\x67"
    write(part, 1020, b"last")
    part.write_zeroes(0, 4)
    part.discard(4, 4)
    part.flush()
    data = image_path.read_bytes()
    assert data[1120:1124] == b"last" and data[100:104] == bytes(4) and data[99] == 99
    for call in (lambda: read(part, 1024, 1), lambda: write(part, 1021, b"last")):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EINVAL
    assert not part.read_cached(1023, [memoryview(bytearray(2))])
    view = memoryview(bytearray(4))
    assert not part.read_cached(1020, [view]) or view == b"last"
    with pytest.raises(ConfigError, match="Cannot resize fixed-size raw disks"):
        part.resize(512)


def test_a_raw_node_follows_the_size_of_the_file(graph: BlockGraph, image_path: Path) -> None:
    whole = graph.add(raw(file(image_path, "f"), "r"))
    rest = graph.add(raw("f", "rest", offset=4096))
    user = NodeUser()
    user.use(whole, READ | WRITE)
    assert rest.size == MIB - 4096
    rest.resize(8192)
    assert (whole.size, rest.size, user.resizes) == (12288, 8192, 1)


def test_a_part_that_is_not_there_any_more_answers_with_errors(
    graph: BlockGraph, image_path: Path
) -> None:
    part = graph.add(raw(file(image_path, "f"), "r", offset=4096, size=8192))
    graph.nodes["f"].resize(4608)
    with pytest.raises(OSError) as caught:
        read(part, 1024, 512)
    assert caught.value.errno == errno.EINVAL


# -- what every node does


def test_zeroes_are_detected(graph: BlockGraph, image_path: Path) -> None:
    options = raw(file(image_path), "r", detect_zeroes=DetectZeroes.UNMAP, discard=Discard.UNMAP)
    node = graph.add(options)
    before = node.allocated_size
    node.writev(65536, [memoryview(bytes(131072)), memoryview(bytes(65536))])
    assert read(node, 65536, 196608) == bytes(196608)
    assert node.allocated_size < before
    write(node, 0, bytes(70000) + b"x")
    assert read(node, 69999, 2) == b"\0x"


def test_a_write_beyond_the_threshold_is_told_once(graph: BlockGraph, image_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    graph.on_threshold = lambda node, exceeded, limit: told.append((node.name, exceeded, limit))
    node = graph.add(file(image_path, "f"))
    node.write_threshold = 4096
    write(node, 4095, b"x")
    assert not told
    write(node, 4095, b"xyz")
    write(node, 9000, b"x")
    assert told == [("f", 2, 4096)] and not node.write_threshold
    node.write_threshold = 1
    node.write_zeroes(0, 512)
    assert told[1:] == [("f", 511, 1)]
    assert node.highest_write == 9001


def test_null_disks_have_any_size(graph: BlockGraph) -> None:
    node = graph.add(NullCoOptions(node_name="n", size=1000, read_zeroes=True))
    assert node.size == 1024
    view = memoryview(bytearray(b"data"))
    write(node, 0, b"gone")
    node.readv(0, [view])
    assert view == bytes(4)
    for call in (lambda: node.discard(0, 512), lambda: node.write_zeroes(0, 512), node.flush):
        call()
    with pytest.raises(ConfigError, match="does not support resize"):
        node.resize(4096)
    plain = graph.add(NullAioOptions(node_name="m"))
    assert plain.size == 1 << 30
    plain.readv(0, [view])
    for options, complaint in [
        (NullCoOptions(node_name="x", size=-1), "non-negative number below 2"),
        (NullCoOptions(node_name="x", latency_ns=-1), "latency-ns is invalid"),
    ]:
        with pytest.raises(ConfigError, match=complaint):
            graph.add(options)


def test_file_names_say_what_a_node_is(graph: BlockGraph, image_path: Path) -> None:
    name = str(image_path)
    for options, filename in [
        (raw(file(image_path)), name),
        (raw(NullCoOptions()), "null-co://"),
        (NullCoOptions(size=5), 'json:{"driver": "null-co", "size": 5}'),
        (
            raw(raw(file(image_path), offset=512, size=512)),
            'json:{"driver": "raw", "file": {"offset": 512, "driver": "raw", "size": 512, "file": '
            f'{{"driver": "file", "filename": "{name}"}}}}}}',
        ),
    ]:
        assert graph.open(options).filename == filename
    node = graph.nodes["#block001"]
    assert isinstance(node, RawNode)
