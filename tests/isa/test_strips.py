"""Loops whose accesses walk through memory: their second text, and that nobody can tell."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratite.accel.jit.full import FullRegionText
from ratite.cpu.exits import Exit
from ratite.native import u64
from tests.isa.assembler import assemble, program
from tests.isa.guest import run_program
from tests.isa.harness import CODE, DEVICE, HANDLER, RAM_SIZE, Executor, executor
from tests.isa.test_regions import Jit

COPY = (
    "lbu x5, 0(x2)\naddi x2, x2, 1\nsb x5, 0(x4)\naddi x4, x4, 1\naddi x3, x3, -1\n"
    "bne x3, x0, -20\njal x0, 0"
)
"""x3 bytes from x2 to x4."""
ROUND = 6  # instructions of it
FROM, TO = 0x5000, 0x8000
PATTERN = bytes((number * 7 + 3) & 0xFF for number in range(0x2000))


def run_copy(guest: Executor, source: int, target: int, count: int, instructions: int) -> None:
    """Copy bytes; the program ends in a loop of its own."""
    hart = guest.hart
    hart.x[2], hart.x[3], hart.x[4] = u64(source), u64(count), u64(target)
    run_program(guest, COPY, instructions)


@pytest.mark.parametrize("source", [FROM, FROM + 0xFF0, FROM + 0xFFF])
@pytest.mark.parametrize("target", [TO, TO + 0xFFB])
@pytest.mark.parametrize("count", [1, 17, 100, 700])
def test_a_copy_over_pages(executor: Executor, source: int, target: int, count: int) -> None:
    executor.load(FROM, PATTERN)
    executor.load(FROM + 0x2000, PATTERN[:0x1000])
    executor.load(TO, bytes(0x3000))
    run_copy(executor, source, target, count, count * ROUND + 1)
    known = PATTERN + PATTERN[:0x1000]
    wanted = known[source - FROM : source - FROM + count]
    assert executor.ram.read(target, count) == wanted
    assert executor.ram.read(target + count, 8) == bytes(8)
    assert int(executor.hart.x[4]) == target + count


@pytest.mark.parametrize("step", [1, 2, 3, 8, 24, 100, 480, 512, 520, -1, -4, -7, -512])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_steps_of_any_width(executor: Executor, step: int, size: int) -> None:
    """Sums what it loads and stores the sums beside; now and then an access lies on two pages."""
    load = {1: "lbu", 2: "lhu", 4: "lwu", 8: "ld"}[size]
    executor.load(0x4000, PATTERN + PATTERN)
    start, rounds = 0x6003, 15 if abs(step) >= 100 else 100
    hart = executor.hart
    hart.x[2], hart.x[3], hart.x[4], hart.x[6] = (u64(n) for n in (start, rounds, 0xA000, 0))
    text = (
        f"{load} x5, 0(x2)\nadd x6, x6, x5\naddi x2, x2, {step}\nsd x6, 8(x4)\naddi x4, x4, 8\n"
        "addi x3, x3, -1\nbne x3, x0, -24\njal x0, 0"
    )
    run_program(executor, text, rounds * 7 + 1)
    memory = PATTERN + PATTERN
    total = 0
    for number in range(rounds):
        at = start - 0x4000 + number * step
        total = (total + int.from_bytes(memory[at : at + size], "little")) % 2**64
        assert executor.read(0xA008 + 8 * number, 8) == total
    assert int(hart.x[6]) == total


def test_a_walk_off_the_end_of_ram_faults_where_it_ends(executor: Executor) -> None:
    executor.load(RAM_SIZE - 0x100, bytes([1]) * 0x100)
    executor.load(TO, bytes(0x200))
    run_copy(executor, RAM_SIZE - 0x100, TO, 0x1000, 0x100 * ROUND + 1)
    hart = executor.hart
    assert (hart.pc, hart.mepc, hart.mtval) == (HANDLER, CODE, RAM_SIZE)
    assert hart.x[3] == 0xF00
    assert executor.ram.read(TO, 0x102) == bytes([1]) * 0x100 + bytes(2)


def test_a_walk_into_a_device(executor: Executor) -> None:
    executor.load(FROM, PATTERN)
    run_copy(executor, FROM, DEVICE, 40, 40 * ROUND)
    assert [entry[:3] for entry in executor.device.log] == [("write", n, 1) for n in range(40)]


def test_a_walk_over_the_loop_itself(executor: Executor) -> None:
    """The copy comes to the page of its own code, and then to its first instruction."""
    changed = assemble("addi x5, x0, 0x55")  # in place of the load
    executor.load(FROM, bytes(0x1000))
    executor.load(FROM + 0x40, changed)
    executor.load(CODE - 0x40, bytes(0x40))
    run_copy(executor, FROM, CODE - 0x40, 0x44, 0x44 * ROUND)
    assert int(executor.hart.x[4]) == CODE + 4


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["lbu", "lhu", "lw", "ld", "sb", "sh", "sw", "sd"]),
            st.sampled_from([2, 4, 7]),
            st.integers(-40, 40),
        ),
        min_size=1,
        max_size=3,
    ),
    st.lists(st.tuples(st.sampled_from([2, 4, 7]), st.integers(-64, 64)), min_size=1, max_size=3),
    st.lists(st.integers(0x6000, 0x7FFF), min_size=3, max_size=3),
    st.booleans(),
    st.none() | st.tuples(st.integers(0, 4), st.sampled_from(["beq", "bltu"])),
)
def test_loops_that_nobody_thought_of(
    accesses: list[tuple[str, int, int]],
    steps: list[tuple[int, int]],
    starts: list[int],
    mixed: bool,
    fork: tuple[int, str] | None,
) -> None:
    """The reference and the full level leave the same registers and memory."""
    lines = [f"{name} x{8 if name[0] == 's' else 5}, {at}(x{base})" for name, base, at in accesses]
    moves = [f"addi x{register}, x{register}, {step}" for register, step in steps]
    body = [line for pair in zip(lines, moves, strict=False) for line in pair] if mixed else []
    body += [line for line in lines + moves if line not in body]
    if fork is not None:  # over the next instruction
        body.insert(fork[0], f"{fork[1]} x8, x3, 8")
    body += ["add x8, x8, x5", "addi x3, x3, -1"]
    text = "\n".join([*body, f"bne x3, x0, {-4 * len(body)}", "jal x0, 0"])
    rounds = 60
    outcomes = []
    for name in ("reference", "tier1-full"):
        guest = executor(name)
        guest.reset()
        guest.load(0x4000, PATTERN)
        guest.load(0x6000, PATTERN)
        guest.load(0x8000, PATTERN)
        hart = guest.hart
        for register, start in zip((2, 4, 7), starts, strict=True):
            hart.x[register] = u64(start)
        hart.x[3], hart.x[8] = u64(rounds), u64(0x0123_4567_89AB_CDEF)
        run_program(guest, text, rounds * (len(body) + 1))
        registers = [int(hart.x[number]) for number in range(32)]
        outcomes.append((registers, int(hart.pc), guest.ram.read(0x4000, 0x6000)))
    assert outcomes[0] == outcomes[1]


def test_the_second_text_is_there() -> None:
    """Or these tests would say nothing."""
    seen: list[str] = []
    before = FullRegionText.text

    def spy(self: FullRegionText) -> str:
        text = before(self)
        seen.append(text)
        return text

    guest = executor("tier1-full")
    guest.reset()
    FullRegionText.text = spy  # type: ignore[method-assign]
    try:
        guest.load(FROM, PATTERN)
        run_copy(guest, FROM, TO, 100, 100 * ROUND + 1)
    finally:
        FullRegionText.text = before  # type: ignore[method-assign]
    assert any("strip." in text for text in seen)


def test_a_kick_ends_a_walk_that_stays_where_it_is() -> None:
    jit = Jit(cache=False)
    try:
        hart = jit.hart
        hart.x[2] = u64(FROM)
        jit.load(CODE, program("ld x5, 0(x2)\naddi x5, x5, 1\nsd x5, 0(x2)\njal x0, -12"))
        jit.run_until(lambda: jit.stats.full > 0)
        for _ in range(20):
            jit.cpu.set_budget(1 << 60)
            ended: list[int] = []
            vcpu = threading.Thread(target=lambda: ended.append(jit.cpu.run()))  # noqa: B023
            vcpu.start()
            time.sleep(0.01)
            asked = time.monotonic()
            jit.cpu.kick(leave=True)
            vcpu.join(60)
            assert time.monotonic() - asked < 10
            assert ended == [Exit.INTERRUPTED]
    finally:
        jit.machine.close()
