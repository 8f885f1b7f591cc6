"""Limits on bytes and requests per second."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ratite.block import Limits
from ratite.block.throttle import SECOND_NS, ThrottleGroup
from ratite.core.errors import ConfigError


class Host:
    """Time and timers of a test."""

    def __init__(self) -> None:
        self.now = 0
        self.timers: list[tuple[int, Callable[[], object]]] = []

    def post_after(self, delay_ns: int, callback: Callable[[], object], /) -> None:
        self.timers.append((self.now + delay_ns, callback))

    def pass_time(self, seconds: float) -> None:
        end = self.now + int(seconds * SECOND_NS)
        while due := [timer for timer in self.timers if timer[0] <= end]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = end


class Load:
    """A member that asks for much at once, and counts what it gets."""

    def __init__(self, group: ThrottleGroup) -> None:
        self.group = group
        self.reads = 0
        self.writes = 0

    def ask(self, count: int, size: int, *, is_write: bool = False) -> None:
        for _ in range(count):
            self.group.submit(
                self, size, self._wrote if is_write else self._read, is_write=is_write
            )

    def _read(self) -> None:
        self.reads += 1

    def _wrote(self) -> None:
        self.writes += 1


@pytest.fixture
def host() -> Host:
    return Host()


def make(host: Host, **limits: int) -> ThrottleGroup:
    group = ThrottleGroup("g", host, lambda: host.now)
    group.set(Limits.of(limits))
    return group


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({"iops": 100}, 512),
        ({"bps": 51200}, 512),
        ({"iops_rd": 100}, 1 << 20),
        ({"iops": 100, "iops_size": 4096}, 4096),
        ({"iops": 400, "iops_size": 4096}, 16384),
        ({"iops": 100, "bps": 1 << 30}, 512),
    ],
)
def test_no_more_than_the_limit_is_done(host: Host, limits: dict[str, int], size: int) -> None:
    load = Load(make(host, **limits))
    load.ask(1000, size)
    assert 1 <= load.reads <= 15  # a tenth of a second's worth, and one
    host.pass_time(5)
    assert 495 <= load.reads <= 515


def test_reads_and_writes_have_limits_of_their_own(host: Host) -> None:
    load = Load(make(host, iops_rd=10, iops_wr=100))
    load.ask(1000, 512)
    load.ask(1000, 512, is_write=True)
    host.pass_time(2)
    assert 20 <= load.reads <= 23 and 200 <= load.writes <= 213
    free = Load(make(host, bps_wr=1))
    free.ask(1000, 4096)
    assert free.reads == 1000


def test_a_burst_goes_faster_for_a_while(host: Host) -> None:
    load = Load(make(host, iops=10, iops_max=100, iops_max_length=2))
    load.ask(10000, 512)
    host.pass_time(1)
    assert 100 <= load.reads <= 125
    host.pass_time(9)
    assert 285 <= load.reads <= 305  # 200 of the burst, 100 at ten a second
    quick = Load(make(host, iops=10, iops_max=100))
    quick.ask(10000, 512)
    assert 100 <= quick.reads <= 102


def test_members_of_a_group_share_the_limit(host: Host) -> None:
    group = make(host, iops=100)
    first, second = Load(group), Load(group)
    for _ in range(500):
        first.ask(1, 512)
        second.ask(1, 512)
    host.pass_time(2)
    assert 200 <= first.reads + second.reads <= 213
    assert abs(first.reads - second.reads) <= 1


def test_new_limits_hold_for_what_waits(host: Host) -> None:
    group = make(host, bps=1)
    load = Load(group)
    load.ask(100, 1 << 20)
    assert load.reads == 1
    host.pass_time(1)
    group.set(Limits.of({"bps": 10 << 20}))
    host.pass_time(2)
    assert 20 <= load.reads <= 25
    group.set(Limits())
    assert load.reads == 100


def test_timers_do_not_pile_up(host: Host) -> None:
    group = make(host, bps=1)
    Load(group).ask(10, 1 << 30)
    for _ in range(100):
        group.set(Limits.of({"bps": 1}))
        Load(group).ask(1, 1 << 30)
        host.pass_time(0.5)
    assert len(host.timers) <= 4


def test_what_waits_can_be_released(host: Host) -> None:
    group = make(host, iops=1)
    first, second = Load(group), Load(group)
    first.ask(10, 512)
    second.ask(10, 512, is_write=True)
    assert group.waits(first) and group.waits(second)
    group.release(first)
    assert first.reads == 10 and not group.waits(first) and second.writes < 3
    host.pass_time(60)
    assert second.writes == 10


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        (
            {"bps": 1, "bps_rd": 1},
            "bps/iops/max total values and read/write values cannot be used at the same time",
        ),
        (
            {"iops": 1, "iops_max": 2, "iops_wr_max": 1},
            "bps/iops/max total values and read/write values cannot be used at the same time",
        ),
        ({"iops": -1}, "bps/iops/max values must be within [0, 1000000000000000]"),
        ({"iops": 10**16}, "bps/iops/max values must be within [0, 1000000000000000]"),
        ({"bps_max": 10}, "bps_max/iops_max require corresponding bps/iops values"),
        ({"bps": 10, "bps_max": 5}, "bps_max/iops_max cannot be lower than bps/iops"),
        ({"bps": 10, "bps_max": 50, "bps_max_length": 0}, "the burst length cannot be 0"),
        ({"bps": 10, "bps_max_length": 2}, "burst length set without burst rate"),
        (
            {"bps": 10, "bps_max": 10**15, "bps_max_length": 10},
            "burst length too high for this burst rate",
        ),
        (
            {"bps": 10, "bps_max": 50, "bps_max_length": -1},
            "burst length too high for this burst rate",
        ),
        ({"bps": 10, "iops_size": 4096}, "iops size requires an iops value to be set"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(
    limits: dict[str, int], complaint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Limits.of(limits).check()
    assert caught.value.text == complaint
