"""Virtual memory (Privileged ISA 20240411, chapters 12 to 15)."""

from __future__ import annotations

import itertools

import pytest

from ratite.isa.riscv.state import ADUE, FS, MXR, PBMTE, SUM
from ratite.memory import DirtyClient, RamAddr
from ratite.native import u64
from tests.isa.assembler import assemble
from tests.isa.guest import (
    LEVELS,
    MACHINE,
    SUPERVISOR,
    USER,
    A,
    D,
    G,
    N,
    Pages,
    R,
    Trap,
    U,
    V,
    W,
    X,
    access,
    fetch,
    run_program,
)  # fmt: skip
from tests.isa.harness import CODE, DEVICE, RAM_SIZE, ROM, Executor

FETCH_PAGE, LOAD_PAGE, STORE_PAGE = 12, 13, 15
FETCH_ACCESS, LOAD_ACCESS, STORE_ACCESS = 1, 5, 7
FULL = V | R | W | X | A | D
ADDI = assemble("addi x1, x1, 1")
GVA = 0x12_3456_7000


@pytest.fixture(params=LEVELS)
def mode(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def top(mode: str) -> int:
    return 12 + 9 * LEVELS[mode]


def test_leaf_of_every_level_maps_its_whole_range(executor: Executor, mode: str) -> None:
    for level in range(LEVELS[mode]):
        executor.reset()
        pages = Pages(executor, mode)
        base = 1 << 12 + 9 * level
        pages.map(base, 0x5000 if level == 0 else 0, FULL, level)
        inside = 0 if level == 0 else 0x5000
        executor.load(0x5123, b"\x5a")
        assert access(executor, "lbu x1, 0x123(x2)", base + inside, SUPERVISOR) is None
        assert executor.hart.x[1] == 0x5A
        assert access(executor, "lbu x1, 0(x2)", base - 1, SUPERVISOR) == Trap(
            LOAD_PAGE, base - 1, CODE
        )
        if level:
            last = (2 * base) - 1
            trap = access(executor, "sb x1, 0(x2)", last, SUPERVISOR)
            assert trap == (None if base <= RAM_SIZE else Trap(STORE_ACCESS, last, CODE))


def test_misaligned_superpage_faults(executor: Executor, mode: str) -> None:
    for level in range(1, LEVELS[mode]):
        for bit in (0, 9 * level - 1):
            executor.reset()
            pages = Pages(executor, mode)
            pages.map(0, 0x1000 << bit, FULL, level)
            assert access(executor, "lw x1, 0(x2)", 0x40, SUPERVISOR) == Trap(LOAD_PAGE, 0x40, CODE)


def allowed(flags: int, privilege: int, access_kind: int, *, sum_bit: bool, mxr: bool) -> bool:
    """The manual's rules, in the manual's order."""
    if flags & U and privilege == SUPERVISOR and (access_kind == X or not sum_bit):
        return False
    if not flags & U and privilege == USER:
        return False
    if access_kind == R:
        return bool(flags & R or (flags & X and mxr))
    return bool(flags & access_kind)


@pytest.mark.parametrize("privilege", [USER, SUPERVISOR])
def test_permissions_are_those_of_the_manual(executor: Executor, privilege: int) -> None:
    pages = Pages(executor)
    kinds = {
        R: ("lw x1, 0(x2)", LOAD_PAGE),
        W: ("sw x1, 0(x2)", STORE_PAGE),
        R | W: ("amoor.w x1, x3, (x2)", STORE_PAGE),
    }
    executor.load(0x5000, ADDI)
    for flags in itertools.chain(range(R, U, R), range(R | U, 2 * U, R)):
        if flags & (R | W | X) in (0, W, W | X):
            continue
        place = pages.map(GVA, 0x5000, flags | V | A | D)
        for sum_bit, mxr in itertools.product((False, True), repeat=2):
            executor.hart.mstatus = u64(SUM * sum_bit | MXR * mxr)
            executor.cpu.flush()
            for kind, (text, cause) in kinds.items():
                trap = access(executor, text, GVA, privilege)
                want = all(
                    allowed(flags, privilege, bit, sum_bit=sum_bit, mxr=mxr)
                    for bit in (R, W)
                    if kind & bit
                )
                assert trap == (None if want else Trap(cause, GVA, CODE)), (
                    hex(flags),
                    sum_bit,
                    mxr,
                    text,
                )
            trap = fetch(executor, GVA, privilege)
            want = allowed(flags, privilege, X, sum_bit=sum_bit, mxr=mxr)
            assert trap == (None if want else Trap(FETCH_PAGE, GVA, GVA)), (
                hex(flags),
                sum_bit,
                mxr,
            )
            executor.load(0x5000, ADDI)
        assert place


@pytest.mark.parametrize("flags", [0, R | W | X, V | W, V | W | X])
def test_invalid_and_reserved_permissions_fault(executor: Executor, flags: int) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, flags | A | D)
    assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) == Trap(LOAD_PAGE, GVA, CODE)
    assert access(executor, "sw x1, 0(x2)", GVA, SUPERVISOR) == Trap(STORE_PAGE, GVA, CODE)


