"""RISC-V Advanced Core Local Interruptor: machine timer, and software interrupts for M and S mode.

Source: RISC-V ACLINT specification 1.0-rc4. An MSWI at offset 0 and an MTIMER at 0x4000 with its
time register at 0x7ff8 make the register map of a SiFive CLINT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ratite.core.clock import Clock
from ratite.core.errors import ConfigError
from ratite.core.trace import TraceEvent
from ratite.devices.device import Device
from ratite.devices.fdt import FdtNode
from ratite.devices.intc.hart import HartIrq, HartPins
from ratite.devices.register import State
from ratite.memory import AccessSizes
from ratite.qom import UInt32

_MASK32 = 0xFFFF_FFFF
_MASK64 = 0xFFFF_FFFF_FFFF_FFFF
_SECOND_NS = 1_000_000_000
_FOREVER_NS = 1 << 63
_MAX_HARTS = 4095


@TraceEvent
def riscv_aclint_mtimer_read(addr: int, value: int) -> str:
    """The guest has read mtime or a mtimecmp."""
    return f"addr 0x{addr:04x} value 0x{value:x}"


@TraceEvent
def riscv_aclint_mtimer_write(addr: int, value: int) -> str:
    """The guest writes mtime or a mtimecmp."""
    return f"addr 0x{addr:04x} value 0x{value:x}"


@TraceEvent
def riscv_aclint_swi_read(addr: int, value: int) -> str:
    """The guest has read a software interrupt's register."""
    return f"addr 0x{addr:04x} value 0x{value:08x}"


@TraceEvent
def riscv_aclint_swi_write(addr: int, value: int) -> str:
    """The guest writes a software interrupt's register."""
    return f"addr 0x{addr:04x} value 0x{value:08x}"


def _nobody(offset: int) -> None:
    """Take a new offset that nobody asked for."""


def _check_harts(type_name: str, pins: Sequence[HartPins], num_harts: int) -> None:
    if not 1 <= num_harts <= _MAX_HARTS:
        raise ConfigError(f"{type_name}: num-harts must be 1 to {_MAX_HARTS}, not {num_harts}")
    if len(pins) < num_harts:
        raise ConfigError(f"{type_name}: num-harts is {num_harts}, the machine has {len(pins)}")


