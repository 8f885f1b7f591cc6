"""Migration as clients see it: QEMU 7.2's words, shapes and events."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.monitor.conftest import MakeVm, MonitoredVm, QmpClient, monitored

EVENTS = [{"capability": "events", "state": True}]
PAUSE = [*EVENTS, {"capability": "pause-before-switchover", "state": True}]
SMALL = "-M virt -m 8M -S -nodefaults -display none -bios none"


@pytest.fixture
def source(make_vm: MakeVm) -> MonitoredVm:
    return make_vm(options=SMALL)


@pytest.fixture
def client(source: MonitoredVm) -> QmpClient:
    return source.client()


@pytest.fixture
def target_of(tmp_path: Path) -> Any:
    """Makes a machine that waits for a guest: `target_of("options")` is a client of it."""
    opened: list[Any] = []

    def make(more: str = "-incoming defer", options: str = SMALL) -> QmpClient:
        directory = tmp_path / f"target{len(opened)}"
        directory.mkdir()
        opened.append(monitored(directory, options, more))
        return opened[-1].__enter__().client()

    yield make
    for one in reversed(opened):
        one.__exit__(None, None, None)


def await_status(client: QmpClient, *statuses: str) -> dict[str, Any]:
    """The information once the migration is so far; the events say when to look."""
    while (info := client.result("query-migrate")).get("status") not in statuses:
        client.event("MIGRATION")
    return info


RAM = (
    "transferred remaining total duplicate skipped normal normal-bytes dirty-pages-rate mbps "
    "dirty-sync-count postcopy-requests page-size multifd-bytes pages-per-second precopy-bytes "
    "downtime-bytes postcopy-bytes dirty-sync-missed-zero-copy"
)


def test_a_paused_guest_moves_and_stays_paused(
    client: QmpClient, target_of: Any, tmp_path: Path, source: MonitoredVm
) -> None:
    target = target_of(f"-incoming unix:{tmp_path}/wire")
    assert target.result("query-status")["status"] == "inmigrate"
    assert target.result("query-migrate") == {
        "socket-address": [{"type": "unix", "path": f"{tmp_path}/wire"}]
    }
    for one in (client, target):
        one.result("migrate-set-capabilities", capabilities=EVENTS)
    source.vm.write_memory(0x8000_0000, b"moved")
    client.result("migrate", uri=f"unix:{tmp_path}/wire")
    seen = [client.event("MIGRATION")["data"]["status"] for _ in range(3)]
    assert seen == ["setup", "active", "completed"]
    assert [client.event("MIGRATION_PASS")["data"]["pass"] for _ in range(2)] == [1, 2]
    info = await_status(client, "completed")
    assert set(info) == {"status", "ram", "total-time", "downtime", "setup-time"}
    assert set(info["ram"]) == set(RAM.split())
    assert info["ram"]["remaining"] == 0 and info["ram"]["dirty-sync-count"] == 2
    assert info["ram"]["normal-bytes"] == 4096 * info["ram"]["normal"]
    assert client.result("query-status")["status"] == "postmigrate"
    assert [target.event("MIGRATION")["data"]["status"] for _ in range(2)] == [
        "active",
        "completed",
    ]
    assert target.result("query-status")["status"] == "paused"
    assert target.result("query-migrate") == {"status": "completed"}
    assert "6d 6f 76 65 64" in target.hmp("xp /5xb 0x80000000").replace("0x", "")
    assert client.error("migrate", uri="exec:true")[1] == (
        "Can't migrate the vm that was paused due to previous migration"
    )
    client.result("migrate_cancel")
    assert client.result("query-migrate")["status"] == "completed"


def test_a_running_guest_runs_there(client: QmpClient, target_of: Any, tmp_path: Path) -> None:
    target = target_of("-incoming defer", SMALL.replace("-S ", ""))
    client.result("cont")
    for one in (client, target):
        one.result("migrate-set-capabilities", capabilities=EVENTS)
    wrong = target.error("migrate-incoming", uri="foo")
    assert wrong == ("GenericError", "unknown migration protocol: foo")
    target.result("migrate-incoming", uri=f"unix:{tmp_path}/wire")
    again = target.error("migrate-incoming", uri=f"unix:{tmp_path}/other")
    assert again[1] == "The incoming migration has already been started"
    client.result("migrate", uri=f"unix:{tmp_path}/wire")
    await_status(client, "completed")
    client.event("STOP")
    target.event("RESUME")
    await_status(target, "completed")
    assert target.result("query-status")["running"]
    client.result("cont")
    assert client.result("query-status")["running"]


def test_the_pause_before_the_switchover(client: QmpClient, target_of: Any, tmp_path: Path) -> None:
    target = target_of(f"-incoming unix:{tmp_path}/wire")
    client.result("cont")
    client.result("migrate-set-capabilities", capabilities=PAUSE)
    client.result("migrate", uri=f"unix:{tmp_path}/wire")
    info = await_status(client, "pre-switchover")
    assert {"expected-downtime", "ram", "setup-time", "total-time"} <= set(info)
    client.event("STOP")
    assert client.result("query-status")["status"] == "finish-migrate"
    busy = ("GenericError", "There's a migration process in progress")
    assert client.error("migrate-set-capabilities", capabilities=EVENTS) == busy
    assert client.error("migrate", uri="exec:true") == busy
    assert client.error("migrate-continue", state="device")[1] == (
        "Migration not in expected state: pre-switchover"
    )
    client.result("migrate-continue", state="pre-switchover")
    await_status(client, "completed")
    target.result("cont")
    target.event("RESUME")


def test_a_cancelled_migration_lets_the_guest_go_on(
    client: QmpClient, target_of: Any, tmp_path: Path
) -> None:
    target_of(f"-incoming unix:{tmp_path}/wire")
    client.result("cont")
    client.result("migrate-set-capabilities", capabilities=PAUSE)
    client.result("migrate", uri=f"unix:{tmp_path}/wire")
    await_status(client, "pre-switchover")
    client.result("migrate_cancel")
    assert await_status(client, "cancelled") == {"status": "cancelled"}
    assert client.result("query-status")["running"]
    client.event("RESUME")


def test_a_migration_within_its_bandwidth_limit_can_be_cancelled(
    client: QmpClient, target_of: Any, tmp_path: Path, source: MonitoredVm
) -> None:
    target_of(f"-incoming unix:{tmp_path}/wire")
    source.vm.write_memory(0x8000_0000, b"x" * (4 << 20))
    client.result("cont")
    client.result("migrate-set-capabilities", capabilities=EVENTS)
    client.result("migrate-set-parameters", max_bandwidth=1)
    client.result("migrate", uri=f"unix:{tmp_path}/wire")
    info = await_status(client, "active")
    assert info["ram"]["remaining"] > 4 << 20
    client.result("migrate_cancel")
    await_status(client, "cancelled")
    assert client.result("query-status")["running"]


def test_a_destination_whose_source_gives_up_says_after_which_section(
    client: QmpClient, target_of: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = target_of("-incoming defer")
    target.result("migrate-set-capabilities", capabilities=EVENTS)
    target.result("migrate-incoming", uri=f"unix:{tmp_path}/wire")
    client.result("migrate-set-capabilities", capabilities=PAUSE)
    client.result("migrate", uri=f"unix:{tmp_path}/wire")
    await_status(client, "pre-switchover")
    client.result("migrate_cancel")
    await_status(target, "failed")
    assert "section 'end' is missing: the stream ends after section 'ram/" in capfd.readouterr().err


def test_a_destination_without_what_was_plugged_in_names_it(
    client: QmpClient, target_of: Any, tmp_path: Path
) -> None:
    serial = f"{SMALL} -device virtio-serial-device,id=s"
    source = target_of("", serial)
    target_of(f"-incoming unix:{tmp_path}/wire", serial)
    source.result("migrate-set-capabilities", capabilities=EVENTS)
    source.result("chardev-add", id="c", backend={"type": "null", "data": {}})
    source.result("device_add", driver="virtconsole", id="plugged", chardev="c")
    source.result("migrate", uri=f"unix:{tmp_path}/wire")
    assert await_status(source, "failed")["error-desc"] == (
        "the destination refuses: section 'identity': devices: /machine/peripheral/plugged="
        "'virtconsole' is there and not here; the machines must be alike"
    )


def test_a_destination_that_is_another_machine_refuses(
    client: QmpClient, target_of: Any, tmp_path: Path
) -> None:
    target_of(f"-incoming unix:{tmp_path}/wire", SMALL.replace("8M", "16M"))
    client.result("cont")
    client.result("migrate-set-capabilities", capabilities=EVENTS)
    client.result("migrate", uri=f"unix:{tmp_path}/wire")
    info = await_status(client, "failed")
    assert info["error-desc"] == (
        "the destination refuses: section 'identity': memory is riscv_virt_board.ram=8388608 there "
        "and riscv_virt_board.ram=16777216 here; the machines must be alike"
    )
    assert client.result("query-status")["running"]


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("unix:/nonexistent/x", "Failed to connect to '/nonexistent/x': No such file or directory"),
        ("tcp:127.0.0.1:1", "Failed to connect to '127.0.0.1:1': Connection refused"),
        ("exec:exit 3", None),
        ("file:/nonexistent/x", "cannot open '/nonexistent/x': No such file or directory"),
    ],
)
def test_a_destination_that_is_not_there_fails(
    client: QmpClient, uri: str, text: str | None
) -> None:
    client.result("migrate-set-capabilities", capabilities=EVENTS)
    assert client.result("migrate", uri=uri) == {}
    info = await_status(client, "failed")
    assert text is None or info["error-desc"] == text
    assert client.result("query-status")["status"] == "prelaunch"
    shown = client.hmp("info migrate")
    assert f"Migration status: failed ({info['error-desc']})\ntotal time: 0 ms\n" in shown


def test_a_saved_stream_is_taken_from_a_file(
    client: QmpClient, target_of: Any, tmp_path: Path, source: MonitoredVm
) -> None:
    source.vm.write_memory(0x8000_0000, b"kept")
    client.result("migrate-set-capabilities", capabilities=EVENTS)
    client.result("migrate", uri=f"file:{tmp_path}/state")
    await_status(client, "completed")
    for uri in (f"file:{tmp_path}/state", f"exec:cat {tmp_path}/state"):
        target = target_of("-incoming defer")
        target.result("migrate-set-capabilities", capabilities=EVENTS)
        target.result("migrate-incoming", uri=uri)
        await_status(target, "completed")
        assert "6b 65 70 74" in target.hmp("xp /4xb 0x80000000").replace("0x", "")


def test_a_stream_that_goes_on_behind_its_end_is_refused(
    client: QmpClient, target_of: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    client.result("migrate-set-capabilities", capabilities=EVENTS)
    client.result("migrate", uri=f"file:{tmp_path}/state")
    await_status(client, "completed")
    with (tmp_path / "state").open("ab") as state:
        state.write(b"x")
    target = target_of("-incoming defer")
    target.result("migrate-set-capabilities", capabilities=EVENTS)
    target.result("migrate-incoming", uri=f"file:{tmp_path}/state")
    await_status(target, "failed")
    assert "section 'end': the stream goes on behind it" in capfd.readouterr().err


def test_wrong_requests(qmp: QmpClient) -> None:
    for uri in ("foo", "foo:bar", ""):
        assert qmp.error("migrate", uri=uri)[1] == (
            "Parameter 'uri' expects a valid migration protocol"
        )
    assert qmp.error("migrate", uri="fd:xx")[1] == "File descriptor named 'xx' has not been found"
    assert qmp.error("migrate-incoming", uri="tcp:localhost:1")[1] == (
        "'-incoming' was not specified on the command line"
    )
    assert qmp.error("migrate-pause")[1] == (
        "migrate-pause is currently only supported during postcopy-active state"
    )
    assert qmp.error("migrate-continue", state="active")[1] == (
        "Migration not in expected state: failed"
    )
    assert qmp.error("migrate-continue", state="foo")[1] == (
        "Parameter 'state' does not accept value 'foo'"
    )
    assert qmp.result("migrate_cancel") == {}
    assert qmp.result("query-migrate") == {"status": "failed"}
    assert qmp.hmp("migrate foo") == "Error: Parameter 'uri' expects a valid migration protocol\n"
    assert qmp.hmp("migrate") == (
        'migrate: string expected\nTry "help migrate" for more information\n'
    )


RANGES = [
    ("downtime-limit", 2000001, "'downtime_limit' expects an integer in the range of 0 to "
     "(2000 * 1000) ms"),
    ("downtime-limit", -1, "'downtime_limit' expects an integer in the range of 0 to "
     "(2000 * 1000) ms"),
    ("compress-level", 10, "'compress_level' expects a value between 0 and 9"),
    ("compress-threads", 0, "'compress_threads' expects a value between 1 and 255"),
    ("compress-threads", 256, "'compress-threads' expects uint8_t"),
    ("throttle-trigger-threshold", 0, "'throttle_trigger_threshold' expects an integer in the "
     "range of 1 to 100"),
    ("cpu-throttle-initial", 100, "'cpu_throttle_initial' expects an integer in the range of 1 to "
     "99"),
    ("max-cpu-throttle", 5, "'max_cpu_throttle' expects an integer in the range of "
     "cpu_throttle_initial to 99"),
    ("xbzrle-cache-size", 1000, "'xbzrle_cache_size' expects a power of two no less than the "
     "target page size"),
    ("x-checkpoint-delay", -1, "'x-checkpoint-delay' expects uint32_t"),
    ("announce-step", 0, "'announce_step' expects a value between 0 and 10000"),
    ("multifd-compression", "foo", "'multifd-compression' does not accept value 'foo'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "text"), RANGES)
def test_parameters_have_ranges(qmp: QmpClient, name: str, value: object, text: str) -> None:
    assert qmp.error("migrate-set-parameters", **{name: value}) == (
        "GenericError",
        f"Parameter {text}",
    )


def test_parameters_are_kept(client: QmpClient) -> None:
    client.result("migrate-set-parameters", max_bandwidth=-1, tls_hostname="h", downtime_limit=7)
    client.result("migrate-set-parameters", cpu_throttle_tailslow=True, multifd_zlib_level=9)
    found = client.result("query-migrate-parameters")
    assert found["max-bandwidth"] == (1 << 64) - 1 and found["tls-hostname"] == "h"
    assert found["downtime-limit"] == 7 and found["cpu-throttle-tailslow"] is True
    assert found["multifd-zlib-level"] == 1 and "block-bitmap-mapping" not in found
    assert client.hmp("migrate_set_parameter max-bandwidth 10") == ""
    assert client.result("query-migrate-parameters")["max-bandwidth"] == 10 << 20
    for line, text in [
        ("foo 1", "invalid parameter value: foo"),
        ("max-bandwidth abc", "Invalid size abc"),
        ("block-incremental maybe", "Parameter 'block-incremental' expects 'on' or 'off'"),
        ("compress-level 77", "Parameter 'compress_level' expects a value between 0 and 9"),
        (
            "block-bitmap-mapping x",
            "The block-bitmap-mapping parameter can only be set through QMP",
        ),
    ]:
        assert client.hmp(f"migrate_set_parameter {line}") == f"Error: {text}\n"


def test_capabilities_that_are_not_supported_are_refused(client: QmpClient) -> None:
    wanted = [*EVENTS, {"capability": "postcopy-ram", "state": True}]
    assert client.error("migrate-set-capabilities", capabilities=wanted)[1] == (
        "Capability 'postcopy-ram' is not supported"
    )
    assert not any(entry["state"] for entry in client.result("query-migrate-capabilities"))
    client.result(
        "migrate-set-capabilities", capabilities=[{"capability": "xbzrle", "state": False}]
    )
    assert client.hmp("migrate_set_capability auto-converge on") == ""
    assert "auto-converge: on\n" in client.hmp("info migrate_capabilities")
    assert client.hmp("migrate_set_capability foo on") == "Error: invalid parameter value: foo\n"


def test_no_snapshot_is_made_or_loaded_while_the_guest_moves_or_when_it_has_moved(
    make_vm: MakeVm, tmp_path: Path
) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    client = make_vm(f"-drive file={disk},format=raw,if=none,id=d0", options=SMALL).client()
    assert client.hmp("savevm x") == ""
    client.result("cont")
    client.result("migrate-set-capabilities", capabilities=PAUSE)
    client.result("migrate", uri=f"file:{tmp_path}/state")
    await_status(client, "pre-switchover")
    for line in ("savevm y", "loadvm x"):
        assert client.hmp(line) == "Error: There's a migration process in progress\n"
    client.result("migrate-continue", state="pre-switchover")
    await_status(client, "completed")
    for line in ("savevm y", "loadvm x"):
        assert "the images belong to where the guest has moved" in client.hmp(line)
    client.result("cont")
    assert client.hmp("loadvm x") == ""


def test_images_change_hands_at_the_switchover(
    make_vm: MakeVm, target_of: Any, tmp_path: Path
) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    drive = f"-drive file={disk},format=raw,if=none,id=d0 -device virtio-blk-device,drive=d0"
    client = make_vm(drive, options=SMALL).client()
    target = target_of(f"{drive} -incoming unix:{tmp_path}/wire")
    client.result("cont")
    for one in (client, target):
        one.result("migrate-set-capabilities", capabilities=EVENTS)
    client.result("migrate", uri=f"unix:{tmp_path}/wire")
    await_status(client, "completed")
    await_status(target, "completed")
    refused = client.error("cont")[1]
    assert refused == 'Failed to get "write" lock'
    assert client.result("query-status")["status"] == "postmigrate"


def test_a_guest_moves_through_descriptors_that_clients_gave(
    client: QmpClient, target_of: Any, source: MonitoredVm
) -> None:
    target = target_of()
    request = json.dumps({"execute": "getfd", "arguments": {"fdname": "wire"}}).encode()
    for one, end in zip((client, target), socket.socketpair(), strict=True):
        one.result("migrate-set-capabilities", capabilities=EVENTS)
        socket.send_fds(one.socket, [request], [end.fileno()])
        assert one.reply() == {"return": {}}
        end.close()
    source.vm.write_memory(0x8000_0000, b"moved")
    target.result("migrate-incoming", uri="fd:wire")
    client.result("migrate", uri="fd:wire")
    await_status(client, "completed")
    await_status(target, "completed")
    assert target.result("query-status")["status"] == "paused"
    assert "6d 6f 76 65 64" in target.hmp("xp /5xb 0x80000000").replace("0x", "")
    gone = ("GenericError", "File descriptor named 'wire' not found")
    assert client.error("closefd", fdname="wire") == gone