@pytest.mark.parametrize("bit", range(54, 64))
def test_high_bits_of_a_leaf(executor: Executor, bit: int) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, FULL | 1 << bit)
    trap = access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR)
    legal = bit in (61, 62)  # Svpbmt: 1 and 2
    assert trap == (None if legal else Trap(LOAD_PAGE, GVA, CODE))
    executor.hart.menvcfg = u64(ADUE)
    executor.cpu.flush()
    assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) == Trap(LOAD_PAGE, GVA, CODE)


def test_memory_type_three_is_reserved(executor: Executor) -> None:
    Pages(executor).map(GVA, 0x5000, FULL | 3 << 61)
    assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) == Trap(LOAD_PAGE, GVA, CODE)


@pytest.mark.parametrize("flags", [A, D, U, N, 1 << 61, 1 << 62, 1 << 54])
def test_pointer_with_reserved_bits_faults(executor: Executor, flags: int) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, FULL)
    above = pages.entry(GVA, 1)
    pages.write(above, executor.read(above, 8) | flags)
    assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) == Trap(LOAD_PAGE, GVA, CODE)


def test_pointer_at_the_last_level_faults(executor: Executor, mode: str) -> None:
    Pages(executor, mode).map(GVA, 0x5000, V)
    assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) == Trap(LOAD_PAGE, GVA, CODE)


def test_global_and_software_bits_change_nothing(executor: Executor) -> None:
    Pages(executor).map(GVA, 0x5000, FULL | G | 3 << 8)
    assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) is None


def test_addresses_must_be_sign_extended(executor: Executor, mode: str) -> None:
    pages = Pages(executor, mode)
    half = 1 << top(mode) - 1
    pages.map(half - 0x1000, 0x5000, FULL)
    pages.map(half, 0x6000, FULL)
    executor.load(0x5000, ADDI)
    executor.load(0x6000, ADDI)
    low, high = half - 0x1000, (1 << 64) - half
    assert access(executor, "lw x1, 0(x2)", low, SUPERVISOR) is None
    assert access(executor, "lw x1, 0(x2)", high, SUPERVISOR) is None
    for gva in (half, high - 0x1000, 1 << 63, low | 1 << 63, low | 1 << top(mode)):
        assert access(executor, "lw x1, 0(x2)", gva, SUPERVISOR) == Trap(LOAD_PAGE, gva, CODE)
        assert access(executor, "sw x1, 0(x2)", gva, SUPERVISOR) == Trap(STORE_PAGE, gva, CODE)
        assert fetch(executor, gva, SUPERVISOR) == Trap(FETCH_PAGE, gva, gva)
    assert fetch(executor, high, SUPERVISOR) is None


