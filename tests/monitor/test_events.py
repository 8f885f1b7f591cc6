"""Events: rate limits, and those that devices cause."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ratite.core.disk import ErrorAction
from ratite.core.loop import Loop
from ratite.devices.notice import IoFailed
from ratite.monitor.event import SECOND_NS, EventBus, Message
from ratite.monitor.events import Stop, VserportChange

from .conftest import MakeVm


@dataclass
class FakeLoop:
    """A loop whose time moves when the test says so."""

    now_ns: int = 0

    def __post_init__(self) -> None:
        self.waiting: list[tuple[int, Callable[[], object]]] = []
        self.current = True

    def post_after(self, delay_ns: int, callback: Callable[[], object]) -> None:
        self.waiting.append((self.now_ns + delay_ns, callback))

    def advance(self, ns: int) -> None:
        self.now_ns += ns
        due = [entry for entry in self.waiting if entry[0] <= self.now_ns]
        self.waiting = [entry for entry in self.waiting if entry[0] > self.now_ns]
        for _, callback in due:
            callback()


def make_bus() -> tuple[EventBus, FakeLoop, list[Any]]:
    loop = FakeLoop()
    bus = EventBus(cast(Loop, loop))
    seen: list[Message] = []
    bus.listeners.append(seen.append)
    return bus, loop, seen


def test_an_event_without_a_limit_is_sent_each_time() -> None:
    bus, _, seen = make_bus()
    for _ in range(10):
        bus.emit(Stop())
    assert [message["event"] for message in seen] == ["STOP"] * 10
    assert "data" not in seen[0]


def test_of_events_within_the_limit_the_first_and_the_last_are_sent() -> None:
    bus, loop, seen = make_bus()
    for number in range(10):
        bus.emit(VserportChange("p", number % 2 == 0))
    assert len(seen) == 1
    loop.advance(SECOND_NS)
    assert [message["data"]["open"] for message in seen] == [True, False]
    loop.advance(SECOND_NS)
    assert len(seen) == 2 and not loop.waiting
    bus.emit(VserportChange("p", True))
    assert len(seen) == 3


def test_the_limit_is_for_each_key() -> None:
    bus, _, seen = make_bus()
    bus.emit(VserportChange("p", True))
    bus.emit(VserportChange("q", True))
    bus.emit(VserportChange("p", False))
    assert [message["data"]["id"] for message in seen] == ["p", "q"]


def test_a_port_that_the_guest_opens_is_announced(make_vm: MakeVm) -> None:
    machine = make_vm(
        "-device virtio-serial-device -chardev null,id=c -device virtserialport,chardev=c,id=vp"
    )
    qmp = machine.client()
    port: Any = machine.vm.root.resolve("/machine/peripheral/vp")

    def is_open() -> bool:
        (found,) = (c for c in qmp.result("query-chardev") if c["label"] == "c")
        return bool(found["frontend-open"])

    assert not is_open()
    with machine.vm.machine.lock:
        port.set_guest_open(True)
    assert qmp.event("VSERPORT_CHANGE")["data"] == {"id": "vp", "open": True}
    assert is_open()


def test_a_failing_disk_is_announced(make_vm: MakeVm) -> None:
    machine = make_vm()
    qmp = machine.client()
    with machine.vm.machine.lock:
        failure = IoFailed("d0", "#block001", True, errno.ENOSPC, ErrorAction.REPORT, True)
        machine.vm.hub.noticed(failure)
    assert qmp.event("BLOCK_IO_ERROR")["data"] == {
        "device": "d0",
        "operation": "write",
        "action": "report",
        "reason": "No space left on device",
        "node-name": "#block001",
        "nospace": True,
    }
