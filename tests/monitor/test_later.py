"""Commands whose answer takes long."""

from __future__ import annotations

import threading

from ratite.core.lock import MachineLock
from ratite.monitor.later import Later

from .conftest import MakeVm


def test_the_guest_goes_on_while_a_caller_waits() -> None:
    lock = MachineLock()
    held: list[bool] = []

    def guest() -> None:
        with lock:
            held.append(True)

    def work() -> int:
        vcpu = threading.Thread(target=guest, daemon=True)
        vcpu.start()
        vcpu.join(20)
        return len(held)

    with lock:
        assert Later(work, lambda outcome: (outcome(), lock.held)).wait(lock) == (1, True)


def test_a_machine_does_not_end_amid_a_command_that_gave_the_lock_up(make_vm: MakeVm) -> None:
    vm = make_vm().vm
    begun, go_on = threading.Event(), threading.Event()
    monitors: list[int] = []

    def command() -> None:
        with vm.machine.lock.unlocked():
            begun.set()
            go_on.wait(20)
        monitors.append(len(vm.hub.monitors))

    vm.loop.post(command)
    assert begun.wait(20)
    closing = threading.Thread(target=vm.close, daemon=True)
    closing.start()
    assert vm.wait(20)
    closing.join(0.2)  # it waits for the command
    go_on.set()
    closing.join(20)
    assert monitors == [1] and vm.closed
