"""Several harts of one machine, each on a thread of its own, in generated code."""

from __future__ import annotations

import threading
import time

import pytest

from ratite.accel.jit.compiler import FULL
from ratite.accel.jit.engine import JitCpu, JitMachine, JitOptions
from ratite.cpu.exits import Exit
from ratite.isa.riscv import Hart
from ratite.isa.riscv.pmp import ADDRESS_MASK, MODE_SHIFT, NAPOT, pmp_update
from ratite.isa.riscv.state import ADUE, EXTENSIONS, FS, MACHINE
from ratite.memory import AddressSpace, MemoryRegion, RamList
from ratite.native import i64, u8, u32, u64
from tests.isa.assembler import assemble, program
from tests.isa.harness import CODE

RAM_SIZE = 1 << 20
DONE = 0x6000
STOP = """
    addi x6, x0, 1
    sw   x6, 0(x5)
    jal  x0, 0
"""


class Smp:
    """Two harts and their RAM."""

    def __init__(self, tier: int, *, background: bool = True) -> None:
        self.ram_list = RamList()
        system = MemoryRegion.container("system", 1 << 64)
        self.ram = self.ram_list.alloc("ram", RAM_SIZE)
        system.add_subregion(0, MemoryRegion.ram("ram", self.ram))
        self.space = AddressSpace(system, "memory")
        self.machine = JitMachine(
            "riscv",
            self.ram_list,
            self.space,
            JitOptions(tier=tier, cache=False, background=background),
        )
        self.cpus = [self._hart(number) for number in range(2)]

    def _hart(self, number: int) -> JitCpu:
        hart = Hart.allocate()
        hart.privilege, hart.mstatus, hart.menvcfg = u32(MACHINE), u64(FS), u64(ADUE)
        hart.extensions = u64((1 << len(EXTENSIONS)) - 1)
        hart.mhartid, hart.pc = u64(number), u64(CODE)
        hart.time_stopped = hart.icount_shift = i64(-1)
        hart.pmpaddr[0], hart.pmpcfg[0] = u64(ADDRESS_MASK), u8(NAPOT << MODE_SHIFT | 7)
        pmp_update(hart)
        hart.set_mode()
        hart.x[5] = u64(DONE + 4 * number)
        cpu = self.machine.attach(hart)
        cpu.set_budget(1 << 60)
        return cpu

    def word(self, address: int) -> int:
        return int.from_bytes(self.ram.read(address, 8), "little")

    def run(self, seconds: float = 20.0) -> None:
        """Run both until each has stored to its place at `DONE`."""
        threads = [threading.Thread(target=cpu.run) for cpu in self.cpus]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while self.word(DONE) != 1 << 32 | 1 and time.monotonic() < end:
            time.sleep(0.001)
        for cpu in self.cpus:
            cpu.kick(leave=True)
        for thread in threads:
            thread.join()
        assert self.word(DONE) == 1 << 32 | 1

    def close(self) -> None:
        self.machine.close()


@pytest.fixture(params=[0, 1])
def smp(request: pytest.FixtureRequest) -> Smp:
    made = Smp(request.param)
    request.addfinalizer(made.close)
    return made


ROUNDS = 20_000


def test_atomic_operations_lose_nothing(smp: Smp) -> None:
    smp.ram.write(
        CODE,
        program(
            f"""
        lui    x2, 5
        lui    x3, {ROUNDS >> 12}
        addi   x3, x3, {ROUNDS & 0xFFF if ROUNDS & 0xFFF < 0x800 else (ROUNDS & 0xFFF) - 0x1000}
        addi   x4, x0, 1
    loop:
        amoadd.d x0, x4, (x2)
        addi   x7, x2, 64
    again:
        lr.w   x8, (x7)
        addi   x8, x8, 1
        sc.w   x9, x8, (x7)
        bne    x9, x0, again
        addi   x3, x3, -1
        bne    x3, x0, loop
    """
            + STOP
        ),
    )
    rounds = (ROUNDS >> 12 << 12) + (
        ROUNDS & 0xFFF if ROUNDS & 0xFFF < 0x800 else (ROUNDS & 0xFFF) - 0x1000
    )
    smp.run()
    assert (smp.word(0x5000), smp.word(0x5040)) == (2 * rounds, 2 * rounds)


def test_lock_of_the_guest_excludes(smp: Smp) -> None:
    smp.ram.write(
        CODE,
        program(
            """
        lui    x2, 5
        lui    x3, 2
        addi   x4, x0, 1
    loop:
        amoswap.w.aq x7, x4, (x2)
        bne    x7, x0, loop
        ld     x8, 64(x2)
        addi   x8, x8, 1
        sd     x8, 64(x2)
        amoswap.w.rl x0, x0, (x2)
        addi   x3, x3, -1
        bne    x3, x0, loop
    """
            + STOP
        ),
    )
    smp.run()
    assert smp.word(0x5040) == 2 * 0x2000


