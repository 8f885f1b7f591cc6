"""The k=v and JSON forms of an option's value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratite.cli.keyval import Settings, parse_json
from ratite.core import ConfigError
from ratite.core.keyval import nest, parse_keyval, split_items


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("a,,b", ["a,b"]),
        ("a,,,b", ["a,", "b"]),
        ("a,", ["a"]),
        ("k=,x", ["k=", "x"]),
        ("", []),
    ],
)
def test_single_commas_separate_and_double_ones_are_commas(text: str, items: list[str]) -> None:
    assert split_items(text) == items


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9.-]*", fullmatch=True), st.text(), min_size=1))
def test_escaped_settings_read_back_as_they_were(settings: dict[str, str]) -> None:
    text = ",".join(f"{key}={value.replace(',', ',,')}" for key, value in settings.items())
    assert parse_keyval(text) == settings


def test_the_first_word_takes_the_implied_key() -> None:
    assert parse_keyval("virt,aclint=on", "type") == {"type": "virt", "aclint": "on"}


def test_a_word_without_a_value_is_on() -> None:
    assert parse_keyval("path=/x,server", "backend") == {"path": "/x", "server": "on"}


def test_a_later_setting_replaces_an_earlier_one() -> None:
    assert parse_keyval("a=1,a=2") == {"a": "2"}


def test_a_value_keeps_its_further_equals_signs() -> None:
    assert parse_keyval("append=root=/dev/vda") == {"append": "root=/dev/vda"}


def test_json_keeps_its_types() -> None:
    assert parse_json('{"a": true, "b": 3, "c": "x", "d": {"e": [null]}}') == {
        "a": True,
        "b": 3,
        "c": "x",
        "d": {"e": [None]},
    }


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": }', "{a: 1}"])
def test_bad_json_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a JSON object"):
        parse_json(text)


def test_a_setting_that_nobody_took_is_refused_with_a_guess() -> None:
    settings = Settings.read("readony=on")
    settings.switch("readonly", False)
    with pytest.raises(ConfigError, match="'readony' is not known; did you mean 'readonly'"):
        settings.done()


def test_dotted_settings_nest_as_json_does() -> None:
    flat = parse_keyval("driver=raw,file.driver=raw,file.file.filename=x,file.file.driver=file")
    below = {"driver": "raw", "file": {"filename": "x", "driver": "file"}}
    assert nest(flat) == {"driver": "raw", "file": below}


@pytest.mark.parametrize("text", ["file=x,file.driver=y", "file.driver=y,file=x", "a.b=1,a.b.c=2"])
def test_a_setting_is_a_value_or_has_settings_below(text: str) -> None:
    with pytest.raises(ConfigError, match="is a setting and has settings"):
        nest(parse_keyval(text))
