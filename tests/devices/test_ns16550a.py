"""The 16550A UART."""

from __future__ import annotations

from typing import Any

import pytest

from ratite.core import ConfigError, FakeClock
from ratite.core.char import CharEvent
from ratite.devices.char.ns16550a import Ns16550a
from ratite.memory import AddressSpace, Gpa, MemoryRegion

DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR = 0, 1, 2, 2, 3, 4, 5, 6, 7
RDA, THRE, LINE, MODEM = 1, 2, 4, 8
NONE, TIMEOUT = 1, 0x0C
CHARACTER_NS = 10 * 1_000_000_000 // 115_200


@pytest.fixture
def uart(clock: FakeClock, terminal: Any) -> Ns16550a:
    uart = Ns16550a(clock, chardev=terminal)
    uart.realize()
    uart.reset()
    uart.write(LCR, 0x83)
    uart.write(DATA, 2)  # 115200 baud from a clock of 230400
    uart.write(IER, 0)
    uart.write(LCR, 3)
    return uart


def read_all(uart: Ns16550a) -> bytes:
    data = bytearray()
    while uart.read(LSR) & 1:
        data.append(uart.read(DATA))
    return bytes(data)


def test_bytes_written_come_out(uart: Ns16550a, terminal: Any) -> None:
    for byte in b"hello":
        assert uart.read(LSR) & 0x60 == 0x60
        uart.write(DATA, byte)
    assert terminal.output == b"hello"


def test_bytes_typed_come_in_one_by_one_without_the_fifo(uart: Ns16550a, terminal: Any) -> None:
    terminal.type(b"abc")
    assert terminal.waiting == b"bc"
    assert read_all(uart) == b"abc"


def test_the_fifo_holds_sixteen(uart: Ns16550a, terminal: Any) -> None:
    uart.write(FCR, 1)
    terminal.type(bytes(range(20)))
    assert len(terminal.waiting) == 4
    assert read_all(uart) == bytes(range(20))


def test_the_divisor_latch_shares_the_first_two_registers(uart: Ns16550a) -> None:
    uart.write(IER, 0x0F)
    uart.write(LCR, 0x80)
    uart.write(DATA, 0x34)
    uart.write(IER, 0x12)
    assert (uart.read(DATA), uart.read(IER), uart.divisor) == (0x34, 0x12, 0x1234)
    uart.write(LCR, 0)
    assert uart.read(IER) == 0x0F


def test_registers_keep_their_writable_bits(uart: Ns16550a) -> None:
    for register, kept in ((IER, 0x0F), (LCR, 0x7F), (SCR, 0xFF)):
        uart.write(register, 0x7F | kept)
        assert uart.read(register) == kept
    uart.write(MCR, 0xFF)
    assert uart.read(MCR) == 0x1F


def test_received_data_interrupts_at_the_trigger_level(uart: Ns16550a, terminal: Any) -> None:
    uart.write(FCR, 0x81)  # 8 bytes
    uart.write(IER, RDA)
    terminal.type(b"1234567")
    assert not uart.irq.level and uart.read(IIR) == 0xC1
    terminal.type(b"8")
    assert uart.irq.level and uart.read(IIR) == 0xC4
    uart.read(DATA)
    assert not uart.irq.level


@pytest.mark.parametrize(("code", "count"), [(0x01, 1), (0x41, 4), (0x81, 8), (0xC1, 14)])
def test_trigger_levels(uart: Ns16550a, terminal: Any, code: int, count: int) -> None:
    uart.write(FCR, code)
    uart.write(IER, RDA)
    terminal.type(bytes(count - 1))
    assert not uart.irq.level
    terminal.type(b"x")
    assert uart.irq.level


def test_silence_below_the_trigger_level_times_out_after_four_characters(
    uart: Ns16550a, terminal: Any, clock: FakeClock
) -> None:
    uart.write(FCR, 0xC1)
    uart.write(IER, RDA)
    terminal.type(b"a")
    clock.advance(4 * CHARACTER_NS - 1000)
    assert not uart.irq.level
    terminal.type(b"b")  # starts the time again
    clock.advance(4 * CHARACTER_NS - 1000)
    assert not uart.irq.level
    clock.advance(2000)
    assert uart.irq.level and uart.read(IIR) & 0x0F == TIMEOUT
    assert uart.read(DATA) == ord("a")
    assert not uart.irq.level
    clock.advance(5 * CHARACTER_NS)
    assert uart.irq.level
    uart.read(DATA)
    clock.advance(50 * CHARACTER_NS)
    assert not uart.irq.level


def test_the_transmitter_interrupts_when_empty_until_identified(uart: Ns16550a) -> None:
    uart.write(IER, THRE)
    assert uart.irq.level and uart.read(IIR) == 2
    assert not uart.irq.level and uart.read(IIR) == NONE
    uart.write(DATA, ord("x"))
    assert uart.irq.level


def test_a_busy_backend_holds_the_transmitter(uart: Ns16550a, terminal: Any) -> None:
    uart.write(FCR, 1)
    uart.write(IER, THRE)
    uart.read(IIR)
    terminal.room = 0
    for byte in b"abc":
        uart.write(DATA, byte)
    assert not uart.read(LSR) & 0x60 and not uart.irq.level
    terminal.make_room(2)
    assert terminal.output == b"ab" and not uart.irq.level
    terminal.make_room()
    assert terminal.output == b"abc"
    assert uart.read(LSR) & 0x60 == 0x60 and uart.irq.level


def test_bytes_beyond_a_full_transmitter_are_lost(uart: Ns16550a, terminal: Any) -> None:
    uart.write(FCR, 1)
    terminal.room = 0
    for byte in range(20):
        uart.write(DATA, byte)
    terminal.make_room()
    assert terminal.output == bytes([*range(15), 19])


