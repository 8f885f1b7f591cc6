"""The console device and its ports."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from ratite.core.char import CharEvent
from ratite.core.errors import ConfigError
from ratite.devices.virtio.console import VirtConsole, VirtioSerial, VirtSerialPort

MULTIPORT, EMERG_WRITE = 2, 4
READY, ADD, REMOVE, PORT_READY, CONSOLE, RESIZE, OPEN, NAME = range(8)


class Wire:
    """A backend that records, and takes as much as it is told to."""

    def __init__(self, room: int = 1 << 20, is_open: bool = True) -> None:
        self.id = "c0"
        self.room = room
        self.is_open = is_open
        self.output = b""
        self.guest_open: list[bool] = []
        self.input = b""
        self.frontend: Any = None

    def write(self, data: Any, /) -> int:
        taken = bytes(data)[: self.room]
        self.room -= len(taken)
        self.output += taken
        return len(taken)

    def attach(self, frontend: Any, /) -> None:
        self.frontend = frontend
        if frontend is not None and self.is_open:
            frontend.event(CharEvent.OPENED)

    def accept_input(self) -> None:
        while self.input and (room := self.frontend.can_receive()) > 0:
            data, self.input = self.input[:room], self.input[room:]
            self.frontend.receive(data)

    def set_guest_open(self, is_open: bool, /) -> None:
        self.guest_open.append(is_open)

    def type(self, data: bytes) -> None:
        self.input += data
        self.accept_input()


class Setup:
    def __init__(self, make_guest: Any, ports: list[Any], *, legacy: bool = False, **how: Any):
        self.device = VirtioSerial(**how)
        self.guest = make_guest(self.device, legacy=legacy)
        for port in ports:
            self.device.bus.plug(port)

    def start(self, features: int | None = None, ready: bool = True) -> None:
        rings = self.guest.start(features, dict.fromkeys(range(8), 16))
        self.rings = rings
        self.told: list[tuple[int, int, int, bytes]] = []
        if features is None and ready:
            for _ in range(16):
                rings[2].add([], [64])
            rings[2].kick()
            self.control(0xFFFF_FFFF, READY, 1)

    def control(self, port: int, event: int, value: int) -> None:
        self.rings[3].add([struct.pack("<IHH", port, event, value)])
        self.rings[3].kick()
        assert len(self.rings[3].collect()) == 1
        self.hear()

    def hear(self) -> None:
        for head, length in self.rings[2].collect():
            data = self.rings[2].answer(head)[:length]
            self.told.append((*struct.unpack("<IHH", data[:8]), data[8:]))
            self.rings[2].add([], [64])


def test_a_console_works_without_multiport(make_guest: Any, legacy: bool) -> None:
    wire = Wire()
    setup = Setup(make_guest, [VirtConsole(chardev=wire)], legacy=legacy)
    setup.start(0)
    assert setup.guest.get(0x008) == 3
    receive, transmit = setup.rings[:2]
    transmit.exchange([b"hello ", b"world"], [])
    assert wire.output == b"hello world"
    receive.add([], [4])
    receive.add([], [4])
    receive.kick()
    wire.type(b"abcdef")
    assert [receive.answer(head)[:length] for head, length in receive.collect()] == [b"abcd", b"ef"]
    wire.type(b"later")
    assert receive.collect() == []
    receive.add([], [16])
    receive.kick()
    assert [receive.answer(head)[:length] for head, length in receive.collect()] == [b"later"]
    assert wire.guest_open == [True]


def test_ports_are_introduced(make_guest: Any) -> None:
    ports = [
        VirtConsole(chardev=Wire()),
        VirtSerialPort(chardev=Wire(is_open=False), port_name="org.example.0"),
        VirtSerialPort(chardev=Wire(), port_name="org.example.1"),
    ]
    setup = Setup(make_guest, ports)
    assert [port.nr for port in ports] == [0, 1, 2]
    assert setup.guest.get(0x104, 4) == 31
    setup.start()
    assert setup.told == [(0, ADD, 1, b""), (1, ADD, 1, b""), (2, ADD, 1, b"")]
    setup.told.clear()
    for number in range(3):
        setup.control(number, PORT_READY, 1)
    assert setup.told == [
        (0, CONSOLE, 1, b""),
        (0, OPEN, 1, b""),
        (1, NAME, 1, b"org.example.0\0"),
        (2, NAME, 1, b"org.example.1\0"),
        (2, OPEN, 1, b""),
    ]


def test_both_sides_hear_of_opening_and_closing(make_guest: Any) -> None:
    wire = Wire(is_open=False)
    setup = Setup(make_guest, [VirtSerialPort(chardev=wire, port_name="x")])
    setup.start()
    setup.told.clear()
    setup.control(1, OPEN, 1)
    setup.control(1, OPEN, 1)
    setup.control(1, OPEN, 0)
    assert wire.guest_open == [False, True, False]
    wire.frontend.event(CharEvent.OPENED)
    wire.frontend.event(CharEvent.CLOSED)
    setup.hear()
    assert setup.told == [(1, OPEN, 1, b""), (1, OPEN, 0, b"")]


def test_data_go_to_their_port(make_guest: Any) -> None:
    wires = [Wire(), Wire()]
    setup = Setup(
        make_guest, [VirtSerialPort(chardev=wire, nr=n + 1) for n, wire in enumerate(wires)]
    )
    setup.start()
    setup.control(2, OPEN, 1)
    setup.rings[7].exchange([b"two"], [])
    setup.rings[5].exchange([b"one"], [])
    assert [wire.output for wire in wires] == [b"one", b"two"]
    setup.rings[6].add([], [10])
    setup.rings[6].kick()
    wires[1].type(b"in")
    ((head, length),) = setup.rings[6].collect()
    assert setup.rings[6].answer(head)[:length] == b"in"
    wires[0].type(b"closed")
    setup.rings[4].add([], [10])
    setup.rings[4].kick()
    assert setup.rings[4].collect() == []


def test_a_slow_backend_holds_the_guest_back(make_guest: Any) -> None:
    wire = Wire(room=4)
    setup = Setup(make_guest, [VirtConsole(chardev=wire)])
    setup.start(0)
    transmit = setup.rings[1]
    transmit.add([b"abc", b"def"])
    transmit.add([b"ghi"])
    transmit.kick()
    assert wire.output == b"abcd"
    assert transmit.collect() == []
    wire.room = 3
    wire.frontend.event(CharEvent.WRITABLE)
    assert wire.output == b"abcdefg"
    assert len(transmit.collect()) == 1
    wire.room = 100
    wire.frontend.event(CharEvent.WRITABLE)
    assert wire.output == b"abcdefghi"
    assert len(transmit.collect()) == 1


def test_output_half_sent_survives_migration(make_guest: Any) -> None:
    wire = Wire(room=4)
    port = VirtConsole(chardev=wire)
    setup = Setup(make_guest, [port])
    setup.start(0)
    setup.rings[0].add([], [8])
    setup.rings[0].kick()
    assert port.can_receive() == 8
    setup.rings[1].add([b"abc", b"def"])
    setup.rings[1].kick()
    device, state = setup.device.save(), port.save()
    setup.device.reset()
    port.reset()
    port.load(state)
    setup.device.load(device)
    wire.room = 100
    setup.guest.clock.advance(1)
    assert wire.output == b"abcdef"
    assert len(setup.rings[1].collect()) == 1
    wire.type(b"in")
    assert len(setup.rings[0].collect()) == 1


def test_a_port_without_backend_loses_its_output(make_guest: Any) -> None:
    setup = Setup(make_guest, [VirtSerialPort(nr=1)])
    setup.start()
    setup.rings[5].exchange([b"gone"], [])
    setup.rings[7].exchange([b"no port at all"], [])


def test_emergency_writes_reach_the_first_console(make_guest: Any) -> None:
    wire = Wire()
    setup = Setup(make_guest, [VirtSerialPort(chardev=Wire()), VirtConsole(chardev=wire)])
    assert setup.guest.offered() & EMERG_WRITE
    setup.guest.set(0x108, ord("!"), 4)
    assert wire.output == b"!"
    setup = Setup(make_guest, [], emergency_write=False)
    assert not setup.guest.offered() & EMERG_WRITE
    setup.guest.set(0x108, ord("!"), 4)


def test_messages_wait_for_buffers(make_guest: Any) -> None:
    setup = Setup(make_guest, [VirtConsole(chardev=Wire())])
    setup.start(ready=False)
    setup.control(0xFFFF_FFFF, READY, 1)
    assert setup.told == []
    setup.rings[2].add([], [64])
    setup.rings[2].kick()
    setup.hear()
    assert setup.told == [(0, ADD, 1, b"")]


def test_a_port_may_come_and_go(make_guest: Any) -> None:
    setup = Setup(make_guest, [VirtConsole(chardev=Wire())])
    setup.start()
    setup.told.clear()
    port = VirtSerialPort(chardev=Wire())
    setup.device.bus.plug(port)
    setup.device.bus.unplug(port)
    setup.hear()
    assert setup.told == [(1, ADD, 1, b""), (1, OPEN, 1, b""), (1, REMOVE, 1, b"")]
    assert port.chardev is not None and port.chardev.frontend is None


@pytest.mark.parametrize("message", [b"", b"x", struct.pack("<IHH", 77, OPEN, 1), b"\1" * 100])
def test_a_nonsense_message_is_ignored(make_guest: Any, message: bytes) -> None:
    setup = Setup(make_guest, [VirtConsole(chardev=Wire())])
    setup.start()
    if message:
        setup.rings[3].add([message])
    else:
        setup.rings[3].add([], [8])
    setup.rings[3].kick()
    assert len(setup.rings[3].collect()) == 1
    setup.control(0, OPEN, 1)
    assert not setup.guest.needs_reset


def test_a_reset_closes_the_ports(make_guest: Any) -> None:
    wire = Wire()
    setup = Setup(make_guest, [VirtConsole(chardev=wire)])
    setup.start(0)
    setup.guest.set(0x070, 0)
    assert wire.guest_open == [True, False]
    wire.type(b"kept")
    assert wire.input == b"kept"
    setup.start(0)
    setup.rings[0].add([], [10])
    setup.rings[0].kick()
    assert len(setup.rings[0].collect()) == 1


def test_port_numbers(make_guest: Any) -> None:
    setup = Setup(make_guest, [VirtConsole(), VirtConsole(), VirtSerialPort(nr=5)])
    assert sorted(setup.device.ports) == [0, 1, 5]
    with pytest.raises(ConfigError, match="already exists at id 5"):
        setup.device.bus.plug(VirtSerialPort(nr=5))
    with pytest.raises(ConfigError, match="Out-of-range"):
        setup.device.bus.plug(VirtSerialPort(nr=31))
    one = Setup(make_guest, [], max_ports=1)
    assert not one.guest.offered() & MULTIPORT
    with pytest.raises(ConfigError, match="for virtconsole"):
        one.device.bus.plug(VirtSerialPort(nr=0))
    with pytest.raises(ConfigError, match="max_ports"):
        Setup(make_guest, [], max_ports=32)
    assert VirtSerialPort(port_name="n").get_property("name") == "n"
