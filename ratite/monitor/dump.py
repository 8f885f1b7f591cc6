"""Dumps of guest memory: the one that goes on or was the last.

Source: QEMU's QMP reference, `dump-guest-memory`; states, their order and error texts are its.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated

from ratite.core.errors import ConfigError, HostError
from ratite.core.threads import NamedThread
from ratite.monitor.errors import QmpError
from ratite.monitor.event import event
from ratite.monitor.later import Later, Outcome
from ratite.qom import Doc

if TYPE_CHECKING:
    from ratite.cpu.core_file import Piece
    from ratite.monitor.vm import Vm

BUSY = "There is a dump in process, please wait."
_CHUNK = 1 << 20
_STATE = "save-vm"  # what the run state is meanwhile, if the guest has run
_PATIENCE_MS = 200  # for a reader; then it is looked whether the machine ends
_ACCESS = 0o600  # guest memory holds what others must not read


class DumpStatus(Enum):
    """How far a dump is."""

    NONE = "none"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True)
class DumpQueryResult:
    """How far a dump is, in bytes of guest memory."""

    status: DumpStatus
    completed: int
    total: int


@event("DUMP_COMPLETED")
@dataclass(frozen=True)
class DumpCompleted:
    """A dump of guest memory has ended."""

    result: DumpQueryResult
    error: Annotated[str | None, Doc("why it failed")] = None


@dataclass(frozen=True)
class Target:
    """Where a dump is written. `path` is empty for a descriptor of the client's."""

    fd: int
    path: str = ""

    def write(self, data: memoryview) -> int:
        """Write some of it, not waiting for long; returns how much that was. Raises `OSError`."""
        if stat.S_ISREG(os.fstat(self.fd).st_mode):
            return os.write(self.fd, data)
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return os.write(self.fd, data[: select.PIPE_BUF]) if poll.poll(_PATIENCE_MS) else 0

    def discard(self) -> None:
        """Close it, and leave no half file."""
        try:
            if self.path and stat.S_ISREG(os.fstat(self.fd).st_mode):
                os.unlink(self.path)
        except OSError:
            pass  # somebody else has moved it away
        with contextlib.suppress(OSError):  # what could not be written is told already
            os.close(self.fd)


def create(path: str) -> Target:
    """A new file. Raises `QmpError`."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(path, flags | os.O_NONBLOCK, _ACCESS)  # for a pipe that nobody reads
        os.set_blocking(fd, True)
        return Target(fd, path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise QmpError(f"Could not open '{path}': {reason}") from None


class Dump:
    """Writes guest memory to files, one at a time. The guest is paused meanwhile. Used on the main
    loop, with the machine lock held.
    """

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._status = DumpStatus.NONE
        self._completed = self._total = 0
        self._thread: threading.Thread | None = None
        self._cancelled = False
        self._resumes = False  # the guest, when it is over

    @property
    def active(self) -> bool:
        """Whether one goes on: the guest must stay as it is."""
        return self._status is DumpStatus.ACTIVE

    def progress(self) -> DumpQueryResult:
        """How far it is."""
        return DumpQueryResult(self._status, self._completed, self._total)

    def check(self) -> None:
        """Raise `QmpError` unless one can begin."""
        if self._vm.state_name == "inmigrate":
            raise QmpError("Dump not allowed during incoming migration.")
        if self.active:
            raise QmpError(BUSY)
        if not self._vm.migration.status.over:
            raise QmpError(
                "disallowing migration blocker (migration/snapshot in progress) for: "
                "Live migration disabled: dump-guest-memory in progress"
            )

    def start(self, target: Target, *, paging: bool, begin: int, end: int) -> Later:
        """Begin to dump the memory between two physical addresses; with `paging` by its virtual
        addresses. Answers how to wait for the end of it. Raises `QmpError`, there too.
        """
        self._status = DumpStatus.ACTIVE
        self._completed = self._total = 0
        self._resumes = self._vm.state_name == "running"
        try:
            if self._resumes:
                self._vm.pause_for(_STATE)
            self._vm.backends.block.drain()
            head, pieces = self._layout(paging, begin, end)
        except BaseException:
            self._status = DumpStatus.FAILED
            target.discard()
            self._let_go_on()
            raise
        self._total = sum(len(piece.content) for piece in pieces)

        written: Future[str] = Future()

        def work() -> None:
            error = self._write(target, head, pieces)
            self._vm.loop.post(lambda: self._finish(error))
            written.set_result(error)  # later: who waits is answered after the events

        self._thread = NamedThread("dump_thread", work)
        self._thread.start()
        return Later(written.result, _check)

    def close(self) -> None:
        """Give up what goes on."""
        self._cancelled = True
        if self._thread is not None:
            with self._vm.machine.lock.unlocked():
                self._thread.join()

    def _layout(
        self, paging: bool, begin: int, end: int
    ) -> tuple[Sequence[tuple[str, bytes]], Sequence[Piece]]:
        from ratite.cpu.core_file import guest_memory, header, mapped, physical
        from ratite.cpu.inspect import inspector

        machine = self._vm.machine
        pieces = guest_memory(machine.memory.flatview, begin, end)
        if not pieces:
            raise QmpError("dump: no guest memory to dump")
        try:
            cpus = [inspector(vcpu) for vcpu in machine.vcpus]
            segments = mapped(cpus, pieces) if paging else None
        except ConfigError as error:
            raise QmpError(error.text) from None
        if not cpus:
            raise QmpError("dump: the machine has no CPU")
        return header(cpus, pieces, segments or physical(pieces)), pieces

    # -- on a thread of its own

    def _write(
        self, target: Target, head: Sequence[tuple[str, bytes]], pieces: Sequence[Piece]
    ) -> str:
        """Write all of it; returns what is wrong, with the file gone then."""
        try:
            for name, part, is_memory in _parts(head, pieces):
                rest = memoryview(part)
                while rest:
                    if self._cancelled:
                        raise HostError("dump: cancelled")
                    try:
                        rest = rest[target.write(rest) :]
                    except OSError as error:
                        reason = error.strerror or str(error)
                        raise HostError(f"dump: failed to {name}: {reason}") from None
                self._completed += len(part) if is_memory else 0
        except HostError as error:
            target.discard()
            return error.text
        try:
            os.close(target.fd)
        except OSError as error:
            return f"dump: failed to save memory: {error.strerror or error}"
        return ""

    # -- on the main loop

    def _finish(self, error: str) -> None:
        """It is over: tell it, and let the guest go on."""
        self._thread = None
        self._status = DumpStatus.FAILED if error else DumpStatus.COMPLETED
        self._vm.hub.events.emit(DumpCompleted(self.progress(), error or None))
        if not self._cancelled:
            self._let_go_on()

    def _let_go_on(self) -> None:
        if self._resumes and self._vm.state_name == _STATE:
            self._vm.leave("running", run=True)


def _check(written: Outcome) -> None:
    if error := written():
        raise QmpError(error)


def _parts(
    head: Sequence[tuple[str, bytes]], pieces: Sequence[Piece]
) -> Iterator[tuple[str, bytes | memoryview, bool]]:
    """The file in order, as what is done to it in the words of errors, and whether it is memory."""
    for name, part in head:
        yield f"write {name}", part, False
    for piece in pieces:
        for at in range(0, len(piece.content), _CHUNK):
            yield "save memory", piece.content[at : at + _CHUNK], True
