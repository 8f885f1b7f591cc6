"""Compiled regions: what background compilation does, and that nobody can tell."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ratite.accel.jit import compiler
from ratite.accel.jit.compiler import RegionStats
from ratite.accel.jit.engine import JitMachine, JitOptions
from ratite.core.log import Log
from ratite.cpu.exits import Exit
from ratite.cpu.machine import Block, RegionInfo, RegionUse
from ratite.isa.riscv import Hart
from ratite.memory import AddressSpace, RamList
from ratite.native import u32, u64
from tests.isa.assembler import assemble, program
from tests.isa.guest import SUPERVISOR, A, D, Pages, R, V, W, X, run_program
from tests.isa.harness import CODE, DEVICE, HANDLER, RAM_SIZE, ROM, Cpu, Executor

PATIENCE_S = 60
COUNT = "addi x1, x1, 2\naddi x2, x2, 1\njal x0, -8"
"""x1 is twice x2, whenever one looks between rounds."""


class Jit(Executor):
    """A hart on the JIT as machines use it, with a thread that compiles."""

    machine: JitMachine

    def __init__(self, log: Log | None = None, **options: object) -> None:
        chosen = JitOptions(tier=1, buffer_size=32 << 20, **options)  # type: ignore[arg-type]

        def attach(hart: Hart, ram: RamList, space: AddressSpace) -> Cpu:
            return JitMachine("riscv", ram, space, chosen, log or Log()).attach(hart)

        super().__init__("jit", attach)
        self.reset()

    @property
    def stats(self) -> RegionStats:
        """The compiler's."""
        assert self.machine.compiler is not None
        return self.machine.compiler.stats

    def run_until(self, reached: Callable[[], bool]) -> None:
        """Run the guest until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < deadline
            self.run(2_000_000)
        assert self.machine.compiler is not None
        assert self.machine.compiler.failures == []


@pytest.fixture
def jit() -> Iterator[Jit]:
    made = Jit(cache=False)
    yield made
    made.machine.close()


def test_a_hot_loop_is_compiled_and_then_with_more_care(jit: Jit) -> None:
    jit.load(CODE, program(COUNT))
    jit.run_until(lambda: jit.stats.full > 0)
    jit.run(3_000_000)
    assert jit.hart.x[1] == 2 * jit.hart.x[2] != 0


def test_a_kick_ends_a_hot_loop(jit: Jit) -> None:
    jit.load(CODE, program(COUNT))
    jit.run_until(lambda: jit.stats.full > 0)
    jit.cpu.set_budget(1 << 60)
    ended: list[int] = []
    vcpu = threading.Thread(target=lambda: ended.append(jit.cpu.run()))
    vcpu.start()
    time.sleep(0.05)
    jit.cpu.kick(leave=True)
    vcpu.join(PATIENCE_S)
    assert ended == [Exit.INTERRUPTED]
    assert jit.hart.pc == CODE
    assert jit.hart.x[1] == 2 * jit.hart.x[2]


@pytest.mark.parametrize("level", ["compiled", "full"])
def test_code_written_from_outside_is_executed_at_once(jit: Jit, level: str) -> None:
    jit.load(CODE, program(COUNT))
    jit.run_until(lambda: int(getattr(jit.stats, level)) > 0)
    jit.load(CODE, assemble("addi x1, x1, 0"))
    before = int(jit.hart.x[1])
    jit.run(3 * 1000)
    assert jit.hart.x[1] == before


def test_a_store_of_the_loop_into_itself(jit: Jit) -> None:
    """Every thousandth round changes what a round adds."""
    text = """
        addi  x3, x3, 1
        add   x1, x1, x5
        addi  x4, x4, -1
        bne   x4, x0, -12
        addi  x4, x0, 1000
        lw    x6, 4(x7)
        xor   x6, x6, x8
        sw    x6, 4(x7)
        jal   x0, -32
    """
    jit.hart.x[4], jit.hart.x[5], jit.hart.x[7] = u64(1000), u64(3), u64(CODE)
    add, subtract = (
        int.from_bytes(assemble(f"{op} x1, x1, x5"), "little") for op in ("add", "sub")
    )
    jit.hart.x[8] = u64(add ^ subtract)
    jit.load(CODE, program(text))
    rounds = 2 * (1000 * 4 + 5)
    jit.run_until(lambda: jit.stats.compiled > 1)
    while jit.hart.pc != CODE or jit.hart.x[4] != 1000 or jit.hart.x[3] % 2000 != 0:
        jit.run(1)
    assert jit.hart.x[1] == 0
    jit.run(rounds * 50)
    assert (jit.hart.x[1], jit.hart.pc, jit.hart.x[3] % 2000) == (0, CODE, 0)


def test_translations_are_forgotten_while_regions_are_made(jit: Jit) -> None:
    jit.load(CODE, program(COUNT))
    deadline = time.monotonic() + PATIENCE_S
    flushes = 0
    while jit.stats.compiled < 20:
        assert time.monotonic() < deadline
        jit.run(50_000 + 977 * flushes)
        jit.machine.flush_code()
        flushes += 1
    assert jit.machine.compiler is not None
    assert jit.machine.compiler.failures == []
    jit.run(3 - int(jit.hart.pc - CODE) // 4)
    assert jit.hart.x[1] == 2 * jit.hart.x[2]


def test_regions_without_room_end_with_a_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "ARENA", 0x2000)
    jit = Jit(cache=False)
    loops = "".join(
        f"addi x2, x0, 2000\naddi x1, x1, {n}\naddi x2, x2, -1\nbne x2, x0, -8\n" for n in range(40)
    )
    jit.load(CODE, program(f"{loops}\njal x0, {-40 * 16}"))

    fresh = itertools.count(0x8000, 4)

    def flushed() -> bool:
        jit.hart.pc = u64(next(fresh))  # a block that has to be translated
        jit.load(int(jit.hart.pc), assemble(f"jal x0, {CODE - int(jit.hart.pc)}"))
        jit.run(1)
        return int(jit.machine.shared.flushes) > 0

    jit.run_until(flushed)
    jit.machine.close()


def test_a_region_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for number in range(2):
        jit = Jit()
        jit.load(CODE, program(COUNT))
        jit.run_until(lambda made=jit, n=number: bool(made.stats.cached if n else made.stats.full))
        jit.run(300_000)
        assert jit.hart.x[1] == 2 * jit.hart.x[2]
        jit.machine.close()
    entries = list((tmp_path / "ratite" / "objects").glob("*.o"))
    assert entries
    for entry in entries:  # damaged ones are made again
        entry.write_bytes(entry.read_bytes()[:-100])
    jit = Jit()
    jit.load(CODE, program(COUNT))
    jit.run_until(lambda: jit.stats.compiled > 0)
    assert jit.stats.cached == 0
    jit.machine.close()


ELSEWHERE = """
    auipc    x5, 2
    ld       x6, 0(x5)
    add      x1, x1, x6
    jal      x7, 4084
    addi     x2, x2, 1
    jal      x0, -20
