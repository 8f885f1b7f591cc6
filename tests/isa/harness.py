"""A bare hart with RAM on each executor: the same code from the same state, and the complete state
after it.

Memory map: 1 MiB of RAM at 0, a 64 KiB ROM at `ROM`, a device at `DEVICE`; everything else answers
with a bus error. At `HANDLER`, where mtvec points after a reset, lies a jump to itself.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Mapping
from typing import Protocol

import pytest

from ratite.accel.jit.compiler import FULL, QUICK
from ratite.accel.jit.engine import JitMachine, JitOptions
from ratite.accel.jit.targets.riscv import TARGET
from ratite.accel.reference import ReferenceCpu
from ratite.core.log import Log, LogCategory
from ratite.cpu.exits import Exit
from ratite.cpu.physmap import PhysMapPublisher
from ratite.cpu.vcpu import serve_access
from ratite.isa.riscv import Hart, target
from ratite.isa.riscv.fpu import fs_state
from ratite.isa.riscv.pmp import ADDRESS_MASK, MODE_SHIFT, NAPOT, pmp_update
from ratite.isa.riscv.state import (
    ADUE,
    EXTENSION_BIT,
    EXTENSIONS,
    FS,
    MACHINE,
    PBMTE,
    STCE,
)
from ratite.isa.state import EXECUTE, READ, WRITE, CpuState
from ratite.memory import AddressSpace, MemoryRegion, RamList
from ratite.native import Array, Field, i64, u8, u32, u64

EXECUTORS = ("reference", "tier0", "tier1", "tier1-full")
FAST = ("reference", "tier0")  # tier 1 compiles a region for every block that is met
PARAMETERS = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in EXECUTORS
]
"""The executors as parameters of a test."""

RAM_SIZE, PAGE_SIZE = 1 << 20, 0x1000
HANDLER, CODE = 0x100, 0x1000
DEVICE, DEVICE_SIZE = 0x1000_0000, 0x1000
ROM, ROM_SIZE = 0x2000_0000, 0x1_0000
JUMP_TO_SELF = (0x6F).to_bytes(4, "little")

Snapshot = dict[str, int]

_GENERIC = frozenset(("pc", "halted", "reservation_valid", "reservation_value"))
_DERIVED = frozenset(("host_rm", "fs_dirty", "mstatus"))
STATE = tuple(
    name
    for name in Hart.MEMBERS
    if name in _GENERIC or (name not in CpuState.MEMBERS and name not in _DERIVED)
)
"""Members of the hart's state that a guest could tell; the rest is the executors' business."""


class Cpu(Protocol):
    """What an accelerator offers for one vCPU."""

    def run(self) -> int:
        """Enter the guest until it exits."""

    def kick(self, *, leave: bool) -> None:
        """Interrupt `run`."""

    def flush(self) -> None:
        """Drop cached translations."""

    def set_budget(self, instructions: int) -> None:
        """Bound the next `run`."""


class EchoDevice:
    """Notes each access; a read answers with a number made of where and how wide it is."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        """The offset in every byte, plus the byte's index."""
        value = int.from_bytes(bytes((offset + index) & 0xFF for index in range(size)), "little")
        self.log.append(("read", offset, size, value))
        return value

    def write(self, offset: int, value: int, size: int) -> None:
        """Nothing but the note."""
        self.log.append(("write", offset, size, value))


