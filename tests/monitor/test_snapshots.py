"""savevm, loadvm, delvm, their jobs, and what they say: QEMU 7.2's words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ratite.monitor.hmp import progress
from tests.monitor.conftest import MakeVm, MonitoredVm, QmpClient
from tests.monitor.test_hmp import Person

NO_PLACE = "no block device can store vmstate for snapshot"
MiB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"first".ljust(MiB, b"\0"))
    return path


@pytest.fixture
def machine(make_vm: MakeVm, disk: Path) -> MonitoredVm:
    return make_vm(
        f"-drive file={disk},format=raw,if=none,id=d0,node-name=n0 "
        "-device virtio-blk-device,drive=d0"
    )


@pytest.fixture
def client(machine: MonitoredVm) -> QmpClient:
    return machine.client()


def test_without_a_writable_drive_there_is_no_place(qmp: QmpClient) -> None:
    assert qmp.hmp("info snapshots") == f"{NO_PLACE}\n"
    assert qmp.hmp("savevm x") == f"Error: {NO_PLACE}\n"
    assert qmp.hmp("loadvm x") == f"Error: {NO_PLACE}\n"
    assert qmp.hmp("delvm x") == ""


def test_the_table_of_snapshots(client: QmpClient) -> None:
    assert client.hmp("info snapshots") == "There is no snapshot available.\n"
    assert client.hmp("savevm") == ""
    assert client.hmp("savevm foo") == ""
    head, columns, *rows = client.hmp("info snapshots").splitlines()
    assert head == "List of snapshots present on all disks:"
    assert columns == (
        "ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT"
    )
    date = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d 00:00:00\.\d{3}"
    assert re.fullmatch(rf"--        vm-\d{{14}} [ .\d]+ KiB {date} {{11}}", rows[0])
    assert re.fullmatch(rf"--        foo {{13}} [ .\d]+ KiB {date} {{11}}", rows[1])


def test_a_person_sees_how_far_a_long_snapshot_is(
    make_vm: MakeVm, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = f"-drive file={disk},format=raw,if=none,id=d0 -device virtio-blk-device,drive=d0"
    make_vm(f"{drive} -monitor unix:{tmp_path}/hmp,server=on,wait=off")
    person = Person(tmp_path / "hmp")
    monkeypatch.setattr(progress, "_PATIENCE_S", 3600)
    assert person.line("savevm one") == ""
    monkeypatch.setattr(progress, "_PATIENCE_S", 0)
    monkeypatch.setattr(progress, "_INTERVAL_S", 0)
    erase = "\r\x1b[K"
    *shown, last = person.line("savevm two").split(erase)[1:]
    assert last == ""
    percent = [int(re.fullmatch(r"savevm: (\d+) %", text)[1]) for text in shown]  # type: ignore[index]
    assert percent == sorted(percent)
    assert percent[0] < 5 and percent[-1] > 95


def test_an_image_names_the_snapshots_beside_it(client: QmpClient) -> None:
    assert "snapshots" not in client.result("query-block")[0]["inserted"]["image"]
    assert client.hmp("savevm foo") == ""
    (drive,) = client.result("query-block")
    (shown,) = drive["inserted"]["image"]["snapshots"]
    assert shown.pop("vm-state-size") > 0 and shown.pop("date-sec") > 1_700_000_000
    assert 0 <= shown.pop("date-nsec") < 10**9
    assert shown == {"id": "1", "name": "foo", "vm-clock-sec": 0, "vm-clock-nsec": 0}
    nodes = {node["node-name"]: node for node in client.result("query-named-block-nodes")}
    assert [name for name, node in nodes.items() if "snapshots" in node["image"]] == ["n0"]
    lines = client.hmp("info block -v").splitlines()
    place = lines.index("Snapshot list:")
    assert re.match(r"1         foo +[ .\d]+ KiB \d{4}-", lines[place + 2])


def test_a_snapshot_of_the_same_tag_replaces_the_older_one(
    client: QmpClient, disk: Path, machine: MonitoredVm
) -> None:
    for value in (1, 2):
        machine.vm.write_memory(0x8000_0000, bytes([value]))
        assert client.hmp("savevm foo") == ""
    assert len(client.hmp("info snapshots").splitlines()) == 3
    machine.vm.write_memory(0x8000_0000, b"\x09")
    assert client.hmp("loadvm foo") == ""
    assert machine.vm.read_memory(0x8000_0000, 1) == b"\2"
    assert client.hmp("delvm foo") == ""
    assert client.hmp("info snapshots") == "There is no snapshot available.\n"
    assert not disk.with_name("disk.img.snapshots").exists()


def test_the_drives_content_comes_back(client: QmpClient, disk: Path, machine: MonitoredVm) -> None:
    assert client.hmp("savevm foo") == ""
    node = machine.vm.disks["d0"].node
    assert node is not None
    node.writev(0, [memoryview(bytearray(b"other"))])
    node.writev(MiB - 4, [memoryview(bytearray(b"tail"))])
    assert client.hmp("loadvm foo") == ""
    assert disk.read_bytes() == b"first".ljust(MiB, b"\0")


def test_the_run_state_stays_and_a_running_guest_stops_and_goes_on(client: QmpClient) -> None:
    assert client.hmp("savevm foo") == ""
    assert client.hmp("loadvm foo") == ""
    assert client.result("query-status")["status"] == "prelaunch"
    client.result("cont")
    for line in ("savevm bar", "loadvm bar"):
        client.events.clear()
        assert client.hmp(line) == ""
        client.event("STOP")
        client.event("RESUME")
        assert client.result("query-status") == {
            "status": "running",
            "singlestep": False,
            "running": True,
        }


def test_what_is_not_there_is_an_error(client: QmpClient) -> None:
    missing = "Error: Snapshot 'nosuch' does not exist in one or more devices\n"
    assert client.hmp("loadvm nosuch") == missing
    assert client.hmp("delvm nosuch") == ""
    for name in ("loadvm", "delvm"):
        assert client.hmp(name) == (
            f'{name}: string expected\nTry "help {name}" for more information\n'
        )


def test_a_damaged_snapshot_is_refused_and_changes_nothing(
    client: QmpClient, disk: Path, machine: MonitoredVm
) -> None:
    machine.vm.write_memory(0x8000_0000, b"old" * 2000)
    assert client.hmp("savevm foo") == ""
    state = disk.with_name("disk.img.snapshots") / "1" / "state"
    data = bytearray(state.read_bytes())
    data[data.index(b"oldold")] ^= 1
    good = state.read_bytes()
    state.write_bytes(data)
    machine.vm.write_memory(0x8000_0000, b"new" * 2000)
    client.result("cont")
    assert client.hmp("loadvm foo") == (
        "Error: section 'ram/riscv_virt_board.ram' is damaged: checksum differs\n"
    )
    state.write_bytes(good[:-3])
    assert (
        client.hmp("loadvm foo") == "Error: section 'end' is cut off: the stream ends within it\n"
    )
    state.write_bytes(good + b"x")
    assert client.hmp("loadvm foo") == "Error: section 'end': the file goes on behind it\n"
    info = state.with_name("info.json")
    info.write_text("{")
    assert client.hmp("loadvm foo") == (
        "Error: Snapshot 'foo' does not exist in one or more devices; "
        f"'{info}' is damaged: Input data was truncated\n"
    )
    assert machine.vm.read_memory(0x8000_0000, 6) == b"newnew"
    assert client.result("query-status")["running"]


def test_a_host_that_refuses_leaves_the_older_snapshot(
    client: QmpClient, disk: Path, monkeypatch: pytest.MonkeyPatch, machine: MonitoredVm
) -> None:
    assert client.hmp("savevm foo") == ""
    drive = machine.vm.disks["d0"]

    def refuse(path: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(drive), "copy_out", lambda self, path, advance: refuse(path))
    client.result("cont")
    text = client.hmp("savevm foo")
    assert text.startswith("Error: cannot write the snapshot '") and "No space left" in text
    assert client.result("query-status")["running"]
    assert sorted(p.name for p in disk.with_name("disk.img.snapshots").iterdir()) == ["1"]
    assert len(client.hmp("info snapshots").splitlines()) == 3


JOB = {"job_id": "j", "tag": "t", "vmstate": "n0", "devices": ["n0"]}


def statuses(client: QmpClient, count: int) -> list[str]:
    """The next states of the job `j`."""
    return [client.event("JOB_STATUS_CHANGE")["data"]["status"] for _ in range(count)]


def test_snapshots_are_made_loaded_and_deleted_by_jobs(client: QmpClient) -> None:
    for name in ("snapshot-save", "snapshot-load", "snapshot-delete"):
        arguments = {k: v for k, v in JOB.items() if k != "vmstate" or "delete" not in name}
        assert client.result(name, **arguments) == {}
        assert statuses(client, 5) == ["created", "running", "waiting", "pending", "concluded"]
        assert client.result("query-jobs") == [
            {
                "current-progress": 1,
                "status": "concluded",
                "total-progress": 1,
                "type": name,
                "id": "j",
            }
        ]
        assert client.error("job-cancel", id="j") == (
            "GenericError",
            "Job 'j' in state 'concluded' cannot accept command verb 'cancel'",
        )
        assert client.result("job-dismiss", id="j") == {}
        assert statuses(client, 1) == ["null"]
    assert client.result("query-jobs") == []


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("snapshot-save", {"devices": ["d"]}, "No block device node 'd'"),
        ("snapshot-save", {"vmstate": "v"}, "No block device node 'v'"),
        ("snapshot-load", {}, "Snapshot 't' does not exist in one or more devices"),
    ],
)
def test_a_job_that_fails_says_why(
    client: QmpClient, name: str, change: dict[str, object], text: str
) -> None:
    assert client.result(name, **{**JOB, **change}) == {}
    assert statuses(client, 4) == ["created", "running", "aborting", "concluded"]
    (job,) = client.result("query-jobs")
    assert job["error"] == text and job["status"] == "concluded"


def test_jobs_have_names_of_their_own(client: QmpClient) -> None:
    for id in ("1j", "j j", ""):
        assert client.error("snapshot-save", **{**JOB, "job_id": id})[1] == f"Invalid job ID '{id}'"
    client.result("snapshot-save", **JOB)
    assert client.error("snapshot-save", **JOB)[1] == "Job ID 'j' already in use"
    assert client.error("job-dismiss", id="zz") == ("GenericError", "Job not found")
    assert client.error("job-resume", id="j")[1] == "Can't resume a job that was not paused"


def test_a_second_snapshot_of_a_tag_is_no_job(client: QmpClient) -> None:
    client.result("snapshot-save", **JOB)
    statuses(client, 5)
    client.result("snapshot-save", **{**JOB, "job_id": "k"})
    assert statuses(client, 4)[-1] == "concluded"
    error = client.result("query-jobs")[1]["error"]
    assert error == "Snapshot 't' already exists in one or more devices"
