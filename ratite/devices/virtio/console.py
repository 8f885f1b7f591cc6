"""Virtio console device: serial ports for the guest, and the ports themselves.

Source: Virtio 1.2, chapter 5.3 (console device).
Not modelled: the console's size (VIRTIO_CONSOLE_F_SIZE).

Port 0 is a console that works without the multiport feature. Each port has a pair of queues; a
further pair carries control messages.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated, ClassVar

from ratite.core.char import CharEvent
from ratite.core.errors import ConfigError
from ratite.core.trace import TraceEvent
from ratite.devices.bus import Bus
from ratite.devices.char.backend import CharBackend
from ratite.devices.device import Device
from ratite.devices.notice import PortChanged
from ratite.devices.register import State
from ratite.devices.virtio.device import VIRTIO_DEFAULTS, VirtioDevice, VirtioOptions
from ratite.devices.virtio.feature import FeatureBit
from ratite.devices.virtio.queue import Element, VirtQueue
from ratite.qom import Backend, Doc, Named, UInt32

F_MULTIPORT = FeatureBit(1, "VIRTIO_CONSOLE_F_MULTIPORT", "Several ports")
F_EMERG_WRITE = FeatureBit(
    2, "VIRTIO_CONSOLE_F_EMERG_WRITE", "Output through the configuration space"
)

CONTROL = struct.Struct("<IHH")  # port, event, value
DEVICE_READY, DEVICE_ADD, DEVICE_REMOVE, PORT_READY = 0, 1, 2, 3
CONSOLE_PORT, RESIZE, OPEN, PORT_NAME = 4, 5, 6, 7

CONFIG = struct.Struct("<HHII")  # columns, rows, ports, emergency write
EMERGENCY_OFFSET = 8
MAX_PORTS = 31
DATA_QUEUE_SIZE = 128
CONTROL_QUEUE_SIZE = 32
MAX_MESSAGES = 8 * (MAX_PORTS + 1)  # to a driver that takes none
AUTO_NUMBER = 0xFFFF_FFFF


@TraceEvent
def virtio_serial_send_control_event(port: int, event: int, value: int) -> str:
    """The device tells the driver something about a port."""
    return f"port {port}, event {event}, value {value}"


@TraceEvent
def virtio_serial_handle_control_message(event: int, value: int) -> str:
    """The driver tells the device something."""
    return f"event {event}, value {value}"


@TraceEvent
def virtio_serial_handle_control_message_port(port: int) -> str:
    """The port that it is about."""
    return f"port {port}"


@TraceEvent
def virtio_serial_throttle_port(port: int, throttle: bool) -> str:
    """The backend of a port has no room, or has room again."""
    return f"port {port}, throttle {throttle:d}"


@TraceEvent
def virtio_console_flush_buf(port: int, size: int, taken: int) -> str:
    """What the guest wrote goes to the backend, as far as that takes it."""
    return f"port {port}, in_len {size}, out_len {taken}"


@TraceEvent
def virtio_console_chr_read(port: int, size: int) -> str:
    """Input for the guest."""
    return f"port {port}, size {size}"


@TraceEvent
def virtio_console_chr_event(port: int, event: str) -> str:
    """The backend of a port was opened or closed, or has room."""
    return f"port {port}, event {event}"


class VirtioSerialBus(Bus):
    """Joins a virtio console device and its ports."""

    type_name = "virtio-serial-bus"
    hotpluggable = True


class VirtioSerialPort(Device):
    """One port: a byte stream between the guest and a character backend.

    `nr` is chosen at realize if it is not given. Bytes that nobody on the host wants are lost;
    without `chardev` that is all of them.
    """

    type_name = "virtio-serial-port"
    abstract = True
    bus_type = "virtio-serial-bus"
    user_creatable = True
    category = "Input"
    is_console: ClassVar[bool] = False

    guest_open = State(False)
    host_open = State(False, kept=True)
    output_done = State(0)  # bytes of the held output chain that the backend has taken

    def __init__(
        self,
        *,
        chardev: Annotated[
            CharBackend | None,
            Backend("chardev"),
            Doc("ID of a chardev to use as a backend"),
        ] = None,
        port_name: Annotated[
            str | None, Named("name"), Doc("what the guest calls the port")
        ] = None,
        nr: UInt32 = AUTO_NUMBER,
    ) -> None:
        self.chardev = chardev
        self.port_name = port_name
        self.nr = nr
        self.serial: VirtioSerial | None = None
        self.input: VirtQueue | None = None
        self.output: VirtQueue | None = None
        self._held_input: Element | None = None
        self._held_output: Element | None = None
        self._host_is_open = False  # whatever was loaded
        super().__init__()

    # -- life

    def realize(self) -> None:
        """Join the console device. Raises ConfigError if the number is not free."""
        bus = self.parent_bus
        serial = bus.owner if bus is not None else None
        if not isinstance(serial, VirtioSerial):
            raise ConfigError(f"{self.type_name} needs a virtio-serial-bus")
        serial.add_port(self)
        self.serial = serial
        super().realize()
        self.host_open = self._host_is_open = self.is_console
        if self.chardev is not None:
            self.chardev.attach(self)
            if not self.is_console:
                self.chardev.set_guest_open(False)

    def change_backend(self, chardev: CharBackend, /) -> None:
        """Go on with another backend."""
        self.chardev = chardev
        chardev.attach(self)

    def unrealize(self) -> None:
        """Leave the console device and the backend."""
        if self.chardev is not None:
            self.chardev.attach(None)
        if self.serial is not None:
            self.serial.remove_port(self)
            self.serial = None
        super().unrealize()

    def loaded(self) -> None:
        """Tell the backend whether the guest has the port open."""
        self._held_input = self._held_output = None
        if self.chardev is not None:
            self.chardev.set_guest_open(self.guest_open)

    def resume(self) -> None:
        """After loading: tell the guest of an end that is open here and was not there, or the other
        way round, and let input in.
        """
        if self.serial is not None and self.host_open is not self._host_is_open:
            self.host_open = self._host_is_open
            self.serial.tell(self, OPEN, int(self.host_open))
        if self.chardev is not None:
            self.chardev.accept_input()

    def held(self, queue: VirtQueue) -> int:
        """How many chains of `queue` are held."""
        if queue is self.input:
            return int(self._held_input is not None)
        return int(queue is self.output and self._held_output is not None)

    def give_back(self) -> None:
        """Give up the chains held: they are available again."""
        for queue, element in (
            (self.input, self._held_input),
            (self.output, self._held_output),
        ):
            if queue is not None and element is not None:
                queue.unpop(element)
                self.drop(queue)

    def drop(self, queue: VirtQueue) -> None:
        """Forget the chain held of `queue`, which is reset next."""
        if queue is self.input:
            self._held_input = None
        if queue is self.output:
            self._held_output = None
            self.output_done = 0

    # -- guest to host

    def set_guest_open(self, is_open: bool) -> None:
        """Note that the guest opened or closed the port."""
        if is_open == self.guest_open:
            return
        self.guest_open = is_open
        if self.chardev is not None:
            self.chardev.set_guest_open(is_open)
            if is_open:
                self.chardev.accept_input()
        if self.id:
            self.notify(PortChanged(self.id, is_open))

    def send(self) -> None:
        """Pass on what the guest has written, as far as the backend takes it."""
        queue = self.output
        if queue is None:
            return
        if self._held_output is not None and not self._send_chain(queue, self._held_output):
            return
        queue.run(lambda element: self._send_chain(queue, element))
        queue.notify()

    def _send_chain(self, queue: VirtQueue, element: Element) -> bool:
        """Send one chain; False if the backend has no room for all of it now."""
        self._held_output = element
        skip = self.output_done
        for view in element.readable:
            piece = view[skip:]
            skip = max(0, skip - len(view))
            if not piece or self.chardev is None:
                continue
            taken = self.chardev.write(bytes(piece))
            self.output_done += taken
            if trace := self.log.trace:
                trace(virtio_console_flush_buf, self.nr, len(piece), taken)
            if taken < len(piece):
                if trace:
                    trace(virtio_serial_throttle_port, self.nr, True)
                return False
        self._held_output = None
        self.output_done = 0
        queue.push(element, 0)
        return True

    # -- host to guest: the frontend of the backend

    def can_receive(self) -> int:
        """The room in the next chain that the guest has made available."""
        queue = self.input
        if queue is None or self.serial is None or self.serial.is_broken or not self.guest_open:
            return 0
        if self._held_input is None:
            self._held_input = queue.pop()
            if self._held_input is None:
                queue.set_notification(wanted=True)
                self._held_input = queue.pop()  # it may have come before the guest saw that
        return self._held_input.writable_size if self._held_input is not None else 0

    def receive(self, data: bytes) -> None:
        """Give the guest input."""
        element, queue = self._held_input, self.input
        if element is None or queue is None:
            return
        self._held_input = None
        if trace := self.log.trace:
            trace(virtio_console_chr_read, self.nr, len(data))
        queue.push(element, element.fill(data))
        queue.notify()

    def event(self, event: CharEvent) -> None:
        """Tell the guest that the host's side was opened or closed."""
        if trace := self.log.trace:
            trace(virtio_console_chr_event, self.nr, event.name.lower())
        if event is CharEvent.WRITABLE:
            if trace and self._held_output is not None:
                trace(virtio_serial_throttle_port, self.nr, False)
            self.send()
        elif event in (CharEvent.OPENED, CharEvent.CLOSED):
            self.host_open = self._host_is_open = event is CharEvent.OPENED
            if self.serial is not None:
                self.serial.tell(self, OPEN, int(self.host_open))