class Executor:
    """A hart, its memory, and what runs it."""

    def __init__(self, name: str, attach: Callable[[Hart, RamList, AddressSpace], Cpu]) -> None:
        self.name = name
        self.device = EchoDevice()
        self.ram_list = RamList()
        system = MemoryRegion.container("system", 1 << 64)
        self.ram = self.ram_list.alloc("ram", RAM_SIZE)
        self.rom = self.ram_list.alloc("rom", ROM_SIZE)
        system.add_subregion(0, MemoryRegion.ram("ram", self.ram))
        system.add_subregion(ROM, MemoryRegion.rom("rom", self.rom))
        system.add_subregion(DEVICE, MemoryRegion.io("echo", DEVICE_SIZE, self.device))
        self.space = AddressSpace(system, "memory")
        self.hart = Hart.allocate()
        self.cpu = attach(self.hart, self.ram_list, self.space)
        self.machine = getattr(self.cpu, "machine", None)  # of the JIT
        self._power_on()
        self._at_reset = ctypes.string_at(self.hart.address, Hart.SIZE)

    def _power_on(self) -> None:
        hart = self.hart
        hart.privilege = u32(MACHINE)
        hart.extensions = u64((1 << len(EXTENSIONS)) - 1)
        hart.misa = u64(2 << 62 | sum(1 << ord(letter) - ord("a") for letter in "imafdcsu"))
        hart.menvcfg = u64(ADUE | PBMTE | STCE)
        hart.mstatus = u64(FS)
        hart.mtvec = u64(HANDLER)
        hart.stimecmp = ~u64(0)
        hart.pc = u64(CODE)
        hart.time_stopped = i64(1000)
        hart.icount_shift = i64(-1)
        hart.pmpaddr[0] = u64(ADDRESS_MASK)
        hart.pmpcfg[0] = u8(NAPOT << MODE_SHIFT | READ | WRITE | EXECUTE)
        pmp_update(hart)
        hart.set_mode()

    def reset(self) -> None:
        """Registers as at power-on with FP and every extension on, in machine mode, PMP open to
        all; RAM of zeros but the handler.
        """
        ctypes.memmove(self.hart.address, self._at_reset, Hart.SIZE)
        ctypes.memset(self.ram.host, 0, RAM_SIZE)
        self.ram_list.mark_written(self.ram.offset, RAM_SIZE)
        self.ram.write(HANDLER, JUMP_TO_SELF)
        self.device.log.clear()
        self.cpu.flush()

    def load(self, address: int, data: bytes) -> None:
        """Put bytes into RAM (or the ROM) at a guest-physical address."""
        if address >= ROM:
            self.rom.write(address - ROM, data)
        else:
            self.ram.write(address, data)

    def read(self, address: int, size: int) -> int:
        """A little-endian number from RAM."""
        return int.from_bytes(self.ram.read(address, size), "little")

    def run(self, instructions: int) -> int:
        """Retire exactly so many instructions, answering device accesses; less only for an exit
        that is not one of those. Returns the last exit reason, `Exit.BUDGET` in the usual case.
        """
        hart, cpu = self.hart, self.cpu
        cpu.set_budget(instructions)
        reason = self._run()
        if (
            reason == Exit.BUDGET and hart.budget > 0
        ):  # the next block has more instructions than are left
            self._limit(1)
            reason = self._run()
            self._limit(0)
        return reason

    def _limit(self, instructions: int) -> None:
        self.hart.block_limit = u32(instructions)
        self.hart.set_mode()

    def _run(self) -> int:
        while True:
            reason = self.cpu.run()
            if reason == Exit.MMIO:
                serve_access(self.hart.plain(), self.space)
            elif reason == Exit.CODE_FULL and isinstance(self.machine, JitMachine):
                self.machine.flush_code()
            elif reason == Exit.INTERRUPTED:
                continue  # the guest set its timer, which only a machine would look at
            else:
                return reason

    # -- whole state

    def snapshot(self) -> Snapshot:
        """Everything that a guest could tell, by name; device accesses and RAM are apart."""
        hart = self.hart
        state: Snapshot = {}
        for name in STATE:
            member = Hart.MEMBERS[name]
            if isinstance(member, Field):
                state[name] = int(getattr(hart, name))
            elif isinstance(member, Array):
                values = getattr(hart, name)
                length = (
                    32 if name == "x" else len(values)
                )  # not the slot that swallows writes to x0
                state.update((f"{name}{index}", int(values[index])) for index in range(length))
        state["fflags"] = int(hart.fp.flags) & 31
        state["mstatus"] = int(fs_state(hart))
        state["retired"] = int(hart.retired())
        if hart.reservation_valid:
            state["reservation"] = int(hart.reservation_address) - self.ram.host
        else:
            del state["reservation_value"]
        return state

    def set(self, values: Mapping[str, int]) -> None:
        """Set state by the names of `snapshot`."""
        hart = self.hart
        for name, value in values.items():
            member = Hart.MEMBERS.get(name)
            if isinstance(member, Field):
                setattr(hart, name, member.kind(value))
            elif name == "fflags":
                hart.fp.flags = u32(value)
            else:
                array = name.rstrip("0123456789")
                view = getattr(hart, array)
                view[int(name[len(array) :])] = value & ((1 << 64) - 1)
        hart.set_mode()


