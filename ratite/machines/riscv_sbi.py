"""The built-in SBI: the calls that an operating system makes to machine-mode firmware, answered by
the emulator, so that a kernel boots without firmware.

Source: RISC-V Supervisor Binary Interface 2.0: base, TIME, IPI, RFENCE, HSM, SRST, DBCN, and the
legacy calls. Not modelled: SUSP, CPPC, PMU, NACL, STA (their probes say so).

Runs: per environment call from S mode, on the calling hart's thread, with the machine lock held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from ratite.core.clock import Clock
from ratite.core.errors import ConfigError
from ratite.cpu.exits import Exit
from ratite.cpu.riscv import RiscvVcpu
from ratite.devices.power import PowerAction
from ratite.isa.riscv.state import SIE, SSI, STCE, STI, SUPERVISOR
from ratite.isa.riscv.trap import time_ticks
from ratite.memory import AddressSpace, Gpa, MemTxResult
from ratite.native import u32, u64

SUCCESS, FAILED, NOT_SUPPORTED, INVALID_PARAM, INVALID_ADDRESS = 0, -1, -2, -3, -5
ALREADY_AVAILABLE = -6
BASE, TIME, IPI, RFENCE = 0x10, 0x5449_4D45, 0x73_5049, 0x5246_4E43
HSM, SRST, DBCN = 0x48_534D, 0x5352_5354, 0x4442_434E
SPEC_VERSION = 2 << 24
IMPLEMENTATION_ID = 0x7261_7469  # none is registered; "rati" cannot be taken for another's
STARTED, STOPPED, SUSPENDED, RESUME_PENDING = 0, 1, 4, 6  # a hart starts and stops at once
RETENTIVE, NON_RETENTIVE = 0, 0x8000_0000
CONSOLE_CHUNK = 4096

Answer = tuple[int, int] | None
"""Error and value, or None if the call does not return to the caller."""


class Sbi:
    """Firmware of one machine."""

    state_version: ClassVar[int] = 1

    def __init__(
        self,
        harts: Sequence[RiscvVcpu],
        clock: Clock,
        request_power: Callable[[PowerAction, int], None],
        memory: AddressSpace,
        console_write: Callable[[bytes], int],
        console_read: Callable[[int], bytes],
    ) -> None:
        self.harts = harts
        self.memory = memory
        self._request_power = request_power
        self._console_write = console_write
        self._fdt = 0
        self._deadlines = [1 << 64] * len(harts)
        self._suspended_at = [-1] * len(harts)  # instructions retired when it was suspended
        self._timers = [clock.timer(self._expiry(hart)) for hart in harts]
        self._console_read = console_read
        self._extensions: dict[int, Callable[[RiscvVcpu, int, list[int]], Answer]] = {
            BASE: self._base,
            TIME: self._time,
            IPI: self._ipi,
            RFENCE: self._rfence,
            HSM: self._hsm,
            SRST: self._srst,
            DBCN: self._dbcn,
        }
        for hart in harts:
            hart.on_sbi = self.call

    def reset(self, entry: int, fdt: int) -> None:
        """Hand over to the kernel on the first hart; the others wait to be started."""
        self._fdt = fdt
        for timer in self._timers:
            timer.delete()
        for number, hart in enumerate(self.harts):
            self._suspended_at[number] = -1
            self._deadlines[number] = 1 << 64
            hart.state.mip_soft = u64(0)
            hart.state.ssip_sent = u32(0)
            if number == 0:
                hart.enter_supervisor(entry, number, fdt)
            else:
                self._stop(hart)

    # -- saved state

    def save(self) -> dict[str, Any]:
        """The timers and who is suspended; what else there is, the harts have."""
        return {"deadlines": list(self._deadlines), "suspended_at": list(self._suspended_at)}

    def check(self, saved: Mapping[str, Any]) -> None:
        """Raise `ConfigError` if `load` could not take this."""
        for name in ("deadlines", "suspended_at"):
            values = saved.get(name)
            if not isinstance(values, list) or len(values) != len(self.harts):
                raise ConfigError(f"'{name}' has another length")
            if not all(type(value) is int and -1 <= value <= 1 << 64 for value in values):
                raise ConfigError(f"'{name}' is out of range")

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take over what `save` answered; the harts are loaded already."""
        self._deadlines = list(saved["deadlines"])
        self._suspended_at = list(saved["suspended_at"])
        for hart, timer in zip(self.harts, self._timers, strict=True):
            timer.delete()
            if self._deadlines[hart.index] < 1 << 64:
                self._arm(hart)

    def call(self, hart: RiscvVcpu) -> None:
        """Answer the call that the hart has just made."""
        x = hart.state.x
        arguments = [int(x[number]) for number in range(10, 16)]
        function, extension = int(x[16]), int(x[17])
        if extension < 0x10:
            result = self._legacy(hart, extension, arguments)
            if result is not None:
                x[10] = u64(result)
            return
        handler = self._extensions.get(extension)
        answer = handler(hart, function, arguments) if handler else (NOT_SUPPORTED, 0)
        if answer is not None:
            x[10], x[11] = u64(answer[0]), u64(answer[1])

    # -- extensions

    def _base(self, hart: RiscvVcpu, function: int, arguments: list[int]) -> Answer:
        match function:
            case 0:
                return SUCCESS, SPEC_VERSION
            case 1:
                return SUCCESS, IMPLEMENTATION_ID
            case 2:
                return SUCCESS, 1
            case 3:
                return SUCCESS, int(arguments[0] in self._extensions or arguments[0] <= 8)
            case 4 | 5 | 6:
                return SUCCESS, 0
        return NOT_SUPPORTED, 0

    def _time(self, hart: RiscvVcpu, function: int, arguments: list[int]) -> Answer:
        if function != 0:
            return NOT_SUPPORTED, 0
        self._set_timer(hart, arguments[0])
        return SUCCESS, 0

    def _set_timer(self, hart: RiscvVcpu, ticks: int) -> None:
        state = hart.state
        if int(state.menvcfg) & STCE:
            state.stimecmp = u64(ticks)
            hart.set_timer(ticks)
            hart.kick()
            return
        hart.set_irq(STI, level=False)
        self._deadlines[hart.index] = ticks
        self._arm(hart)

    def _arm(self, hart: RiscvVcpu) -> None:
        """Without Sstc: raise STIP when the time has come, else have a timer look again then."""
        ticks = self._deadlines[hart.index]
        now = int(time_ticks(hart.state))
        timer = self._timers[hart.index]
        if ticks <= now:
            hart.set_irq(STI, level=True)
        elif ticks < 1 << 63:
            timer.mod((ticks - int(hart.state.time_offset) & u64.MASK) * 100)
        else:
            timer.delete()

    def _expiry(self, hart: RiscvVcpu) -> Callable[[], None]:
        return lambda: self._arm(hart)

    def _ipi(self, hart: RiscvVcpu, function: int, arguments: list[int]) -> Answer:
        if function != 0:
            return NOT_SUPPORTED, 0
        targets = self._targets(arguments[0], arguments[1])
        if targets is None:
            return INVALID_PARAM, 0
        for target in targets:
            target.set_irq(SSI, level=True)
        return SUCCESS, 0

    def _rfence(self, hart: RiscvVcpu, function: int, arguments: list[int]) -> Answer:
        if function > 2:
            return NOT_SUPPORTED, 0  # the hypervisor's fences
        targets = self._targets(arguments[0], arguments[1])
        if targets is None:
            return INVALID_PARAM, 0
        self._fence(targets, code=function == 0)
        return SUCCESS, 0

    def _fence(self, targets: Iterable[RiscvVcpu], *, code: bool) -> None:
        """Flush other harts' translations, and return when none is used any more. Translated code
        follows stores by itself.
        """
        if code:
            return
        wanted = list(targets)
        for target in wanted:
            target.executor.flush()
        for target in wanted:
            # In generated code it sees the request soon; outside, before it enters again.
            while target.state.flush_request and target.state.exit_reason == Exit.NONE:
                time.sleep(0)

    def _hsm(self, hart: RiscvVcpu, function: int, arguments: list[int]) -> Answer:
        match function:
            case 0:
                return self._start(arguments[0], arguments[1], arguments[2])
            case 1:
                self._stop(hart)
                return None
            case 2:
                if arguments[0] >= len(self.harts):
                    return INVALID_PARAM, 0
                return SUCCESS, self._status(arguments[0])
            case 3:
                return self._suspend(hart, arguments)
        return NOT_SUPPORTED, 0

    def _status(self, number: int) -> int:
        """The state of a hart. One that was suspended is so until it executes: with `wfi` it may
        halt again, but has retired instructions then.
        """
        hart = self.harts[number]
        if not hart.started:
            return STOPPED
        if not hart.state.halted or int(hart.state.retired()) != self._suspended_at[number]:
            return STARTED
        return RESUME_PENDING if hart.has_work() else SUSPENDED

    def _start(self, number: int, address: int, opaque: int) -> Answer:
        if number >= len(self.harts):
            return INVALID_PARAM, 0
        target = self.harts[number]
        if target.started:
            return ALREADY_AVAILABLE, 0
        if not self._executable(address):
            return INVALID_ADDRESS, 0
        target.enter_supervisor(address, number, opaque)
        target.kick()
        return SUCCESS, 0

    def _executable(self, address: int) -> bool:
        """Whether a hart may start or resume at a guest-physical address."""
        return not address & 1 and self.memory.map(Gpa(address), 2) is not None

    @staticmethod
    def _stop(hart: RiscvVcpu) -> None:
        hart.started = False
        hart.state.halted = u32(1)
        hart.state.exit_reason = u32(Exit.INTERRUPTED)

    def _suspend(self, hart: RiscvVcpu, arguments: list[int]) -> Answer:
        kind, address, opaque = arguments[:3]
        if kind not in (RETENTIVE, NON_RETENTIVE):
            return INVALID_PARAM, 0  # reserved, or a platform's own
        if kind == NON_RETENTIVE and not self._executable(address):
            return INVALID_ADDRESS, 0
        state = hart.state
        if not hart.has_work():
            state.halted = u32(1)
            self._suspended_at[hart.index] = int(state.retired())
        if kind == RETENTIVE:
            return SUCCESS, 0
        state.pc = u64(address)
        state.satp = u64(0)
        state.mstatus = u64(int(state.mstatus) & ~SIE)
        state.x[10], state.x[11] = u64(hart.index), u64(opaque)
        state.set_mode()
        hart.executor.flush()
        return None

    def _srst(self, hart: RiscvVcpu, function: int, arguments: list[int]) -> Answer:
        if function != 0:
            return NOT_SUPPORTED, 0
        kind, reason = arguments[0], arguments[1]
        if kind > 2 or reason > 1:
            return INVALID_PARAM, 0
        if kind == 0:
            self._request_power(PowerAction.SHUTDOWN, int(reason != 0))
        else:
            self._request_power(PowerAction.RESET, 0)
        self._stop(hart)
        return None

    def _dbcn(self, hart: RiscvVcpu, function: int, arguments: list[int]) -> Answer:
        match function:
            case 0:
                buffer = self._buffer(arguments)
                if buffer is None:
                    return INVALID_PARAM, 0
                return SUCCESS, self._console_write(bytes(buffer[:CONSOLE_CHUNK]))
            case 1:
                buffer = self._buffer(arguments)
                if buffer is None or buffer.readonly:
                    return INVALID_PARAM, 0
                taken = self._console_read(min(len(buffer), CONSOLE_CHUNK))
                self.memory.write_bytes(Gpa(arguments[1]), taken)
                return SUCCESS, len(taken)
            case 2:
                self._console_write(bytes([arguments[0] & 0xFF]))
                return SUCCESS, 0
        return NOT_SUPPORTED, 0

    def _buffer(self, arguments: list[int]) -> memoryview | None:
        """The memory that the debug console is to read or write: `arguments` are its size and the
        halves of its address. None unless all of it is memory.
        """
        size, low, high = arguments[:3]
        return self.memory.map(Gpa(low), size) if high == 0 else None

    def _targets(self, mask: int, base: int) -> list[RiscvVcpu] | None:
        """The harts of a mask; None if it names one that does not exist."""
        if base == u64.MASK:
            return [hart for hart in self.harts if hart.started]
        numbers = [base + bit for bit in range(64) if mask >> bit & 1]
        if any(number >= len(self.harts) for number in numbers):
            return None
        return [self.harts[number] for number in numbers]

    # -- legacy

    def _legacy(self, hart: RiscvVcpu, extension: int, arguments: list[int]) -> int | None:
        """The value for a0, or None if the call does not return."""
        match extension:
            case 0:
                self._set_timer(hart, arguments[0])
            case 1:
                self._console_write(bytes([arguments[0] & 0xFF]))
            case 2:
                taken = self._console_read(1)
                return taken[0] if taken else FAILED
            case 3:
                hart.state.mip_soft = u64(int(hart.state.mip_soft) & ~(1 << SSI))
                hart.state.ssip_sent = u32(0)
            case 4 | 5 | 6 | 7:
                targets = self._legacy_targets(hart, arguments[0])
                if extension == 4:
                    for target in targets:
                        target.set_irq(SSI, level=True)
                else:
                    self._fence(targets, code=extension == 5)
            case 8:
                self._request_power(PowerAction.SHUTDOWN, 0)
                self._stop(hart)
                return None
            case _:
                return NOT_SUPPORTED
        return SUCCESS

    def _legacy_targets(self, hart: RiscvVcpu, pointer: int) -> list[RiscvVcpu]:
        """A mask in the caller's memory; a null pointer means every hart."""
        if pointer == 0:
            return list(self.harts)
        gpa = self._guest_physical(hart, pointer)
        data, result = (
            self.memory.read_bytes(Gpa(gpa), 8) if gpa is not None else (b"", MemTxResult.ERROR)
        )
        if result is not MemTxResult.OK:
            return []
        return self._targets(int.from_bytes(data, "little"), 0) or []

    @staticmethod
    def _guest_physical(hart: RiscvVcpu, gva: int) -> int | None:
        return hart.debug_translate(gva) if hart.state.privilege <= SUPERVISOR else gva
