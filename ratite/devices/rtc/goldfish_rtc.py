"""Goldfish real-time clock: nanoseconds since 1970, one alarm.

Source: Android Emulator, GOLDFISH-VIRTUAL-HARDWARE.TXT, chapter IX.
"""

from __future__ import annotations

from ratite.core.clock import Clock
from ratite.core.trace import TraceEvent
from ratite.devices.device import Device
from ratite.devices.fdt import FdtNode
from ratite.devices.register import Register, State
from ratite.devices.wire import Wire
from ratite.memory import AccessSizes

_MASK32 = 0xFFFF_FFFF
_MASK64 = 0xFFFF_FFFF_FFFF_FFFF


@TraceEvent
def goldfish_rtc_read(addr: int, value: int) -> str:
    """The guest has read a register of the clock."""
    return f"addr 0x{addr:02x} value 0x{value:08x}"


@TraceEvent
def goldfish_rtc_write(addr: int, value: int) -> str:
    """The guest writes a register of the clock."""
    return f"addr 0x{addr:02x} value 0x{value:08x}"


class GoldfishRtc(Device):
    """Tells the time of the clock it is given, set right by the guest, and raises `irq` at the
    alarm.
    """

    type_name = "goldfish_rtc"
    mmio_size = 0x24
    mmio_valid = AccessSizes(4, 4)
    mmio_impl = AccessSizes(4, 4)
    read_event, write_event = goldfish_rtc_read, goldfish_rtc_write

    TIME_LOW = Register(0x00)  # a read latches the high half
    TIME_HIGH = Register(0x04)  # a write takes effect with the next write of the low half
    ALARM_LOW = Register(0x08)  # a write arms the alarm
    ALARM_HIGH = Register(0x0C)
    IRQ_ENABLED = Register(0x10, mask=1)
    CLEAR_ALARM = Register(0x14, "wo")
    ALARM_STATUS = Register(0x18, "ro")  # 1 while the alarm is armed
    CLEAR_INTERRUPT = Register(0x1C, "wo")

    offset_ns = State(0, kept=True)  # from the machine's clock to this one
    time_high = State(0)  # latched by reading TIME_LOW
    set_high = State(0)  # what was written to TIME_HIGH
    alarm_ns = State(0)
    armed = State(False)
    pending = State(False)

    def __init__(self, clock: Clock, *, big_endian: bool = False) -> None:
        self.clock = clock
        self.big_endian = big_endian
        self.mmio_endianness = "big" if big_endian else "little"
        self._timer = clock.timer(self._expired)
        super().__init__()

    @property
    def time_ns(self) -> int:
        """The time as the guest sees it."""
        return (self.clock.now_ns() + self.offset_ns) & _MASK64

    @TIME_LOW.on_read
    def _time_low(self) -> int:
        now_ns = self.time_ns
        self.time_high = now_ns >> 32
        return now_ns & _MASK32

    @TIME_HIGH.on_read
    def _time_high(self) -> int:
        return self.time_high

    @TIME_HIGH.on_write
    def _set_time_high(self, value: int) -> None:
        self.set_high = value

    @TIME_LOW.on_write
    def _set_time(self, value: int) -> None:
        self.offset_ns = (self.set_high << 32 | value) - self.clock.now_ns()
        self._arm()

    @ALARM_LOW.on_read
    def _alarm_low(self) -> int:
        return self.alarm_ns & _MASK32

    @ALARM_HIGH.on_read
    def _alarm_high(self) -> int:
        return self.alarm_ns >> 32

    @ALARM_HIGH.on_write
    def _set_alarm_high(self, value: int) -> None:
        self.alarm_ns = value << 32 | self.alarm_ns & _MASK32

    @ALARM_LOW.on_write
    def _set_alarm(self, value: int) -> None:
        self.alarm_ns = self.alarm_ns & ~_MASK32 | value
        self.armed = True
        self._arm()

    @CLEAR_ALARM.on_write
    def _clear_alarm(self, value: int) -> None:
        self.armed = False
        self._arm()

    @ALARM_STATUS.on_read
    def _alarm_status(self) -> int:
        return int(self.armed)

    @CLEAR_INTERRUPT.on_write
    def _clear_interrupt(self, value: int) -> None:
        self.pending = False

    @Wire
    def irq(self) -> bool:
        """High while an alarm that went off is not cleared, if enabled."""
        return self.pending and self.IRQ_ENABLED != 0

    def reset_enter(self) -> None:
        """Disarm the alarm; the time goes on."""
        super().reset_enter()
        self._arm()

    def loaded(self) -> None:
        """Set the alarm that was saved."""
        self._arm()

    def fdt(self, node: FdtNode) -> None:
        """Describe the device."""
        node.set("compatible", "google,goldfish-rtc")

    def _arm(self) -> None:
        """Bring the timer to what `armed` and `alarm_ns` say; an alarm in the past goes off at
        once.
        """
        if not self.armed:
            self._timer.delete()
        elif self.alarm_ns <= self.time_ns:
            self._go_off()
        else:
            self._timer.mod(self.alarm_ns - self.offset_ns)

    def _go_off(self) -> None:
        self._timer.delete()
        self.armed = False
        self.pending = True

    def _expired(self) -> None:
        self._arm()  # the guest may have set the time while the timer was on its way
        self.update_wires()