"""
"""Calls a function on the next page, and loads from the page after that."""


def test_a_cached_region_serves_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At other guest-virtual addresses, on pages that lie otherwise in the guest's memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    everything = V | R | W | X | A | D
    for base, places, number in (
        (0x4000_0000, (0x2_0000, 0x3_5000, 0x4_0000), 2),
        (0x15_5555_5000, (0x5_1000, 0x2_2000, 0x4_0000), 3),
    ):
        jit = Jit()
        hart, pages = jit.hart, Pages(jit)
        leaves = [pages.map(base + 0x1000 * n, place, everything) for n, place in enumerate(places)]
        jit.load(places[0], program(ELSEWHERE))
        jit.load(places[1], program("add x8, x7, x0\njalr x0, 0(x7)"))
        jit.load(places[2], number.to_bytes(8, "little"))
        hart.satp = u64(pages.satp(1))
        hart.pc, hart.privilege = u64(base), u32(SUPERVISOR)
        hart.set_mode()
        jit.run(1000)
        if number == 2:
            jit.run_until(lambda made=jit: made.stats.full > 0)
        else:
            jit.run_until(lambda made=jit: made.stats.cached > 0)
            assert jit.stats.compiled == 0
        jit.run(300_000)
        assert hart.x[1] - number * hart.x[2] in (0, number)
        assert (hart.x[2] > 10_000, hart.x[8]) == (True, base + 16)
    # The function's page becomes another one: the region must see it.
    jit.load(0x6_0000, program("addi x8, x0, 7\njalr x0, 0(x7)"))
    pages.write(leaves[1], 0x6_0000 >> 12 << 10 | everything)
    jit.cpu.flush()
    jit.run(8 * 100)
    assert hart.x[8] == 7


def test_an_interpreter_becomes_one_region_with_all_its_targets(jit: Jit) -> None:
    """Eight routines of 8 bytes, entered by one indirect jump in turn; each adds its bit to x1 and
    goes back.
    """
    routines = "".join(f"addi x1, x1, {1 << n}\njal x0, {-20 - 8 * n}\n" for n in range(8))
    dispatch = "addi x3, x3, 8\nandi x3, x3, 56\nadd x4, x5, x3\njalr x0, 0(x4)\n"
    jit.hart.x[5] = u64(CODE + 16)
    jit.load(CODE, program(dispatch + routines))
    jit.run_until(lambda: jit.stats.full > 0)
    jit.run(3_000_000)
    while jit.hart.pc != CODE or jit.hart.x[3] != 0:
        jit.run(1)
    rounds, rest = divmod(int(jit.hart.x[1]), 255)
    assert (rest, rounds > 50_000) == (0, True)
    assert max(len(went) for went in compiled_targets(jit)) >= 7


def test_a_loop_that_is_not_left_any_more_gets_a_full_region_of_its_own(jit: Jit) -> None:
    """The region that it lies in began further up, where control does not come again."""
    text = """
    outer:
        addi x2, x0, 8
    inner:
        addi x1, x1, 2
        sub  x2, x2, x3
        bne  x2, x0, inner
        jal  x0, outer
    """
    jit.hart.x[3] = u64(1)
    jit.load(CODE, program(text))
    jit.run_until(lambda: jit.stats.compiled > 0)
    jit.hart.x[3] = u64(0)
    jit.run_until(lambda: level_at(jit, CODE + 4) == compiler.FULL)
    made = jit.stats.full
    jit.run(60_000_000)
    assert jit.stats.full == made


def level_at(jit: Jit, pc: int) -> int:
    """The level of the region that is entered at a block."""
    found = jit.machine.find(0, pc, int(jit.hart.mode), int(jit.hart.fetch_index), first_block(jit))
    assert found is not None
    use = int(Block(found).uses)
    while use:
        region = RegionInfo(int(RegionUse(use).region))
        if region.handler == Block(found).handler:
            return int(region.rank) >> 32
        use = int(RegionUse(use).next)
    return 0


def first_block(jit: Jit) -> int:
    """Of those that are translated."""
    return next(iter(jit.machine.blocks()))


def compiled_targets(jit: Jit) -> list[dict[int, None]]:
    """Where each indirect jump was seen to go."""
    assert jit.machine.compiler is not None
    return list(jit.machine.compiler._went.values())


@pytest.mark.parametrize(
    "value", [0x4000_0000_0000_0000, 0xFFFF_FFFF_3F80_0000, 0xFFFF_FFFE_3F80_0000]
)
def test_registers_that_hold_single_numbers_now_and_then(executor: Executor, value: int) -> None:
    """What is not boxed goes through a loop that writes only single numbers to its register."""
    hart = executor.hart
    hart.f[1], hart.f[2] = u64(value), u64(0xFFFF_FFFF_4000_0000)
    hart.x[2], hart.x[5] = u64(3), u64(0x5000)
    text = """
        fsd      f1, 0(x5)
        fadd.s   f3, f1, f2
        addi     x5, x5, 8
        addi     x2, x2, -1
        bne      x2, x0, 8
        fsgnj.s  f1, f2, f2
        bne      x2, x0, -24
        fmv.x.d  x6, f1
        fmv.x.d  x7, f3
    """
    run_program(executor, text, 2 * 6 + 7 + 2)
    single = value & 0xFFFF_FFFF if value >> 32 == 0xFFFF_FFFF else 0x7FC0_0000
    total = 0x4040_0000 if single == 0x3F80_0000 else 0x7FC0_0000
    assert [executor.read(0x5000 + 8 * n, 8) for n in range(3)] == [value] * 3
    assert (hart.x[6], hart.x[7]) == (0xFFFF_FFFF_4000_0000, 0xFFFF_FFFF << 32 | total)


NANS = {
    "d": (0x7FF8_0000_0000_0000, 0xFFF8_0000_0000_1234, 0x7FF0_0000_0000_0001),
    "s": (0xFFFF_FFFF_7FC0_0000, 0xFFFF_FFFF_FFC0_1234, 0xFFFF_FFFF_7F80_0001),
}
INFINITY = {"d": 0x7FF0_0000_0000_0000, "s": 0xFFFF_FFFF_7F80_0000}
ONE = {"d": 0x3FF0_0000_0000_0000, "s": 0xFFFF_FFFF_3F80_0000}


@pytest.mark.parametrize("fmt", ["d", "s"])
@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_nans_in_loops(executor: Executor, fmt: str, rounds: int) -> None:
    """Those that operations make are canonical wherever they are seen; those that were loaded keep
    their bits. The host's own NaN for infinity less infinity has its sign set.
    """
    hart = executor.hart
    canonical, quiet, signalling = NANS[fmt]
    load, store, size = ("fld", "fsd", 8) if fmt == "d" else ("flw", "fsw", 4)
    text = f"""
        fsub.{fmt}   f3, f1, f1
        fadd.{fmt}   f4, f4, f3
        {load}       f5, 0(x5)
        {store}      f4, 0(x6)
        fsgnj.{fmt}  f6, f4, f4
        fmul.{fmt}   f7, f3, f2
        addi     x5, x5, 8
        addi     x6, x6, 8
        addi     x2, x2, -1
        beq      x2, x0, 12
        {load}       f7, 0(x7)
        jal      x0, -44
        fadd.{fmt}   f8, f2, f7
    """
    memory = {0: quiet, 8: signalling}
    for number in range(rounds):
        executor.load(0x5000 + 8 * number, memory[number % 2 * 8].to_bytes(8, "little"))
    executor.load(0x7000, signalling.to_bytes(8, "little"))
    hart.f[1], hart.f[2], hart.f[4] = u64(INFINITY[fmt]), u64(ONE[fmt]), u64(ONE[fmt])
    hart.f[3], hart.f[5], hart.f[7] = u64(quiet), u64(quiet), u64(quiet)
    hart.x[2], hart.x[5], hart.x[6] = u64(rounds), u64(0x5000), u64(0x6000)
    hart.x[7] = u64(0x7000)
    run_program(executor, text, 12 * rounds - 2)
    stored = [executor.read(0x6000 + 8 * number, size) for number in range(rounds)]
    assert stored == [canonical & (1 << 8 * size) - 1] * rounds
    assert [int(hart.f[n]) for n in (3, 4, 6, 7)] == [canonical] * 4
    assert hart.f[5] == memory[(rounds - 1) % 2 * 8]
    assert int(hart.fp.flags) & 31 == 0x10


@pytest.mark.parametrize("fmt", ["d", "s"])
def test_a_register_with_a_result_or_what_was_loaded(executor: Executor, fmt: str) -> None:
    hart = executor.hart
    canonical, _, signalling = NANS[fmt]
    load, store, size = ("fld", "fsd", 8) if fmt == "d" else ("flw", "fsw", 4)
    text = f"""
        fsub.{fmt}   f3, f1, f1
        andi     x9, x2, 1
        beq      x9, x0, 12
        {load}       f3, 0(x7)
        jal      x0, 4
        {store}      f3, 0(x6)
        addi     x6, x6, 8
        addi     x2, x2, -1
        bne      x2, x0, -32
    """
    executor.load(0x7000, signalling.to_bytes(8, "little"))
    hart.f[1] = u64(INFINITY[fmt])
    hart.x[2], hart.x[6], hart.x[7] = u64(4), u64(0x6000), u64(0x7000)
    run_program(executor, text, 2 * 7 + 2 * 9)
    mask = (1 << 8 * size) - 1
    stored = [executor.read(0x6000 + 8 * number, size) for number in range(4)]
    assert stored == [canonical & mask, signalling & mask] * 2
    assert hart.f[3] == signalling


@pytest.mark.parametrize("fmt", ["d", "s"])
def test_a_loop_that_moves_signalling_nans(executor: Executor, fmt: str) -> None:
    """Nothing operates on them: no flag is raised, no bit changes, though others are results."""
    hart = executor.hart
    _, quiet, signalling = NANS[fmt]
    text = f"""
        fadd.{fmt}   f4, f4, f2
        beq      x3, x0, 8
        fadd.{fmt}   f5, f2, f2
        addi     x2, x2, -1
        bne      x2, x0, -16
        fmv.x.d  x6, f5
    """
    hart.f[2], hart.f[4], hart.f[5] = u64(ONE[fmt]), u64(ONE[fmt]), u64(signalling)
    hart.x[2], hart.x[3] = u64(5), u64(0)
    run_program(executor, text, 5 * 4 + 1)
    assert (hart.x[6], hart.f[5]) == (signalling, signalling)
    assert int(hart.fp.flags) & 31 == 0
    hart.f[4], hart.x[2] = u64(quiet), u64(5)
    run_program(executor, text, 5 * 4 + 1)
    assert (hart.f[4], hart.f[5]) == (NANS[fmt][0], signalling)
    assert int(hart.fp.flags) & 31 == 0


FLOAT_THEN_DOUBLE = """
    loop:
        fadd.s   f5, f1, f1
        jal      x0, next
    next:
        fmv.x.w  x6, f5
        add      x8, x8, x6
        fadd.d   f5, f2, f2
        addi     x2, x2, -1
        bne      x2, x0, loop
        addi     x7, x7, 1
