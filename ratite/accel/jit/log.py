"""What `-d` shows of the JIT. Translation, traps, TLB fills and block entries happen in native
code, which makes notes of them (`ratite.isa.journal`); they are written down here, by a thread or
by the vCPU itself (`Exit.LOG`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ratite.accel.jit.code_log import BLOCKS, CodeLog, Target
from ratite.core.log import Log, LogCategory
from ratite.core.threads import NamedThread
from ratite.cpu.machine import NOTE_ENTRIES, STOP_BEFORE, UNCHAINED
from ratite.isa.journal import ENTERED, JOURNAL_SIZE, MADE, TRAP, Note, Noted, read_notes
from ratite.isa.state import CpuState
from ratite.native import u64
from ratite.native.host import HostMemory, allocate

PERIOD_S = 0.005
NOTED = BLOCKS | LogCategory.INT | LogCategory.MMU | LogCategory.EXEC


class LoggedCpu(Protocol):
    """A vCPU of the JIT."""

    state: CpuState

    def answer_log(self, answer: Callable[[], None] | None) -> None:
        """What to do whenever `run` leaves with `Exit.LOG`; None: that does not happen."""


class JitLog:
    """Writes the log of one machine's translated code."""

    def __init__(
        self, log: Log, trap_event: str, cpus: Sequence[LoggedCpu], target: Target, code: CodeLog
    ) -> None:
        self.code = code
        self._log = log
        self._trap_event = trap_event
        self._cpus = cpus
        self._target = target
        self._journals: dict[int, HostMemory] = {}
        self._before: dict[int, Noted] = {}  # the last note, by vCPU
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = NamedThread("ratite log", self._loop)

    @property
    def _notes_wanted(self) -> bool:
        return self._log.enabled(NOTED) or self._log.traces(self._trap_event)

    def follow(self) -> int:
        """Do what is asked for from now on. Returns what is to be done about blocks
        (`Shared.logging`). No vCPU executes.
        """
        wanted = self._log.enabled
        self.write()
        self.code.forget()
        for index, cpu in enumerate(self._cpus):
            self._follow(index, cpu)
        if self._notes_wanted and not self._thread.is_alive():
            self._thread.start()
        return (
            (NOTE_ENTRIES if wanted(LogCategory.EXEC) else 0)
            | (STOP_BEFORE if wanted(LogCategory.CPU) else 0)
            | (UNCHAINED if wanted(LogCategory.NOCHAIN) else 0)
        )

    def _follow(self, index: int, cpu: LoggedCpu) -> None:
        state = cpu.state
        notes = self._notes_wanted
        if notes and index not in self._journals:
            self._journals[index] = allocate(JOURNAL_SIZE * Note.SIZE)
        state.journal = u64(self._journals[index].address if notes else 0)
        answers = notes or self._log.enabled(LogCategory.CPU)
        cpu.answer_log((lambda: self._answer(cpu)) if answers else None)

    def stop(self) -> None:
        """Write what is left, and end. No vCPU executes any more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.write()

    def _loop(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self.write()

    def write(self) -> None:
        """Write what has been noted."""
        with self._lock:
            for index, cpu in enumerate(self._cpus):
                plain = cpu.state.plain()
                journal = self._journals.get(index)
                first, end = plain.written, plain.noted
                if journal is None or first == end:
                    continue
                lines: list[str] = []
                count = (end - first) & 0xFFFF_FFFF
                if count > JOURNAL_SIZE:
                    lines.append(f"cpu {index}: {count - JOURNAL_SIZE} notes came too fast")
                    first, count = end - JOURNAL_SIZE, JOURNAL_SIZE
                lines += self._lines(index, read_notes(journal.address, first, count))
                plain.written = end
                if lines:
                    self._log.write(NOTED, "\n".join(lines))

    def _lines(self, index: int, notes: Iterable[Noted]) -> list[str]:
        """What the log says of the notes of a vCPU."""
        lines: list[str] = []
        entered = self._log.enabled(LogCategory.EXEC)
        head = f"Trace {index}: "
        for note in notes:
            if note.kind != ENTERED:
                self._put(index, note, lines)
            elif entered and (text := self.code.entry(note)):
                lines.append(head + text)
        return lines

    def _put(self, index: int, note: Noted, lines: list[str]) -> None:
        """Append what the log says of any other note."""
        if self._log.enabled(LogCategory.MMU):
            lines += self._target.mmu_lines(index, self._before.get(index), note)
        if note.kind == MADE:
            lines += self.code.block_lines(note)
        if note.kind == TRAP and self._log.enabled(LogCategory.INT):
            lines.append(self._target.trap_line(index, note))
        if note.kind == TRAP and (trace := self._log.trace):
            self._target.trace_trap(trace, index, note)
        self._before[index] = note

    def _answer(self, cpu: LoggedCpu) -> None:
        """A vCPU has left run() with `Exit.LOG`; on its thread."""
        self.write()
        state = cpu.state
        if state.announced and self._log.covers(int(state.pc)):
            floating = self._log.enabled(LogCategory.FPU)
            text = self._target.registers(state, floating=floating)
            self._log.write(LogCategory.CPU, text)