class RegionExecutor(Executor):
    """Runs everything twice: once to have it translated, and from the same state again as compiled
    regions.
    """

    level = QUICK

    def run(self, instructions: int) -> int:
        assert isinstance(self.machine, JitMachine)
        self.machine.flush_code()
        state, memory = ctypes.string_at(self.hart.address, Hart.SIZE), self.ram.read(0, RAM_SIZE)
        seen = list(self.device.log)
        super().run(instructions)
        changed = self.ram.read(0, RAM_SIZE)
        for page in range(0, RAM_SIZE, PAGE_SIZE):
            if memory[page : page + PAGE_SIZE] != changed[page : page + PAGE_SIZE]:
                self.ram.write(page, memory[page : page + PAGE_SIZE])
        ctypes.memmove(self.hart.address, state, Hart.SIZE)
        self.device.log[:] = seen
        self.cpu.flush()
        self.machine.compile_all(level=self.level)
        return super().run(instructions)


class FullExecutor(RegionExecutor):
    """Likewise, with regions compiled at the full level."""

    level = FULL


TIER_0 = JitOptions(tier=0, buffer_size=32 << 20, background=False)
"""They live as long as the tests: no threads of theirs are to be about."""


def _attach_tier0(hart: Hart, ram: RamList, space: AddressSpace) -> Cpu:
    return JitMachine("riscv", ram, space, TIER_0).attach(hart)


OPTIONS = JitOptions(tier=1, buffer_size=32 << 20, cache=False, exact_budget=True, background=False)
"""Regions are made when a test wants them."""


def _attach_tier1(hart: Hart, ram: RamList, space: AddressSpace) -> Cpu:
    return JitMachine("riscv", ram, space, OPTIONS).attach(hart)


def _attach_reference(hart: Hart, ram: RamList, space: AddressSpace) -> Cpu:
    cpu = ReferenceCpu(
        TARGET,
        hart,
        ram,
        space,
        extension_bit=EXTENSION_BIT,
        enabled=target.enabled_extensions,
        illegal=target.illegal_instruction,
    )
    publisher = PhysMapPublisher(space, lambda address: setattr(hart, "phys_map", u64(address)))
    hart.phys_map = u64(publisher.address)
    return cpu


EVERYTHING = LogCategory.EXEC | LogCategory.CPU | LogCategory.INT | LogCategory.MMU


def _attach_logged(hart: Hart, ram: RamList, space: AddressSpace) -> Cpu:
    """Tier 0 while a log is kept of all that it does."""
    log = Log(EVERYTHING | LogCategory.IN_ASM, open(os.devnull, "w"))
    return JitMachine("riscv", ram, space, TIER_0, log).attach(hart)


_KINDS: dict[str, tuple[type[Executor], Callable[[Hart, RamList, AddressSpace], Cpu]]] = {
    "reference": (Executor, _attach_reference),
    "tier0": (Executor, _attach_tier0),
    "logged": (Executor, _attach_logged),
    "tier1": (RegionExecutor, _attach_tier1),
    "tier1-full": (FullExecutor, _attach_tier1),
}


def new_executor(name: str) -> Executor:
    """A machine of its own on the executor of that name."""
    kind, attach = _KINDS[name]
    return kind(name, attach)


@functools.cache
def executor(name: str) -> Executor:
    """The executor of that name; one per process, reset by whoever uses it."""
    return new_executor(name)


def difference(before: Snapshot, after: Snapshot) -> dict[str, tuple[int | None, int | None]]:
    """What two snapshots disagree about."""
    return {
        name: (before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }
