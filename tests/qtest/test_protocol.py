"""The protocol's lines, alone and beside QEMU's answers."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratite.monitor.qtest import Failure, Qtest, number
from tests.qtest.client import QtestError

RAM = 0x8000_0000

SAME_AS_QEMU = (
    "readb 0x10000005",
    "readl 0x80000000",
    "readq 2147483648",
    "inb 0x60",
    "inw 0x60",
    "inl 0x60",
    "outb 0x60 0x1",
    "outw 0x60 0x1",
    "outl 0x60 0x1",
    "read 0x1000 0x10",
    "b64read 0x1000 0x10",
    "write 0x80000000 0x4 0x01020304",
    "read 0x80000000 8",
    "write 0x80000000 0x4 0x0102",
    "read 0x80000000 010",
    "b64write 0x80000000 4 AQIDBA==",
    "readq 0x80000000",
    "memset 0x80000000 0x10 0x55",
    "memset 0x80000000 0 0x66",
    "readw 0x80000002",
    "readq 0x10",
    "writeb 0x80000000 0x123",
    "writew 0x80000001 0x1234",
    "writel 0x80000003 0x12345678",
    "writeq 0x80000007 0x123456789abcdef0",
    "read 0x80000000 0x10",
    "endianness",
    "foo bar",
    "irq_intercept_in /machine/nothing",
    "irq_intercept_out /machine/nothing",
    "set_irq_in /machine/nothing unnamed-gpio-in 1 1",
    "module_load a b",
    "readl 0x2004000",
    "readl 0xc000000",
    "readl 0x10001000",
    "readl 0x10001004",
    "readl 0x10008008",
)


def test_answers_are_those_of_qemu(qtest, qemu) -> None:
    ours = qtest("-M", "virt")
    for line in SAME_AS_QEMU:
        ours.send(line)
        qemu.send(line)
        assert ours.answer() == qemu.answer(), line


@pytest.mark.parametrize(
    "line",
    [
        "",
        "readb",
        "readb zz",
        "readb 0x10000000000000000",
        "readb -1",
        "readb 1_0",
        "read 0x80000000 0",
        "read 0x80000000",
        "read 0 0xffffffffffffffff",
        "write 0x80000000 4 0x1",
        "write 0x80000000 4 01020304",
        "write 0x80000000 4",
        "b64write 0x80000000 4 !!!!",
        "memset 0x80000000 4",
        "clock_set",
        "clock_step -5",
        "clock_set 99999999999999999999",
        "irq_intercept_in",
        "set_irq_in /machine",
        "set_irq_in /machine/soc0/harts[0] nothing 1 1",
        "inb 0x10000",
        "rtas get-time 1 2 3 4",
    ],
)
def test_a_line_that_cannot_be_read_fails_and_nothing_else_happens(qtest, line: str) -> None:
    client = qtest()
    with pytest.raises(QtestError):
        client.command(line)
    assert client.command("endianness") == "little"


def test_memory_is_moved_in_every_way(qtest) -> None:
    client = qtest()
    data = bytes(range(256)) * 300
    client.write_bytes(RAM, data)
    assert client.read_bytes(RAM, len(data)) == data
    assert client.command(f"read {RAM:#x} {len(data)}") == "0x" + data.hex()
    client.command(f"write {RAM:#x} {len(data)} 0x{data[::-1].hex()}")
    assert client.read_bytes(RAM, len(data)) == data[::-1]
    client.command(f"memset {RAM:#x} {len(data)} 0xa5")
    assert set(client.read_bytes(RAM, len(data))) == {0xA5}
    for size, width in (("b", 8), ("w", 16), ("l", 32), ("q", 64)):
        value = 0x1122334455667788 & ((1 << width) - 1)
        client.write(size, RAM + 1, value)
        assert client.read(size, RAM + 1) == value


def test_a_client_may_send_many_commands_at_once(qtest) -> None:
    client = qtest()
    for value in range(5000):
        client.send(f"writel {RAM + 4 * value:#x} {value}")
    answers = [client.answer() for _ in range(5000)]
    assert set(answers) == {"OK"}
    assert client.read("l", RAM + 4 * 4999) == 4999


def test_megabytes_without_a_newline_take_no_memory() -> None:
    server = detached()
    for _ in range(130):
        server.receive(b"x" * (1 << 20))
    assert len(server._line) <= 64 << 20
    server.receive(b"\nendianness\n")
    assert server.stream.output.startswith(b"FAIL a line has at most")
    assert server.stream.output.endswith(b"OK little\n")


class Stream:
    """A stream that keeps what is sent."""

    def __init__(self) -> None:
        self.output = b""

    def write(self, data: bytes) -> int:
        self.output += data
        return len(data)

    def attach(self, frontend: object) -> None:
        pass

    def accept_input(self) -> None:
        pass


class Nothing:
    """A machine without devices."""

    vcpus = ()

    def __init__(self) -> None:
        from ratite.memory import AddressSpace, MemoryRegion

        self.memory = AddressSpace(MemoryRegion.container("system", 1 << 64), "memory")

    def resolve(self, path: str) -> None:
        return None


def detached() -> Qtest:
    stream = Stream()
    machine = Nothing()
    server = Qtest(machine, machine, None, stream)
    server.begin()
    server.stream = stream
    return server


WORDS = st.sampled_from(
    "read write readb readq writel b64read b64write memset inb outl irq_intercept_in set_irq_in "
    "clock_step clock_set endianness 0x 0x0102 0x80000000 4 -1 8589934592 /machine AQIDBA== "
    "0xffffffffffffffff é".split()
)


@given(st.lists(st.lists(WORDS | st.text(max_size=10), max_size=5), max_size=8), st.integers(1, 30))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_every_line_gets_exactly_one_answer(lines: list[list[str]], size: int) -> None:
    server = detached()
    text = "".join(" ".join(words).replace("\n", " ") + "\n" for words in lines)
    data = text.encode("utf-8", "replace")
    for start in range(0, len(data), size):
        server.receive(data[start : start + size])
    answers = server.stream.output.split(b"\n")[:-1]
    assert len(answers) == data.count(b"\n")
    assert all(answer[:2] == b"OK" or answer[:4] == b"FAIL" for answer in answers)


@given(st.binary(max_size=2000))
def test_any_bytes_are_accepted(data: bytes) -> None:
    detached().receive(data)


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_are_read_as_in_c(value: int) -> None:
    assert number(str(value)) == number(hex(value)) == value
    assert number(f"0{value:o}") == value


@pytest.mark.parametrize("text", ["", "0x", "08", "1_0", "+1", " 1", "٣", "1e3"])
def test_what_is_no_number_in_c_is_refused(text: str) -> None:
    with pytest.raises(Failure):
        number(text)


def test_the_log_shows_both_sides(qtest, tmp_path: Path) -> None:
    log = tmp_path / "log"
    client = qtest("-qtest-log", str(log))
    client.command("endianness")
    lines = [line.partition("] ") for line in log.read_text().splitlines()]
    assert [line[0][1:2] + " " + line[2] for line in lines] == [
        "I OPENED",
        "R endianness",
        "S OK little",
    ]


def test_base64_answers_have_no_line_breaks(qtest) -> None:
    answer = qtest().command(f"b64read {RAM:#x} 1000")
    assert base64.b64decode(answer, validate=True) == bytes(1000)
