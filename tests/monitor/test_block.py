"""Drives and nodes of a machine that runs: a guest that uses its disk, and a client."""

from __future__ import annotations

import errno
import json
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratite.block import BlockNode, OverlayNode, Permission
from ratite.core.errors import ConfigError, HostError
from ratite.devices.virtio.blk import VirtioBlk
from ratite.machines.config import DeviceConfig
from ratite.memory import Gpa, MemTxResult
from ratite.monitor.hmp.command import Shell
from ratite.monitor.hmp.shell import completions
from ratite.monitor.session import Session
from tests.block.nodes import NodeUser, open_file
from tests.devices.virtio.conftest import Guest, Ring
from tests.monitor.conftest import MACHINE, MakeVm, MonitoredVm, QmpClient, monitored

OPTIONS = "-M virt -m 64M -S -nodefaults -display none -bios none -accel qtest"
SLOT = 0x1000_8000  # the transport that the first device gets
SIZE = 1 << 20
IN, OUT, FLUSH, DISCARD = 0, 1, 4, 11
OK, IOERR = b"\0", b"\1"
ZERO_LIMITS = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


class VmGuest(Guest):
    """A driver of a machine's disk, in place of a guest."""

    def __init__(self, machine: MonitoredVm) -> None:
        self.machine = machine.vm.machine
        self.legacy = False
        self.top = 0x8010_0000
        self.settle = lambda: None
        self.device: Any = SimpleNamespace(queues=[SimpleNamespace(index=0, max_size=64)])

    def poke(self, addr: int, data: bytes) -> None:
        with self.machine.lock:
            assert self.machine.memory.write_bytes(Gpa(addr), data) is MemTxResult.OK

    def peek(self, addr: int, size: int) -> bytes:
        with self.machine.lock:
            data, result = self.machine.memory.read_bytes(Gpa(addr), size)
        assert result is MemTxResult.OK
        return data

    def get(self, offset: int, size: int = 4) -> int:
        with self.machine.lock:
            return self.machine.memory.read(Gpa(SLOT + offset), size)[0]

    def set(self, offset: int, value: int, size: int = 4) -> None:
        with self.machine.lock:
            self.machine.memory.write(Gpa(SLOT + offset), size, value)


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE))
    return path


Start = Callable[..., tuple[MonitoredVm, QmpClient, Ring]]


@pytest.fixture
def start(make_vm: MakeVm, image: Path) -> Start:
    """A machine that runs, with a disk on the node `r` on the node `f` on the image."""

    def start(
        device: str = "", nodes: str = "", drive: str = ""
    ) -> tuple[MonitoredVm, QmpClient, Ring]:
        if drive:
            backend = f"-drive file=disk.img,format=raw,if=none,id=d,{drive}"
            device = f"drive=d,id=vb{device}"
        else:
            backend = "-blockdev file,node-name=f,filename=disk.img,discard=unmap"
            backend += f" -blockdev raw,node-name=r,file=f,discard=unmap{nodes}"
            device = f"drive=r,id=vb{device}"
        legacy = "-global virtio-mmio.force-legacy=off"
        machine = make_vm(f"{legacy} {backend} -device virtio-blk-device,{device}", OPTIONS)
        qmp = machine.client()
        qmp.result("cont")
        (ring,) = VmGuest(machine).start()
        return machine, qmp, ring

    return start


def write(ring: Ring, sector: int, data: bytes) -> bytes:
    return ring.exchange([header(OUT, sector), data], [1])


def read(ring: Ring, sector: int, size: int = 512) -> bytes:
    return ring.exchange([header(IN, sector)], [size, 1])


def node_of(machine: MonitoredVm, name: str) -> Any:
    return machine.vm.backends.block.graph.nodes[name]


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Callable[[BlockNode, int], Callable[[], None]]:
    """Have writes to a node fail, until the function returned is called."""

    def breaks(node: BlockNode, code: int) -> Callable[[], None]:
        def fail(offset: int, buffers: Sequence[memoryview]) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(node, "_writev", fail)
        return monkeypatch.undo

    return breaks


