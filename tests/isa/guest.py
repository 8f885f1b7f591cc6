"""Setting up a guest for tests of privilege: page tables, code and single accesses."""

from __future__ import annotations

from dataclasses import dataclass

from ratite.isa.riscv.state import MPP, MPP_SHIFT, MPRV
from ratite.native import u32, u64
from tests.isa.assembler import assemble, program
from tests.isa.harness import CODE, HANDLER, Executor

V, R, W, X, U, G, A, D = (1 << bit for bit in range(8))
N = 1 << 63
TABLES = 0x8_0000
USER, SUPERVISOR, MACHINE = 0, 1, 3
LEVELS = {"sv39": 3, "sv48": 4, "sv57": 5}
MODES = {"sv39": 8, "sv48": 9, "sv57": 10}


class Pages:
    """Page tables in the hart's RAM, from `tables` on."""

    def __init__(self, executor: Executor, mode: str = "sv39", tables: int = TABLES) -> None:
        self.executor = executor
        self.mode = mode
        self.root = tables
        self._next = tables + 0x1000
        executor.hart.satp = u64(self.satp())

    def satp(self, asid: int = 0) -> int:
        """What turns these tables on, as an address space."""
        return MODES[self.mode] << 60 | asid << 44 | self.root >> 12

    def entry(self, gva: int, level: int = 0) -> int:
        """Guest-physical address of the entry of `gva` at a level; makes the tables above it."""
        table = self.root
        for above in range(LEVELS[self.mode] - 1, level, -1):
            place = table + (gva >> 12 + 9 * above & 0x1FF) * 8
            found = self.executor.read(place, 8)
            if not found & V:
                found = self._next >> 12 << 10 | V
                self.write(place, found)
                self._next += 0x1000
            table = found >> 10 << 12
        return table + (gva >> 12 + 9 * level & 0x1FF) * 8

    def map(self, gva: int, gpa: int, flags: int, level: int = 0) -> int:
        """Enter a leaf; returns the address of its entry. `flags` are taken as they are."""
        place = self.entry(gva, level)
        self.write(place, gpa >> 12 << 10 | flags)
        return place

    def write(self, place: int, entry: int) -> None:
        """Store an entry, as a device would: without any flush."""
        self.executor.ram.write(place, entry.to_bytes(8, "little"))


@dataclass(frozen=True)
class Trap:
    """What a trap to machine mode left."""

    cause: int
    value: int
    epc: int


def step(executor: Executor, instructions: int = 1) -> Trap | None:
    """Execute; the trap taken, if the hart has ended at its handler."""
    executor.hart.mcause = u64(0)
    executor.run(instructions)
    hart = executor.hart
    if hart.pc != HANDLER:
        return None
    return Trap(int(hart.mcause), int(hart.mtval), int(hart.mepc))


def access(executor: Executor, text: str, gva: int, privilege: int = MACHINE) -> Trap | None:
    """One data access by machine-mode code through MPRV: `text` has the address in x2 and the data
    in x1.
    """
    hart = executor.hart
    executor.load(CODE, assemble(text))
    hart.pc = u64(CODE)
    hart.privilege = u32(MACHINE)
    hart.x[2] = u64(gva)
    status = int(hart.mstatus) & ~(MPP | MPRV)
    if privilege != MACHINE:
        status |= MPRV | privilege << MPP_SHIFT
    hart.mstatus = u64(status)
    hart.set_mode()
    return step(executor)


def fetch(executor: Executor, pc: int, privilege: int) -> Trap | None:
    """Execute one instruction at a guest-virtual address."""
    executor.hart.pc = u64(pc)
    executor.hart.privilege = u32(privilege)
    executor.hart.set_mode()
    return step(executor)


def run_program(
    executor: Executor, text: str, instructions: int, privilege: int = MACHINE, at: int = CODE
) -> Trap | None:
    """Execute so many instructions of a program."""
    executor.load(at, program(text))
    executor.hart.pc = u64(at)
    executor.hart.privilege = u32(privilege)
    executor.hart.set_mode()
    return step(executor, instructions)
