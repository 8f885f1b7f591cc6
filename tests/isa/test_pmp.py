"""Physical memory protection (Privileged ISA 20240411, section 3.7)."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from ratite.isa.riscv.csr import CSR_NUMBER
from ratite.isa.riscv.pmp import pmp_update
from ratite.isa.riscv.state import PMP_ENTRIES
from ratite.native import u8, u64
from tests.isa.assembler import assemble
from tests.isa.guest import (
    MACHINE,
    SUPERVISOR,
    USER,
    A,
    D,
    Pages,
    R,
    Trap,
    V,
    W,
    access,
    fetch,
    step,
)
from tests.isa.harness import CODE, Executor

L, OFF, TOR, NA4, NAPOT = 0x80, 0, 1 << 3, 2 << 3, 3 << 3
READ, WRITE, EXECUTE = 1, 2, 4
LOAD_ACCESS, STORE_ACCESS, FETCH_ACCESS = 5, 7, 1
ALL = (1 << 54) - 1


def napot(base: int, size: int) -> int:
    """pmpaddr of a naturally aligned range."""
    return base + size // 2 - 1 >> 2


def configure(executor: Executor, *entries: tuple[int, int]) -> None:
    """Set (pmpcfg, pmpaddr) from entry 0 on; the rest is off."""
    hart = executor.hart
    for index in range(PMP_ENTRIES):
        config, address = entries[index] if index < len(entries) else (0, 0)
        hart.pmpcfg[index], hart.pmpaddr[index] = u8(config), u64(address)
    pmp_update(hart)
    executor.cpu.flush()


def write_csr(executor: Executor, name: str, value: int) -> Trap | None:
    """csrrw by machine-mode code."""
    executor.hart.x[2] = u64(value)
    return access(executor, f"csrrw x1, {CSR_NUMBER[name]}, x2", value)


def read_csr(executor: Executor, name: str) -> int:
    assert access(executor, f"csrrs x1, {CSR_NUMBER[name]}, x0", 0) is None
    return int(executor.hart.x[1])


def test_without_entries_only_machine_mode_has_access(executor: Executor) -> None:
    configure(executor)
    assert access(executor, "lw x1, 0(x2)", 0x5000, MACHINE) is None
    assert access(executor, "lw x1, 0(x2)", 0x5000, SUPERVISOR) == Trap(LOAD_ACCESS, 0x5000, CODE)
    assert access(executor, "sw x1, 0(x2)", 0x5000, USER) == Trap(STORE_ACCESS, 0x5000, CODE)
    assert fetch(executor, 0x5000, SUPERVISOR) == Trap(FETCH_ACCESS, 0x5000, 0x5000)


def test_hart_without_pmp_gives_everybody_access(executor: Executor) -> None:
    from ratite.isa.riscv.state import EXTENSION_BIT

    configure(executor)
    executor.hart.extensions &= ~(1 << EXTENSION_BIT["pmp"])
    executor.cpu.flush()
    assert access(executor, "lw x1, 0(x2)", 0x5000, SUPERVISOR) is None
    assert access(executor, "sw x1, 0(x2)", 0x5000, USER) is None
    assert write_csr(executor, "pmpaddr0", 0) is not None


@pytest.mark.parametrize("permissions", range(8))
def test_permissions_of_an_entry(executor: Executor, permissions: int) -> None:
    if permissions & (READ | WRITE) == WRITE:
        return  # reserved; see the test of the CSRs
    configure(executor, (NAPOT | permissions, napot(0x5000, 0x1000)), (NAPOT | 7, ALL))
    executor.load(0x5000, assemble("addi x0, x0, 0"))
    for privilege in (USER, SUPERVISOR):
        for text, need, cause in (
            ("lw x1, 0(x2)", READ, LOAD_ACCESS),
            ("sw x0, 4(x2)", WRITE, STORE_ACCESS),
            ("amoadd.w x1, x0, (x2)", READ | WRITE, STORE_ACCESS),
            ("lr.w x1, (x2)", READ, LOAD_ACCESS),
        ):
            trap = access(executor, text, 0x5000, privilege)
            value = 0x5004 if "4(" in text else 0x5000
            assert trap == (None if permissions & need == need else Trap(cause, value, CODE)), text
        trap = fetch(executor, 0x5000, privilege)
        assert trap == (None if permissions & EXECUTE else Trap(FETCH_ACCESS, 0x5000, 0x5000))
    assert access(executor, "sw x0, 4(x2)", 0x5000, MACHINE) is None


def test_locked_entry_binds_machine_mode(executor: Executor) -> None:
    configure(executor, (L | NAPOT | READ, napot(0x5000, 0x1000)))
    assert access(executor, "lw x1, 0(x2)", 0x5000, MACHINE) is None
    assert access(executor, "sw x1, 0(x2)", 0x5000, MACHINE) == Trap(STORE_ACCESS, 0x5000, CODE)
    assert fetch(executor, 0x5000, MACHINE) == Trap(FETCH_ACCESS, 0x5000, 0x5000)
    assert access(executor, "sw x1, 0(x2)", 0x6000, MACHINE) is None


def test_mprv_applies_the_rules_of_the_other_privilege(executor: Executor) -> None:
    configure(executor, (NAPOT | READ, napot(0x5000, 0x1000)), (NAPOT | 7, ALL))
    assert access(executor, "sw x1, 0(x2)", 0x5000, SUPERVISOR) == Trap(STORE_ACCESS, 0x5000, CODE)
    assert access(executor, "sw x1, 0(x2)", 0x5000, MACHINE) is None


def test_lowest_entry_that_matches_decides(executor: Executor) -> None:
    configure(
        executor,
        (NAPOT | READ, napot(0x5000, 0x1000)),
        (NAPOT | READ | WRITE, napot(0x4000, 0x4000)),
    )
    assert access(executor, "sw x1, 0(x2)", 0x5000, SUPERVISOR) == Trap(STORE_ACCESS, 0x5000, CODE)
    assert access(executor, "sw x1, 0(x2)", 0x6000, SUPERVISOR) is None
    assert access(executor, "lw x1, 0(x2)", 0x8000, SUPERVISOR) == Trap(LOAD_ACCESS, 0x8000, CODE)


def test_na4_holds_four_bytes(executor: Executor) -> None:
    configure(executor, (NA4 | READ, 0x5004 >> 2))
    assert access(executor, "lw x1, 0(x2)", 0x5004, SUPERVISOR) is None
    assert access(executor, "lb x1, 0(x2)", 0x5007, SUPERVISOR) is None
    for gva in (0x5003, 0x5008):
        assert access(executor, "lb x1, 0(x2)", gva, SUPERVISOR) == Trap(LOAD_ACCESS, gva, CODE)


def test_access_partly_in_an_entry_fails(executor: Executor) -> None:
    configure(executor, (NA4 | READ, 0x5004 >> 2), (NAPOT | 7, ALL))
    assert access(executor, "ld x1, 0(x2)", 0x5000, SUPERVISOR) == Trap(LOAD_ACCESS, 0x5000, CODE)
    assert access(executor, "ld x1, 0(x2)", 0x5000, MACHINE) == Trap(LOAD_ACCESS, 0x5000, CODE)
    assert access(executor, "lw x1, 0(x2)", 0x5002, SUPERVISOR) == Trap(LOAD_ACCESS, 0x5002, CODE)
    assert access(executor, "ld x1, 0(x2)", 0x5008, SUPERVISOR) is None


def test_top_of_range(executor: Executor) -> None:
    configure(executor, (OFF, 0x5010 >> 2), (TOR | READ, 0x5020 >> 2))
    for gva in (0x5010, 0x501F):
        assert access(executor, "lb x1, 0(x2)", gva, SUPERVISOR) is None
    for gva in (0x500F, 0x5020):
        assert access(executor, "lb x1, 0(x2)", gva, SUPERVISOR) == Trap(LOAD_ACCESS, gva, CODE)


def test_first_top_of_range_starts_at_zero(executor: Executor) -> None:
    configure(executor, (TOR | READ, 0x5000 >> 2))
    assert access(executor, "lb x1, 0(x2)", 0, SUPERVISOR) is None
    assert access(executor, "lb x1, 0(x2)", 0x4FFF, SUPERVISOR) is None
    assert access(executor, "lb x1, 0(x2)", 0x5000, SUPERVISOR) == Trap(LOAD_ACCESS, 0x5000, CODE)


def test_top_of_range_below_its_bottom_matches_nothing(executor: Executor) -> None:
    configure(executor, (OFF, 0x6000 >> 2), (TOR, 0x5000 >> 2), (NAPOT | 7, ALL))
    assert access(executor, "lb x1, 0(x2)", 0x5800, SUPERVISOR) is None


@pytest.mark.parametrize("size", [8, 16, 64, 0x1000, 0x2000, 0x8_0000])
def test_napot_sizes(executor: Executor, size: int) -> None:
    configure(executor, (NAPOT | READ, napot(0x8_0000, size)))
    for gva in (0x8_0000, 0x8_0000 + size - 1):
        assert access(executor, "lb x1, 0(x2)", gva, SUPERVISOR) is None
    for gva in (0x7_FFFF, 0x8_0000 + size):
        assert access(executor, "lb x1, 0(x2)", gva, SUPERVISOR) == Trap(LOAD_ACCESS, gva, CODE)


def test_page_walk_is_checked_as_supervisor(executor: Executor) -> None:
    pages = Pages(executor)
    pages.map(0x7000, 0x5000, V | R | W)
    tables = napot(pages.root, 0x8000)
    configure(executor, (NAPOT, tables), (NAPOT | 7, ALL))
    assert access(executor, "lw x1, 0(x2)", 0x7000, USER) == Trap(LOAD_ACCESS, 0x7000, CODE)
    assert access(executor, "sw x1, 0(x2)", 0x7000, SUPERVISOR) == Trap(STORE_ACCESS, 0x7000, CODE)
    configure(executor, (NAPOT | READ, tables), (NAPOT | 7, ALL))
    trap = access(executor, "lw x1, 0(x2)", 0x7000, SUPERVISOR)
    assert trap == Trap(LOAD_ACCESS, 0x7000, CODE)  # the accessed bit cannot be set
    pages.map(0x7000, 0x5000, V | R | W | A | D)
    executor.cpu.flush()
    assert access(executor, "lw x1, 0(x2)", 0x7000, SUPERVISOR) is None


def test_cached_translation_keeps_to_regions_within_a_page(executor: Executor) -> None:
    configure(executor, (NAPOT, napot(0x5800, 0x40)), (NAPOT | 7, ALL))
    for _ in range(2):
        assert access(executor, "lw x1, 0(x2)", 0x5000, SUPERVISOR) is None
        assert access(executor, "lw x1, 0(x2)", 0x5800, SUPERVISOR) == Trap(
            LOAD_ACCESS, 0x5800, CODE
        )
        assert access(executor, "sw x1, 0(x2)", 0x583C, SUPERVISOR) == Trap(
            STORE_ACCESS, 0x583C, CODE
        )
        assert access(executor, "sw x1, 0(x2)", 0x5840, SUPERVISOR) is None
        trap = access(executor, "amoadd.w x1, x3, (x2)", 0x5800, SUPERVISOR)
        assert trap == Trap(STORE_ACCESS, 0x5800, CODE)
        assert access(executor, "amoadd.w x1, x3, (x2)", 0x5840, SUPERVISOR) is None


def test_code_runs_into_a_region_without_execute_permission(executor: Executor) -> None:
    configure(executor, (NAPOT | READ, napot(0x5008, 8)), (NAPOT | 7, ALL))
    executor.load(0x5000, assemble("addi x1, x1, 1") * 6)
    executor.hart.x[1] = u64(0)
    assert fetch(executor, 0x5000, SUPERVISOR) is None
    executor.hart.pc = u64(0x5000)
    assert step(executor, 3) == Trap(FETCH_ACCESS, 0x5008, 0x5008)
    assert executor.hart.x[1] == 3
    assert fetch(executor, 0x5010, SUPERVISOR) is None


def test_code_translated_before_a_region_was_set_keeps_to_it(executor: Executor) -> None:
    executor.load(0x5000, assemble("addi x1, x1, 1") * 6)
    assert fetch(executor, 0x5000, SUPERVISOR) is None
    executor.hart.pc = u64(0x5000)
    assert step(executor, 5) is None
    configure(executor, (NAPOT | READ, napot(0x5008, 8)), (NAPOT | 7, ALL))
    executor.hart.pc, executor.hart.x[1] = u64(0x5000), u64(0)
    assert step(executor, 3) == Trap(FETCH_ACCESS, 0x5008, 0x5008)
    assert executor.hart.x[1] == 2


def test_instruction_partly_in_a_region_is_not_fetched(executor: Executor) -> None:
    configure(executor, (NA4 | READ, 0x5004 >> 2), (NAPOT | 7, ALL))
    executor.load(0x5002, assemble("addi x1, x1, 1"))
    executor.load(0x5002 - 2, assemble("c.addi x1, 1"))
    trap = fetch(executor, 0x5000, SUPERVISOR)
    assert trap is None
    trap = fetch(executor, 0x5002, SUPERVISOR)
    assert trap is not None
    assert (trap.cause, trap.epc) == (FETCH_ACCESS, 0x5002)


def test_guest_configures_through_csrs(executor: Executor) -> None:
    configure(executor)
    assert write_csr(executor, "pmpaddr0", napot(0x5000, 0x1000)) is None
    assert write_csr(executor, "pmpaddr1", -1) is None
    assert read_csr(executor, "pmpaddr1") == ALL
    assert access(executor, "lw x1, 0(x2)", 0x5000, SUPERVISOR) == Trap(LOAD_ACCESS, 0x5000, CODE)
    assert write_csr(executor, "pmpcfg0", (NAPOT | 7) << 8 | NAPOT | READ) is None
    assert access(executor, "lw x1, 0(x2)", 0x5000, SUPERVISOR) is None
    assert access(executor, "sw x1, 0(x2)", 0x5000, SUPERVISOR) == Trap(STORE_ACCESS, 0x5000, CODE)
    assert access(executor, "sw x1, 0(x2)", 0x6000, SUPERVISOR) is None
    assert write_csr(executor, "pmpcfg0", 0) is None
    assert access(executor, "sw x1, 0(x2)", 0x6000, SUPERVISOR) == Trap(STORE_ACCESS, 0x6000, CODE)


def test_reserved_configurations_are_not_taken(executor: Executor) -> None:
    configure(executor)
    assert write_csr(executor, "pmpcfg2", 0x7F7F_7F7F_7F7F_7F62) is None
    assert (
        read_csr(executor, "pmpcfg2") == 0x1F1F_1F1F_1F1F_1F00
    )  # write without read; bits 5 and 6
    for name in ("pmpcfg1", "pmpcfg3"):
        trap = access(executor, f"csrrs x1, {0x3A0 + int(name[-1])}, x0", 0)
        assert trap is not None and trap.cause == 2


def test_lock_holds_until_reset(executor: Executor) -> None:
    configure(executor)
    assert write_csr(executor, "pmpaddr2", 0x1000) is None
    assert write_csr(executor, "pmpaddr3", 0x2000) is None
    assert write_csr(executor, "pmpcfg0", (L | TOR | 7) << 24) is None
    for index, kept in ((1, False), (2, True), (3, True), (4, False)):
        assert write_csr(executor, f"pmpaddr{index}", 0x77) is None
        expected = {2: 0x1000, 3: 0x2000}.get(index, 0x77) if kept else 0x77
        assert read_csr(executor, f"pmpaddr{index}") == expected
    assert write_csr(executor, "pmpcfg0", 0) is None
    assert read_csr(executor, "pmpcfg0") == (L | TOR | 7) << 24


@dataclass(frozen=True)
class Entry:
    config: int
    address: int


def model(entries: list[Entry], gpa: int, size: int, need: int, *, machine: bool) -> bool:
    """Section 3.7.1, byte by byte."""
    previous = 0
    for entry in entries:
        mode = entry.config & 0x18
        low, high = 0, 0
        if mode == TOR:
            low, high = previous << 2, entry.address << 2
        elif mode == NA4:
            low, high = entry.address << 2, (entry.address << 2) + 4
        elif mode == NAPOT:
            ones = 0
            while entry.address >> ones & 1:
                ones += 1
            low = entry.address >> ones + 1 << ones + 3
            high = low + (8 << ones)
        previous = entry.address
        inside = [low <= gpa + offset < high for offset in range(size)]
        if any(inside):
            if not all(inside):
                return False
            return (machine and not entry.config & L) or entry.config & need == need
    return machine


def test_random_configurations_agree_with_the_rules(executor: Executor) -> None:
    source = random.Random(5)
    for _ in range(60):
        entries = []
        for _ in range(source.randrange(1, 6)):
            config = source.choice((OFF, TOR, NA4, NAPOT, NAPOT)) | source.choice(
                (0, 1, 3, 4, 5, 7)
            )
            entries.append(
                Entry(
                    config,
                    0x5000 + source.randrange(-64, 128, 4) >> 2 | source.choice((0, 0, 1, 3, 7)),
                )
            )
        configure(executor, *((entry.config, entry.address) for entry in entries))
        for _ in range(12):
            size = source.choice((1, 2, 4, 8))
            gva = 0x5000 + source.randrange(-64, 128, size)
            letter = {1: "b", 2: "h", 4: "w", 8: "d"}[size]
            load = source.random() < 0.5
            text = f"l{letter} x1, 0(x2)" if load else f"s{letter} x1, 0(x2)"
            for privilege in (SUPERVISOR, MACHINE):
                want = model(
                    entries, gva, size, READ if load else WRITE, machine=privilege == MACHINE
                )
                trap = access(executor, text, gva, privilege)
                cause = LOAD_ACCESS if load else STORE_ACCESS
                assert trap == (None if want else Trap(cause, gva, CODE)), (
                    entries,
                    hex(gva),
                    text,
                    privilege,
                )
