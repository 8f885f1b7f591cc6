"""Commands whose answer takes long."""

from __future__ import annotations

import threading

from ratite.core.lock import MachineLock
from ratite.monitor.later import Later


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