def test_hardware_sets_accessed_and_dirty(executor: Executor) -> None:
    pages = Pages(executor)
    place = pages.map(GVA, 0x5000, V | R | W | X)
    assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) is None
    assert executor.read(place, 8) & (A | D) == A
    assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) is None
    assert executor.read(place, 8) & (A | D) == A
    assert access(executor, "sw x1, 0(x2)", GVA, SUPERVISOR) is None
    assert executor.read(place, 8) & (A | D) == A | D
    for text, bits in (
        ("sc.w x1, x3, (x2)", None),
        ("amoadd.w x1, x3, (x2)", A | D),
        ("lr.w x1, (x2)", A),
    ):
        place = pages.map(GVA, 0x5000, V | R | W | X)
        executor.cpu.flush()
        assert access(executor, text, GVA, SUPERVISOR) is None
        assert bits is None or executor.read(place, 8) & (A | D) == bits
    place = pages.map(GVA, 0x5000, V | R | W | X)
    executor.cpu.flush()
    executor.load(0x5000, ADDI)
    assert fetch(executor, GVA, SUPERVISOR) is None
    assert executor.read(place, 8) & (A | D) == A


def test_faulting_access_leaves_accessed_and_dirty_alone(executor: Executor) -> None:
    pages = Pages(executor)
    place = pages.map(GVA, 0x5000, V | R)
    assert access(executor, "sw x1, 0(x2)", GVA, SUPERVISOR) is not None
    assert executor.read(place, 8) & (A | D) == 0


def test_without_svadu_they_fault(executor: Executor) -> None:
    pages = Pages(executor)
    executor.hart.menvcfg = u64(PBMTE)
    executor.load(0x5000, ADDI)
    place = pages.map(GVA, 0x5000, V | R | W | X)
    assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) == Trap(LOAD_PAGE, GVA, CODE)
    assert access(executor, "sw x1, 0(x2)", GVA, SUPERVISOR) == Trap(STORE_PAGE, GVA, CODE)
    assert fetch(executor, GVA, SUPERVISOR) == Trap(FETCH_PAGE, GVA, GVA)
    assert executor.read(place, 8) & (A | D) == 0
    pages.map(GVA, 0x5000, V | R | W | X | A)
    executor.cpu.flush()
    assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) is None
    assert access(executor, "sw x1, 0(x2)", GVA, SUPERVISOR) == Trap(STORE_PAGE, GVA, CODE)
    assert access(executor, "amoadd.w x1, x3, (x2)", GVA, SUPERVISOR) == Trap(STORE_PAGE, GVA, CODE)


def test_tables_outside_memory_are_access_faults(executor: Executor) -> None:
    for table in (RAM_SIZE, DEVICE, 1 << 50):
        pages = Pages(executor)
        pages.write(pages.root + (GVA >> 30 & 0x1FF) * 8, table >> 12 << 10 | V)
        executor.cpu.flush()
        assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) == Trap(LOAD_ACCESS, GVA, CODE)
        assert access(executor, "sw x1, 0(x2)", GVA, SUPERVISOR) == Trap(STORE_ACCESS, GVA, CODE)
        assert fetch(executor, GVA, SUPERVISOR) == Trap(FETCH_ACCESS, GVA, GVA)


def test_tables_in_rom_are_read_but_not_written(executor: Executor) -> None:
    pages = Pages(executor)
    index = GVA >> 12 & 0x1FF
    pages.write(pages.entry(GVA, 1), ROM >> 12 << 10 | V)
    executor.load(ROM + index * 8, (0x5000 >> 2 | V | R | W | A).to_bytes(8, "little"))
    assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) is None
    assert access(executor, "sw x1, 0(x2)", GVA, SUPERVISOR) == Trap(STORE_ACCESS, GVA, CODE)
    assert executor.rom.read(index * 8, 1) == bytes([V | R | W | A])
    executor.load(ROM + index * 8, bytes(8))


def test_leaf_outside_memory_is_an_access_fault(executor: Executor) -> None:
    Pages(executor).map(GVA, 0x4000_0000, FULL)
    assert access(executor, "lw x1, 4(x2)", GVA, SUPERVISOR) == Trap(LOAD_ACCESS, GVA + 4, CODE)
    assert access(executor, "sw x1, 4(x2)", GVA, SUPERVISOR) == Trap(STORE_ACCESS, GVA + 4, CODE)
    assert access(executor, "amoadd.w x1, x3, (x2)", GVA, SUPERVISOR) == Trap(
        STORE_ACCESS, GVA, CODE
    )
    assert fetch(executor, GVA, SUPERVISOR) == Trap(FETCH_ACCESS, GVA, GVA)


