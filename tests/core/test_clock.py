"""Clocks and timers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from ratite.core import FakeClock, HostClock, MachineLock, VirtualClock

MS = 1_000_000


@pytest.fixture
def lock() -> MachineLock:
    return MachineLock()


@pytest.fixture
def clock(lock: MachineLock) -> Iterator[VirtualClock]:
    clock = VirtualClock(lock)
    yield clock
    clock.close()


def test_a_fake_clock_fires_in_order_of_deadline_each_at_its_time() -> None:
    clock = FakeClock()
    fired: list[tuple[str, int]] = []
    for name, deadline in (("late", 30), ("early", 10), ("middle", 20)):
        clock.timer(lambda name=name: fired.append((name, clock.now_ns()))).mod(deadline)
    assert clock.advance(25) == 2
    assert fired == [("early", 10), ("middle", 20)]
    assert clock.now_ns() == 25
    clock.advance(100)
    assert fired[-1] == ("late", 30)


def test_a_timer_that_rearms_itself_ticks() -> None:
    clock = FakeClock()
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(clock.now_ns())
        timer.mod(clock.now_ns() + 10)

    timer = clock.timer(tick)
    timer.mod(10)
    clock.advance(35)
    assert ticks == [10, 20, 30]
    assert timer.deadline_ns == 40


def test_only_the_last_deadline_counts() -> None:
    clock = FakeClock()
    fired: list[int] = []
    timer = clock.timer(lambda: fired.append(clock.now_ns()))
    timer.mod(10)
    timer.mod(50)
    clock.advance(20)
    assert fired == []
    timer.mod(30)
    clock.advance(100)
    assert fired == [30]
    assert timer.deadline_ns is None


def test_a_deleted_timer_does_not_fire() -> None:
    clock = FakeClock()
    timer = clock.timer(pytest.fail)
    timer.mod(10)
    timer.delete()
    timer.delete()
    assert clock.advance(20) == 0
    assert clock.next_deadline_ns() is None


def test_a_deadline_in_the_past_fires_at_the_next_advance() -> None:
    clock = FakeClock(100)
    fired: list[int] = []
    clock.timer(lambda: fired.append(clock.now_ns())).mod(5)
    clock.advance(0)
    assert fired == [100]


def test_virtual_time_starts_at_zero_and_stands_still_until_started(clock: VirtualClock) -> None:
    assert clock.now_ns() == 0
    clock.start()
    time.sleep(0.002)
    clock.stop()
    stopped = clock.now_ns()
    assert 2 * MS <= stopped < 2000 * MS
    time.sleep(0.002)
    assert clock.now_ns() == stopped
    clock.start()
    assert stopped <= clock.now_ns() < stopped + 1000 * MS


def test_virtual_timers_fire_soon_after_their_deadline_with_the_lock_held(
    clock: VirtualClock, lock: MachineLock
) -> None:
    fired = threading.Event()
    seen: list[tuple[int, bool]] = []

    def callback() -> None:
        seen.append((clock.now_ns(), lock.held))
        fired.set()

    clock.start()
    deadline = clock.now_ns() + 5 * MS
    clock.timer(callback).mod(deadline)
    assert fired.wait(5)
    when, held = seen[0]
    assert held
    assert deadline <= when < deadline + 500 * MS


def test_an_earlier_deadline_overtakes_one_that_is_waited_for(clock: VirtualClock) -> None:
    fired = threading.Event()
    clock.start()
    clock.timer(pytest.fail).mod(clock.now_ns() + 3_600_000 * MS)
    time.sleep(0.002)
    clock.timer(fired.set).mod(clock.now_ns() + MS)
    assert fired.wait(5)


def test_a_stopped_clock_fires_nothing(clock: VirtualClock) -> None:
    fired = threading.Event()
    clock.timer(fired.set).mod(MS)
    assert not fired.wait(0.02)
    clock.start()
    assert fired.wait(5)


def test_deleting_under_the_lock_is_reliable(clock: VirtualClock, lock: MachineLock) -> None:
    fired: list[int] = []
    clock.start()
    timer = clock.timer(lambda: fired.append(1))
    with lock:
        timer.mod(clock.now_ns())
        time.sleep(0.005)  # the timer thread is waiting for the lock by now
        timer.delete()
    time.sleep(0.005)
    assert fired == []


def test_time_can_be_set(clock: VirtualClock) -> None:
    clock.set_ns(7_000_000 * MS)
    assert clock.now_ns() == 7_000_000 * MS
    clock.start()
    assert clock.now_ns() >= 7_000_000 * MS


def test_a_driven_clock_follows_its_source_and_runs_no_thread(lock: MachineLock) -> None:
    source = [0]
    sooner: list[int] = []
    clock = VirtualClock(lock, read_ns=lambda: source[0], on_sooner=lambda: sooner.append(1))
    fired: list[int] = []
    clock.start()
    clock.timer(lambda: fired.append(clock.now_ns())).mod(100)
    clock.timer(lambda: fired.append(-1)).mod(200)
    assert len(sooner) == 1
    source[0] = 99
    assert clock.run_due() == 0
    source[0] = 150
    assert clock.run_due() == 1
    assert fired == [150]
    assert clock.next_deadline_ns() == 200


def test_a_closed_clock_fires_nothing_more(clock: VirtualClock) -> None:
    clock.start()
    timer = clock.timer(pytest.fail)
    timer.mod(clock.now_ns() + 20 * MS)
    clock.close()
    clock.close()
    timer.mod(clock.now_ns())
    time.sleep(0.03)


def test_the_host_clock_is_wall_time(lock: MachineLock) -> None:
    clock = HostClock(lock)
    assert abs(clock.now_ns() - time.time_ns()) < 1000 * MS
    fired = threading.Event()
    clock.timer(fired.set).mod(clock.now_ns() + MS)
    assert fired.wait(5)
    clock.close()
