"""Translated code as the log shows it: what was translated into what, and what is entered."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ratite.accel.jit.op_log import op_lines
from ratite.accel.jit.region import CodeReader, Decoded, Region
from ratite.core.log import Log, LogCategory
from ratite.core.trace import Tracer
from ratite.cpu.block import MAX_INSTRUCTIONS, MAX_LENGTH, RECORD_SIZE, block_size
from ratite.cpu.inspect import Disassembled
from ratite.cpu.machine import BLOCK_HEADER, NO_PAGE, Block, Shared
from ratite.isa.journal import Noted
from ratite.isa.spec import Insn
from ratite.isa.state import CpuState
from ratite.memory import RamAddr, RamList
from ratite.native import ir

OPS = LogCategory.OP | LogCategory.OP_OPT
BLOCKS = LogCategory.IN_ASM | LogCategory.OUT_ASM | OPS
NOT_CHAINED = 0x200
"""In what QEMU's log calls the flags of a block's compilation."""
MOST_KNOWN = 1 << 16
MOST_CODE = MAX_INSTRUCTIONS * MAX_LENGTH


class Target(Protocol):
    """An instruction set as the log shows it: a module of `ratite.accel.jit.targets`."""

    @property
    def state(self) -> type[CpuState]:
        """Its vCPUs' state."""

    def disassembly(self, code: bytes, pc: int) -> Iterator[tuple[int, Disassembled]]:
        """The instructions of a block, each with its address."""

    def mode_line(self, mode: int) -> str:
        """What of a block's mode a reader wants to know."""

    def trap_line(self, hart: int, note: Noted) -> str:
        """A trap that was taken."""

    def trace_trap(self, trace: Tracer, hart: int, note: Noted) -> None:
        """Tell of it as a trace event."""

    def mmu_lines(self, hart: int, before: Noted | None, note: Noted) -> Iterator[str]:
        """What a note says of the MMU, given the one before it."""

    def registers(self, hart: Any, *, floating: bool) -> str:
        """The registers of a vCPU."""

    def lifted(self, insn: Insn) -> ir.Function:
        """An instruction's handler as it is before the optimiser."""


@dataclass(frozen=True, slots=True)
class LoggedBlock:
    """A translation block as it is shown."""

    address: int
    pc: int
    mode: int
    count: int
    code: bytes


