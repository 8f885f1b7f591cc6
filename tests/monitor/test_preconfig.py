"""Before the machine is built: what monitors may do then, in QEMU's words, and how it goes on."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from ratite.cli.options import parse
from ratite.cli.run import run_machine
from ratite.core import ConfigError, HostError
from ratite.monitor.command import load
from ratite.monitor.hmp import command as hmp
from ratite.vm import Vm

from .conftest import MakeVm, QmpClient

MACHINE = "-M virt -m 64M -nodefaults -display none -bios none"
BEFORE = "The command is permitted only before machine initialization"

# What QEMU 7.2 allows then, of the commands that both have.
ALLOWED = set(
    "block-commit block-dirty-bitmap-add block-dirty-bitmap-clear block-dirty-bitmap-disable "
    "block-dirty-bitmap-enable block-dirty-bitmap-merge block-dirty-bitmap-remove "
    "block-export-add block-export-del block-job-cancel block-job-complete block-job-dismiss "
    "block-job-finalize block-job-pause block-job-resume block-job-set-speed "
    "block-latency-histogram-set block-set-write-threshold block-stream block_resize "
    "block_set_io_throttle blockdev-add blockdev-backup blockdev-create blockdev-del "
    "blockdev-mirror blockdev-reopen blockdev-snapshot blockdev-snapshot-delete-internal-sync "
    "blockdev-snapshot-internal-sync blockdev-snapshot-sync change-backing-file drive-backup "
    "drive-mirror nbd-server-add nbd-server-remove nbd-server-start nbd-server-stop netdev_add "
    "netdev_del object-add object-del qmp_capabilities qom-get qom-list qom-list-properties "
    "qom-list-types qom-set query-block query-block-exports query-block-jobs query-blockstats "
    "query-chardev query-command-line-options query-commands query-hotpluggable-cpus "
    "query-iothreads query-memdev query-name query-named-block-nodes query-pr-managers "
    "query-qmp-schema query-status query-uuid query-version quit set-action set-numa-node "
    "x-blockdev-amend x-blockdev-change x-blockdev-set-iothread "
    "x-debug-block-dirty-bitmap-sha256 x-debug-query-block-graph x-exit-preconfig".split()
)
ALLOWED_TO_PEOPLE = set(
    "block_job_cancel block_job_complete block_job_pause block_job_resume block_job_set_speed "
    "block_resize block_set_io_throttle block_stream closefd exit_preconfig getfd help ? info "
    "nbd_server_add nbd_server_remove nbd_server_start nbd_server_stop netdev_add netdev_del "
    "object_add object_del qom-get qom-list qom-set quit q".split()
)
TOPICS = set("chardev history hotpluggable-cpus iothreads memdev name qom-tree status uuid".split())


@pytest.fixture
def waiting(make_vm: MakeVm) -> Any:
    """A machine that is not built yet."""
    return make_vm("-preconfig", options=MACHINE)


def status(qmp: QmpClient) -> tuple[str, bool]:
    found = qmp.result("query-status")
    return found["status"], found["running"]


def test_the_commands_allowed_are_qemus() -> None:
    commands, people = load(), hmp.load()
    assert {name for name, entry in commands.items() if entry.preconfig} == ALLOWED & set(commands)
    allowed = {name for name, entry in people.items() if entry.preconfig}
    assert allowed == ALLOWED_TO_PEOPLE & set(people)
    allowed = {name for name, entry in hmp.INFO.items() if entry.preconfig}
    assert allowed == (TOPICS | {"version"}) & set(hmp.INFO)


def test_what_needs_no_arguments_answers_without_a_machine(waiting: Any) -> None:
    qmp = waiting.client()
    for name, entry in load().items():
        ends = name in ("quit", "x-exit-preconfig", "qmp_capabilities")
        if entry.preconfig and not ends and all(m.optional for m in entry.arguments.members):
            answer = qmp.command(name)
            assert "internal error" not in str(answer), answer
    assert qmp.result("query-memdev") == []


def test_the_machine_tells_its_type_before_it_is_there(waiting: Any) -> None:
    qmp = waiting.client()
    assert qmp.result("qom-get", path="/machine", property="type") == "virt-machine"
    assert "kernel" not in {entry["name"] for entry in qmp.result("qom-list", path="/machine")}
    qmp.result("x-exit-preconfig")
    assert qmp.result("qom-get", path="/machine", property="kernel") == ""


@pytest.mark.parametrize(
    "name", ["stop", "cont", "system_reset", "query-kvm", "trace-event-get-state", "device_add"]
)
def test_other_commands_have_to_wait(waiting: Any, name: str) -> None:
    text = f"The command '{name}' is permitted only after machine initialization has completed"
    assert waiting.client().error(name) == ("GenericError", text)


def test_the_machine_is_built_and_runs_when_a_client_says_so(waiting: Any) -> None:
    qmp = waiting.client()
    assert status(qmp) == ("prelaunch", False)
    assert qmp.result("x-exit-preconfig") == {}
    assert qmp.event("RESUME")
    assert status(qmp) == ("running", True)
    assert qmp.error("x-exit-preconfig") == ("GenericError", BEFORE)
    assert qmp.hmp("exit_preconfig") == f"Error: {BEFORE}\n"
    assert len(qmp.result("query-cpus-fast")) == 1


def test_with_s_the_guest_still_waits(make_vm: MakeVm) -> None:
    qmp = make_vm("-preconfig -S", options=MACHINE).client()
    qmp.result("x-exit-preconfig")
    assert status(qmp) == ("prelaunch", False)
    qmp.result("cont")
    assert status(qmp) == ("running", True)


def test_objects_made_before_are_the_machines(make_vm: MakeVm) -> None:
    qmp = make_vm("-preconfig -S -machine memory-backend=m0", options=MACHINE).client()
    qmp.result("object-add", qom_type="memory-backend-ram", id="m0", size=64 << 20)
    qmp.result("qom-set", path="/machine", property="aclint", value=True)
    qmp.result("x-exit-preconfig")
    assert [entry["id"] for entry in qmp.result("query-memdev")] == ["m0"]
    assert "riscv.aclint.swi" in qmp.hmp("info qtree")
    assert qmp.result("qom-get", path="/machine", property="aclint") is True


def test_people_may_do_little_and_go_on(make_vm: MakeVm, tmp_path: Path) -> None:
    path = tmp_path / "hmp"
    machine = make_vm(f"-preconfig -monitor unix:{path},server=on,wait=off", options=MACHINE)
    with socket.socket(socket.AF_UNIX) as people:
        people.settimeout(20)
        people.connect(str(path))

        def ask(line: str) -> list[str]:
            people.sendall(f"{line}\r".encode())
            text = b""
            while text.count(b"(qemu) ") < 2 and not text.endswith(b"\n(qemu) "):
                text += people.recv(4096)
            return text.decode().splitlines()

        while not people.recv(4096).endswith(b"(qemu) "):
            continue
        wait = "not available until machine initialization has completed."
        assert f"Command 'stop' {wait}" in ask("stop")
        assert f"Command 'info registers' {wait}" in ask("info registers")
        assert "unknown command: 'stop'" in ask("help stop")
        assert "VM status: paused (prelaunch)" in ask("info status")
        listed = ask("help")
        assert "exit_preconfig  -- exit the preconfig state" in listed
        assert not any(line.startswith("cont") for line in listed)
        ask("exit_preconfig")
        assert "VM status: running" in ask("info status")
    assert machine.vm.initialized


def test_a_machine_that_cannot_be_built_ends_the_program(make_vm: MakeVm) -> None:
    machine = make_vm("-preconfig -kernel /no/such/file", options=MACHINE)
    qmp = machine.client()
    text = "-kernel: cannot read '/no/such/file': No such file or directory"
    assert qmp.error("x-exit-preconfig") == ("GenericError", text)
    with pytest.raises(HostError, match="no/such/file"):
        machine.vm.wait(20)


def test_without_the_machine_there_is_no_start_and_an_end() -> None:
    with Vm(config=parse([*MACHINE.split(), "-preconfig"])) as vm:
        with pytest.raises(RuntimeError, match="before exit_preconfig"):
            vm.start()
        vm.quit()
        assert vm.wait(20)


def test_python_builds_the_machine_too() -> None:
    with Vm(config=parse([*MACHINE.split(), "-preconfig", "-S"])) as vm:
        vm.exit_preconfig()
        vm.start()
        assert vm.runner.running


def test_who_only_wants_the_device_tree_does_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "virt.dtb"
    words = [*MACHINE.split(), "-M", f"virt,dumpdtb={path}", "-preconfig"]
    assert run_machine(parse(words), "ratite") == 0
    assert path.read_bytes()[:4] == b"\xd0\x0d\xfe\xed"


def test_a_monitor_on_a_chardev_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match="there is no chardev 'no'"):
        parse([*MACHINE.split(), "-preconfig", "-mon", "no"])
