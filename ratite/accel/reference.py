"""The reference executor: instruction semantics as CPython runs them. Slow, and the definition that
generated code is held against; breakpoints and coverage work in it.

It keeps the same contract as the JIT (`ratite.accel.jit.engine`) on the same CPU state. It has no
softmmu TLB: every access is translated.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

from ratite.cpu import hooks
from ratite.cpu.debug import Watchpoint
from ratite.cpu.exits import Exit
from ratite.cpu.hooks import Target
from ratite.isa.decoder import Decoder, Leaf
from ratite.isa.spec import Insn
from ratite.isa.state import (
    EXECUTE,
    KICK_EXIT,
    KICK_INTERRUPT,
    LIMIT_STEP,
    RANGE_READONLY,
    READ,
    STEP_OVER,
    WRITE,
    CpuState,
    GuestException,
    PhysRange,
    find_range,
)
from ratite.memory import AddressSpace, RamList
from ratite.native import i64, u32, u64

PAGE = 0x1000


class _LeaveRun(Exception):
    """A device access that the caller must make, or a watched one."""


class ReferenceBus:
    """Guest memory as CPython semantics reach it."""

    def __init__(self, cpu: ReferenceCpu, ram: RamList) -> None:
        self._cpu = cpu
        self._ram = ram
        self._translate: Callable[..., tuple[u64, u32]] = cpu.hooks[hooks.translate]
        self._access_fault: Callable[..., None] = cpu.hooks[hooks.access_fault]

    def _place(self, gva: int, size: int, access: int) -> tuple[int, int, PhysRange | None]:
        """Guest-physical address, host address (0 for a device), and the range."""
        state = self._cpu.state
        index = state.fetch_index if access == EXECUTE else state.mmu_index
        gpa, _ = self._translate(state, u64(gva), u64(size), u32(access), index)
        found = find_range(state, gpa)
        if found == 0:
            return int(gpa), 0, None
        place = PhysRange.at(found)
        page = int(gpa) & -PAGE
        if place.host == 0 or place.start > page or place.end < page + PAGE - 1:
            return int(gpa), 0, None
        return int(gpa), int(place.host) + int(gpa) - int(place.start), place

    def load(self, gva: int, size: int) -> int:
        """Load; a load across pages is made byte by byte."""
        if gva % PAGE + size > PAGE:
            return sum(
                self.load(gva + offset & u64.MASK, 1) << 8 * offset for offset in range(size)
            )
        gpa, host, _ = self._place(gva, size, READ)
        self._cpu.watch(gva, size, READ)
        if host:
            return int.from_bytes(ctypes.string_at(host, size), "little")
        return self._device(gva, gpa, size, None)

    def store(self, gva: int, value: int, size: int) -> None:
        """Store; a store across pages writes nothing unless both pages can be written."""
        if gva % PAGE + size > PAGE:
            self._place(gva, 1, WRITE)
            self._place((gva | PAGE - 1) + 1 & u64.MASK, 1, WRITE)
            for offset in range(size):
                self.store(gva + offset & u64.MASK, value >> 8 * offset & 0xFF, 1)
            return
        gpa, host, place = self._place(gva, size, WRITE)
        self._cpu.watch(gva, size, WRITE)
        if host and place is not None and not place.flags & RANGE_READONLY:
            ctypes.memmove(host, value.to_bytes(size, "little"), size)
            self._ram.mark_written(_ram_address(place, gpa), size)
        else:
            self._device(gva, gpa, size, value)

    def pointer(self, gva: int, size: int, access: int) -> int:
        """Host address for an atomic access; only RAM takes one."""
        gpa, host, place = self._place(gva, size, access)
        self._cpu.watch(gva, size, access)
        if place is None or (access & WRITE and place.flags & RANGE_READONLY):
            self._access_fault(self._cpu.state, u64(gva), u32(access))
        assert place is not None
        if access & WRITE:
            self._ram.mark_written(_ram_address(place, gpa), size)
        return host

    def physical(self, gpa: int) -> int:
        """Host address of RAM."""
        found = find_range(self._cpu.state, u64(gpa))
        if found == 0:
            return 0
        place = PhysRange.at(found)
        return int(place.host) + gpa - int(place.start) if place.host else 0

    def written(self, gpa: int, size: int) -> None:
        """RAM was written by its host address."""
        found = find_range(self._cpu.state, u64(gpa))
        self._ram.mark_written(_ram_address(PhysRange.at(found), gpa), size)

    def fetch(self, gva: int) -> int:
        """A 16-bit parcel of code."""
        _, host, _ = self._place(gva, 2, EXECUTE)
        if not host:
            self._access_fault(self._cpu.state, u64(gva), u32(EXECUTE))
        return int.from_bytes(ctypes.string_at(host, 2), "little")

    def _device(self, gva: int, gpa: int, size: int, value: int | None) -> int:
        state = self._cpu.state
        serial = state.retired()
        if state.mmio_serial != serial:
            state.mmio_serial = serial
            state.mmio_count = u32(0)
            state.mmio_next = u32(0)
        if state.mmio_next < state.mmio_count:
            index = int(state.mmio_next)
            state.mmio_next += 1
            if state.mmio_failed >> index & 1:
                self._access_fault(state, u64(gva), u32(READ if value is None else WRITE))
            return int(state.mmio_log[index])
        state.mmio_address = u64(gpa)
        state.mmio_size = u32(size)
        state.mmio_value = u64(value or 0)
        state.mmio_write = u32(value is not None)
        state.exit_reason = u32(Exit.MMIO)
        raise _LeaveRun


def _ram_address(place: PhysRange, gpa: int) -> Any:
    return int(place.ram) + gpa - int(place.start)


class ReferenceCpu:
    """One vCPU on the reference executor."""

    def __init__(
        self,
        target: Target,
        state: CpuState,
        ram: RamList,
        space: AddressSpace,
        *,
        extension_bit: Mapping[str, int],
        enabled: Callable[..., u64],
        illegal: Callable[..., None],
    ) -> None:
        self.state = state
        self.hooks = target.hooks
        self._decoder = Decoder(target.instructions)
        self._extension_bit = extension_bit
        self._enabled = enabled
        self._illegal = illegal
        self.breakpoints: frozenset[int] = frozenset()
        self.watchpoints: tuple[Watchpoint, ...] = ()
        self._decoded: dict[tuple[int, int], tuple[Leaf, dict[str, int]] | None] = {}
        self.bus = ReferenceBus(self, ram)
        state.bus = self.bus

    def run(self) -> int:
        """Execute until something must be done outside; see `JitCpu.run`."""
        state = self.state
        state.exit_reason = u32(Exit.NONE)
        state.flush_request = u32(0)
        state.page_flush_request = u32(0)
        resuming = state.mmio_next < state.mmio_count and state.mmio_serial == state.retired()
        if not resuming and not state.stepping:
            self.hooks[hooks.take_interrupt](state)
        while state.exit_reason == Exit.NONE:
            if state.kick and not resuming:
                kick = int(state.kick)
                state.kick = u32(0)
                if kick & KICK_EXIT:
                    return Exit.INTERRUPTED
                if not state.stepping:
                    self.hooks[hooks.take_interrupt](state)
            if state.budget <= 0:
                return Exit.BUDGET
            breaks = int(state.pc) in self.breakpoints and not resuming
            if breaks and not state.block_limit & LIMIT_STEP:
                return Exit.DEBUG
            resuming = False
            self.step()
        return int(state.exit_reason)

    def step(self) -> None:
        """Execute one instruction, or take its exception."""
        state = self.state
        code = b""
        try:
            encoding, length = self._fetch(int(state.pc))
            code = encoding.to_bytes(4, "little")
            state.next_pc = state.pc + length
            self._execute(encoding, length)
        except GuestException as exception:
            state.exception_cause = u64(exception.cause)
            state.exception_value = u64(exception.value)
            if code:
                buffer = ctypes.create_string_buffer(code)
                self.hooks[hooks.illegal_value](state, u64(ctypes.addressof(buffer)))
            state.mmio_count = u32(0)
            self.hooks[hooks.take_exception](state)
            if state.stepping:
                state.exit_reason = u32(Exit.DEBUG)
        except _LeaveRun:
            return
        else:
            state.pc = state.next_pc
            state.budget -= 1

    def watch(self, gva: int, size: int, access: int) -> None:
        """Leave before an access that touches a watchpoint, unless the vCPU is stepped over it."""
        for number, point in enumerate(self.watchpoints):
            if point.touched(gva, size, access):
                state = self.state
                if state.stepping == STEP_OVER:
                    return
                state.watch_hit = u32(number + 1)
                state.mmio_next = u32(0)
                state.exit_reason = u32(Exit.DEBUG)
                raise _LeaveRun

    def _fetch(self, pc: int) -> tuple[int, int]:
        low = self.bus.fetch(pc)
        if low & 3 != 3:
            return low, 2
        return low | self.bus.fetch(pc + 2 & u64.MASK) << 16, 4

    def _execute(self, encoding: int, length: int) -> None:
        enabled = int(self._enabled(self.state))
        key = (encoding, enabled)
        found = self._decoded.get(key)
        if found is None:
            leaf = self._decoder.find(
                encoding, length * 8, lambda name: enabled >> self._extension_bit[name] & 1 == 1
            )
            if leaf is None:
                self._illegal(self.state)
                return
            found = self._decoded[key] = (leaf, self._decoder.operands(leaf, encoding))
        leaf, operands = found
        call_insn(leaf.insn, self.state, operands)

    def kick(self, *, leave: bool) -> None:
        """From any thread: have the guest look at its interrupts, or leave `run` soon."""
        place = self.state.address + CpuState.kick.offset
        if leave:
            ctypes.c_uint8.from_address(place + 1).value = KICK_EXIT >> 8
        else:
            ctypes.c_uint8.from_address(place).value = KICK_INTERRUPT

    def flush(self) -> None:
        """Nothing is cached."""

    def set_budget(self, instructions: int) -> None:
        """Instructions that `run` may execute before it returns `Exit.BUDGET`."""
        state = self.state
        state.instret_base = u64(int(state.instret_base) + instructions - int(state.budget))
        state.budget = i64(instructions)


def call_insn(insn: Insn, state: CpuState, operands: Mapping[str, int]) -> None:
    """Run an instruction's semantics in CPython."""
    typed = {operand.name: operand.kind.kind(operands[operand.name]) for operand in insn.operands}
    insn.function(state, **typed, **insn.constants)