class VirtSerialPort(VirtioSerialPort):
    """A port for programs in the guest, found by its name."""

    type_name = "virtserialport"


class VirtConsole(VirtSerialPort):
    """A port that the guest's kernel uses as a console."""

    type_name = "virtconsole"
    is_console = True


class VirtioSerial(VirtioDevice):
    """The console device: owns the bus that ports plug into, of type `virtio-serial-bus`."""

    type_name = "virtio-serial-device"
    category = "Input"
    device_id = 3
    known_features = (F_EMERG_WRITE, F_MULTIPORT)

    messages = State[list[bytes]](factory=lambda _: [], element=b"")  # that wait for the driver

    def __init__(
        self,
        *,
        max_ports: Annotated[UInt32, Named("max_ports")] = MAX_PORTS,
        emergency_write: bool = True,
        virtio: VirtioOptions = VIRTIO_DEFAULTS,
    ) -> None:
        self.max_ports = max_ports
        self.emergency_write = emergency_write
        self.ports: dict[int, VirtioSerialPort] = {}
        super().__init__(virtio)
        self.bus = VirtioSerialBus("virtio-serial-bus.0", self)
        self.add_bus(self.bus)

    # -- life

    def realize(self) -> None:
        """Make the queues. Raises ConfigError if there are to be too many ports."""
        if not 1 <= self.max_ports <= MAX_PORTS:
            raise ConfigError(
                f"{self.type_name}: max_ports must be between 1 and {MAX_PORTS}, "
                f"not {self.max_ports}"
            )
        self._add_port_queues()
        self._control_in = self.add_queue(CONTROL_QUEUE_SIZE, lambda _: self._send_messages())
        self._control_out = self.add_queue(CONTROL_QUEUE_SIZE, self._take_messages)
        for _ in range(1, self.max_ports):
            self._add_port_queues()
        super().realize()

    def _add_port_queues(self) -> None:
        self.add_queue(DATA_QUEUE_SIZE, self._input_ready)
        self.add_queue(DATA_QUEUE_SIZE, self._output_ready)

    def unrealize(self) -> None:
        """Take the ports off and drop the queues."""
        for port in tuple(self.ports.values()):
            self.bus.unplug(port)
        super().unrealize()
        self.queues.clear()

    def own_features(self) -> int:
        """The feature bits of this device."""
        features = F_EMERG_WRITE if self.emergency_write else 0
        return features | (F_MULTIPORT if self.max_ports > 1 else 0)

    def driver_ready(self) -> None:
        """Open port 0 for a driver that knows no others."""
        port = self.ports.get(0)
        if not self.has(F_MULTIPORT) and port is not None:
            port.set_guest_open(True)

    def stopped(self, queues: Sequence[VirtQueue]) -> None:
        """Forget chains held, and on a full reset that ports were open."""
        for port in self.ports.values():
            for queue in queues:
                port.drop(queue)
            if queues is self.queues:
                port.set_guest_open(False)
        if queues is self.queues:
            self.messages.clear()

    def held(self, queue: VirtQueue) -> int:
        """How many chains of `queue` its port holds."""
        return sum(port.held(queue) for port in self.ports.values())

    def resume(self) -> None:
        """Go on after loading, ports included."""
        super().resume()
        for port in tuple(self.ports.values()):
            port.resume()

    # -- ports

    def add_port(self, port: VirtioSerialPort) -> None:
        """Give a port its number and queues. Raises ConfigError if there is none for it."""
        number = port.nr
        if number == AUTO_NUMBER:
            number = self._free_number(port)
        if number in self.ports:
            raise ConfigError(f"virtio-serial-bus: A port already exists at id {number}")
        if port.port_name and any(p.port_name == port.port_name for p in self.ports.values()):
            raise ConfigError(f"virtio-serial-bus: A port already exists by name {port.port_name}")
        if number >= self.max_ports:
            raise ConfigError(
                f"virtio-serial-bus: Out-of-range port id specified, max. allowed: "
                f"{self.max_ports - 1}"
            )
        if number == 0 and not port.is_console:
            raise ConfigError(
                "Port number 0 on virtio-serial devices is for virtconsole devices only"
            )
        port.nr = number
        first = 2 * number if number == 0 else 2 * number + 2
        port.input, port.output = self.queues[first], self.queues[first + 1]
        self.ports[number] = port
        self.tell(port, DEVICE_ADD, 1)

    def _free_number(self, port: VirtioSerialPort) -> int:
        if port.is_console and 0 not in self.ports:
            return 0
        return next((n for n in range(1, self.max_ports) if n not in self.ports), self.max_ports)

    def remove_port(self, port: VirtioSerialPort) -> None:
        """Let a port go."""
        port.give_back()
        port.input = port.output = None
        del self.ports[port.nr]
        self.tell(port, DEVICE_REMOVE, 1)

    def _port_of(self, queue: VirtQueue) -> VirtioSerialPort | None:
        index = queue.index
        return self.ports.get(0 if index < 2 else index // 2 - 1)

    def _input_ready(self, queue: VirtQueue) -> None:
        port = self._port_of(queue)
        if port is not None and port.chardev is not None:
            port.chardev.accept_input()

    def _output_ready(self, queue: VirtQueue) -> None:
        port = self._port_of(queue)
        if port is not None:
            port.send()
        else:
            queue.run(lambda element: self._discard(queue, element))
            queue.notify()

    def _discard(self, queue: VirtQueue, element: Element) -> bool:
        queue.push(element, 0)
        return True

    # -- control messages

    def tell(self, port: VirtioSerialPort, event: int, value: int, extra: bytes = b"") -> None:
        """Send the driver a message about a port, if it wants messages."""
        if self.realized and self.has(F_MULTIPORT) and not self.is_broken:
            if trace := self.log.trace:
                trace(virtio_serial_send_control_event, port.nr, event, value)
            del self.messages[: len(self.messages) + 1 - MAX_MESSAGES]
            self.messages.append(CONTROL.pack(port.nr, event, value) + extra)
            self._send_messages()

    def _send_messages(self) -> None:
        queue = self._control_in
        while self.messages and (element := queue.pop()) is not None:
            message = self.messages.pop(0)
            queue.push(element, element.fill(message))
        queue.notify()
        if self.messages:
            queue.set_notification(wanted=True)

    def _take_messages(self, queue: VirtQueue) -> None:
        queue.run(self._take_message)
        queue.notify()

    def _take_message(self, element: Element) -> bool:
        data = element.gather(CONTROL.size)
        if len(data) == CONTROL.size:
            self._react(*CONTROL.unpack(data))
        else:
            self.guest_error(f"control message of {len(data)} bytes")
        self._control_out.push(element, 0)
        return not self.is_broken

    def _react(self, number: int, event: int, value: int) -> None:
        if trace := self.log.trace:
            trace(virtio_serial_handle_control_message, event, value)
            if event != DEVICE_READY:
                trace(virtio_serial_handle_control_message_port, number)
        if event == DEVICE_READY:
            if value:
                for port in tuple(self.ports.values()):
                    self.tell(port, DEVICE_ADD, 1)
            return
        port_or_none = self.ports.get(number)
        if port_or_none is None:
            self.guest_error(f"control message about port {number}, which does not exist")
        elif event == PORT_READY:
            if value:
                self._introduce(port_or_none)
        elif event == OPEN:
            port_or_none.set_guest_open(bool(value))
        else:
            self.guest_error(f"control message {event}, which drivers do not send")

    def _introduce(self, port: VirtioSerialPort) -> None:
        """Tell the driver what kind of port it has just set up."""
        if port.is_console:
            self.tell(port, CONSOLE_PORT, 1)
        if port.port_name is not None:
            self.tell(port, PORT_NAME, 1, port.port_name.encode() + b"\0")
        if port.host_open:
            self.tell(port, OPEN, 1)

    # -- configuration space

    def read_config(self) -> bytes:
        """The number of ports, little-endian."""
        return CONFIG.pack(0, 0, self.max_ports, 0)

    def write_config(self, offset: int, value: int, size: int) -> None:
        """Print a character of an early or dying driver on the first console."""
        if offset != EMERGENCY_OFFSET or not self.emergency_write:
            super().write_config(offset, value, size)
            return
        consoles = (port for port in self.ports.values() if port.is_console and port.chardev)
        port = next(consoles, None)
        if port is not None and port.chardev is not None:
            port.chardev.write(bytes((value & 0xFF,)))