def test_clearing_the_transmit_fifo_drops_what_waits(uart: Ns16550a, terminal: Any) -> None:
    uart.write(FCR, 1)
    terminal.room = 0
    uart.write(DATA, 1)
    uart.write(FCR, 5)
    assert uart.read(LSR) & 0x60 == 0x60
    terminal.make_room()
    assert terminal.output == b""


def test_clearing_or_switching_the_receive_fifo_drops_its_content(
    uart: Ns16550a, terminal: Any
) -> None:
    uart.write(FCR, 1)
    terminal.type(b"abc")
    uart.write(FCR, 3)
    assert not uart.read(LSR) & 1
    terminal.type(b"d")
    uart.write(FCR, 0)
    assert not uart.read(LSR) & 1 and uart.read(IIR) & 0xC0 == 0


def test_interrupts_come_in_order_of_priority(
    uart: Ns16550a, terminal: Any, clock: FakeClock
) -> None:
    uart.write(FCR, 1)
    uart.write(MCR, 0x10)  # loopback
    uart.write(MCR, 0x12)  # RTS rises, so CTS rises
    for byte in range(17):
        uart.write(DATA, byte)
    uart.write(IER, RDA | THRE | LINE | MODEM)
    assert uart.read(IIR) & 0x0F == 6  # overrun
    assert uart.read(LSR) & 2
    assert uart.read(IIR) & 0x0F == 4
    while uart.read(LSR) & 1:
        uart.read(DATA)
    assert uart.read(IIR) & 0x0F == 2
    assert uart.read(IIR) & 0x0F == 0
    uart.read(MSR)
    assert uart.read(IIR) & 0x0F == NONE and not uart.irq.level


def test_loopback_returns_bytes_and_nothing_leaves(uart: Ns16550a, terminal: Any) -> None:
    uart.write(MCR, 0x10)
    uart.write(DATA, 0x5A)
    assert uart.read(DATA) == 0x5A and terminal.output == b""


def test_loopback_holds_input_back(uart: Ns16550a, terminal: Any) -> None:
    uart.write(MCR, 0x10)
    terminal.type(b"a")
    assert not uart.read(LSR) & 1
    uart.write(MCR, 0)
    assert uart.read(DATA) == ord("a")


@pytest.mark.parametrize(
    ("output", "line"), [(0x01, 0x20), (0x02, 0x10), (0x04, 0x40), (0x08, 0x80)]
)
def test_loopback_ties_modem_outputs_to_inputs(uart: Ns16550a, output: int, line: int) -> None:
    uart.write(MCR, 0x10)
    uart.read(MSR)
    uart.write(MCR, 0x10 | output)
    status = uart.read(MSR)
    assert status & 0xF0 == line
    assert bool(status & 0x0F) == (line != 0x40)  # RI counts when it falls
    uart.write(MCR, 0x10)
    assert uart.read(MSR) & 0x0F == line >> 4
    assert uart.read(MSR) & 0x0F == 0


def test_a_backend_is_a_connected_modem(uart: Ns16550a) -> None:
    assert uart.read(MSR) == 0xB0


def test_a_break_is_a_zero_with_its_mark(uart: Ns16550a, terminal: Any) -> None:
    uart.write(FCR, 1)
    uart.write(IER, LINE)
    terminal.type(b"a")
    uart.event(CharEvent.BREAK)
    assert not uart.irq.level and uart.read(LSR) & 0x90 == 0x80
    assert uart.read(DATA) == ord("a")
    assert uart.irq.level
    assert uart.read(LSR) & 0x11 == 0x11
    assert not uart.irq.level
    assert uart.read(DATA) == 0


def test_overrun_without_the_fifo_keeps_the_latest(uart: Ns16550a) -> None:
    uart.write(MCR, 0x10)
    uart.write(DATA, 1)
    uart.write(DATA, 2)
    assert uart.read(LSR) & 3 == 3
    assert uart.read(LSR) & 3 == 1
    assert uart.read(DATA) == 2


def test_registers_can_be_spread(
    clock: FakeClock, terminal: Any, system: MemoryRegion, space: AddressSpace
) -> None:
    uart = Ns16550a(clock, chardev=terminal, regshift=2)
    uart.realize()
    system.add_subregion(0, uart.mmio)
    assert uart.mmio.size == 32
    space.write(Gpa(7 * 4), 4, 0x1A5)
    assert space.read(Gpa(7 * 4), 4)[0] == 0xA5 == space.read(Gpa(7 * 4), 1)[0]


def test_without_a_backend_output_vanishes(clock: FakeClock) -> None:
    uart = Ns16550a(clock)
    uart.realize()
    uart.write(DATA, 1)
    assert uart.read(LSR) & 0x60 == 0x60
    uart.unrealize()


def test_unrealize_lets_go_of_the_backend(uart: Ns16550a, terminal: Any) -> None:
    uart.unrealize()
    assert terminal.frontend is None


def test_saved_state_continues_where_it_was(
    uart: Ns16550a, terminal: Any, clock: FakeClock
) -> None:
    uart.write(FCR, 0xC1)
    uart.write(IER, RDA)
    terminal.type(b"ab")
    other = Ns16550a(clock)
    other.load(uart.save())
    clock.advance(10 * CHARACTER_NS)
    assert other.irq.level and read_all(other) == b"ab"


def test_a_wrong_byte_order_is_refused(clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match="endianness"):
        Ns16550a(clock, endianness=3).realize()


def test_properties_are_qemus(clock: FakeClock) -> None:
    assert list(Ns16550a.properties())[:2] == ["regshift", "endianness"]
    uart = Ns16550a(clock)
    entries = Ns16550a.properties()
    assert entries["endianness"].to_text(uart.endianness) == "2 (0x2)"
