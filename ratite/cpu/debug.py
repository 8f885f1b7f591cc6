"""Breakpoints and watchpoints: where a debugger wants the guest to stop.

A breakpoint is a guest-virtual address. The translator ends a block before it and gives the
instruction at it a block whose only record leaves run(); blocks translated earlier are retired. A
watchpoint is a range of guest-virtual addresses. Its pages have WATCH in their TLB tags, so that
only accesses to them take the slow path, which compares. Guest memory is never changed, and a
machine without either pays one comparison per translated instruction and per TLB miss.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from ratite.cpu.exits import PENDING_EXIT, Exit
from ratite.cpu.machine import Block, Shared, retire
from ratite.isa.state import STEP_OVER, CpuState
from ratite.native import Field, Struct, host_load, native, u32, u64


class WatchRange(Struct):
    """A watchpoint as native code reads it."""

    first = Field(u64)
    last = Field(u64)
    access = Field(u32, doc="READ and WRITE bits")


@dataclass(frozen=True, slots=True)
class Watchpoint:
    """Guest-virtual addresses from `first` to `last`, both included, and the kinds of access (READ
    and WRITE bits) that count.
    """

    first: int
    last: int
    access: int

    def touched(self, gva: int, size: int, access: int) -> bool:
        """Whether an access concerns it."""
        return gva <= self.last and gva + size > self.first and access & self.access != 0


@native
def is_breakpoint(shared: Shared, pc: u64) -> bool:
    """Whether a breakpoint is set at `pc`. Runs: per translated instruction."""
    low = u64(0)
    high = shared.breakpoint_count
    while low < high:
        middle = (low + high) >> 1
        here = host_load(u64, shared.breakpoints + middle * 8)
        if here == pc:
            return True
        if here < pc:
            low = middle + 1
        else:
            high = middle
    return False


@native
def watched_accesses(shared: Shared, page: u64) -> u32:
    """Which kinds of access to a page may touch a watchpoint. Runs: per TLB miss."""
    found = u32(0)
    number = u64(0)
    while number < shared.watchpoint_count:
        watch = WatchRange.at(shared.watchpoints + number * WatchRange.SIZE)
        if watch.first <= (page | 0xFFF) and watch.last >= page:
            found |= watch.access
        number += 1
    return found


@native
def watched(cpu: CpuState, gva: u64, size: u64, access: u32) -> bool:
    """Note an access to a watched page. True if it touches a watchpoint and must not be made now:
    leaving run() is pending, unless the vCPU is stepped over it.
    """
    shared = Shared.at(cpu.machine)
    number = u64(0)
    while number < shared.watchpoint_count:
        watch = WatchRange.at(shared.watchpoints + number * WatchRange.SIZE)
        if watch.access & access != 0 and gva <= watch.last and gva + (size - 1) >= watch.first:
            if cpu.stepping == STEP_OVER:
                return False
            cpu.watch_hit = u32(number) + 1
            cpu.mmio_next = u32(0)
            cpu.exit_reason = u32(Exit.DEBUG)
            cpu.exception_pending = u32(PENDING_EXIT)
            return True
        number += 1
    return False


@native
def retire_at(shared: Shared, pc: u64) -> None:
    """Retire every block that holds the instruction at `pc`. Any thread."""
    shared.acquire()
    bucket = u64(0)
    while bucket <= shared.hash_mask:
        here = host_load(u64, shared.hash_table + bucket * 8)
        while here != 0:
            block = Block.at(here)
            here = block.hash_next
            if block.pc <= pc and pc - block.pc < u64(block.size):
                retire(shared, block)
        bucket += 1
    shared.release()


class DebugTable:
    """The points of one machine, in host memory that its `Shared` leads to. Changed only while no
    vCPU is inside run().
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._breakpoints: list[int] = []
        self._watchpoints: list[Watchpoint] = []
        self._kept: list[object] = []

    def set_breakpoints(self, pcs: Sequence[int]) -> list[int]:
        """Replace the breakpoints; returns the addresses whose blocks must be retired."""
        wanted = sorted(set(pcs))
        changed = sorted(set(wanted) ^ set(self._breakpoints))
        if changed:
            self._breakpoints = wanted
            self._publish()
        return changed

    def set_watchpoints(self, watchpoints: Sequence[Watchpoint]) -> bool:
        """Replace the watchpoints; returns whether the TLBs must be flushed."""
        wanted = list(watchpoints)
        changed = wanted != self._watchpoints
        if changed:
            self._watchpoints = wanted
            self._publish()
        return changed

    def _publish(self) -> None:
        addresses = (ctypes.c_uint64 * max(1, len(self._breakpoints)))(*self._breakpoints)
        ranges = ctypes.create_string_buffer(max(1, len(self._watchpoints)) * WatchRange.SIZE)
        for number, point in enumerate(self._watchpoints):
            watch = WatchRange(ctypes.addressof(ranges) + number * WatchRange.SIZE)
            watch.first, watch.last = u64(point.first), u64(point.last)
            watch.access = u32(point.access)
        self._kept = [addresses, ranges]
        shared = self._shared
        shared.breakpoints = u64(ctypes.addressof(addresses))
        shared.breakpoint_count = u64(len(self._breakpoints))
        shared.watchpoints = u64(ctypes.addressof(ranges))
        shared.watchpoint_count = u64(len(self._watchpoints))
