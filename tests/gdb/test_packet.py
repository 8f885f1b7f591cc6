"""Framing of packets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ratite.gdb.packet import Packet, PacketReader, Signal, escape, frame, unescape


@given(st.lists(st.binary(max_size=200), max_size=6), st.integers(1, 40))
def test_packets_survive_framing_however_the_bytes_arrive(payloads: list[bytes], size: int) -> None:
    stream = b"".join(frame(escape(payload)) for payload in payloads)
    reader = PacketReader()
    found = [
        item
        for start in range(0, len(stream), size)
        for item in reader.feed(stream[start : start + size])
    ]
    assert found == [Packet(payload) for payload in payloads]


@given(st.binary())
def test_escapes_can_be_undone(data: bytes) -> None:
    escaped = escape(data)
    assert unescape(escaped) == data
    assert not set(escaped) & set(b"#$*")


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_any_bytes_are_accepted(pieces: list[bytes]) -> None:
    reader = PacketReader(limit=64)
    for piece in pieces:
        for item in reader.feed(piece):
            assert isinstance(item, Packet | Signal)


def test_signals_between_packets_are_told_apart() -> None:
    assert PacketReader().feed(b"+-\x03") == [Signal.ACK, Signal.NAK, Signal.INTERRUPT]


def test_a_three_within_binary_data_is_no_interrupt() -> None:
    assert PacketReader().feed(frame(b"X0,1:\x03")) == [Packet(b"X0,1:\x03")]


def test_a_wrong_checksum_is_noticed_and_the_next_packet_read() -> None:
    assert PacketReader().feed(b"$abc#00$?#3f") == [Signal.BAD, Packet(b"?")]


def test_a_packet_given_up_is_forgotten() -> None:
    assert PacketReader().feed(b"$m123" + frame(b"?")) == [Packet(b"?")]


def test_a_packet_that_is_too_long_takes_no_memory() -> None:
    reader = PacketReader(limit=1000)
    assert reader.feed(b"$" + b"x" * 1_000_000) == []
    assert len(reader._payload or b"") < 3000
    assert reader.feed(b"#00" + frame(b"?")) == [Signal.BAD, Packet(b"?")]
