"""National Semiconductor 16550A UART, memory-mapped.

Source: National Semiconductor PC16550D data sheet (June 1995), section 8.
Not modelled: the time a byte takes to be sent; parity and framing errors, which no backend
produces; the DMA mode pins.
"""

from __future__ import annotations

from typing import Annotated

from ratite.core.char import CharEvent
from ratite.core.clock import Clock
from ratite.core.errors import ConfigError
from ratite.core.trace import TraceEvent
from ratite.devices.char.backend import CharBackend
from ratite.devices.device import Device
from ratite.devices.fdt import FdtNode
from ratite.devices.register import Register, State
from ratite.devices.wire import Wire
from ratite.memory import AccessSizes, Endianness
from ratite.qom import Backend, Doc, UInt8, UInt32

IER_RDA, IER_THRE, IER_LINE, IER_MODEM = 0x01, 0x02, 0x04, 0x08
IIR_NONE, IIR_MODEM, IIR_THRE, IIR_RDA, IIR_LINE, IIR_TIMEOUT = 0x01, 0x00, 0x02, 0x04, 0x06, 0x0C
IIR_FIFO = 0xC0
FCR_ENABLE, FCR_CLEAR_RX, FCR_CLEAR_TX = 0x01, 0x02, 0x04
LCR_WORD, LCR_STOP, LCR_PARITY, LCR_EVEN = 0x03, 0x04, 0x08, 0x10
LCR_BREAK, LCR_DLAB = 0x40, 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 0x01, 0x02, 0x04, 0x08, 0x10
LSR_DR, LSR_OE, LSR_BI, LSR_THRE, LSR_TEMT, LSR_FIFO_ERROR = 0x01, 0x02, 0x10, 0x20, 0x40, 0x80
LSR_ERRORS = 0x1E
MSR_DCTS, MSR_DDSR, MSR_TERI, MSR_DDCD = 0x01, 0x02, 0x04, 0x08
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80

FIFO_SIZE = 16
TRIGGERS = (1, 4, 8, 14)
_BREAK = 0x100  # in the receive FIFO: this character came as a break
_LINES_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD
_ENDIANNESS: tuple[Endianness, ...] = ("native", "big", "little")


@TraceEvent
def serial_read(addr: int, value: int) -> str:
    """The guest has read a register of a 16550A."""
    return f"addr 0x{addr:02x} val 0x{value:02x}"


@TraceEvent
def serial_write(addr: int, value: int) -> str:
    """The guest writes a register of a 16550A."""
    return f"addr 0x{addr:02x} val 0x{value:02x}"


@TraceEvent
def serial_update_parameters(baudrate: int, parity: str, data: int, stop: int) -> str:
    """The guest has set speed and format of a 16550A's line."""
    return f"baudrate={baudrate} parity='{parity}' data={data} stop={stop}"