def test_device_is_reached_through_a_mapping(executor: Executor) -> None:
    Pages(executor).map(GVA, DEVICE, FULL)
    assert access(executor, "lw x1, 8(x2)", GVA, SUPERVISOR) is None
    assert executor.hart.x[1] == 0x0B0A0908
    assert executor.device.log == [("read", 8, 4, 0x0B0A0908)]


def test_napot_maps_sixteen_pages(executor: Executor) -> None:
    pages = Pages(executor)
    base = 0x4_0000_0000
    for page in range(16):
        pages.map(base + page * 0x1000, 0x2_8000, FULL | N)
        executor.load(0x2_0000 + page * 0x1000, bytes([page]))
    for page in range(16):
        assert access(executor, "lbu x1, 0(x2)", base + page * 0x1000, SUPERVISOR) is None
        assert executor.hart.x[1] == page


@pytest.mark.parametrize("low", [0, 1, 4, 9, 15])
def test_other_napot_sizes_are_reserved(executor: Executor, low: int) -> None:
    Pages(executor).map(GVA, 0x2_0000 | low << 12, FULL | N)
    assert access(executor, "lw x1, 0(x2)", GVA, SUPERVISOR) == Trap(LOAD_PAGE, GVA, CODE)


def test_napot_superpage_is_reserved(executor: Executor) -> None:
    Pages(executor).map(0, 0x1000 << 12, FULL | N, level=1)
    assert access(executor, "lw x1, 0(x2)", 0, SUPERVISOR) == Trap(LOAD_PAGE, 0, CODE)


def test_machine_mode_does_not_translate(executor: Executor) -> None:
    Pages(executor)
    assert access(executor, "lw x1, 0(x2)", 0x5000, MACHINE) is None


def test_access_across_pages_goes_to_both(executor: Executor) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, FULL)
    pages.map(GVA + 0x1000, 0x9000, FULL)
    executor.load(0x5FFC, (0x44332211).to_bytes(4, "little"))
    executor.load(0x9000, (0x88776655).to_bytes(4, "little"))
    assert access(executor, "ld x1, -4(x2)", GVA + 0x1000, SUPERVISOR) is None
    assert executor.hart.x[1] == 0x8877665544332211
    assert access(executor, "sw x1, -1(x2)", GVA + 0x1000, SUPERVISOR) is None
    assert executor.read(0x5FFF, 1) == 0x11
    assert executor.read(0x9000, 4) == 0x88443322


@pytest.mark.parametrize(
    ("text", "cause"), [("ld x1, -4(x2)", LOAD_PAGE), ("sd x1, -4(x2)", STORE_PAGE)]
)
def test_fault_of_the_second_page_names_that_page(
    executor: Executor, text: str, cause: int
) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, FULL)
    executor.hart.x[1] = ~u64(0)
    assert access(executor, text, GVA + 0x1000, SUPERVISOR) == Trap(cause, GVA + 0x1000, CODE)
    assert executor.read(0x5FFC, 4) == 0  # nothing was written
    assert executor.hart.x[1] == ~u64(0)


@pytest.mark.parametrize("operands", ["x0, x0", "x2, x0", "x6, x0", "x2, x5"])
@pytest.mark.parametrize("level", [0, 1])
def test_sfence_makes_a_new_mapping_visible(executor: Executor, operands: str, level: int) -> None:
    size = 0x1000 << 9 * level
    base = GVA & ~(size - 1)
    pages = Pages(executor)
    place = pages.map(base, 0 if level else 0x5000, FULL, level)
    pages.map(0, 0, FULL, level=2)
    executor.load(0x5000, b"\1")
    executor.load(0x6000, b"\2")
    hart = executor.hart
    hart.x[2], hart.x[3] = u64(base + (0x5000 if level else 0)), u64(place)
    hart.x[6] = u64(base + size - 1)  # any address within the page will do
    hart.x[4] = u64(0x6000 >> 2 | FULL)
    if level:  # split the large page: its entry becomes a pointer to a table
        executor.load(0x7000 + 5 * 8, (0x6000 >> 2 | FULL).to_bytes(8, "little"))
        hart.x[4] = u64(0x7000 >> 2 | V)
    text = f"""
        lb   x10, 0(x2)
        sd   x4, 0(x3)
        sfence.vma {operands}
        lb   x11, 0(x2)
    """
    assert run_program(executor, text, 4, SUPERVISOR) is None
    assert (hart.x[10], hart.x[11]) == (1, 2)


