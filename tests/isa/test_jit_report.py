"""What `info jit` shows."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator

import pytest

from ratite.accel.jit.usage import Place, Usage, thread_ns
from ratite.core.log import LogCategory
from ratite.cpu.block import RECORD_SIZE
from ratite.cpu.machine import BLOCK_HEADER, Block, Shared
from ratite.isa.riscv import Hart
from ratite.native import u32, u64
from tests.isa.assembler import program
from tests.isa.harness import CODE
from tests.isa.test_jit_log import LOOP, Logged, run_loop

PATIENCE_S = 60


@pytest.fixture
def guest() -> Iterator[Logged]:
    made = Logged(LogCategory.NONE)
    yield made
    made.machine.close()


def number(report: str, label: str) -> float:
    """What stands behind a label."""
    match = re.search(rf"^ *{re.escape(label)} +([\d.]+)", report, re.M)
    assert match is not None, report
    return float(match[1])


def test_blocks_are_described(guest: Logged) -> None:
    run_loop(guest, rounds=20)
    report = guest.machine.report()
    assert number(report, "TB count") == number(report, "TB translated count") == 4
    assert number(report, "TB avg target size") == (8 + 4 + 8 + 4) // 4
    assert "max=8 bytes" in report
    assert "direct jump count   4 (100%) (2 jumps=3 75%)" in report
    assert "cross page TB count 0 (0%)" in report
    assert number(report, "TB flush count") == 0
    guest.machine.flush_code()
    report = guest.machine.report()
    assert number(report, "TB count") == 0 and number(report, "TB flush count") == 1
    assert number(report, "TB translated count") == 4
    assert "max=0 bytes" in report


def test_a_block_on_two_pages_is_counted(guest: Logged) -> None:
    guest.load(CODE + 0xFFE, program("lui x1, 1\njal x0, 0"))
    guest.hart.pc = u64(CODE + 0xFFE)
    guest.run(2)
    assert "cross page TB count 1 (50%)" in guest.machine.report()


@pytest.mark.parametrize("wanted", [LogCategory.NONE, LogCategory.EXEC])
def test_every_instruction_of_tier_0_is_counted(guest: Logged, wanted: LogCategory) -> None:
    guest.log.choose(wanted)
    run_loop(guest, rounds=100_000)
    before = guest.machine.threaded_instructions()
    assert before == guest.hart.retired() > 200_000
    guest.machine.flush_code()
    assert guest.machine.threaded_instructions() == before
    assert number(guest.machine.report(), "in tier 0") == 100


def test_what_regions_execute_is_not_counted_as_of_tier_0() -> None:
    guest = Logged(LogCategory.NONE, tier=1)
    try:
        assert guest.machine.compiler is not None
        guest.hart.x[2] = u64(0)
        guest.load(CODE, program(LOOP))
        deadline = time.monotonic() + PATIENCE_S
        while number(guest.machine.report(), "in regions") < 90:
            assert time.monotonic() < deadline
            guest.run(20_000_000)
        assert number(guest.machine.report(), "Regions compiled") > 0
    finally:
        guest.machine.close()


# -- the sampler


class Sampled:
    """A vCPU that says what it is told to say."""

    def __init__(self) -> None:
        self.state = Hart.allocate()
        self.state.host_thread = u64(threading.get_native_id())
        self.kicks = 0

    def kick(self, *, leave: bool) -> None:
        assert not leave
        self.kicks += 1


def test_what_a_vcpu_says_is_counted_with_its_time() -> None:
    shared, block, cpu = Shared.allocate(), Block.allocate(), Sampled()
    shared.buffer, shared.next = u64(block.address), u64(block.address + Block.SIZE)
    block.handler = u64(77)
    usage = Usage(shared, [cpu], {77: Place.FULL}.__getitem__)
    usage.look()
    assert (usage.samples, cpu.kicks) == (0, 1)  # it has not said anything yet
    cpu.state.found = u64(block.address)
    usage.look()
    start = thread_ns(threading.get_native_id())
    while thread_ns(threading.get_native_id()) < start + 2_000_000:
        continue
    cpu.state.found = u64(block.address)
    usage.look()
    assert usage.samples == 2 and usage.nanoseconds[Place.FULL] >= 2_000_000
    assert cpu.state.found == 0


def test_where_a_region_was_left_before_the_vcpu_looked_it_was_in_the_region() -> None:
    blocks = [Block.allocate() for _ in range(2)]
    shared, cpu = Shared.allocate(), Sampled()
    addresses = [block.address for block in blocks]
    shared.buffer, shared.next = u64(min(addresses)), u64(max(addresses) + Block.SIZE)
    places = {7: Place.TIER_0, 8: Place.QUICK}
    blocks[0].handler, blocks[1].handler = u64(7), u64(8)
    usage = Usage(shared, [cpu], places.__getitem__)

    def found(at: int, after: int) -> dict[Place, int]:
        before = dict(usage.nanoseconds)
        cpu.state.found, cpu.state.found_after = u64(at), u64(after)
        usage.look()
        return {place: spent - before[place] for place, spent in usage.nanoseconds.items()}

    found(addresses[0], addresses[0])  # time is counted from here on
    assert found(addresses[0], addresses[1])[Place.QUICK] > 0
    assert found(addresses[1], addresses[0])[Place.QUICK] > 0
    assert found(addresses[0], addresses[0])[Place.TIER_0] > 0
    assert found(addresses[0], 0)[Place.TIER_0] > 0


def test_a_vcpu_says_where_it_is_and_what_it_came_from(guest: Logged) -> None:
    """Writing mie has it look at its interrupts before the next block."""
    guest.load(CODE, program("addi x1, x1, 1\ncsrrw x0, mie, x0\naddi x1, x1, 1\njal x0, 0"))
    hart = guest.hart
    for _ in range(2):  # at first the vCPU is asked to drop what its TLB holds
        hart.pc, hart.found = u64(CODE), u64(0)
        guest.run(4)
    first, second, *_ = guest.machine.blocks()
    assert [int(Block(block).pc) for block in (first, second)] == [CODE, CODE + 8]
    assert hart.found == second
    assert hart.found_after == first + BLOCK_HEADER + RECORD_SIZE  # its second record


def test_a_vcpu_that_is_not_in_generated_code_is_outside_and_one_that_waits_is_nowhere() -> None:
    cpu = Sampled()
    usage = Usage(Shared.allocate(), [cpu], lambda handler: Place.TIER_0)
    cpu.state.exit_reason = u32(1)
    usage.look()
    usage.look()
    assert usage.samples == 2 and usage.nanoseconds[Place.OUTSIDE] > 0
    cpu.state.halted = u32(1)
    kicks = cpu.kicks
    usage.look()
    assert (usage.samples, cpu.kicks) == (2, kicks)


def test_the_time_of_a_thread_that_is_not_there_is_none() -> None:
    assert thread_ns(0) == thread_ns(1) == 0  # the first process of all