class Ns16550a(Device):
    """A serial port on a character backend; `baudbase` is the input clock divided by 16."""

    type_name = "serial-mm"
    mmio_name = "serial"
    mmio_valid = AccessSizes(1, 8)
    mmio_impl = AccessSizes(1, 8)
    read_event, write_event = serial_read, serial_write

    RBR = Register(0, "ro", size=1)
    THR = Register(0, "wo", size=1)
    IER = Register(1, mask=0x0F, size=1)
    IIR = Register(2, "ro", size=1)
    FCR = Register(2, "wo", size=1)
    LCR = Register(3, size=1)
    MCR = Register(4, mask=0x1F, size=1)
    LSR = Register(5, "ro", size=1)
    MSR = Register(6, "ro", size=1)
    SCR = Register(7, size=1)

    enables = State(0)  # IER
    divisor = State(0)  # DLL and DLM
    fifo = State(False)  # FCR bit 0
    trigger = State(1)  # bytes in the receive FIFO that raise an interrupt
    received = State[list[int]](factory=lambda uart: [], element=0)
    last_received = State(0)
    # Bytes the backend had no room for.
    sending = State[list[int]](factory=lambda uart: [], element=0)
    overrun = State(False)
    break_seen = State(False)
    sent = State(False)  # the THRE interrupt is pending
    timed_out = State(False)  # the character timeout is pending
    modem_lines = State(_LINES_CONNECTED)
    modem_deltas = State(0)

    def __init__(
        self,
        clock: Clock,
        *,
        regshift: UInt8 = 0,
        endianness: UInt8 = 2,
        baudbase: UInt32 = 230_400,
        chardev: Annotated[
            CharBackend | None, Backend("chardev"), Doc("ID of a chardev to use as a backend")
        ] = None,
    ) -> None:
        self.regshift = regshift
        self.endianness = endianness
        self.baudbase = baudbase
        self.chardev = chardev
        self.mmio_size = 8 << regshift
        self.mmio_endianness = _ENDIANNESS[endianness] if endianness < 3 else "little"
        self._clock = clock
        self._timeout = clock.timer(self._timeout_expired)
        self._resuming = clock.timer(self._resume)
        super().__init__()

    def realize(self) -> None:
        """Attach to the backend."""
        if self.endianness > 2:
            raise ConfigError("serial-mm: endianness must be 0 (native), 1 (big) or 2 (little)")
        if self.chardev is not None:
            self.chardev.attach(self)
        super().realize()

    def change_backend(self, chardev: CharBackend, /) -> None:
        """Go on with another backend."""
        self.chardev = chardev
        chardev.attach(self)

    def unrealize(self) -> None:
        """Detach from the backend."""
        if self.chardev is not None:
            self.chardev.attach(None)
        super().unrealize()

    def fdt(self, node: FdtNode) -> None:
        """Describe the device."""
        node.set("compatible", "ns16550a")
        node.set("clock-frequency", 16 * self.baudbase)
        if self.regshift:
            node.set("reg-shift", self.regshift)

    # -- guest access: the low byte of an access counts, wherever in the register's stride it falls

    def read(self, offset: int, size: int = 1) -> int:
        """Read a register. Runs: per MMIO read."""
        number = offset >> self.regshift
        if number < 2 and self.LCR & LCR_DLAB:
            return self.divisor >> 8 * number & 0xFF
        reader = self._readers.get(number << 4 | 1)
        if reader is None:
            self.guest_error(f"read at {offset:#x}, where no register is")
            return 0
        return reader()

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write a register. Runs: per MMIO write."""
        number = offset >> self.regshift
        value &= 0xFF
        if number < 2 and self.LCR & LCR_DLAB:
            keep = 0xFF00 >> 8 * number
            self.divisor = self.divisor & keep | value << 8 * number
            self._trace_line()
            return
        writer = self._writers.get(number << 4 | 1)
        if writer is None:
            self.guest_error(f"write of {value:#x} at {offset:#x}, which cannot be written")
            return
        writer(value)
        self.irq.update()

    @RBR.on_read
    def _receive_byte(self) -> int:
        if not self.received:
            return self.last_received
        self.last_received = self.received.pop(0) & 0xFF
        self._head_changed()
        self.timed_out = False
        self._restart_timeout()
        self.irq.update()
        if self.chardev is not None:
            self.chardev.accept_input()
        return self.last_received

    @THR.on_write
    def _send_byte(self, value: int) -> None:
        self.sent = False
        if self.MCR & MCR_LOOP:
            self._push(value)
            self.sent = True
            return
        if len(self.sending) >= (FIFO_SIZE if self.fifo else 1):
            self.guest_error("byte sent while the transmitter is full")
            self.sending.pop()
        self.sending.append(value)
        self._transmit()

    @IER.on_read
    def _enables(self) -> int:
        return self.enables

    @IER.on_write
    def _set_enables(self, value: int) -> None:
        # Enabling the THRE interrupt while the transmitter is empty raises it at once.
        if value & ~self.enables & IER_THRE and not self.sending:
            self.sent = True
        self.enables = value

    @IIR.on_read
    def _identify(self) -> int:
        source = self._source()
        if source == IIR_THRE:
            self.sent = False
            self.irq.update()
        return source | (IIR_FIFO if self.fifo else 0)

    @FCR.on_write
    def _control_fifos(self, value: int) -> None:
        enable = bool(value & FCR_ENABLE)
        switched = enable is not self.fifo
        self.fifo = enable
        self.trigger = TRIGGERS[value >> 6] if enable else 1
        if switched or value & FCR_CLEAR_RX:
            self.received.clear()
            self._head_changed()
            self.timed_out = False
            self._timeout.delete()
            if self.chardev is not None:
                self.chardev.accept_input()
        if (switched or value & FCR_CLEAR_TX) and self.sending:
            self.sending.clear()
            self.sent = True

    @LCR.on_write
    def _set_line_format(self, value: int) -> None:
        self._trace_line()

    @MCR.on_write
    def _set_modem_control(self, value: int) -> None:
        self._update_modem()
        if not value & MCR_LOOP and self.chardev is not None:
            self.chardev.accept_input()

    @LSR.on_read
    def _line_status(self) -> int:
        status = self._line()
        if status & LSR_ERRORS:
            self.overrun = False
            self.break_seen = False
            self.irq.update()
        return status

    @MSR.on_read
    def _modem_status(self) -> int:
        status = self.modem_lines | self.modem_deltas
        if self.modem_deltas:
            self.modem_deltas = 0
            self.irq.update()
        return status

    # -- the backend's side

    def can_receive(self) -> int:
        """Room in the receiver; none in loopback, where the input pin is disconnected."""
        if self.MCR & MCR_LOOP:
            return 0
        return max(0, (FIFO_SIZE if self.fifo else 1) - len(self.received))

    def receive(self, data: bytes) -> None:
        """Take bytes from the line."""
        for value in data:
            self._push(value)
        self.update_wires()

    def event(self, event: CharEvent) -> None:
        """A break is received as a character of 0; WRITABLE sends on what waits."""
        if event is CharEvent.BREAK:
            if self.can_receive():
                self._push(_BREAK)
        elif event is CharEvent.WRITABLE:
            self._transmit()
        self.update_wires()

    # -- what follows from the state

    @Wire
    def irq(self) -> bool:
        """High while an enabled interrupt is pending."""
        return self._source() != IIR_NONE

    def _source(self) -> int:
        """The pending interrupt of highest priority, as IIR shows it."""
        enabled = self.enables
        if enabled & IER_LINE and (self.overrun or self.break_seen):
            return IIR_LINE
        if enabled & IER_RDA:
            if len(self.received) >= self.trigger:
                return IIR_RDA
            if self.timed_out:
                return IIR_TIMEOUT
        if enabled & IER_THRE and self.sent:
            return IIR_THRE
        if enabled & IER_MODEM and self.modem_deltas:
            return IIR_MODEM
        return IIR_NONE

    def _line(self) -> int:
        status = 0 if self.sending else LSR_THRE | LSR_TEMT
        if self.received:
            status |= LSR_DR
            if self.fifo and any(entry & _BREAK for entry in self.received):
                status |= LSR_FIFO_ERROR
        if self.overrun:
            status |= LSR_OE
        if self.break_seen:
            status |= LSR_BI
        return status

    def _push(self, entry: int) -> None:
        """A character arrives in the receiver."""
        if len(self.received) >= (FIFO_SIZE if self.fifo else 1):
            self.overrun = True
            if self.fifo:
                return  # the FIFO keeps what it has; without it the new character overwrites
            self.received.clear()
        self.received.append(entry)
        if len(self.received) == 1:
            self._head_changed()
        self.timed_out = False
        self._restart_timeout()

    def _trace_line(self) -> None:
        trace = self.log.trace
        if trace and self.divisor:
            parity = ("E" if self.LCR & LCR_EVEN else "O") if self.LCR & LCR_PARITY else "N"
            stop = 2 if self.LCR & LCR_STOP else 1
            data = 5 + (self.LCR & LCR_WORD)
            trace(serial_update_parameters, self.baudbase // self.divisor, parity, data, stop)

    def _head_changed(self) -> None:
        """A break is reported when its character is the next to be read."""
        if self.received and self.received[0] & _BREAK:
            self.break_seen = True

    def _restart_timeout(self) -> None:
        """Below the trigger level, interrupt after four character times of silence."""
        if not self.fifo or not self.received:
            self._timeout.delete()
            return
        word = 1 + 5 + (self.LCR & LCR_WORD) + bool(self.LCR & LCR_PARITY)
        word += 1 + bool(self.LCR & LCR_STOP)
        bits_ns = 4 * word * (self.divisor or 1) * 1_000_000_000
        self._timeout.mod(self._clock.now_ns() + bits_ns // (self.baudbase or 1))

    def _timeout_expired(self) -> None:
        if self.received:
            self.timed_out = True
            self.update_wires()

    def _transmit(self) -> None:
        """Hand waiting bytes to the backend; the transmitter is empty when it has taken all."""
        if not self.sending:
            return
        data = bytes(self.sending)
        taken = len(data) if self.chardev is None else self.chardev.write(data)
        del self.sending[:taken]
        if not self.sending:
            self.sent = True

    def _resume(self) -> None:
        self._transmit()
        self.update_wires()
        if self.chardev is not None:
            self.chardev.accept_input()

    def _update_modem(self) -> None:
        """In loopback the modem outputs come back as the modem inputs."""
        lines = _LINES_CONNECTED
        if self.MCR & MCR_LOOP:
            lines = 0
            for output, line in (
                (MCR_RTS, MSR_CTS),
                (MCR_DTR, MSR_DSR),
                (MCR_OUT1, MSR_RI),
                (MCR_OUT2, MSR_DCD),
            ):
                if self.MCR & output:
                    lines |= line
        changed = lines ^ self.modem_lines
        if not lines & MSR_RI & changed and changed & MSR_RI:
            self.modem_deltas |= MSR_TERI
        self.modem_deltas |= (changed & (MSR_CTS | MSR_DSR | MSR_DCD)) >> 4
        self.modem_lines = lines

    def reset_enter(self) -> None:
        """Set registers to their power-on values; bytes in flight are lost."""
        super().reset_enter()
        self._timeout.delete()
        self._resuming.delete()

    def reset_exit(self) -> None:
        """Take input again that was held back."""
        super().reset_exit()
        if self.chardev is not None:
            self.chardev.accept_input()

    def loaded(self) -> None:
        """Start the timeout again for characters that were loaded. Once time goes on, send what the
        backend of the saved device had no room for, and take input that had none before.
        """
        self._restart_timeout()
        self._resuming.mod(self._clock.now_ns())
