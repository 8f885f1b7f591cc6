"""Code that changes under execution, the ends of a run, and what executors must not be seen to
cache.
"""

from __future__ import annotations

import threading
import time

import pytest

from ratite.cpu.exits import Exit
from ratite.native import i64, u64
from tests.isa.assembler import assemble, program
from tests.isa.guest import run_program
from tests.isa.harness import CODE, DEVICE, EXECUTORS, HANDLER, ROM, Executor, new_executor

LOOP = assemble("jal x0, 0")


def word(text: str) -> int:
    return int.from_bytes(assemble(text), "little")


@pytest.mark.parametrize("fence", ["", "fence.i"])
@pytest.mark.parametrize("distance", [4, 8, 20, 0x100, 0x1000])
def test_store_to_code_ahead_is_executed(executor: Executor, distance: int, fence: str) -> None:
    """Also within the running block, and without a fence.i: exact, as the reference is."""
    executor.load(CODE + 8 + distance, assemble("addi x1, x0, 1"))
    executor.hart.x[2] = u64(CODE)
    executor.hart.x[3] = u64(word("addi x1, x0, 2"))
    if distance == 4 and fence:
        return  # the fence itself would be overwritten
    padding = "addi x0, x0, 0\n" * ((distance - 4 - 4 * bool(fence)) // 4)
    offset = 8 + distance if distance < 0x700 else 0
    text = f"addi x0, x0, 0\naddi x0, x0, 0\nsw x3, {offset}(x2)\n{fence}\n{padding}"
    executor.load(CODE, program(text)[: 8 + distance])
    if distance >= 0x700:
        executor.hart.x[2] = u64(CODE + 8 + distance)
    executor.run(3 + distance // 4)
    assert executor.hart.x[1] == 2


def test_instruction_that_overwrites_itself_completes(executor: Executor) -> None:
    executor.hart.x[2], executor.hart.x[3] = u64(CODE), u64(word("addi x1, x1, 5"))
    executor.load(CODE, program("sw x3, 0(x2)\naddi x1, x1, 1\njal x0, -8"))
    executor.run(6)
    assert executor.read(CODE, 4) == word("addi x1, x1, 5")
    assert executor.hart.x[1] == 1 + 5 + 1


def test_loop_that_rewrites_its_body_every_time(executor: Executor) -> None:
    text = """
        lui   x2, 1
        addi  x5, x0, 100
        lw    x3, 24(x2)
    loop:
        add   x3, x3, x4
        sw    x3, 24(x2)
        addi  x5, x5, -1
        addi  x1, x1, 0          # at 24: its immediate grows
        bne   x5, x0, loop
    """
    executor.hart.x[4] = u64(1 << 20)
    run_program(executor, text, 3 + 100 * 5)
    assert executor.hart.x[1] == sum(range(1, 101))


@pytest.mark.parametrize(
    "text",
    ["sb x3, 0(x2)", "amoswap.w x0, x3, (x2)", "sd x3, -4(x2)", "c.sw x8, 0(x9)", "cbo.zero (x2)"],
)
def test_every_kind_of_store_reaches_code(executor: Executor, text: str) -> None:
    target = 0x5040
    executor.load(target - 4, assemble("addi x0, x0, 0") + assemble("addi x1, x1, 1") + LOOP)
    executor.hart.pc = u64(target)
    executor.run(3)  # the code is translated
    hart = executor.hart
    hart.x[2] = hart.x[9] = u64(target)
    new = word("addi x1, x1, 9")
    hart.x[3] = hart.x[8] = u64(new if "sd" not in text else new << 32 | word("addi x0, x0, 0"))
    if text.startswith("sb"):
        hart.x[2] = u64(target + 2)
        hart.x[3] = u64(new >> 16)
    executor.load(CODE, assemble(text))
    hart.pc, hart.x[1] = u64(CODE), u64(0)
    executor.run(1)
    hart.pc = u64(target)
    executor.run(1)
    if "cbo" in text:
        assert (hart.mcause, hart.mtval) == (2, 0)
    else:
        assert hart.x[1] == 9


def test_write_from_outside_reaches_code(executor: Executor) -> None:
    executor.load(CODE, assemble("addi x1, x1, 1") + LOOP)
    executor.run(5)
    executor.load(CODE, assemble("addi x1, x1, 7"))
    executor.hart.pc = u64(CODE)
    executor.run(1)
    assert executor.hart.x[1] == 8


def test_store_beside_code_on_its_page_changes_nothing(executor: Executor) -> None:
    text = """
        lui   x2, 1
        addi  x5, x0, 50
    loop:
        sd    x5, 0x100(x2)
        addi  x5, x5, -1
        bne   x5, x0, loop
    """
    run_program(executor, text, 2 + 150)
    assert (executor.hart.x[5], executor.read(CODE + 0x100, 8)) == (0, 1)


def test_rewriting_the_tail_of_an_instruction_across_pages(executor: Executor) -> None:
    first = assemble("addi x1, x1, 1")
    executor.load(0x5FFE, first + LOOP)
    executor.hart.pc = u64(0x5FFE)
    executor.run(2)
    second = assemble("addi x1, x1, 0x70")
    executor.hart.x[2], executor.hart.x[3] = u64(0x6000), u64(int.from_bytes(second[2:], "little"))
    run_program(executor, "sh x3, 0(x2)", 1)
    executor.hart.pc, executor.hart.x[1] = u64(0x5FFE), u64(0)
    executor.run(1)
    assert executor.hart.x[1] == 0x70


def test_rewriting_the_head_of_an_instruction_across_pages(executor: Executor) -> None:
    executor.load(0x5FFE, assemble("addi x1, x1, 1") + LOOP)
    executor.hart.pc = u64(0x5FFE)
    executor.run(2)
    executor.hart.x[2], executor.hart.x[3] = u64(0x5FFE), u64(word("addi x3, x1, 1") & 0xFFFF)
    run_program(executor, "sh x3, 0(x2)", 1)
    executor.hart.pc, executor.hart.x[1] = u64(0x5FFE), u64(40)
    executor.run(1)
    assert executor.hart.x[3] == 41


def test_code_runs_from_rom(executor: Executor) -> None:
    executor.load(ROM + 0x100, assemble("addi x1, x1, 3") + LOOP)
    executor.hart.pc = u64(ROM + 0x100)
    executor.run(2)
    assert executor.hart.x[1] == 3


@pytest.mark.parametrize("budget", [0, 1, 2, 3, 7, 63, 64, 65, 130, 1000])
def test_run_retires_exactly_its_budget(executor: Executor, budget: int) -> None:
    executor.load(CODE, assemble("addi x1, x1, 1") * 130 + assemble("jal x0, -520"))
    before = executor.hart.retired()
    assert executor.run(budget) == Exit.BUDGET
    assert executor.hart.retired() - before == budget
    assert executor.hart.budget == 0
    assert executor.hart.x[1] == budget - budget // 131


def test_budget_ends_between_an_instruction_and_the_fault_of_the_next(executor: Executor) -> None:
    for code in (
        assemble("jal x0, 0x7000"),
        assemble("jalr x0, 0(x2)"),
        assemble("addi x1, x1, 1") + b"\0\0\0\0",
    ):
        executor.reset()
        executor.hart.x[2] = u64(0x4000_0000)
        executor.load(CODE, code)
        executor.load(0x8000, b"\0\0\0\0")
        executor.run(1)
        assert executor.hart.mcause == 0
        executor.run(1)
        assert executor.hart.mcause in (1, 2)


def test_budget_is_exact_behind_a_device_access(executor: Executor) -> None:
    text = "lui x2, 0x10000\n" + "addi x1, x1, 1\n" * 3 + "lw x3, 0(x2)\n" + "addi x1, x1, 1\n" * 40
    executor.load(CODE, program(text))
    for budget in (5, 6, 7, 20):
        executor.hart.pc, executor.hart.x[1] = u64(CODE), u64(0)
        executor.device.log.clear()
        executor.run(budget)
        assert executor.hart.pc == CODE + 4 * budget
        assert executor.hart.x[1] == budget - 2
        assert executor.device.log == [("read", 0, 4, 0x03020100)]


@pytest.mark.parametrize("budget", [64, 65, 70])
def test_budget_is_exact_when_an_access_splits_a_block(executor: Executor, budget: int) -> None:
    """What follows the access is a block that reaches further than the one it was in."""
    lines = ["lui x2, 0x10000", *["addi x1, x1, 1"] * 3, "lw x3, 0(x2)", *["addi x1, x1, 1"] * 120]
    executor.load(CODE, program("\n".join(lines)))
    executor.run(budget)
    assert (executor.hart.pc, executor.hart.budget) == (CODE + 4 * budget, 0)


def test_device_access_is_made_once(executor: Executor) -> None:
    executor.load(CODE, program("ld x3, 0(x2)\nsw x3, 8(x2)\nlbu x4, -1(x2)\nlw x5, 0x7ec(x2)"))
    executor.hart.x[2] = u64(DEVICE + 0x10)
    executor.run(4)
    assert [entry[:3] for entry in executor.device.log] == [
        ("read", 0x10, 4),
        ("read", 0x14, 4),
        ("write", 0x18, 4),
        ("read", 0xF, 1),
        ("read", 0x7FC, 4),
    ]
    assert executor.hart.x[3] == 0x1716151413121110


def test_access_across_the_end_of_a_device(executor: Executor) -> None:
    executor.hart.x[2] = u64(DEVICE + 0xFFC)
    executor.load(CODE, assemble("ld x1, 0(x2)"))
    executor.run(1)
    assert (executor.hart.mcause, executor.hart.mtval) == (5, DEVICE + 0x1000)
    assert len(executor.device.log) == 4  # the bytes before the end


@pytest.mark.parametrize(
    "code",
    [LOOP, program("loop:\naddi x1, x1, 1\nbne x1, x0, loop"), program("loop:\njalr x0, 0(x2)")],
)
def test_kick_ends_an_endless_loop_soon(executor: Executor, code: bytes) -> None:
    executor.load(CODE, code)
    executor.hart.x[2] = u64(CODE)
    executor.cpu.set_budget(1 << 60)
    sent = []

    def kick() -> None:
        time.sleep(0.02)
        sent.append(time.perf_counter())
        executor.cpu.kick(leave=True)

    thread = threading.Thread(target=kick)
    thread.start()
    reason = executor.cpu.run()
    late = time.perf_counter() - sent[0]
    thread.join()
    assert reason == Exit.INTERRUPTED
    assert late < 0.1
    assert executor.hart.pc in (CODE, CODE + 4)
    executor.cpu.set_budget(1)


def test_kick_ends_a_storm_of_traps(executor: Executor) -> None:
    executor.load(HANDLER, b"\0\0")  # the handler itself is illegal: nothing ever retires
    executor.hart.pc = u64(HANDLER)
    executor.cpu.set_budget(1 << 40)
    timer = threading.Timer(0.02, lambda: executor.cpu.kick(leave=True))
    timer.start()
    assert executor.cpu.run() == Exit.INTERRUPTED
    timer.join()
    assert executor.hart.budget == 1 << 40
    executor.hart.budget = i64(0)


def test_reservation_ends_with_a_trap_and_with_its_use(executor: Executor) -> None:
    executor.hart.x[2], executor.hart.x[3] = u64(0x5000), u64(7)
    run_program(executor, "lr.w x1, (x2)\nsc.w x4, x3, (x2)\nsc.w x5, x3, (x2)", 3)
    assert (executor.hart.x[4], executor.hart.x[5], executor.read(0x5000, 4)) == (0, 1, 7)
    executor.hart.mtvec = u64(CODE + 8)
    run_program(executor, "lr.d x1, (x2)\necall\nsc.d x4, x3, (x2)", 2)
    assert executor.hart.x[4] == 1


@pytest.mark.parametrize(
    ("between", "failed"),
    [("addi x0, x0, 0", 0), ("sw x3, 4(x2)", 0), ("sw x6, 0(x2)", 1), ("lr.w x1, (x7)", 1)],
)
def test_store_conditional_after(executor: Executor, between: str, failed: int) -> None:
    hart = executor.hart
    hart.x[2], hart.x[3], hart.x[6], hart.x[7] = u64(0x5000), u64(7), u64(99), u64(0x5008)
    run_program(executor, f"lr.w x1, (x2)\n{between}\nsc.w x4, x3, (x2)", 3)
    assert hart.x[4] == failed


def test_two_harts_do_not_share_anything() -> None:
    for name in EXECUTORS:
        first, second = new_executor(name), new_executor(name)
        for which, step in ((first, 1), (second, 2)):
            which.reset()
            which.load(CODE, assemble(f"addi x1, x1, {step}") + assemble("jal x0, -4"))
        for _ in range(3):
            first.run(20)
            second.run(20)
        assert (first.hart.x[1], second.hart.x[1]) == (30, 60)
