"""What `-d` shows of the JIT: guest code as it is translated, LLVM and host code of regions, and
traps. Translation and traps happen in native code, which leaves traces that a thread prints.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ratite.accel.jit.region import RegionBlock
from ratite.core.log import Log, LogCategory
from ratite.core.threads import NamedThread
from ratite.cpu.block import block_size
from ratite.cpu.machine import Block, Shared
from ratite.isa.state import TRACE_RING, CpuState
from ratite.native import u32

PERIOD_S = 0.005


class JitLog:
    """Prints the traces of one machine."""

    def __init__(
        self,
        log: Log,
        shared: Shared,
        states: Callable[[], list[CpuState]],
        read: Callable[[int], RegionBlock | None],
        disassemble: Callable[[RegionBlock], list[str]],
        describe_trap: Callable[[int], str],
    ) -> None:
        self.log = log
        self._shared = shared
        self._states = states
        self._read = read
        self._disassemble = disassemble
        self._describe_trap = describe_trap
        self._printed = int(shared.buffer)
        self._flushes = int(shared.flushes)
        self._traps: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = NamedThread("ratite log", self._loop)

    @property
    def wanted(self) -> bool:
        """Whether anything is to be printed from traces."""
        return self.log.enabled(LogCategory.IN_ASM | LogCategory.INT)

    def start(self) -> None:
        """Begin to print."""
        if self.log.enabled(LogCategory.INT):
            for state in self._states():
                state.trace = u32(1)
        if self.wanted and not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """Print what is left, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
            self._print()

    def _loop(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self._print()

    def _print(self) -> None:
        if self.log.enabled(LogCategory.IN_ASM):
            self._print_blocks()
        if self.log.enabled(LogCategory.INT):
            for state in self._states():
                self._print_traps(state)

    def _print_blocks(self) -> None:
        shared = self._shared
        if int(shared.flushes) != self._flushes:
            self._flushes = int(shared.flushes)
            self._printed = int(shared.buffer)
        end = int(shared.next)
        while self._printed < end:
            address = self._printed
            self._printed += block_size(int(Block(address).count))
            block = self._read(address)
            if block is not None and self.log.covers(block.pc):
                text = "\n".join(["----------------", "IN:", *self._disassemble(block), ""])
                self.log.write(LogCategory.IN_ASM, text)

    def _print_traps(self, state: CpuState) -> None:
        index = int(state.index)
        seen, head = self._traps.get(index, 0), int(state.trace_head)
        if (head - seen) & 0xFFFF_FFFF > TRACE_RING:
            lost = ((head - seen) & 0xFFFF_FFFF) - TRACE_RING
            self.log.write(LogCategory.INT, f"cpu {index}: {lost} traps were not logged in time")
            seen = (head - TRACE_RING) & 0xFFFF_FFFF
        while seen != head:
            place = seen % TRACE_RING
            cause = int(state.trace_cause[place])
            self.log.write(
                LogCategory.INT,
                f"cpu {index}: {self._describe_trap(cause)} epc {int(state.trace_pc[place]):#x} "
                f"tval {int(state.trace_value[place]):#x}",
            )
            seen = (seen + 1) & 0xFFFF_FFFF
        self._traps[index] = seen