def test_sfence_of_one_page_reaches_the_code_on_it(executor: Executor) -> None:
    pages = Pages(executor)
    place = pages.map(GVA, 0x5000, FULL)
    pages.map(0, 0, FULL, level=2)
    for gpa, step in ((0x5000, 1), (0x6000, 16)):
        code = assemble(f"addi x1, x1, {step}") + assemble("jalr x0, 0(x7)")
        executor.load(gpa, code)
    hart = executor.hart
    hart.x[2], hart.x[3], hart.x[4] = u64(GVA), u64(place), u64(0x6000 >> 2 | FULL)
    text = """
        jalr x7, 0(x2)
        sd   x4, 0(x3)
        sfence.vma x2, x0
        jalr x7, 0(x2)
    """
    assert run_program(executor, text, 8, SUPERVISOR) is None
    assert hart.x[1] == 17


def test_permission_bits_of_mstatus_act_at_once(executor: Executor) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, V | X | A)
    pages.map(GVA + 0x1000, 0x6000, V | R | U | A)
    pages.map(0, 0, FULL, level=2)
    executor.hart.x[2], executor.hart.x[3] = u64(GVA), u64(GVA + 0x1000)
    text = """
        lui    x5, 0x40           # SUM
        lui    x6, 0x80           # MXR
        csrrs  x0, sstatus, x5
        lw     x1, 0(x3)
        csrrs  x0, sstatus, x6
        lw     x1, 0(x2)
        csrrc  x0, sstatus, x6
        lw     x1, 0(x2)
    """
    assert run_program(executor, text, 8, SUPERVISOR) == Trap(LOAD_PAGE, GVA, CODE + 28)
    text = """
        lui    x5, 0x40
        csrrs  x0, sstatus, x5
        lw     x1, 0(x3)
        csrrc  x0, sstatus, x5
        lw     x1, 0(x3)
    """
    assert run_program(executor, text, 5, SUPERVISOR) == Trap(LOAD_PAGE, GVA + 0x1000, CODE + 16)


def test_satp_takes_effect_with_the_next_instruction(executor: Executor) -> None:
    pages = Pages(executor)
    pages.map(CODE, 0x5000, FULL)  # other code at the same virtual address
    executor.load(0x5000, assemble("csrrw x0, satp, x3") + assemble("addi x10, x0, 2"))
    executor.hart.x[3] = executor.hart.satp
    executor.hart.satp = u64(0)
    text = """
        csrrw x0, satp, x3
        addi  x10, x0, 1
    """
    assert run_program(executor, text, 2, SUPERVISOR) is None
    assert executor.hart.x[10] == 2


@pytest.mark.parametrize("bits", [V | R | W, V | R | X | U, 0])
def test_cached_code_needs_execute_permission(executor: Executor, bits: int) -> None:
    pages = Pages(executor)
    place = pages.map(GVA, 0x5000, FULL)
    executor.load(0x5000, ADDI + assemble("jal x0, -4"))
    executor.hart.pc = u64(GVA)
    executor.hart.privilege = type(executor.hart.privilege)(SUPERVISOR)
    executor.hart.set_mode()
    executor.run(100)
    pages.write(place, 0x5000 >> 2 | bits | A | D)
    executor.cpu.flush()
    assert fetch(executor, GVA, SUPERVISOR) == Trap(FETCH_PAGE, GVA, GVA)


