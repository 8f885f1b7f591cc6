"""Address spaces that a hart goes to and fro between (Privileged ISA 20240411, 12.1.11 and 12.2.1),
and what it remembers of them.
"""

from __future__ import annotations

import pytest

from ratite.cpu.space import FIRST_ENTRIES, MIN_ENTRIES, SPACES, SPACIOUS, VICTIMS, Space, TlbEntry
from ratite.native import u64
from tests.isa.assembler import assemble
from tests.isa.guest import SUPERVISOR, A, D, Pages, R, V, W, X, run_program
from tests.isa.harness import CODE, Executor

FULL = V | R | W | X | A | D
GVA = 0x4000_0000
DATA = 0x2_0000
SECOND = 0xA_0000


class Spaces:
    """Two address spaces with the same code, and different memory at `GVA`. x10 and x11 turn them
    on.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.pages = [Pages(executor), Pages(executor, tables=SECOND)]
        self.leaves = []
        for number, pages in enumerate(self.pages):
            pages.map(CODE, CODE, FULL)
            self.leaves.append(pages.map(GVA, DATA + 0x1000 * number, FULL))
            executor.load(DATA + 0x1000 * number, bytes([number + 1]) * 8)
            executor.hart.x[10 + number] = u64(pages.satp(number + 1))
        executor.load(DATA + 0x5000, bytes([9]) * 8)
        executor.hart.satp = u64(0)
        executor.hart.x[2] = u64(GVA)

    def run(self, *lines: str) -> None:
        """Execute in supervisor mode."""
        trap = run_program(self.executor, "\n".join(lines), len(lines), SUPERVISOR)
        assert trap is None

    def remap(self, number: int) -> None:
        """Have the tables of a space say something else, without any fence."""
        self.pages[number].write(self.leaves[number], DATA + 0x5000 >> 12 << 10 | FULL)


def counts(executor: Executor) -> bool:
    """Whether it has a TLB that a run does not begin by flushing."""
    return executor.name == "tier0"


ENTER = ("csrrw x0, satp, x10", "csrrw x0, satp, x11")


def test_each_space_has_its_memory(executor: Executor) -> None:
    spaces = Spaces(executor)
    spaces.run(ENTER[0], "lbu x3, 0(x2)", ENTER[1], "lbu x4, 0(x2)", ENTER[0], "lbu x5, 0(x2)")
    assert [int(executor.hart.x[n]) for n in (3, 4, 5)] == [1, 2, 1]


def test_coming_back_costs_nothing(executor: Executor) -> None:
    spaces = Spaces(executor)
    spaces.run(ENTER[0], "lbu x3, 0(x2)", ENTER[1], "lbu x4, 0(x2)")
    before = int(executor.hart.tlb_fills)
    spaces.run(ENTER[0], "lbu x3, 0(x2)", ENTER[1], "lbu x4, 0(x2)")
    spaces.run(ENTER[0], "lbu x3, 0(x2)", ENTER[1], "lbu x4, 0(x2)")
    if counts(executor):
        assert int(executor.hart.tlb_fills) == before
    assert (executor.hart.x[3], executor.hart.x[4]) == (1, 2)


@pytest.mark.parametrize("fence", ["x2, x12", "x0, x12", "x2, x0", "x0, x0"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_fence_reaches_the_space_that_it_names(
    executor: Executor, fence: str, inside: bool
) -> None:
    """From inside, or from another space."""
    spaces = Spaces(executor)
    spaces.run(ENTER[0], "lbu x3, 0(x2)", ENTER[1], "lbu x4, 0(x2)")
    spaces.remap(0)
    executor.hart.x[12] = u64(1)
    if inside:
        spaces.run(ENTER[0], f"sfence.vma {fence}", "lbu x3, 0(x2)")
    else:
        spaces.run(f"sfence.vma {fence}", ENTER[0], "lbu x3, 0(x2)")
    assert executor.hart.x[3] == 9
    spaces.run(ENTER[1], "lbu x4, 0(x2)")
    assert executor.hart.x[4] == 2


def test_a_fence_leaves_other_spaces_alone(executor: Executor) -> None:
    spaces = Spaces(executor)
    spaces.run(ENTER[0], "lbu x3, 0(x2)", ENTER[1], "lbu x4, 0(x2)")
    before = int(executor.hart.tlb_fills)
    executor.hart.x[12] = u64(2)
    spaces.run("sfence.vma x0, x12", ENTER[0], "lbu x3, 0(x2)")
    if counts(executor):  # the fence's own code
        assert int(executor.hart.tlb_fills) == before + 1


def test_more_spaces_than_are_remembered(executor: Executor) -> None:
    spaces = Spaces(executor)
    for asid in (*range(1, SPACES + 4), 1):
        executor.hart.x[10] = u64(spaces.pages[asid % 2].satp(asid))
        spaces.run(ENTER[0], "lbu x3, 0(x2)")
        assert executor.hart.x[3] == asid % 2 + 1


def test_code_changed_from_another_space(executor: Executor) -> None:
    """Its page is watched in the space that had written to it before, too."""
    spaces = Spaces(executor)
    shared = GVA + 0x10_0000
    for pages in spaces.pages:
        pages.map(shared, DATA + 0x8000, FULL)
    executor.load(DATA + 0x8000, assemble("addi x6, x6, 1") + assemble("jalr x0, 0(x1)"))
    new = int.from_bytes(assemble("addi x6, x6, 100"), "little")
    executor.hart.x[7], executor.hart.x[8] = u64(shared), u64(new)
    # The second space may write to the page before the first executes from it.
    spaces.run(ENTER[1], "sd x0, 64(x7)")
    call = run_program(executor, f"{ENTER[0]}\njalr x1, 0(x7)", 4, SUPERVISOR)
    assert (call, executor.hart.x[6]) == (None, 1)
    spaces.run(ENTER[1], "sw x8, 0(x7)", "fence.i", ENTER[0])
    run_program(executor, "jalr x1, 0(x7)", 3, SUPERVISOR)
    assert executor.hart.x[6] == 101


def entries(executor: Executor) -> int:
    """Of each of the vCPU's tables."""
    return int(executor.hart.tlb_mask) // TlbEntry.SIZE + 1


