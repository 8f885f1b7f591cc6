"""Trace events by QMP and HMP: QEMU's answers, and what is written then."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ratite.core.trace import event_names
from ratite.memory import Gpa

from .conftest import MakeVm, MonitoredVm, QmpClient

UART_LSR = 0x1000_0005


def state(name: str, word: str) -> dict[str, object]:
    return {"name": name, "state": word, "vcpu": False}


def log_of(machine: MonitoredVm, tmp_path: Path) -> str:
    return (tmp_path / "log").read_text()


@pytest.fixture
def traced(make_vm: MakeVm, tmp_path: Path) -> MonitoredVm:
    """A machine that logs into a file."""
    return make_vm(f"-trace serial_read -D {tmp_path}/log -trace -serial_read")


def test_events_are_listed_with_their_state(qmp: QmpClient) -> None:
    assert qmp.result("trace-event-get-state", name="virtio_set_status") == [
        state("virtio_set_status", "disabled")
    ]
    found = qmp.result("trace-event-get-state", name="virtio_blk*")
    names = [entry["name"] for entry in found]
    assert "virtio_blk_req_complete" in names and all(n.startswith("virtio_blk") for n in names)
    assert len(qmp.result("trace-event-get-state", name="*")) == len(event_names())
    assert qmp.result("trace-event-get-state", name="nosuch*") == []
    assert qmp.result("trace-event-get-state", name="*", vcpu=0) == []


def test_events_are_switched(traced: MonitoredVm) -> None:
    qmp = traced.client()
    assert qmp.result("trace-event-set-state", name="serial_*", enable=True) == {}
    assert qmp.result("trace-event-get-state", name="serial_read") == [
        state("serial_read", "enabled")
    ]
    qmp.result("trace-event-set-state", name="serial_*", enable=False, ignore_unavailable=True)
    assert qmp.result("trace-event-get-state", name="serial_read") == [
        state("serial_read", "disabled")
    ]
    assert qmp.result("trace-event-set-state", name="nosuch*", enable=True) == {}


UNKNOWN = 'unknown event "nosuch"'
NOT_PER_VCPU = 'event "virtio_notify" is not vCPU-specific'


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"name": "nosuch"}, UNKNOWN),
        ({"name": ""}, 'unknown event ""'),
        ({"name": "virtio_notif?"}, 'unknown event "virtio_notif?"'),
        ({"name": "virtio_notify", "vcpu": 0}, NOT_PER_VCPU),
        ({"name": "virtio_notify", "vcpu": 5}, "invalid vCPU index 5"),
        ({"name": "*", "vcpu": 5}, "invalid vCPU index 5"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_qemus_words(
    qmp: QmpClient, arguments: dict[str, object], text: str
) -> None:
    refused = ("GenericError", text)
    assert qmp.error("trace-event-get-state", **arguments) == refused
    assert qmp.error("trace-event-set-state", enable=True, **arguments) == refused


def test_what_is_on_is_written_and_nothing_else(traced: MonitoredVm, tmp_path: Path) -> None:
    qmp = traced.client()
    traced.vm.read_memory(UART_LSR, 1)
    assert log_of(traced, tmp_path) == ""
    qmp.result("trace-event-set-state", name="serial_read", enable=True)
    traced.vm.read_memory(UART_LSR, 1)
    qmp.result("trace-event-set-state", name="*", enable=False)
    traced.vm.read_memory(UART_LSR, 1)
    assert log_of(traced, tmp_path) == "serial_read addr 0x05 val 0x60\n"


def test_a_device_of_the_users_is_traced(make_vm: MakeVm, tmp_path: Path) -> None:
    machine = make_vm(f"-device virtio-rng-device,id=r0 -trace virtio_set* -D {tmp_path}/log").vm
    with machine.machine.lock:
        machine.machine.memory.write(Gpa(0x1000_8070), 4, 1)
    assert (
        (tmp_path / "log")
        .read_text()
        .endswith("virtio_set_status vdev /machine/peripheral/r0 val 1\n")
    )


def test_the_machines_life_and_the_monitors_are_traced(make_vm: MakeVm, tmp_path: Path) -> None:
    patterns = (
        "runstate_set",
        "vm_state_notify",
        "qemu_system_*",
        "handle_*",
        "monitor_qmp_respond",
        "loader_write_rom",
    )
    words = " ".join(f"-trace {pattern}" for pattern in patterns)
    machine = make_vm(f"{words} -D {tmp_path}/log")
    qmp = machine.client()
    qmp.result("cont")
    qmp.result("stop")
    qmp.result("system_powerdown")
    text = log_of(machine, tmp_path)
    assert "runstate_set current_run_state prelaunch new_state running\n" in text
    assert "runstate_set current_run_state running new_state paused\n" in text
    assert "vm_state_notify running 1 reason running\n" in text
    assert "vm_state_notify running 0 reason paused\n" in text
    assert "qemu_system_powerdown_request\n" in text
    assert re.search(r'^handle_qmp_command mon \S+ req: {"execute": "cont".*}$', text, re.M)
    assert re.search(r'^monitor_qmp_respond mon \S+ resp: {"return": {}}$', text, re.M)
    assert re.search(r"^loader_write_rom mrom.reset: @0x1000 size=0x28 ROM=1$", text, re.M)


def test_people_switch_events_too(traced: MonitoredVm) -> None:
    qmp = traced.client()
    assert qmp.hmp("info trace-events serial_*") == (
        "serial_read : state 0\nserial_update_parameters : state 0\nserial_write : state 0\n"
    )
    assert qmp.hmp("trace-event serial_read on") == ""
    assert qmp.hmp("info trace-events serial_read") == "serial_read : state 1\n"
    assert qmp.hmp("trace-event serial_* off") == ""
    assert qmp.hmp("info trace-events serial_read") == "serial_read : state 0\n"
    assert len(qmp.hmp("info trace-events").splitlines()) == len(event_names())


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("info trace-events nosuch", f"{UNKNOWN}\n"),
        ("info trace-events nosuch*", ""),
        ("info trace-events virtio_n* 0", ""),
        ("info trace-events virtio_n* 7", "invalid vCPU index 7\n"),
        ("info trace-events virtio_notify 0", f"{NOT_PER_VCPU}\n"),
        ("trace-event nosuch on", f"{UNKNOWN}\n"),
        ("trace-event nosuch* on", ""),
        ("trace-event virtio_notify on 0", f"{NOT_PER_VCPU}\n"),
        (
            "trace-event virtio_notify",
            "Expected 'on' or 'off'\nTry \"help trace-event\" for more information\n",
        ),
        (
            "trace-event",
            'trace-event: string expected\nTry "help trace-event" for more information\n',
        ),
        ("log trace:nosuch", "warning: trace event 'nosuch' does not exist\n"),
    ],
)
def test_people_get_qemus_answers(qmp: QmpClient, line: str, answer: str) -> None:
    assert qmp.hmp(line) == answer


def test_log_switches_events_and_leaves_them_on(traced: MonitoredVm) -> None:
    qmp = traced.client()
    assert qmp.hmp("log int,trace:serial_read") == ""
    assert qmp.hmp("log none") == ""
    assert qmp.hmp("info trace-events serial_read") == "serial_read : state 1\n"
    assert qmp.hmp("log trace:-serial_read") == ""
    assert qmp.hmp("info trace-events serial_read") == "serial_read : state 0\n"
    assert qmp.hmp("log trace:help").splitlines() == event_names()
    assert "trace:PATTERN" in qmp.hmp("help log")