"""
FLOAT_OR_DOUBLE = """
    loop:
        andi     x9, x2, 1
        beq      x9, x0, even
        fadd.s   f5, f1, f1
        jal      x0, join
    even:
        fadd.d   f5, f2, f2
    join:
        fmv.x.d  x6, f5
        add      x8, x8, x6
        addi     x2, x2, -1
        bne      x2, x0, loop
        addi     x7, x7, 1
"""


def test_one_register_for_numbers_of_both_formats(executor: Executor) -> None:
    """A boxed single number, taken for a double, is a NaN."""
    hart = executor.hart
    hart.f[1], hart.f[2], hart.x[2] = u64(ONE["s"]), u64(ONE["d"]), u64(3)
    run_program(executor, FLOAT_THEN_DOUBLE, 3 * 7 + 1)
    assert (hart.x[6], hart.x[8]) == (0x4000_0000, 0xC000_0000)
    hart.x[2], hart.x[8] = u64(4), u64(0)
    run_program(executor, FLOAT_OR_DOUBLE, 2 * 8 + 2 * 7 + 1)
    assert (hart.x[6], hart.f[5]) == (0xFFFF_FFFF_4000_0000, 0xFFFF_FFFF_4000_0000)


@pytest.mark.parametrize("value", [0x7FF0_0000_0000_0001, ONE["s"], NANS["d"][1]])
def test_what_a_register_has_at_the_entry_is_kept(executor: Executor, value: int) -> None:
    """Though a loop that begins later writes results to it now and then."""
    hart = executor.hart
    text = """
        jal      x0, loop
    loop:
        fmv.x.d  x6, f5
        add      x8, x8, x6
        bne      x2, x4, skip
        fadd.d   f5, f2, f2
    skip:
        addi     x2, x2, -1
        bne      x2, x0, loop
        addi     x7, x7, 1
    """
    hart.f[2], hart.f[5], hart.x[2], hart.x[4] = u64(ONE["d"]), u64(value), u64(3), u64(1)
    run_program(executor, text, 18)
    assert (hart.x[6], hart.x[8]) == (value, 3 * value & (1 << 64) - 1)
    assert int(hart.fp.flags) & 31 == 0


def test_a_region_that_does_not_fit_is_made_anew(jit: Jit) -> None:
    """It relies on a register to hold a single number, until that is found to be wrong often."""
    hart = jit.hart
    text = """
        addi     x1, x1, 1
        beq      x5, x0, 8
        fadd.s   f3, f1, f2
        jal      x0, -12
    """
    one, double = 0xFFFF_FFFF_3F80_0000, 0x3FF0_0000_0000_0000
    hart.f[1] = hart.f[2] = u64(one)
    hart.x[5] = u64(1)
    jit.load(CODE, program(text))
    jit.run_until(lambda: jit.stats.full > 0 and hart.f[3] == 0xFFFF_FFFF_4000_0000)
    before = jit.stats.full
    hart.f[1], hart.x[5] = u64(double), u64(0)
    jit.run_until(lambda: jit.stats.full > before)

    def fits() -> bool:
        hart.misfit = u64(0)
        count = int(hart.x[1])
        jit.run(2_000_000)
        return hart.misfit == 0 and hart.x[1] > count

    jit.run_until(fits)
    hart.x[5] = u64(1)
    jit.run(1000)
    assert (hart.f[1], hart.f[3]) == (double, 0xFFFF_FFFF_7FC0_0000)


def test_perf_finds_the_names_of_regions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ratite.accel.jit import engine
    from ratite.accel.jit.perfmap import PerfMap

    written = PerfMap(str(tmp_path / "map"))
    monkeypatch.setattr(engine, "perf_map", lambda: written)
    log = Log()
    log.perf_map = True
    jit = Jit(log, cache=False)
    jit.load(CODE, program(COUNT))
    jit.run_until(lambda: jit.stats.compiled > 0)
    jit.machine.close()
    lines = (tmp_path / "map").read_text().splitlines()
    names = {line.split(" ", 2)[2] for line in lines}
    assert {"op.addi", "tier0.lookup", f"region {CODE:#x}, level 1"} <= names
    assert all(int(line.split()[0], 16) and int(line.split()[1], 16) for line in lines)
    assert os.stat(tmp_path / "map").st_mode & 0o022 == 0


# -- accesses to one base share a comparison

ACCESSES = "sd x3, 0(x2)\nld x4, 8(x2)\nsw x5, 16(x2)\nlbu x6, -3(x2)\nld x7, 0(x2)"
FIVE = 0x0123_4567_89AB_CDEF


@pytest.mark.parametrize("base", [0x5000, 0x5FF8, 0x5FEC, 0x5FF1, 0x6001])
def test_accesses_around_a_base(executor: Executor, base: int) -> None:
    """Within a page, and across two."""
    hart = executor.hart
    executor.load(0x5F00, bytes(range(256)) * 2)
    expected = bytearray(bytes(range(256)) * 2 + bytes(0x1000))
    hart.x[2], hart.x[3], hart.x[5] = u64(base), u64(FIVE), u64(FIVE)
    if base == 0x5000:
        executor.load(0x4F00, bytes(range(256)) * 2)
    start = 0x4F00 if base == 0x5000 else 0x5F00
    at = base - start
    expected[at : at + 8] = FIVE.to_bytes(8, "little")
    loaded = int.from_bytes(expected[at + 8 : at + 16], "little")
    expected[at + 16 : at + 20] = (FIVE & 0xFFFF_FFFF).to_bytes(4, "little")
    run_program(executor, ACCESSES, 5)
    assert (hart.x[4], hart.x[7]) == (loaded, FIVE)
    assert hart.x[6] == expected[at - 3]
    assert executor.read(base + 16, 4) == FIVE & 0xFFFF_FFFF


def test_accesses_around_a_device(executor: Executor) -> None:
    executor.hart.x[2], executor.hart.x[3] = u64(DEVICE + 0x10), u64(FIVE)
    run_program(executor, ACCESSES, 5)
    assert [entry[:3] for entry in executor.device.log] == [
        ("write", 0x10, 4),
        ("write", 0x14, 4),
        ("read", 0x18, 4),
        ("read", 0x1C, 4),
        ("write", 0x20, 4),
        ("read", 0x0D, 1),
        ("read", 0x10, 4),
        ("read", 0x14, 4),
    ]


@pytest.mark.parametrize(
    ("base", "faulting"), [(RAM_SIZE - 8, 1), (RAM_SIZE - 16, 2), (RAM_SIZE, 0)]
)
def test_an_access_beyond_ram_faults_after_those_before(
    executor: Executor, base: int, faulting: int
) -> None:
    hart = executor.hart
    hart.x[2], hart.x[3], hart.x[4] = u64(base), u64(FIVE), u64(77)
    run_program(executor, "addi x8, x8, 1\n" + ACCESSES, faulting + 2)
    assert hart.mepc == CODE + 4 + 4 * faulting
    assert (hart.pc, hart.x[8]) == (HANDLER, 1)
    if faulting:
        assert executor.read(base, 8) == FIVE
    assert hart.x[4] == (0 if faulting == 2 else 77)


def test_accesses_to_rom_around_a_base(executor: Executor) -> None:
    executor.load(ROM, bytes(range(64)))
    executor.hart.x[2], executor.hart.x[3] = u64(ROM + 16), u64(FIVE)
    run_program(executor, ACCESSES, 5)
    assert executor.hart.x[7] == int.from_bytes(bytes(range(16, 24)), "little")
    executor.load(ROM, bytes(64))  # for whoever has this executor next