WALK = "lbu x3, 0(x2)\nadd x2, x2, x5\nbltu x2, x6, -8\nadd x2, x7, x0\njal x0, -16"


def walk_over(spaces: Spaces, count: int) -> None:
    """Map so many pages in the first space, and have `WALK` go over them."""
    start = 0x80_0000_0000 >> 2
    for number in range(count):
        spaces.pages[0].map(start + 0x1000 * number, DATA + 0x1000 * (number % 4), FULL)
    hart = spaces.executor.hart
    hart.x[2] = hart.x[7] = u64(start)
    hart.x[5], hart.x[6] = u64(0x1000), u64(start + 0x1000 * count)


def test_the_tlb_grows_with_the_working_set(executor: Executor) -> None:
    if not counts(executor):
        pytest.skip("it has no TLB, or flushes it")
    spaces = Spaces(executor)
    hart, count = executor.hart, 3 * FIRST_ENTRIES
    walk_over(spaces, count)
    spaces.run(ENTER[0])
    assert entries(executor) <= FIRST_ENTRIES
    run_program(executor, WALK, 3 * 10 * count, SUPERVISOR)
    assert entries(executor) >= count
    before = int(hart.tlb_fills)
    executor.run(3 * 2 * count)
    assert int(hart.tlb_fills) - before < 16
    for _ in range(12):
        spaces.run("sfence.vma x0, x0")
    assert entries(executor) == MIN_ENTRIES


def test_a_tlb_that_was_large_gives_its_memory_back(executor: Executor) -> None:
    """What another address space takes over begins small, and is as good as new."""
    if not counts(executor):
        pytest.skip("it has no TLB, or flushes it")
    spaces = Spaces(executor)
    hart, count = executor.hart, 10 * FIRST_ENTRIES
    walk_over(spaces, count)
    spaces.run(ENTER[0])
    run_program(executor, WALK, 3 * 6 * count, SUPERVISOR)
    large = Space.at(hart.space)
    assert int(large.touched) >= SPACIOUS
    # As many others as there are spaces, and back: the large one is somebody else's now.
    for number in range(SPACES):
        hart.x[12] = u64(spaces.pages[0].satp(20 + number))
        spaces.run("csrrw x0, satp, x12", "lbu x4, 0(x7)")
    assert int(large.touched) == FIRST_ENTRIES * TlbEntry.SIZE
    spaces.run(ENTER[0])
    hart.x[2] = hart.x[7]
    run_program(executor, WALK, 3 * 6 * count, SUPERVISOR)
    assert entries(executor) * TlbEntry.SIZE >= SPACIOUS


def test_pages_that_push_each_other_out_come_back(executor: Executor) -> None:
    if not counts(executor):
        pytest.skip("it has no TLB, or flushes it")
    spaces = Spaces(executor)
    pages = spaces.pages[0]
    stride = 0x1000 * FIRST_ENTRIES
    start = 0x4000_0000 + 0x3000
    for number in range(VICTIMS):
        pages.map(start + stride * number, DATA + 0x1000 * number, FULL)
        executor.load(DATA + 0x1000 * number, bytes([number + 50]))
    hart = executor.hart
    hart.x[2] = hart.x[7] = u64(start)
    hart.x[5], hart.x[6] = u64(stride), u64(start + stride * VICTIMS)
    spaces.run(ENTER[0])
    run_program(executor, WALK.replace("lbu x3, 0(x2)", "sb x2, 1(x2)"), 3 * VICTIMS, SUPERVISOR)
    before = int(hart.tlb_fills)
    executor.run((3 * VICTIMS + 2) * 5)
    assert int(hart.tlb_fills) == before
    # A fence takes them from among the victims, too.
    hart.x[9] = u64(start + stride)
    pages.map(start + stride, DATA + 0x5000, FULL)
    executor.load(DATA + 0x5000, bytes([99]))
    spaces.run("sfence.vma x9, x0", "lbu x3, 0(x9)")
    assert hart.x[3] == 99
