"""The ring of reports between the vCPUs and the compiler."""

from __future__ import annotations

from ratite.accel.jit.heat import Heat
from ratite.cpu.machine import HOT_RING, Block, Shared
from ratite.native.types import u32


def report(shared: Shared, block: int) -> None:
    """Do what a vCPU does, in its order."""
    number = int(shared.hot_head)
    shared.hot_head = u32(number + 1)
    shared.plain().hot_ring[number % HOT_RING] = block


def test_a_report_that_is_counted_but_not_written_is_taken_later() -> None:
    shared = Shared.allocate()
    heat = Heat(shared)
    first, second = Block.allocate(), Block.allocate()
    for block in (first, second):
        shared.hot_head = u32(int(shared.hot_head) + 1)
        heat.gather()
        assert heat.fresh() == []
        shared.plain().hot_ring[int(shared.hot_head) - 1] = block.address
        heat.gather()
        assert heat.fresh() == [(block.address, 0)]


def test_a_slot_holds_no_report_of_the_last_round() -> None:
    shared = Shared.allocate()
    heat = Heat(shared)
    block = Block.allocate()
    for _ in range(HOT_RING):
        report(shared, block.address)
    heat.forget()
    shared.hot_head = u32(HOT_RING + 1)  # counted, not written
    heat.gather()
    assert heat.fresh() == [] and heat.hottest() is None


def test_reports_are_lost_but_never_mixed_up_where_nobody_looks_for_long() -> None:
    shared = Shared.allocate()
    heat = Heat(shared)
    blocks = [Block.allocate() for _ in range(3)]
    for number in range(2 * HOT_RING + 5):
        report(shared, blocks[number % 3].address)
    heat.gather()
    assert sorted(heat.fresh()) == sorted((block.address, 0) for block in blocks)
