"""What `-d` shows of the JIT, and that the guest cannot tell whether it is shown."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ratite.accel.jit.compiler import QUICK
from ratite.accel.jit.engine import JitMachine, JitOptions
from ratite.core.log import Log, LogCategory
from ratite.core.symbols import Symbol
from ratite.cpu.exits import Exit
from ratite.isa.journal import MADE, Noted
from ratite.isa.riscv import Hart
from ratite.memory import AddressSpace, RamList
from ratite.native import u64
from tests.isa.assembler import assemble, program
from tests.isa.guest import SUPERVISOR, A, D, Pages, R, V, W, access, run_program
from tests.isa.harness import CODE, DEVICE, HANDLER, Cpu, Executor, new_executor

EXEC, CPU, NOCHAIN = LogCategory.EXEC, LogCategory.CPU, LogCategory.NOCHAIN
LOOP = "addi x1, x1, 1\nbne x1, x2, -4\njal x3, 8\naddi x4, x4, 1\naddi x4, x4, 16\njal x0, 0"
"""After the loop it jumps over an instruction."""


class Logged(Executor):
    """A hart on the JIT whose log is kept."""

    machine: JitMachine

    def __init__(self, categories: LogCategory, **options: object) -> None:
        self.stream = io.StringIO()
        self.log = Log(categories, self.stream)
        tier = options.get("tier", 0)
        defaults = {"tier": 0, "buffer_size": 32 << 20, "cache": False, "background": tier == 1}
        chosen = JitOptions(**{**defaults, **options})  # type: ignore[arg-type]

        def attach(hart: Hart, ram: RamList, space: AddressSpace) -> Cpu:
            return JitMachine("riscv", ram, space, chosen, self.log).attach(hart)

        super().__init__("logged", attach)
        self.reset()

    @property
    def text(self) -> str:
        """The log of what has happened."""
        if self.machine.log is not None:
            self.machine.log.write()
        return self.stream.getvalue()

    @property
    def entered(self) -> list[int]:
        """The blocks that were entered."""
        return [
            int(pc, 16) for pc in re.findall(r"^Trace 0: 0x\w+ \[0{16}/(\w+)/", self.text, re.M)
        ]


Make = Callable[..., Logged]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Logged] = []

    def make_one(categories: LogCategory, **options: object) -> Logged:
        made.append(Logged(categories, **options))
        return made[-1]

    yield make_one
    for one in made:
        one.machine.close()


def run_loop(guest: Executor, rounds: int = 5) -> None:
    guest.hart.x[2] = u64(rounds)
    run_program(guest, LOOP, 2 * rounds + 2)


# -- exec


def test_exec_shows_every_block_if_none_is_chained(make: Make) -> None:
    guest = make(EXEC | NOCHAIN)
    run_loop(guest, rounds=5)
    assert guest.entered == [CODE] * 5 + [CODE + 8, CODE + 16]
    assert "/00000007/00000200] \n" in guest.text


def test_exec_shows_chained_blocks_the_first_time(make: Make) -> None:
    guest = make(EXEC)
    run_loop(guest, rounds=5)
    assert guest.entered == [CODE, CODE, CODE + 8, CODE + 16]


def test_exec_shows_each_instruction_if_each_is_a_block(make: Make) -> None:
    """Also those that access devices, for which the vCPU leaves and comes back."""
    text = f"""
        lui  x5, {DEVICE >> 12}
        lw   x6, 0(x5)
        sw   x6, 8(x5)
        addi x1, x1, 1
        bne  x1, x2, -12
        c.addi x1, 1
        jalr x7, 0(x8)
    """
    guest, reference = make(EXEC | NOCHAIN, one_instruction=True), new_executor("reference")
    reference.reset()
    pcs = []
    for one in (guest, reference):
        one.hart.x[2], one.hart.x[8] = u64(4), u64(CODE)
        one.load(CODE, program(text))
    for _ in range(60):
        pcs.append(int(reference.hart.pc))
        reference.run(1)
    guest.run(60)
    assert guest.entered == pcs
    assert guest.snapshot() == reference.snapshot()
    assert guest.device.log == reference.device.log


def test_exec_does_not_lose_a_block_of_many(make: Make) -> None:
    guest = make(EXEC | NOCHAIN)
    run_loop(guest, rounds=50_000)
    assert len(guest.entered) == 50_002


def test_exec_names_functions(make: Make) -> None:
    guest = make(EXEC | LogCategory.IN_ASM)
    guest.log.symbols.add(lambda: [Symbol(CODE, 8, "loop"), Symbol(CODE + 16, 0, "after")])
    run_loop(guest)
    lines = guest.text.splitlines()
    assert "IN: loop" in lines and "IN: " in lines
    assert [line.rpartition("] ")[2] for line in lines if "Trace" in line] == [
        "loop",
        "loop",
        "",
        "",
    ]


def test_a_budget_holds_while_blocks_are_shown(make: Make) -> None:
    guest = make(EXEC | CPU)
    guest.hart.x[2] = u64(0)
    guest.load(CODE, program(LOOP))
    for count in range(1, 30):
        before = int(guest.hart.retired())
        assert guest.run(count) == Exit.BUDGET
        assert int(guest.hart.retired()) - before == count


@pytest.mark.parametrize("categories", [EXEC, EXEC | NOCHAIN, CPU, LogCategory.INT])
def test_a_kick_ends_a_loop_that_is_shown(make: Make, categories: LogCategory) -> None:
    guest = make(categories)
    guest.load(CODE, program("addi x1, x1, 1\njal x0, -4"))
    guest.cpu.set_budget(1 << 60)
    ended: list[int] = []
    vcpu = threading.Thread(target=lambda: ended.append(guest.cpu.run()))
    vcpu.start()
    deadline = time.monotonic() + 20
    while not guest.hart.x[1]:
        assert time.monotonic() < deadline
    guest.cpu.kick(leave=True)
    vcpu.join(20)
    assert ended == [Exit.INTERRUPTED]


def test_nobody_is_told_of_a_breakpoint_as_of_a_block(make: Make) -> None:
    guest = make(EXEC | NOCHAIN)
    guest.load(CODE, program(LOOP))
    guest.hart.x[2] = u64(2)
    guest.machine.set_debug_points([CODE + 8], ())
    assert guest.run(100) == Exit.DEBUG
    assert guest.entered == [CODE] * 2


# -- cpu


def test_cpu_shows_registers_before_each_block(make: Make) -> None:
    guest = make(CPU | NOCHAIN)
    run_loop(guest, rounds=3)
    text = guest.text
    assert re.findall(r" pc       (\w{16})", text)[:4] == [
        f"{pc:016x}" for pc in (CODE, CODE, CODE, CODE + 8)
    ]
    assert re.findall(r"x1/ra    (\w{16})", text)[:4] == [f"{n:016x}" for n in (0, 1, 2, 3)]
    assert "mcause" in text and "f0/ft0" not in text and "Trace" not in text


def test_fpu_adds_floating_point_registers(make: Make) -> None:
    guest = make(CPU | EXEC | LogCategory.FPU)
    guest.hart.f[1] = u64(0x1234)
    run_loop(guest)
    assert "f1/ft1   0000000000001234" in guest.text
    assert guest.text.index("Trace") < guest.text.index(" pc  ")


# -- traps and the MMU


def test_int_loses_no_trap(make: Make) -> None:
    guest = make(LogCategory.INT)
    guest.load(HANDLER, program("csrrw x0, mepc, x9\naddi x1, x1, 1\nmret"))
    guest.hart.x[9] = u64(CODE)
    run_program(guest, "ecall", 3 * 20_000)
    assert guest.hart.x[1] == 20_000
    lines = guest.text.splitlines()
    assert len(lines) == 20_000
    assert lines[0] == (
        "riscv_cpu_do_interrupt: hart:0, async:0, cause:000000000000000b, "
        "epc:0x0000000000001000, tval:0x0000000000000000, desc=machine_ecall"
    )


FILL = "riscv_cpu_tlb_fill"


def test_mmu_shows_fills_and_faults(make: Make) -> None:
    guest = make(LogCategory.MMU)
    pages = Pages(guest)
    pages.map(0x4000_0000, 0x5000, V | R | W | A | D)
    pages.map(0x4020_0000, 0x20_0000, V | R | A, level=1)  # no memory, and no device, is there
    access(guest, "lw x1, 0(x2)", 0x4000_0010, SUPERVISOR)
    access(guest, "sw x1, 0(x2)", 0x4020_0010, SUPERVISOR)
    access(guest, "lw x1, 0(x2)", 0x4040_0010, SUPERVISOR)
    lines = [line for line in guest.text.splitlines() if " rw 2 " not in line]
    lines = [
        line for line in lines if f"{CODE:x} ret" not in line and f"{HANDLER:x} ret" not in line
    ]
    assert lines == [
        f"{FILL} ad 40000010 rw 0 mmu_idx 1 cpu 0",
        f"{FILL} address=40000010 ret 0 physical 0000000000005010 prot 3 size 4096",
        f"{FILL} ad 40200010 rw 1 mmu_idx 1 cpu 0",
        f"{FILL} address=40200010 ret 1 prot 0",
        f"{FILL} ad 40400010 rw 0 mmu_idx 1 cpu 0",
        f"{FILL} address=40400010 ret 1 prot 0",
    ]


def test_mmu_shows_the_size_of_large_pages(make: Make) -> None:
    guest = make(LogCategory.MMU)
    Pages(guest).map(0x4000_0000, 0, V | R | A, level=2)
    access(guest, "lw x1, 0(x2)", 0x4000_2000, SUPERVISOR)
    assert f"address=40002000 ret 0 physical {0x2000:016x} prot 1 size {1 << 30}\n" in guest.text


def test_what_happens_is_in_order(make: Make) -> None:
    guest = make(EXEC | LogCategory.INT | LogCategory.IN_ASM | LogCategory.MMU)
    run_program(guest, "addi x1, x0, 1\necall", 2)
    words = re.findall(
        r"^(Trace|IN|riscv_cpu_do_interrupt|riscv_cpu_tlb_fill ad )", guest.text, re.M
    )
    fill = "riscv_cpu_tlb_fill ad "
    assert words == [fill, "IN", "Trace", "riscv_cpu_do_interrupt", fill, "IN", "Trace"]


# -- what was translated


def test_in_asm_shows_what_is_no_instruction_and_what_lies_on_two_pages(make: Make) -> None:
    guest = make(LogCategory.IN_ASM)
    place = CODE + 0xFFE
    guest.load(place, assemble("lui x1, 0x12345"))
    guest.hart.pc = u64(place)
    guest.run(2)
    text = guest.text
    assert f"0x{place:016x}:  123450b7          lui                     ra,305418240\n" in text
    assert f"0x{place + 4:016x}:  0000              illegal" in text
    assert "Priv: 3; Virt: 0" in text


def test_a_note_of_a_block_that_is_not_there_any_more_is_passed_over(make: Make) -> None:
    guest = make(LogCategory.IN_ASM)
    run_loop(guest)
    text = guest.text
    log = guest.machine.log
    assert log is not None
    for address in (0, next(guest.machine.blocks()) + 16, int(guest.machine.shared.next)):
        assert list(log.code.block_lines(Noted(MADE, CODE, address, 3))) == []
    assert guest.text == text


def test_op_shows_operands_and_op_opt_what_is_left(make: Make) -> None:
    guest = make(LogCategory.OP | LogCategory.OP_OPT)
    run_program(guest, "addi x5, x6, 7\njal x0, 0", 2)
    before, after = re.split(r"^OP after optimization:$", guest.text, flags=re.M)
    head = f" ---- {CODE:016x} addi rd=5 rs1=6 imm=7\n"
    assert before.startswith("OP:\n") and head in before and head in after
    assert "mov i32 7" in before and "sext i64" in before
    first = after[after.index(head) + len(head) : after.index(" ---- ", after.index(head) + 1)]
    assert [line.split("{")[0].strip() for line in first.split("\n") if line] == [
        "%6 = ld i64 %0, 6",
        "%9 = add i64 %6, 7",
        "st i64 %0, %9, 5",
        "next void",
    ]
    assert "; x[6]" in first and "; x[5]" in first


def test_regions_are_shown_too(make: Make) -> None:
    wanted = LogCategory.OP | LogCategory.OP_OPT | LogCategory.LLVM | LogCategory.OUT_ASM
    guest = make(wanted, tier=1, background=False)
    run_loop(guest, rounds=50)
    guest.machine.compile_all(level=QUICK)
    for title in ("OP:", "OP after optimization:", "LLVM:", "OUT:"):
        assert re.search(f"^{title} region {CODE:#x}, ", guest.text, re.M)


def test_out_asm_shows_what_a_block_became(make: Make) -> None:
    guest = make(LogCategory.OUT_ASM)
    run_loop(guest)
    names = re.findall(r"^0x\w+:  \w{16}  (?:\w{16}  )?(\S+)$", guest.text, re.M)
    assert names[:4] == ["tier0.enter", "op.addi", "op.bne", "tier0.go"]


def test_a_range_of_addresses_chooses(make: Make) -> None:
    guest = make(EXEC | NOCHAIN | CPU | LogCategory.IN_ASM | LogCategory.OP)
    guest.log.code_ranges = ((CODE + 8, CODE + 8),)
    run_loop(guest)
    text = guest.text
    assert guest.entered == [CODE + 8]
    assert text.count("IN:") == text.count("OP:") == text.count(" pc ") == 1


# -- at run time


def test_blocks_are_shown_from_the_moment_on_that_they_are_wanted(make: Make) -> None:
    guest = make(LogCategory.NONE)
    guest.hart.x[2] = u64(0)
    guest.load(CODE, program(LOOP))
    guest.run(10)
    guest.log.choose(EXEC | NOCHAIN | LogCategory.IN_ASM)
    guest.run(20)
    assert guest.entered == [CODE] * 10 and guest.text.count("IN:") == 1
    guest.log.choose(LogCategory.NONE)
    guest.run(20)
    assert len(guest.entered) == 10
    assert guest.hart.x[1] == 25


def test_regions_come_back_when_the_log_is_switched_off(make: Make) -> None:
    guest = make(EXEC, tier=1)
    guest.hart.x[2] = u64(0)
    guest.load(CODE, program(LOOP))
    guest.run(100_000)
    assert guest.machine.compiler is not None
    stats = guest.machine.compiler.stats
    assert stats.compiled == 0
    guest.log.choose(LogCategory.NONE)
    deadline = time.monotonic() + 60
    while not stats.compiled:
        assert time.monotonic() < deadline
        guest.run(1_000_000)
