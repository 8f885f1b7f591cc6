"""The same objects and devices as of QEMU 7.2, whose answers transcripts keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratite.memory.host import MAX_NODES, HostMemory, NumaPolicy
from ratite.monitor.hmp.command import Shell
from ratite.monitor.hmp.shell import completions
from ratite.monitor.session import Session
from tests.monitor.conftest import MakeVm
from tests.monitor.golden.transcript import MACHINE, Scene

FOLDER = Path(__file__).with_name("golden") / "objects"

EXPLAINED = {
    'object-add {"qom-type": "secret", "id": "s4", "file": "/nope"}': "GLib's text",
    "hmp device_add virtserialport,help": "`name` has a description",
    "hmp device_add virtconsole,id=x,help": "likewise",
    "query-memdev": "QEMU lists them in the order of a hash table",
}
"""Commands whose answers differ, and why."""


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.txt")))
def test_objects_and_devices_answer_like_qemus(make_vm: MakeVm, name: str) -> None:
    scene = Scene.read(FOLDER / f"{name}.txt")
    qmp = make_vm(scene.options, MACHINE).client()
    ours = scene.answered(qmp.ask)
    differing = [
        f"> {command}\n{answer}instead of\n{wanted}"
        for (command, answer), (_, wanted) in zip(ours.steps, scene.steps, strict=True)
        if answer != wanted and command not in EXPLAINED
    ]
    assert not differing, "\n".join(differing)


def test_help_lists_what_can_be_made(make_vm: MakeVm) -> None:
    qmp = make_vm().client()
    devices = qmp.hmp("device_add help")
    assert 'Input devices:\nname "virtconsole", bus virtio-serial-bus\n' in devices
    objects = qmp.hmp("object_add help")
    assert objects.startswith("List of user creatable objects:\n  ")
    assert "  memory-backend-ram\n" in objects
    assert qmp.hmp("object_add nope,help") == objects
    text = qmp.hmp("object_add memory-backend-ram,help")
    assert text.startswith("memory-backend-ram options:\n  dump=<bool>            - Set to 'off'")
    assert "  policy=<HostMemPolicy> - Set the NUMA policy" in text
    assert "size=<int>             - Size of the memory region" in text
    assert qmp.hmp("device_add serial-mm,help").startswith("serial-mm options:\n")


def test_types_and_ids_are_completed(make_vm: MakeVm) -> None:
    machine = make_vm(
        "-device virtio-serial-device,id=vs -chardev null,id=c -device virtconsole,chardev=c,id=vp "
        "-object rng-builtin,id=r0"
    )
    shell = Shell(machine.vm, Session(machine.vm.backends.chardevs["c"]))
    for line, words in {
        "object_add memory-backend-r": ["memory-backend-ram"],
        "object_add rng-": ["rng-builtin", "rng-random"],
        "object_add he": ["help"],
        "object_del ": ["r0"],
        "device_add virtio-s": ["virtio-serial-device"],
        "device_add he": ["help"],
        "device_del v": ["vp"],  # not what cannot be taken out
    }.items():
        assert completions(shell, line) == words


def test_memory_is_bound_to_nodes_of_the_host(make_vm: MakeVm) -> None:
    try:
        HostMemory(4096).bind(NumaPolicy.BIND, [0])
    except OSError as error:
        pytest.skip(f"the host does not let memory be bound: {error}")
    qmp = make_vm().client()
    wanted = {"size": 4096, "host_nodes": [0], "policy": "bind"}
    qmp.result("object-add", qom_type="memory-backend-ram", id="m0", **wanted)
    (shown,) = [entry for entry in qmp.result("query-memdev") if entry["id"] == "m0"]
    assert (shown["host-nodes"], shown["policy"]) == ([0], "bind")
    wanted["host_nodes"] = [MAX_NODES - 1]
    answer = qmp.error("object-add", qom_type="memory-backend-ram", id="m1", **wanted)
    assert answer[1].startswith("cannot bind memory to host NUMA nodes: ")


def test_a_file_for_memory_is_checked_when_the_object_is_made(
    make_vm: MakeVm, tmp_path: Path
) -> None:
    qmp = make_vm().client()

    def add(**more: object) -> str:
        answer = qmp.command("object-add", qom_type="memory-backend-file", id="f", **more)
        return str(answer.get("error", {}).get("desc", ""))

    small = tmp_path / "small"
    small.write_bytes(bytes(4096))
    assert (
        add(size=8192, mem_path=str(small))
        == "backing store size 0x1000 does not match 'size' option 0x2000"
    )
    text = "alignment 0x3 must be multiples of page size 0x1000"
    assert add(size=4096, mem_path=str(tmp_path / "new"), align=3) == text
    assert not (tmp_path / "new").exists()
    assert "unable to map backing store" in add(size=1 << 60, mem_path=str(tmp_path / "huge"))
    assert not (tmp_path / "huge").exists()
    assert add(size=4096, mem_path=str(tmp_path), share=True) == ""  # a file without a name there
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["small"]


def test_drives_share_the_limits_of_an_object_that_they_name(
    make_vm: MakeVm, tmp_path: Path
) -> None:
    options = "-object throttle-group,id=t0,x-iops-total=7"
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
        options += f" -drive if=none,id={name},format=raw,file={tmp_path / name}"
        options += ",throttling.group=t0"
    qmp = make_vm(options).client()

    def limits() -> list[tuple[str, int, int]]:
        shown = [entry["inserted"] for entry in qmp.result("query-block")]
        return [(entry["group"], entry["iops"], entry["bps"]) for entry in shown]

    assert limits() == [("t0", 7, 0)] * 2
    wanted = {"iops-total": 0, "bps-total": 4096}
    qmp.result("qom-set", path="/objects/t0", property="limits", value=wanted)
    assert limits() == [("t0", 0, 4096)] * 2
    assert qmp.error("object-del", id="t0")[1] == "object 't0' is in use, can not be deleted"
    for name in ("a", "b"):
        assert qmp.hmp(f"drive_del {name}") == ""
    assert qmp.result("qom-get", path="/objects/t0", property="x-bps-total") == 4096
    qmp.result("object-del", id="t0")
    qmp.result("object-add", qom_type="throttle-group", id="t0")


def test_a_group_is_named_once(make_vm: MakeVm, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    drive = f"-drive if=none,id=a,format=raw,file={tmp_path / 'a'},iops=5,group=g"
    qmp = make_vm(drive).client()
    answer = qmp.error("object-add", qom_type="throttle-group", id="g")
    assert answer[1] == "A group with this name already exists"


def test_a_disk_has_its_requests_done_by_a_thread_of_the_users(
    make_vm: MakeVm, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    machine = make_vm(
        f"-object iothread,id=io0,poll-grow=4 -drive if=none,id=a,format=raw,file={tmp_path / 'a'} "
        "-device virtio-blk-device,drive=a,id=disk,iothread=io0"
    )
    qmp = machine.client()
    (shown,) = qmp.result("query-iothreads")
    assert Path(f"/proc/self/task/{shown['thread-id']}").exists()
    assert qmp.hmp("info iothreads") == (
        f"io0:\n  thread_id={shown['thread-id']}\n  poll-max-ns=32768\n  poll-grow=4\n"
        "  poll-shrink=0\n  aio-max-batch=0\n"
    )
    path = "/machine/peripheral/disk"
    assert qmp.result("qom-get", path=path, property="iothread") == "/objects/io0"
    assert qmp.error("object-del", id="io0")[1] == "object 'io0' is in use, can not be deleted"