class AclintMtimer(Device):
    """One counter of the clock's time, and for each hart a register to compare it with."""

    type_name = "riscv.aclint.mtimer"
    mmio_valid = AccessSizes(4, 8)
    mmio_impl = AccessSizes(4, 8)
    read_event, write_event = riscv_aclint_mtimer_read, riscv_aclint_mtimer_write

    mtimecmp = State[list[int]](factory=lambda device: [0] * device.num_harts)
    offset = State(0)  # ticks from the clock's count to mtime, modulo 2**64

    def __init__(
        self,
        clock: Clock,
        harts: Sequence[HartPins],
        *,
        hartid_base: UInt32 = 0,
        num_harts: UInt32 = 1,
        timecmp_base: UInt32 = 0,
        time_base: UInt32 = 0x7FF8,
        aperture_size: UInt32 = 0x8000,
        timebase_freq: UInt32 = 10_000_000,
    ) -> None:
        self.clock = clock
        self.harts = harts
        self.hartid_base = hartid_base
        self.num_harts = num_harts
        self.timecmp_base = timecmp_base
        self.time_base = time_base
        self.aperture_size = aperture_size
        self.timebase_freq = timebase_freq
        self.mmio_size = aperture_size
        self.on_offset: Callable[[int], None] = _nobody
        """Called with `offset` when that has changed, for harts that count `time` by themselves."""
        self._told_offset = 0
        self._levels: list[bool | None] = [None] * num_harts
        self._timers = [clock.timer(self._expiry(hart)) for hart in range(num_harts)]
        super().__init__()

    @property
    def mtime(self) -> int:
        """The counter, in ticks of `timebase_freq`, modulo 2**64."""
        ticks = self.clock.now_ns() * self.timebase_freq // _SECOND_NS
        return (ticks + self.offset) & _MASK64

    @property
    def outputs(self) -> int:
        """One for each hart."""
        return self.num_harts

    def realize(self) -> None:
        """Check the properties against the machine."""
        _check_harts(self.type_name, self.harts, self.num_harts)
        if not self.timebase_freq:
            raise ConfigError(f"{self.type_name}: timebase-freq must not be 0")
        if self.timecmp_base + 8 * self.num_harts > self.aperture_size:
            raise ConfigError(f"{self.type_name}: aperture-size is too small for the harts")
        super().realize()

    def read(self, offset: int, size: int = 4) -> int:
        """Read mtime or a mtimecmp, whole or one half.

        Runs: per MMIO read.
        """
        base = offset & ~7
        if base == self.time_base & ~7 and self.time_base <= offset:
            value = self.mtime
        else:
            hart = (base - self.timecmp_base) >> 3
            if not 0 <= hart < self.num_harts:
                self.guest_error(f"read at {offset:#x}, where no register is")
                return 0
            value = self.mtimecmp[hart]
        return value >> 8 * (offset & 7) & ((1 << 8 * size) - 1)

    def write(self, offset: int, value: int, size: int = 4) -> None:
        """Write mtime or a mtimecmp, whole or one half.

        Runs: per MMIO write.
        """
        base = offset & ~7
        shift = 8 * (offset & 7)
        lanes = ((1 << 8 * size) - 1) << shift & _MASK64
        value = value << shift & lanes
        if base == self.time_base & ~7 and self.time_base <= offset:
            now = self.mtime
            self.offset = (self.offset + ((now & ~lanes) | value) - now) & _MASK64
            self.update_wires()
            return
        hart = (base - self.timecmp_base) >> 3
        if not 0 <= hart < self.num_harts:
            self.guest_error(f"write of {value:#x} at {offset:#x}, where no register is")
            return
        self.mtimecmp[hart] = (self.mtimecmp[hart] & ~lanes) | value
        self._follow(hart)

    def update_wires(self) -> None:
        """Compare anew for every hart, and tell of a new offset."""
        if self.offset != self._told_offset:
            self._told_offset = self.offset
            self.on_offset(self.offset)
        for hart in range(self.num_harts):
            self._follow(hart)

    def reset_enter(self) -> None:
        """The counter starts again from 0; every mtimecmp is 0, so every MTIP is high until
        software sets it.
        """
        super().reset_enter()
        ticks = self.clock.now_ns() * self.timebase_freq // _SECOND_NS
        self.offset = -ticks & _MASK64
        self._levels = [
            None
        ] * self.num_harts  # harts forget their inputs at reset: drive them anew

    def loaded(self) -> None:
        """Drive the inputs of the harts anew."""
        self._levels = [None] * self.num_harts

    def fdt(self, node: FdtNode) -> None:
        """Describe the device."""
        node.set("compatible", "riscv,aclint-mtimer")

    def _expiry(self, hart: int) -> Callable[[], None]:
        return lambda: self._follow(hart)

    def _follow(self, hart: int) -> None:
        """Set a hart's MTIP, and the timer for when it will rise."""
        left = self.mtimecmp[hart] - self.mtime
        level = left <= 0
        if level is not self._levels[hart]:
            self._levels[hart] = level
            self.harts[hart].set_irq(HartIrq.MTIP, level)
        timer = self._timers[hart]
        if level:
            timer.delete()
            return
        # The first nanosecond at which the clock's count of ticks has grown by `left`.
        now_ns = self.clock.now_ns()
        ticks = now_ns * self.timebase_freq // _SECOND_NS + left
        deadline_ns = -(-ticks * _SECOND_NS // self.timebase_freq)
        if deadline_ns < _FOREVER_NS:
            timer.mod(deadline_ns)
        else:
            timer.delete()


class AclintSwi(Device):
    """One register for each hart, to interrupt it by software; in M mode (MSWI), or in S mode
    (SSWI) with `sswi`.
    """

    type_name = "riscv.aclint.swi"
    mmio_size = 0x4000
    mmio_valid = AccessSizes(4, 4)
    mmio_impl = AccessSizes(4, 4)
    read_event, write_event = riscv_aclint_swi_read, riscv_aclint_swi_write

    msip = State[list[bool]](factory=lambda device: [False] * device.num_harts)

    def __init__(
        self,
        harts: Sequence[HartPins],
        *,
        hartid_base: UInt32 = 0,
        num_harts: UInt32 = 1,
        sswi: UInt32 = 0,
    ) -> None:
        self.harts = harts
        self.hartid_base = hartid_base
        self.num_harts = num_harts
        self.sswi = sswi
        super().__init__()

    @property
    def outputs(self) -> int:
        """One for each hart."""
        return self.num_harts

    def realize(self) -> None:
        """Check the properties against the machine."""
        _check_harts(self.type_name, self.harts, self.num_harts)
        super().realize()

    def read(self, offset: int, size: int = 4) -> int:
        """Read MSIP; SETSSIP reads as 0."""
        hart = offset >> 2
        if offset & 3 or size != 4 or not 0 <= hart < self.num_harts:
            self.guest_error(f"read of {size} bytes at {offset:#x}, where no register is")
            return 0
        return int(self.msip[hart])

    def write(self, offset: int, value: int, size: int = 4) -> None:
        """Set or clear MSIP; SETSSIP can only set, and the hart itself clears its SSIP."""
        hart = offset >> 2
        if offset & 3 or size != 4 or not 0 <= hart < self.num_harts:
            self.guest_error(f"write of {value:#x} at {offset:#x}, where no register is")
        elif not self.sswi:
            self.msip[hart] = bool(value & 1)
            self.harts[hart].set_irq(HartIrq.MSIP, bool(value & 1))
        elif value & 1:
            self.harts[hart].set_irq(HartIrq.SSIP, True)

    def update_wires(self) -> None:
        """Drive every MSIP to what the state says."""
        if not self.sswi:
            for hart in range(self.num_harts):
                self.harts[hart].set_irq(HartIrq.MSIP, self.msip[hart])

    def fdt(self, node: FdtNode) -> None:
        """Describe the device."""
        node.set("compatible", "riscv,aclint-sswi" if self.sswi else "riscv,aclint-mswi")
        node.set("#interrupt-cells", 0)
        node.set("interrupt-controller", None)