def test_block_of_one_privilege_is_not_run_in_the_other(executor: Executor) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, FULL | U)
    executor.load(0x5000, ADDI)
    assert fetch(executor, GVA, USER) is None
    assert fetch(executor, GVA, SUPERVISOR) == Trap(FETCH_PAGE, GVA, GVA)
    assert fetch(executor, GVA, USER) is None


def test_instruction_across_pages_is_fetched_from_both(executor: Executor) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, FULL)
    pages.map(GVA + 0x1000, 0x9000, FULL)
    executor.load(0x5FFE, ADDI[:2])
    executor.load(0x9000, ADDI[2:])
    executor.load(0x6000, b"\xff\xff")  # what follows physically
    assert fetch(executor, GVA + 0xFFE, SUPERVISOR) is None
    assert executor.hart.x[1] == 1
    executor.load(0x9000, assemble("addi x1, x1, 5")[2:])
    assert fetch(executor, GVA + 0xFFE, SUPERVISOR) is None
    assert executor.hart.x[1] == 6
    pages.map(GVA + 0x1000, 0xA000, FULL)
    executor.load(0xA000, assemble("addi x1, x1, 7")[2:])
    executor.cpu.flush()
    assert fetch(executor, GVA + 0xFFE, SUPERVISOR) is None
    assert executor.hart.x[1] == 13


@pytest.mark.parametrize("bits", [0, V | R | W | A | D])
def test_fetch_fault_of_the_second_page_names_that_page(executor: Executor, bits: int) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, FULL)
    pages.map(GVA + 0x1000, 0x9000, bits)
    executor.load(0x5FFE, ADDI[:2])
    assert fetch(executor, GVA + 0xFFE, SUPERVISOR) == Trap(FETCH_PAGE, GVA + 0x1000, GVA + 0xFFE)
    executor.load(0x5FFE, assemble("c.addi x1, 1"))
    assert fetch(executor, GVA + 0xFFE, SUPERVISOR) is None


def test_cached_instruction_across_pages_needs_both_permissions(executor: Executor) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, FULL)
    second = pages.map(GVA + 0x1000, 0x9000, FULL)
    executor.load(0x5FFE, ADDI[:2])
    executor.load(0x9000, ADDI[2:])
    assert fetch(executor, GVA + 0xFFE, SUPERVISOR) is None
    pages.write(second, 0)
    executor.cpu.flush()
    assert fetch(executor, GVA + 0xFFE, SUPERVISOR) == Trap(FETCH_PAGE, GVA + 0x1000, GVA + 0xFFE)


def test_illegal_instruction_across_pages_reports_its_encoding(executor: Executor) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, FULL)
    pages.map(GVA + 0x1000, 0x9000, FULL)
    executor.load(0x5FFE, b"\x7f\x70")
    executor.load(0x9000, b"\x34\x12")
    assert fetch(executor, GVA + 0xFFE, SUPERVISOR) == Trap(2, 0x1234707F, GVA + 0xFFE)


def test_code_runs_into_an_unmapped_page(executor: Executor) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, FULL)
    executor.load(0x5FF8, ADDI * 2)
    executor.hart.pc = u64(GVA + 0xFF8)
    executor.hart.privilege = type(executor.hart.privilege)(SUPERVISOR)
    executor.hart.set_mode()
    executor.run(3)
    assert executor.hart.x[1] == 2
    assert (executor.hart.mcause, executor.hart.mtval, executor.hart.mepc) == (
        12,
        GVA + 0x1000,
        GVA + 0x1000,
    )


