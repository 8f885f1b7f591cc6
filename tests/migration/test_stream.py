"""Streams: what goes in comes out, and what is damaged is refused by one kind of error."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratite.core.errors import ConfigError
from ratite.migration.stream import (
    MAX_PAYLOAD,
    Flag,
    Kind,
    Reader,
    Section,
    StreamError,
    Writer,
    pack,
    unpack,
)

plain = st.recursive(
    st.one_of(st.booleans(), st.integers(-(1 << 200), 1 << 200), st.text(max_size=20), st.binary()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def written(*sections: tuple[Kind, str, bytes]) -> bytes:
    out = io.BytesIO()
    writer = Writer(out.write, Flag.ANSWERS)
    for section in sections:
        writer.section(*section)
    writer.end()
    assert writer.written == len(out.getvalue())
    return out.getvalue()


def read(data: bytes) -> list[Section]:
    reader = Reader(io.BytesIO(data).read)
    assert reader.flags is Flag.ANSWERS
    return list(reader.sections())


EXAMPLE = written(
    (Kind.IDENTITY, "identity", pack({"machine": "virt"})),
    (Kind.RAM, "ram/main", bytes(300)),
    (Kind.STATE, "/machine/uart", pack({"version": 1, "state": {"x": 1 << 90}})),
)


@given(plain)
def test_plain_data_survives(value: Any) -> None:
    assert unpack(Section(Kind.STATE, "x", pack(value))) == value


def test_sections_come_out_as_they_went_in() -> None:
    sections = read(EXAMPLE)
    assert [(section.kind, section.name) for section in sections] == [
        (Kind.IDENTITY, "identity"),
        (Kind.RAM, "ram/main"),
        (Kind.STATE, "/machine/uart"),
    ]
    assert unpack(sections[2])["state"]["x"] == 1 << 90


@given(st.integers(0, len(EXAMPLE) - 1))
def test_a_stream_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(StreamError, match=r"section (after )?'[^']+' is (cut off|missing)"):
        read(EXAMPLE[:size])


def test_where_a_stream_ends_too_early_is_told_by_names() -> None:
    without_end = EXAMPLE[: -(len(written()) - 16)]
    told = {
        without_end: "section 'end' is missing: the stream ends after section '/machine/uart'",
        without_end + b"x": "the section after '/machine/uart' is cut off: the stream ends within",
        without_end[:-1]: "section '/machine/uart' is cut off: the stream ends within it",
        EXAMPLE[:16]: "section 'end' is missing: the stream ends after section 'header'",
    }
    for data, text in told.items():
        with pytest.raises(StreamError, match=text):
            read(data)


@given(st.integers(0, len(EXAMPLE) * 8 - 1))
def test_a_stream_with_a_flipped_bit_is_refused(bit: int) -> None:
    damaged = bytearray(EXAMPLE)
    damaged[bit >> 3] ^= 1 << (bit & 7)
    with pytest.raises(StreamError, match="section"):
        read(bytes(damaged))


@given(st.binary(max_size=200))
def test_a_foreign_stream_is_refused(data: bytes) -> None:
    with pytest.raises(StreamError, match=r"section 'header'(:| is cut off:)"):
        read(data)


@given(st.binary(max_size=60))
def test_any_payload_is_msgpack_or_refused(data: bytes) -> None:
    try:
        unpack(Section(Kind.STATE, "x", data))
    except ConfigError as error:
        assert str(error) == "section 'x' is damaged: it is not msgpack"


def test_a_missing_section_is_noticed_at_the_end() -> None:
    whole = written((Kind.STATE, "a", b"1"), (Kind.STATE, "b", b"2"))
    header, end = 16, len(written()) - 16
    section = len(written((Kind.STATE, "a", b"1"))) - header - end
    with pytest.raises(StreamError, match="'end' is damaged: sections before it are missing"):
        read(whole[: header + section] + whole[-end:])


def test_no_memory_is_taken_for_an_impossible_length() -> None:
    asked: list[int] = []
    data = io.BytesIO(EXAMPLE[:16] + bytes([2, 0, 1, 0]) + (MAX_PAYLOAD + 1).to_bytes(4, "little"))

    def read_some(size: int) -> bytes:
        asked.append(size)
        return data.read(size)

    with pytest.raises(StreamError, match="lengths are impossible"):
        Reader(read_some).section()
    assert max(asked) < 100


def test_an_endless_number_nests_nowhere() -> None:
    with pytest.raises(StreamError, match="not msgpack"):
        unpack(Section(Kind.STATE, "deep", b"\x91" * 100_000))