# -- statistics


def test_what_the_guest_does_is_counted(start: Start) -> None:
    _, qmp, ring = start()
    assert write(ring, 8, b"x" * 1024) == OK
    assert read(ring, 8)[:1] == b"x"
    assert ring.exchange([header(FLUSH)], [1]) == OK
    erase = struct.pack("<QII", 8, 16, 0)
    assert ring.exchange([header(DISCARD), erase], [1]) == OK
    assert read(ring, SIZE // 512)[-1:] == IOERR
    (found,) = qmp.result("query-blockstats")
    stats = found["stats"]
    assert (found["device"], found["qdev"], found["node-name"]) == ("", "vb", "r")
    assert (stats["wr_operations"], stats["wr_bytes"], stats["wr_highest_offset"]) == (
        1, 1024, 5120,
    )  # fmt: skip
    assert (stats["rd_operations"], stats["rd_bytes"], stats["flush_operations"]) == (1, 512, 1)
    assert (stats["unmap_operations"], stats["unmap_bytes"]) == (1, 8192)
    assert stats["invalid_rd_operations"] == 1 and stats["idle_time_ns"] > 0
    assert stats["wr_total_time_ns"] > 0 and stats["rd_total_time_ns"] > 0
    below = found["parent"]
    assert below["node-name"] == "f" and below["stats"]["wr_highest_offset"] == 5120
    assert below["driver-specific"] == {
        "driver": "file",
        "discard-nb-ok": 1,
        "discard-nb-failed": 0,
        "discard-bytes-ok": 8192,
    }
    assert ": rd_bytes=512 wr_bytes=1024 rd_operations=1" in qmp.hmp("info blockstats")
    names = [entry["node-name"] for entry in qmp.result("query-blockstats", query_nodes=True)]
    assert names == ["f", "r"]


# -- size


@pytest.mark.parametrize("node", ["f", "r"])
def test_the_guest_learns_of_another_size(start: Start, image: Path, node: str) -> None:
    _, qmp, ring = start()
    guest = ring.guest
    guest.set(0x064, guest.get(0x060))
    generation = guest.get(0x0FC)
    qmp.result("block_resize", node_name=node, size=2 * SIZE)
    assert guest.get(0x060) == 2 and guest.get(0x0FC) != generation
    assert guest.config(0, 8) == (2 * SIZE // 512).to_bytes(8, "little")
    assert write(ring, SIZE // 512, b"n" * 512) == OK
    assert image.stat().st_size == 2 * SIZE
    qmp.result("block_resize", node_name=node, size=4096)
    assert write(ring, 8, b"n" * 512) == IOERR


def test_what_happens_to_the_image_on_the_host_is_no_surprise(start: Start, image: Path) -> None:
    _, qmp, ring = start()
    assert write(ring, 4, b"x" * 512) == OK
    os.truncate(image, 100)
    assert read(ring, 4) == bytes(512) + OK
    assert write(ring, 100, b"y" * 512) == OK
    image.unlink()
    assert read(ring, 100) == b"y" * 512 + OK
    assert write(ring, 101, b"z" * 512) == OK
    (drive,) = qmp.result("query-block")
    assert drive["inserted"]["image"]["actual-size"] > 0
    assert "disk.img" in qmp.hmp("info block -v")
    reopened = {"driver": "file", "node-name": "f", "filename": "disk.img"}
    qmp.result("blockdev-reopen", options=[{**reopened, "cache": {"no-flush": True}}])
    assert read(ring, 101) == b"z" * 512 + OK


# -- thresholds


def test_a_write_beyond_the_threshold_is_announced_once(start: Start) -> None:
    _, qmp, ring = start()
    qmp.result("block-set-write-threshold", node_name="f", write_threshold=4096)
    assert write(ring, 7, b"x" * 512) == OK
    assert write(ring, 7, b"x" * 1024) == OK
    assert qmp.event("BLOCK_WRITE_THRESHOLD")["data"] == {
        "node-name": "f",
        "amount-exceeded": 512,
        "write-threshold": 4096,
    }
    assert write(ring, 70, b"x" * 1024) == OK
    assert qmp.result("query-status")["running"]
    assert [message["event"] for message in qmp.events] == ["RESUME"]
    assert {node["write_threshold"] for node in qmp.result("query-named-block-nodes")} == {0}


# -- errors


def status_of(qmp: QmpClient) -> str:
    (drive,) = qmp.result("query-block")
    return str(drive.get("io-status"))


def test_an_error_stops_the_machine_until_it_goes_on(
    start: Start, breaks: Any, image: Path
) -> None:
    machine, qmp, ring = start(",werror=stop")
    assert status_of(qmp) == "ok"
    repair = breaks(node_of(machine, "f"), errno.EIO)
    head = ring.add([header(OUT, 5), b"k" * 512], [1])
    ring.kick()
    assert qmp.event("BLOCK_IO_ERROR")["data"] == {
        "device": "",
        "node-name": "r",
        "operation": "write",
        "action": "stop",
        "nospace": False,
        "reason": "Input/output error",
    }
    qmp.event("STOP")
    assert qmp.result("query-status") == {
        "running": False,
        "singlestep": False,
        "status": "io-error",
    }
    assert status_of(qmp) == "failed"
    assert "    I/O status:       failed\n" in qmp.hmp("info block")
    assert qmp.hmp("info status") == "VM status: paused (io-error)\n"
    assert ring.collect() == []
    qmp.result("cont")  # too early
    qmp.event("BLOCK_IO_ERROR")
    qmp.event("STOP")
    repair()
    qmp.events.clear()
    qmp.result("cont")
    deadline = time.monotonic() + 10
    while not (done := ring.collect()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert done == [(head, 1)] and ring.answer(head) == OK
    assert image.read_bytes()[5 * 512 : 6 * 512] == b"k" * 512
    assert status_of(qmp) == "ok" and qmp.result("query-status")["running"]
    (found,) = qmp.result("query-blockstats")
    assert found["stats"]["failed_wr_operations"] == 0
    assert found["stats"]["wr_operations"] == 1


def test_a_full_host_stops_the_machine_by_itself(start: Start, breaks: Any) -> None:
    machine, qmp, ring = start(drive="node-name=r")
    repair = breaks(node_of(machine, "r"), errno.ENOSPC)
    ring.add([header(OUT, 5), b"k" * 512], [1])
    ring.kick()
    data = qmp.event("BLOCK_IO_ERROR")["data"]
    assert (data["device"], data["action"], data["nospace"]) == ("d", "stop", True)
    qmp.event("STOP")
    assert status_of(qmp) == "nospace"
    repair()
    qmp.result("system_reset")  # the request goes with it
    qmp.event("RESET")
    qmp.result("cont")
    assert status_of(qmp) == "ok"
    (fresh,) = ring.guest.start()
    assert write(fresh, 5, b"n" * 512) == OK


@pytest.mark.parametrize(
    ("device", "drive", "answer", "action"),
    [
        (",werror=report", "", IOERR, "report"),
        (",werror=ignore", "", OK, "ignore"),
        ("", "werror=report", IOERR, "report"),
        (",werror=ignore", "werror=stop", OK, "ignore"),
    ],
)
def test_an_error_is_told_to_the_guest_or_not(
    start: Start, breaks: Any, device: str, drive: str, answer: bytes, action: str
) -> None:
    machine, qmp, ring = start(device, drive=drive)
    (name, *_) = machine.vm.backends.block.graph.nodes
    breaks(node_of(machine, name), errno.ENOSPC)
    assert write(ring, 5, b"k" * 512) == answer
    data = qmp.event("BLOCK_IO_ERROR")["data"]
    assert data["action"] == action and "nospace" not in data
    (found,) = qmp.result("query-blockstats")
    counts = (found["stats"]["wr_operations"], found["stats"]["failed_wr_operations"])
    assert counts == ((0, 1) if action == "report" else (1, 0))
    assert qmp.result("query-status")["running"] and status_of(qmp) == "None"


# -- limits


def limit(qmp: QmpClient, **limits: int) -> None:
    """Limit the disk; what is not said has no limit."""
    arguments = {"id": "vb", **ZERO_LIMITS, **limits}
    assert qmp.ask({"execute": "block_set_io_throttle", "arguments": arguments}) == {"return": {}}


def test_a_limit_holds_the_guest_back(start: Start) -> None:
    _, qmp, ring = start()
    limit(qmp, bps=1)
    assert write(ring, 0, b"1" * 512) == OK
    head = ring.add([header(OUT, 1), b"2" * 512], [1])
    other = ring.add([header(IN, 1)], [512, 1])
    ring.kick()
    assert ring.exchange([header(FLUSH)], [1]) == OK
    (drive,) = qmp.result("query-block")
    assert (drive["inserted"]["bps"], drive["inserted"]["group"]) == (1, "vb")
    limit(qmp)
    deadline = time.monotonic() + 10
    done: list[tuple[int, int]] = []
    while len(done) < 2:
        assert time.monotonic() < deadline
        done += ring.collect()
    assert {entry[0] for entry in done} == {head, other}
    assert "group" not in qmp.result("query-block")[0]["inserted"]


def test_a_reset_does_not_wait_for_what_a_limit_holds_back(start: Start) -> None:
    _, _, ring = start(drive="iops=1,iops_max=1")
    heads = [ring.add([header(OUT, n), b"x" * 512], [1]) for n in range(5)]
    ring.kick()
    before = time.monotonic()
    ring.guest.set(0x070, 0)
    assert time.monotonic() - before < 2
    assert [ring.answer(head) for head in heads] == [OK] * 5


# -- coming and going


def test_a_disk_without_its_drive_answers_with_errors(start: Start) -> None:
    _, qmp, ring = start(drive="cache=writeback")
    assert write(ring, 0, b"x" * 512) == OK
    assert qmp.hmp("drive_del d") == ""
    assert read(ring, 0)[-1:] == IOERR and write(ring, 0, b"x" * 512) == IOERR
    assert ring.exchange([header(FLUSH)], [1]) == IOERR
    assert qmp.result("query-named-block-nodes") == []
    qmp.result("system_reset")
    assert qmp.hmp("info block") == "vb: [not inserted]\n    Attached to:      vb\n"


def test_an_image_is_free_when_its_device_is_gone(make_vm: MakeVm, image: Path) -> None:
    machine = make_vm(
        "-drive file=disk.img,format=raw,if=none,id=d -device virtio-blk-device,drive=d,id=vb "
        "-blockdev file,node-name=g,filename=disk.img"
    )
    qmp = machine.client()
    (drive,) = qmp.result("query-block")
    assert qmp.error("blockdev-del", node_name=drive["inserted"]["node-name"])[1].endswith("in use")
    assert "does not support hotplugging" in qmp.error("device_del", id="vb")[1]
    other = open_file(image)
    with pytest.raises(HostError, match="Failed to get"):
        NodeUser().use(other, Permission.WRITE)
    device: Any = machine.vm.root.resolve("/machine/peripheral/vb")
    with machine.vm.machine.lock:
        machine.vm.machine.unplug_device(device)
    assert qmp.result("query-block") == []
    assert [entry["node-name"] for entry in qmp.result("query-named-block-nodes")] == ["g"]
    NodeUser().use(other, Permission.WRITE, Permission.NONE)
    other.close()
    qmp.result("blockdev-del", node_name="g")


def test_a_device_that_fails_to_come_leaves_node_and_drive(make_vm: MakeVm, image: Path) -> None:
    machine = make_vm("-blockdev file,node-name=f,filename=disk.img")
    board = machine.vm.machine
    for wrong in ({"num-queues": "0"}, {"nope": "1"}, {"logical_block_size": "1000"}):
        wanted = DeviceConfig("virtio-blk-device", "vb", {"drive": "f", **wrong})
        with board.lock, pytest.raises(ConfigError):
            board.plug_device(VirtioBlk, wanted, board.bus_for(VirtioBlk, wanted))
    qmp = machine.client()
    assert qmp.result("query-block") == []
    qmp.result("blockdev-del", node_name="f")


def test_a_snapshot_is_committed(start: Start, image: Path) -> None:
    _, qmp, ring = start(drive="snapshot=on")
    assert write(ring, 3, b"s" * 512) == OK
    assert image.read_bytes() == bytes(SIZE)
    (drive,) = qmp.result("query-block")
    inserted = drive["inserted"]
    assert (inserted["drv"], inserted["backing_file"]) == ("overlay", "disk.img")
    assert inserted["backing_file_depth"] == 1
    assert inserted["image"]["backing-image"]["filename"] == "disk.img"
    assert "Backing file:     disk.img (chain depth: 1)" in qmp.hmp("info block")
    assert "image: disk.img\nfile format: raw" in qmp.hmp("info block -v")
    assert qmp.hmp("commit d") == ""
    assert image.read_bytes()[3 * 512 : 4 * 512] == b"s" * 512
    assert read(ring, 3) == b"s" * 512 + OK


def test_while_a_snapshot_is_committed_guest_and_monitors_go_on(
    make_vm: MakeVm, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, copy = threading.Event(), OverlayNode.copy_down

    def wait_and_copy(node: OverlayNode) -> None:
        assert go_on.wait(60)
        copy(node)

    monkeypatch.setattr(OverlayNode, "copy_down", wait_and_copy)
    drive = "-drive file=disk.img,format=raw,if=none,id=d,snapshot=on"
    device = "-global virtio-mmio.force-legacy=off -device virtio-blk-device,drive=d"
    other = f"-qmp unix:{tmp_path}/other,server=on,wait=off"
    machine = make_vm(f"{drive} {device} {other}", OPTIONS)
    qmp, second = machine.client(), machine.client(tmp_path / "other")
    second.result("cont")
    (ring,) = VmGuest(machine).start()
    assert write(ring, 3, b"s" * 512) == OK
    arguments = {"command-line": "commit all"}
    qmp.send(json.dumps({"execute": "human-monitor-command", "arguments": arguments}))
    assert second.result("query-status")["running"]
    deadline = time.monotonic() + 60
    while second.hmp("commit nosuch") and not overlay_of(machine).committing:
        assert time.monotonic() < deadline
    assert second.hmp("commit d") == "'commit' error for 'd': Device or resource busy\n"
    assert write(ring, 4, b"t" * 512) == OK
    assert image.read_bytes() == bytes(SIZE)
    go_on.set()
    assert qmp.reply()["return"] == ""
    assert image.read_bytes()[3 * 512 : 5 * 512] == b"s" * 512 + b"t" * 512
    assert read(ring, 3, 1024) == b"s" * 512 + b"t" * 512 + OK


def overlay_of(machine: MonitoredVm) -> OverlayNode:
    drive = machine.vm.backends.block.drive("d")
    assert drive is not None and isinstance(drive.node, OverlayNode)
    return drive.node


def test_a_drive_takes_the_options_of_its_nodes(make_vm: MakeVm, image: Path) -> None:
    options = (
        "-drive file=disk.img,if=none,id=a,node-name=n,offset=512,size=1024,read-only=on,"
        "cache.no-flush=on,file.locking=off,file.node-name=below,detect-zeroes=on "
        "-drive file.driver=null-co,file.size=4096,if=none,id=b,format=raw "
        "-drive file=null-co://,if=none,id=c,cache=none,cache.writeback=off"
    )
    qmp = make_vm(options).client()
    drives = {entry["device"]: entry["inserted"] for entry in qmp.result("query-block")}
    first, second, third = drives["a"], drives["b"], drives["c"]
    assert (first["node-name"], first["ro"], first["image"]["virtual-size"]) == ("n", True, 1024)
    assert first["cache"]["no-flush"] and first["detect_zeroes"] == "on"
    assert second["image"]["virtual-size"] == 4096
    assert third["file"] == "null-co://"
    assert third["cache"] == {"writeback": False, "direct": True, "no-flush": False}
    assert qmp.error("blockdev-del", node_name="below")[1] == (
        "Node below is not owned by the monitor"
    )
    json_name = {"driver": "raw", "file": {"driver": "file", "filename": "disk.img"}}
    name = json.dumps(json_name, separators=(",", ":")).replace(",", ",,")
    assert qmp.hmp(f"drive_add 0 if=none,id=j,file=json:{name}") == "OK\n"
    assert "j (#block" in qmp.hmp("info block")


def test_names_are_completed(start: Start, make_vm: MakeVm) -> None:
    machine, _, _ = start(drive="cache=none")
    chardev: Any = SimpleNamespace()
    shell = Shell(machine.vm, Session(chardev))
    assert completions(shell, "drive_del ") == ["d"]
    assert completions(shell, "info block ") == ["d"]


# -- any input


WORDS = [
    "d",
    "n",
    "r",
    "file",
    "raw",
    "null-co",
    "disk.img",
    "none.img",
    "/dev/null",
    "on",
    "unmap",
]
KEYS = ["driver", "node-name", "file", "filename", "offset", "size", "cache", "direct", "options"]
KEYS += ["read-only", "discard", "detect-zeroes", "device", "id", "bps", "iops", "write-threshold"]
COMMANDS = ["blockdev-add", "blockdev-del", "blockdev-reopen", "block_resize", "eject"]
COMMANDS += ["block_set_io_throttle", "block-set-write-threshold", "blockdev-change-medium"]
LEAVES: Any = st.none() | st.booleans() | st.integers() | st.sampled_from(WORDS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=10,
)
NODE = st.fixed_dictionaries(
    {"driver": st.sampled_from(["file", "raw", "null-co"]), "node-name": st.sampled_from("nmr")},
    optional={
        "filename": st.sampled_from(["disk.img", "none.img"]),
        "file": st.sampled_from(["n", "r", "d"]) | st.just({"driver": "null-co", "size": 5000}),
        "offset": st.integers(-1, 5000),
        "size": st.integers(-1, 5000),
        "read-only": st.booleans(),
        "discard": st.sampled_from(["unmap", "ignore"]),
        "detect-zeroes": st.sampled_from(["on", "unmap"]),
        "cache": st.just({"no-flush": True}),
        "force-share": st.booleans(),
        "auto-read-only": st.booleans(),
    },
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QmpClient]:
    directory = tmp_path_factory.mktemp("fuzz")
    before = Path.cwd()
    os.chdir(directory)
    (directory / "disk.img").write_bytes(bytes(65536))
    with monitored(directory, MACHINE, "-drive if=none,id=d") as machine:
        yield machine.client()
        machine.close_clients()
    os.chdir(before)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(COMMANDS),
            st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5),
        )
        | st.tuples(st.just("blockdev-add"), NODE)
        | st.tuples(
            st.just("blockdev-reopen"), st.builds(lambda n: {"options": n}, st.lists(NODE))
        ),
        max_size=8,
    )
)
def test_whatever_is_asked_the_graph_stays_whole(
    fuzzed: QmpClient, requests: list[tuple[str, dict[str, Any]]]
) -> None:
    for name, arguments in requests:
        answer = fuzzed.ask({"execute": name, "arguments": arguments})
        assert set(answer) in ({"return"}, {"error"})
        if "error" in answer:
            assert not answer["error"]["desc"].startswith("internal error"), (name, arguments)
    assert "Error" not in fuzzed.hmp("info block -v")
    while nodes := fuzzed.result("query-named-block-nodes", flat=True):
        names = [node["node-name"] for node in nodes]
        if not any("return" in fuzzed.command("blockdev-del", node_name=name) for name in names):
            assert "return" in fuzzed.command("eject", device="d")
