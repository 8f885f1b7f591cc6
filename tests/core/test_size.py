"""Sizes with suffixes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratite.core import ConfigError, GiB, KiB, MiB, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512b", 512),
        ("64k", 64 * KiB),
        ("64K", 64 * KiB),
        ("1.5G", 3 * GiB // 2),
        (".5M", MiB // 2),
        ("0x1000", 4096),
        ("1T", 1024 * GiB),
        ("1E", 1 << 60),
        (" 3M ", 3 * MiB),
    ],
)
def test_suffixes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_bare_number_counts_in_the_default_suffix() -> None:
    assert parse_size("128", default_suffix="m") == 128 * MiB
    assert parse_size("128k", default_suffix="m") == 128 * KiB
    assert parse_size("0x10", default_suffix="m") == 16


@pytest.mark.parametrize("text", ["", "k", "-1", "1.2.3", "1Q", "0x", "12 34", "1e3", "nan"])
def test_anything_else_is_refused_with_the_culprit_named(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size"):
        parse_size(text)


def test_the_limit_is_64_bits() -> None:
    assert parse_size("0xffffffffffffffff") == (1 << 64) - 1
    with pytest.raises(ConfigError, match="too large"):
        parse_size("16E")


@given(st.integers(0, (1 << 64) - 1))
def test_every_number_of_bytes_is_read_back(size: int) -> None:
    assert parse_size(str(size)) == size
    assert parse_size(hex(size)) == size


def test_sizes_are_written_in_the_largest_whole_unit() -> None:
    assert format_size(512 * MiB) == "512 MiB"
    assert format_size(1025) == "1025 B"
    assert format_size(0) == "0 B"
