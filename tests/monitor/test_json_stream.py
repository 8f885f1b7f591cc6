"""JSON out of a stream, whatever comes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratite.monitor.json_stream import MAX_BYTES, MAX_NESTING, Fault, JsonStream


def drain(stream: JsonStream) -> list[object]:
    found = []
    while (value := stream.next()) is not None:
        found.append(value)
    return found


def read(*pieces: bytes) -> list[object]:
    stream = JsonStream()
    found = []
    for piece in pieces:
        stream.feed(piece)
        found += drain(stream)
    return found


def faults(data: bytes) -> list[str]:
    return [value.text for value in read(data) if isinstance(value, Fault)]


def test_a_value_ends_where_its_brackets_are_balanced() -> None:
    assert read(b'{"a":1}{"b":[2,{}]}\n\n  []') == [{"a": 1}, {"b": [2, {}]}, []]


def test_brackets_inside_strings_do_not_count() -> None:
    assert read(b'{"a":"}]{[\\"}"}') == [{"a": '}]{["}'}]


def test_strings_may_be_in_single_quotes() -> None:
    assert read(b"{'a': 'it\\'s \"x\"', \"b\": \"don't\"}") == [{"a": 'it\'s "x"', "b": "don't"}]


def test_a_whole_number_beyond_64_bits_is_only_near() -> None:
    assert read(b"[18446744073709551615,-9223372036854775808,-0]") == [[2**64 - 1, -(2**63), 0]]
    (near,) = read(b"[18446744073709551616,-9223372036854775809,1%s]" % (b"0" * 300))
    assert repr(near) == "[1.8446744073709552e+19, -9.223372036854776e+18, 1e+300]"


def test_a_value_may_come_byte_by_byte() -> None:
    text = b'{"a": "\\\\", "b": [1, 2, "\xc3\xa9"]}'
    assert read(*(bytes((byte,)) for byte in text)) == [{"a": "\\", "b": [1, 2, "é"]}]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"}", "JSON parse error, expecting value"),
        (b'{"a":}', "JSON parse error, expecting value"),
        (b'{"a":1,}', "JSON parse error, expecting value"),
        (b'{"a" 1}', "JSON parse error, missing : in object pair"),
        (b'{"a":1,"a":2}', "JSON parse error, duplicate key"),
        (b"nonsense ", "JSON parse error, invalid keyword 'nonsense'"),
        (b"{]", "JSON parse error, expecting value"),
        (b'{"a":"\xff"}', "JSON parse error, invalid UTF-8 sequence in string"),
        (b'{"a":NaN}', "JSON parse error, invalid keyword 'NaN'"),
        (b'{"a":"\x01"}\n', "JSON parse error, control character in string"),
        (b'{"a":"x\\\n"', "JSON parse error, control character in string"),
        (b'{"a":nul}', "JSON parse error, invalid keyword 'nul'"),
        (b'{"a":1 "b":2}', "JSON parse error, expected separator in dict"),
        (b'{"a":["x[",1 2]}', "JSON parse error, expected separator in list"),
        (b"{1:2}", "JSON parse error, key is not a string in object"),
        (b'{"a":"\\x"}', "JSON parse error, invalid escape sequence in string"),
        (b'{"a":1e400}', "JSON parse error, number out of range"),
        (b'{"a":%s}' % (b"1" * 1_000_000), "JSON parse error, number out of range"),
        (b'{"a":"\\ud800"}', "JSON parse error, \\ud800 is not a valid Unicode character"),
        (b'{"\\uDFFF":1}', "JSON parse error, \\udfff is not a valid Unicode character"),
    ],
)
def test_what_cannot_be_a_value_is_one_fault(data: bytes, text: str) -> None:
    assert faults(data) == [text]


def test_reading_goes_on_after_a_fault() -> None:
    assert read(b'{"a":}{"b":1}')[1:] == [{"b": 1}]
    assert read(b'}{"b":1}')[1:] == [{"b": 1}]


def test_a_string_that_never_ends_costs_no_more_than_its_line() -> None:
    found = read(b'{"a":"oops\n{"b":1}\n')
    assert found == [Fault("JSON parse error, control character in string"), {"b": 1}]


def test_a_character_beyond_16_bits_may_be_two_escapes() -> None:
    assert read(b'{"a":"\\ud83d\\ude00"}') == [{"a": "\U0001f600"}]


def test_deep_nesting_is_a_fault_and_the_line_is_given_up() -> None:
    data = b"[" * (MAX_NESTING + 10) + b"]" * (MAX_NESTING + 10) + b'\n{"a":1}'
    assert read(data) == [Fault("JSON nesting depth limit exceeded"), {"a": 1}]
    assert len(read(b"[" * MAX_NESTING + b"]" * MAX_NESTING)) == 1


def test_megabytes_without_an_end_are_a_fault_and_take_bounded_memory() -> None:
    stream = JsonStream()
    stream.feed(b'{"a":"')
    found: list[object] = []
    for _ in range(3 * MAX_BYTES // 65536):
        stream.feed(b"x" * 65536)
        found += drain(stream)
        assert stream.pending <= MAX_BYTES + 65536
    stream.feed(b'\n{"b":1}')
    assert [*found, *drain(stream)] == [Fault("JSON token size limit exceeded"), {"b": 1}]


def test_an_endless_word_is_faults_at_once() -> None:
    assert len(faults(b"a" * 2000)) >= 7


@given(st.binary(max_size=300), st.integers(1, 40))
def test_no_bytes_break_it_and_how_they_are_cut_makes_no_difference(data: bytes, cut: int) -> None:
    pieces = [data[at : at + cut] for at in range(0, len(data), cut)]
    whole, parts = read(data), read(*pieces)
    assert whole == parts


TOKENS = [b"{", b"}", b"[", b"]", b'"', b"'", b":", b",", b"\\", b" ", b"\n", b"1", b"true", b"x"]


@given(st.lists(st.sampled_from(TOKENS), max_size=60).map(b"".join), st.integers(1, 7))
def test_no_tokens_break_it(data: bytes, cut: int) -> None:
    pieces = [data[at : at + cut] for at in range(0, len(data), cut)]
    assert read(data) == read(*pieces)


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=5), st.integers(1, 60))
def test_objects_come_out_as_they_went_in(objects: list[dict[str, object]], cut: int) -> None:
    data = "\r\n".join(json.dumps(entry) for entry in objects).encode()
    pieces = [data[at : at + cut] for at in range(0, len(data), cut)]
    assert read(*pieces) == objects