class CodeLog:
    """Says what the log has of blocks and regions."""

    def __init__(
        self,
        log: Log,
        shared: Shared,
        ram: RamList,
        reader: CodeReader,
        target: Target,
        handler_names: Callable[[], dict[int, str]],
    ) -> None:
        self._log = log
        self._shared = shared
        self._ram = ram
        self._reader = reader
        self._target = target
        self._handler_names = handler_names
        self._names: dict[int, str] = {}
        self._entries: dict[tuple[int, int, int], str] = {}

    def forget(self) -> None:
        """Blocks are to be shown otherwise from now on."""
        self._entries.clear()

    # -- entries

    def entry(self, note: Noted) -> str:
        """A block that is entered, as the log names it; "" if it is not to be shown. Runs: per
        note.
        """
        key = note[1:]
        text = self._entries.get(key)
        if text is None:
            if len(self._entries) >= MOST_KNOWN:
                self._entries.clear()
            text = self._entries[key] = self._entry(note)
        return text

    def _entry(self, note: Noted) -> str:
        if not self._log.covers(note.pc):
            return ""
        flags = NOT_CHAINED if self._log.enabled(LogCategory.NOCHAIN) else 0
        place = f"{0:016x}/{note.pc:016x}/{note.second:08x}/{flags:08x}"
        return f"{note.first:#x} [{place}] {self._log.symbols.at(note.pc)}"

    # -- blocks

    def block_lines(self, note: Noted) -> Iterator[str]:
        """A block that was translated: guest code, IR, records."""
        if not self._log.enabled(BLOCKS) or not self._log.covers(note.pc):
            return
        block = self._read(note)
        if block is None:
            return
        code = list(self._target.disassembly(block.code, block.pc))
        if self._log.enabled(LogCategory.IN_ASM):
            yield "----------------"
            yield f"IN: {self._log.symbols.at(block.pc)}"
            yield self._target.mode_line(block.mode)
            yield from (found.line(gva) for gva, found in code)
            yield ""
        if self._log.enabled(OPS):
            yield from self._op_lines("", list(self._decoded(block, code)))
        if self._log.enabled(LogCategory.OUT_ASM):
            yield from self._record_lines(block, [gva for gva, _ in code])

    def _read(self, note: Noted) -> LoggedBlock | None:
        """The block, with its code as it is now; None if it is not there any more."""
        shared = self._shared.plain()
        if not shared.buffer <= note.first < shared.next:
            return None
        header = Block(note.first).plain()
        if header.pc != note.pc or header.size > MOST_CODE:
            return None
        size = header.size if header.count else 0  # of no instructions: a breakpoint
        in_page = min(size, 0x1000 - (note.pc & 0xFFF))
        code = self._ram_bytes(header.ram_pc, in_page)
        if header.second_ram != NO_PAGE:
            code += self._ram_bytes(header.second_ram, size - in_page)
        return LoggedBlock(note.first, note.pc, note.second, header.count, code)

    def _ram_bytes(self, ram_addr: int, size: int) -> bytes:
        block = self._ram.find(RamAddr(ram_addr))
        return b"" if block is None else block.read(ram_addr - block.offset, size)

    def _decoded(
        self, block: LoggedBlock, code: Iterable[tuple[int, Disassembled]]
    ) -> Iterator[Decoded]:
        """Its instructions; not those that are none."""
        for gva, found in code:
            row = self._reader.decode(block.code, gva - block.pc, block.mode)
            if row is not None:
                yield Decoded(row[0].insn, row[1], gva, found.size)

    def _op_lines(self, head: str, instructions: list[Decoded]) -> Iterator[str]:
        target = self._target
        if self._log.enabled(LogCategory.OP):
            yield f"OP:{head}"
            yield from op_lines(instructions, target.lifted, target.state, optimized=False)
        if self._log.enabled(LogCategory.OP_OPT):
            yield f"OP after optimization:{head}"
            yield from op_lines(instructions, target.lifted, target.state, optimized=True)

    def _record_lines(self, block: LoggedBlock, gvas: list[int]) -> Iterator[str]:
        """The records of threaded code that a block became."""
        self._names = self._names or self._handler_names()
        size = block_size(block.count)
        first = BLOCK_HEADER // RECORD_SIZE
        yield f"OUT: [size={size}]"
        for number in (0, *range(first, size // RECORD_SIZE)):
            if first <= number < first + len(gvas):
                yield f"  -- guest addr {gvas[number - first]:#018x}"
            place = block.address + number * RECORD_SIZE
            record = ctypes.string_at(place, RECORD_SIZE)
            handler = int.from_bytes(record[:8], "little")
            operands = f"{record[8:].hex()}  " if number else ""
            name = self._names.get(handler, "a region")
            yield f"{place:#x}:  {handler:016x}  {operands}{name}"
        yield ""

    # -- regions

    def write_region(
        self, region: Region, level: int, llvm: str, assembly: Callable[[], str]
    ) -> None:
        """Write of a region that is compiled: its IR, LLVM's, host code. On the compiler's
        thread.
        """
        if not self._log.covers(region.entry.pc):
            return
        head = f" region {region.entry.pc:#x}, {region.instructions} instructions, level {level}"
        if self._log.enabled(OPS):
            members = [insn for block in region.blocks for insn in block.instructions]
            self._log.write(OPS, "\n".join([*self._op_lines(head, members), ""]))
        if self._log.enabled(LogCategory.LLVM):
            self._log.write(LogCategory.LLVM, f"LLVM:{head}\n{llvm}")
        if self._log.enabled(LogCategory.OUT_ASM):
            self._log.write(LogCategory.OUT_ASM, f"OUT:{head}\n{assembly()}")