def test_cache_block_operations_are_checked_like_stores(executor: Executor) -> None:
    pages = Pages(executor)
    executor.hart.menvcfg |= 0xF0
    place = pages.map(GVA, 0x5000, V | R | W)
    for text in ("cbo.clean (x2)", "cbo.flush (x2)", "cbo.inval (x2)"):
        assert access(executor, text, GVA + 3, SUPERVISOR) is None
    assert executor.read(place, 8) & (A | D) == A
    assert access(executor, "cbo.zero (x2)", GVA + 3, SUPERVISOR) is None
    assert executor.read(place, 8) & (A | D) == A | D
    for text in ("cbo.clean (x2)", "cbo.flush (x2)", "cbo.inval (x2)", "cbo.zero (x2)"):
        gva = GVA + 0x1003
        assert access(executor, text, gva, SUPERVISOR) == Trap(STORE_PAGE, gva, CODE)
    pages.map(GVA + 0x1000, 0x6000, V | R | A)
    assert access(executor, "cbo.flush (x2)", GVA + 0x1003, SUPERVISOR) is None
    assert access(executor, "cbo.zero (x2)", GVA + 0x1003, SUPERVISOR) == Trap(
        STORE_PAGE, GVA + 0x1003, CODE
    )


def fence(executor: Executor, gva: int) -> None:
    """sfence.vma of one address, by machine-mode code."""
    executor.hart.x[2] = u64(gva)
    assert run_program(executor, "sfence.vma x2, x0", 1) is None


def test_fence_of_one_address_makes_its_new_mapping_visible(executor: Executor) -> None:
    pages = Pages(executor)
    executor.load(0x5000, b"\1")
    executor.load(0x6000, b"\2")
    for gva in (GVA, GVA + 0x40_0000, (1 << 64) - 0x1000):
        pages.map(gva, 0x5000, FULL)
        assert access(executor, "lbu x1, 0(x2)", gva, SUPERVISOR) is None
        assert access(executor, "lbu x1, 0(x2)", gva, USER) is not None
        pages.map(gva, 0x6000, FULL)
        fence(executor, gva + 0x123)
        assert access(executor, "lbu x1, 0(x2)", gva, SUPERVISOR) is None
        assert executor.hart.x[1] == 2


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("away", [0, 0x1000, 0x1F_F000])
def test_fence_of_an_address_in_a_superpage_reaches_all_of_it(
    executor: Executor, level: int, away: int
) -> None:
    pages = Pages(executor)
    base = 1 << 30
    executor.load(0x5000, ADDI)
    executor.load(0x9000, assemble("addi x1, x0, 9"))
    place = pages.map(base, 0, FULL, level)
    assert access(executor, "lw x1, 0(x2)", base + 0x5000, SUPERVISOR) is None
    assert fetch(executor, base + 0x5000, SUPERVISOR) is None
    pages.write(place, 0)
    for page in (0, 0x5000):
        pages.map(base + page, page + 0x4000, FULL)
    fence(executor, base + away)
    assert access(executor, "lw x1, 0(x2)", base + 0x5000, SUPERVISOR) is None
    assert executor.hart.x[1] == executor.read(0x9000, 4)
    assert fetch(executor, base + 0x5000, SUPERVISOR) is None
    assert executor.hart.x[1] == 9


def test_fence_of_one_address_reaches_a_napot_range(executor: Executor) -> None:
    pages = Pages(executor)
    base = 0x4_0000_0000
    executor.load(0x2_3000, b"\3")
    executor.load(0x4_3000, b"\4")
    for page in range(16):
        pages.map(base + page * 0x1000, 0x2_8000, FULL | N)
    assert access(executor, "lbu x1, 0(x2)", base + 0x3000, SUPERVISOR) is None
    for page in range(16):
        pages.map(base + page * 0x1000, 0x4_8000, FULL | N)
    fence(executor, base + 0xF000)
    assert access(executor, "lbu x1, 0(x2)", base + 0x3000, SUPERVISOR) is None
    assert executor.hart.x[1] == 4


@pytest.mark.parametrize("change", ["move", "forbid"])
def test_fence_of_one_address_reaches_code(executor: Executor, change: str) -> None:
    pages = Pages(executor)
    place = pages.map(GVA, 0x5000, FULL)
    executor.load(0x5000, ADDI)
    executor.load(0x9000, assemble("addi x1, x1, 7"))
    for _ in range(3):
        assert fetch(executor, GVA, SUPERVISOR) is None
    pages.write(place, 0x9000 >> 2 | FULL if change == "move" else 0x5000 >> 2 | V | R | A | D)
    fence(executor, GVA)
    trap = fetch(executor, GVA, SUPERVISOR)
    if change == "move":
        assert trap is None
        assert executor.hart.x[1] == 3 + 7
    else:
        assert trap == Trap(FETCH_PAGE, GVA, GVA)