def test_code_that_another_hart_rewrites_is_seen(smp: Smp) -> None:
    """Hart 1 spins in a function until hart 0 has rewritten it; both then stop."""
    smp.ram.write(0x8000, assemble("addi x8, x0, 0") + assemble("jalr x0, 0(x1)"))
    new = int.from_bytes(assemble("addi x8, x0, 1"), "little")
    smp.cpus[0].state.x[9] = u64(new)
    smp.ram.write(
        CODE,
        program(
            """
        csrrs  x3, mhartid, x0
        lui    x2, 8
        bne    x3, x0, spin
        lui    x4, 0x100
    wait:
        addi   x4, x4, -1
        bne    x4, x0, wait
        sw     x9, 0(x2)
        fence.i
        jal    x0, end
    spin:
        fence.i
        jalr   x1, 0(x2)
        beq    x8, x0, spin
    end:
    """
            + STOP
        ),
    )
    smp.run()


def test_a_store_of_a_hot_loop_reaches_code_that_another_hart_came_to_execute() -> None:
    """The loop has written beside the code before that was executed, and is never left."""
    smp = Smp(1, background=False)
    page, flags, second = 0x7000, 0x8000, 0x9000
    smp.ram.write(page, program("addi x6, x6, 1\njalr x0, 0(x1)"))
    writer = """
    loop:
        lw   x9, 0(x11)
        mul  x12, x9, x13
        sub  x7, x10, x12
        sw   x8, 0(x7)
        fence
        sw   x9, 8(x11)
        beq  x9, x0, loop
    """
    caller = """
        jalr x1, 0(x14)
        addi x9, x0, 1
        sw   x9, 0(x11)
    wait:
        lw   x9, 8(x11)
        beq  x9, x0, wait
        fence.i
        jalr x1, 0(x14)
        sw   x6, 16(x11)
    """
    smp.ram.write(CODE, program(writer + STOP))
    smp.ram.write(second, program(caller + STOP))
    first, other = (cpu.state for cpu in smp.cpus)
    assert isinstance(first, Hart)
    assert isinstance(other, Hart)
    first.x[8] = u64(int.from_bytes(assemble("addi x6, x6, 100"), "little"))
    first.x[10], first.x[13] = u64(page + 0x800), u64(0x800)
    first.x[11] = other.x[11] = u64(flags)
    other.x[14], other.pc = u64(page), u64(second)
    smp.cpus[0].set_budget(7 * 10)
    smp.cpus[0].run()
    assert smp.machine.compile_all(level=FULL) > 0
    smp.cpus[0].set_budget(1 << 60)
    smp.run()
    smp.close()
    assert smp.word(flags + 16) == 101


def test_flush_from_another_thread_is_obeyed(smp: Smp) -> None:
    """A hart spins on a virtual page whose mapping another thread changes."""
    table, gva = 0x8_0000, 0x4000_0000
    entries = {
        table + 8: (table + 0x1000) >> 2 | 1,
        table + 0x1000: (table + 0x2000) >> 2 | 1,
        table: 0xCF,
    }
    for place, entry in {**entries, table + 0x2000: 0x5000 >> 2 | 0xCF}.items():
        smp.ram.write(place, entry.to_bytes(8, "little"))
    smp.ram.write(0x7000, (1).to_bytes(8, "little"))
    for cpu in smp.cpus:
        hart = cpu.state
        assert isinstance(hart, Hart)
        hart.satp, hart.privilege, hart.x[2] = u64(8 << 60 | table >> 12), u32(1), u64(gva)
        hart.set_mode()
    smp.ram.write(CODE, program("loop:\nld x3, 0(x2)\nbeq x3, x0, loop\n" + STOP))

    def remap() -> None:
        smp.ram.write(table + 0x2000, (0x7000 >> 2 | 0xCF).to_bytes(8, "little"))
        for cpu in smp.cpus:
            cpu.flush()

    timer = threading.Timer(0.05, remap)
    timer.start()
    smp.run()
    timer.join()


def test_both_harts_answer_a_kick(smp: Smp) -> None:
    smp.ram.write(CODE, program("jal x0, 0"))
    found: list[int] = []
    threads = [threading.Thread(target=lambda cpu=cpu: found.append(cpu.run())) for cpu in smp.cpus]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    for cpu in smp.cpus:
        cpu.kick(leave=True)
    for thread in threads:
        thread.join(5)
    assert found == [Exit.INTERRUPTED] * 2