def test_fence_of_the_second_page_reaches_an_instruction_across_both(executor: Executor) -> None:
    pages = Pages(executor)
    pages.map(GVA, 0x5000, FULL)
    pages.map(GVA + 0x1000, 0x9000, FULL)
    executor.load(0x5FFE, ADDI[:2])
    executor.load(0x9000, ADDI[2:])
    executor.load(0xA000, assemble("addi x1, x1, 6")[2:])
    assert fetch(executor, GVA + 0xFFE, SUPERVISOR) is None
    pages.map(GVA + 0x1000, 0xA000, FULL)
    fence(executor, GVA + 0x1000)
    assert fetch(executor, GVA + 0xFFE, SUPERVISOR) is None
    assert executor.hart.x[1] == 7


def test_two_fences_in_a_row_both_count(executor: Executor) -> None:
    pages = Pages(executor)
    executor.load(0x5000, b"\1")
    executor.load(0x6000, b"\2")
    pages.map(GVA, 0x5000, FULL)
    pages.map(GVA + 0x1000, 0x5000, FULL)
    for gva in (GVA, GVA + 0x1000):
        assert access(executor, "lbu x1, 0(x2)", gva, SUPERVISOR) is None
    pages.map(GVA, 0x6000, FULL)
    pages.map(GVA + 0x1000, 0x6000, FULL)
    executor.hart.x[2], executor.hart.x[3] = u64(GVA), u64(GVA + 0x1000)
    assert run_program(executor, "sfence.vma x2, x0\nsfence.vma x3, x0", 2) is None
    for gva in (GVA, GVA + 0x1000):
        assert access(executor, "lbu x1, 0(x2)", gva, SUPERVISOR) is None
        assert executor.hart.x[1] == 2


def test_a_walk_that_sets_accessed_and_dirty_makes_the_tables_page_dirty(
    executor: Executor,
) -> None:
    pages = Pages(executor, "sv39")
    executor.hart.menvcfg = u64(ADUE)
    entry = pages.map(GVA, 0x5000, V | R | W)
    dirty = executor.ram_list.dirty_map(DirtyClient.MIGRATION)
    for instruction, expected in [("ld x1, 0(x2)", 1), ("ld x1, 0(x2)", 0), ("sd x1, 0(x2)", 1)]:
        executor.ram_list.take_dirty(DirtyClient.MIGRATION, RamAddr(0), RAM_SIZE)
        executor.cpu.flush()
        assert access(executor, instruction, GVA, SUPERVISOR) is None
        assert dirty[entry >> 12] == expected, instruction


STORES = "sb sh sw sd fsw fsd amoadd.w amoswap.d sc.d cbo.zero c.sd".split()


@pytest.mark.parametrize("name", STORES)
def test_every_store_makes_its_page_dirty(executor: Executor, name: str) -> None:
    program = {
        "fsw": "fsw f1, 0(x2)",
        "fsd": "fsd f1, 0(x2)",
        "amoadd.w": "amoadd.w x1, x3, (x2)",
        "amoswap.d": "amoswap.d x1, x3, (x2)",
        "sc.d": "sc.d x1, x3, (x2)",
        "cbo.zero": "cbo.zero (x2)",
        "c.sd": "c.sd x9, 0(x8)",
    }.get(name, f"{name} x3, 0(x2)")
    executor.hart.mstatus = u64(FS)
    executor.hart.x[8] = u64(0x6000)
    dirty = executor.ram_list.dirty_map(DirtyClient.MIGRATION)
    for _ in range(2):
        executor.ram_list.take_dirty(DirtyClient.MIGRATION, RamAddr(0), RAM_SIZE)
        executor.cpu.flush()
        if name == "sc.d":
            assert access(executor, "lr.d x1, (x2)", 0x6000) is None
        executor.hart.mstatus = u64(FS)
        assert access(executor, program, 0x6000) is None
        assert dirty[6] == 1
