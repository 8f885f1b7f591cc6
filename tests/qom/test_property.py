"""Properties from constructor signatures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratite.qom import (
    Backend,
    Doc,
    Named,
    Object,
    PropertyError,
    PropertyGroup,
    Size,
    UInt8,
    UInt16,
    UInt32,
    object_new,
)


class Policy(Enum):
    REPORT = "report"
    STOP = "stop"


class Disk:
    id = "d0"


@dataclass(frozen=True)
class Features(PropertyGroup):
    event_idx: Annotated[bool, Named("event_idx")] = True
    packed: bool = False


class Card(Object):
    type_name = "test-card"
    value_type_names = {}  # as devices have it

    def __init__(
        self,
        *,
        num_queues: Annotated[UInt16, Doc("how many queues")] = 1,
        level: UInt8 = 0,
        delta: int = -1,
        memory: Size = 4096,
        enabled: bool = True,
        serial: str = "",
        rerror: Policy = Policy.REPORT,
        drive: Annotated[Disk | None, Backend("drive")] = None,
        features: Features = Features(),
    ) -> None:
        self.num_queues = num_queues
        self.level = level
        self.delta = delta
        self.memory = memory
        self.enabled = enabled
        self.serial = serial
        self.rerror = rerror
        self.drive = drive
        self.features = features
        super().__init__()


class Needy(Object):
    type_name = "test-needy"

    def __init__(self, *, limit: UInt32) -> None:
        self.limit = limit
        super().__init__()


def make(**values: object) -> Card:
    given_names = {name.replace("_", "-"): value for name, value in values.items()}
    card = object_new(Card, given_names, lambda kind, name: Disk() if name == "d0" else None)
    assert isinstance(card, Card)
    return card


def test_names_and_types_come_from_the_signature_in_its_order() -> None:
    assert [(p.name, p.type_name) for p in Card.properties().values()] == [
        ("num-queues", "uint16"),
        ("level", "uint8"),
        ("delta", "int64"),
        ("memory", "size"),
        ("enabled", "bool"),
        ("serial", "str"),
        ("rerror", "Policy"),
        ("drive", "str"),
        ("event_idx", "bool"),
        ("packed", "bool"),
    ]


def test_defaults_are_the_constructors() -> None:
    card = make()
    for entry in Card.properties().values():
        assert entry.get(card) == entry.default


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("num_queues", "4", 4),
        ("num_queues", "0x10", 16),
        ("num_queues", 7, 7),
        ("delta", "-5", -5),
        ("memory", "2M", 2 << 20),
        ("enabled", "off", False),
        ("enabled", "yes", True),
        ("enabled", False, False),
        ("serial", "abc", "abc"),
        ("rerror", "stop", Policy.STOP),
    ],
)
def test_values_are_read_from_text_and_json(name: str, text: object, value: object) -> None:
    assert getattr(make(**{name: text}), name) == value


def test_a_group_is_built_from_its_members() -> None:
    card = object_new(Card, {"event_idx": "off", "packed": "on"})
    assert isinstance(card, Card) and card.features == Features(event_idx=False, packed=True)
    assert card.get_property("event_idx") is False


def test_a_backend_is_looked_up_and_shows_its_id() -> None:
    card = make(drive="d0")
    assert isinstance(card.drive, Disk)
    assert card.get_property("drive") == "d0"
    assert make().get_property("drive") == ""


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"foo": "1"}, "Property 'test-card.foo' not found"),
        ({"num-queues": "foo"}, "Parameter 'num-queues' expects integer"),
        ({"num-queues": "700000"}, "Parameter 'num-queues' expects uint16_t"),
        ({"num-queues": "-1"}, "Parameter 'num-queues' expects uint16_t"),
        ({"num-queues": True}, "Invalid parameter type for 'num-queues', expected: integer"),
        ({"enabled": "maybe"}, "Parameter 'enabled' expects 'on' or 'off'"),
        ({"enabled": 3}, "Invalid parameter type for 'enabled', expected: boolean"),
        ({"serial": 3}, "Invalid parameter type for 'serial', expected: string"),
        ({"rerror": "x"}, "Parameter 'rerror' does not accept value 'x'"),
        ({"drive": "zz"}, "Property 'test-card.drive' can't find value 'zz'"),
    ],
)
def test_wrong_values_are_refused_in_qemus_words(values: dict[str, Any], text: str) -> None:
    with pytest.raises(PropertyError) as caught:
        object_new(Card, values, lambda kind, name: None)
    assert str(caught.value).startswith(text)


def test_a_property_without_default_must_be_set() -> None:
    with pytest.raises(PropertyError, match=r"'test-needy\.limit' must be set"):
        object_new(Needy, {})
    assert object_new(Needy, {"limit": "3"}).get_property("limit") == 3


@given(st.integers(-(1 << 70), 1 << 70))
def test_integers_are_taken_exactly_within_their_range(value: int) -> None:
    if 0 <= value <= 0xFFFF:
        assert make(num_queues=str(value)).num_queues == value
    else:
        with pytest.raises(PropertyError):
            make(num_queues=str(value))


@given(st.text())
def test_no_text_makes_a_parser_fail_in_another_way(text: str) -> None:
    for name in Card.properties():
        try:
            object_new(Card, {name: text})
        except Exception as error:
            assert isinstance(error, PropertyError) or "size" in str(error)


def test_values_are_shown_as_info_qtree_shows_them() -> None:
    card = make(num_queues=96, serial="x", rerror="stop", drive="d0")
    shown = {p.name: p.to_text(p.get(card)) for p in Card.properties().values()}
    assert shown["num-queues"] == "96 (0x60)"
    assert shown["delta"] == "-1"
    assert shown["memory"] == "4096 (4 KiB)"
    assert shown["enabled"] == "true"
    assert shown["serial"] == '"x"'
    assert shown["rerror"] == '"stop"'
    assert shown["drive"] == '"d0"'


def test_help_lines_have_qemus_form() -> None:
    lines = [p.help_line() for p in Card.properties().values()]
    assert lines[0] == "  num-queues=<uint16>    - how many queues (default: 1)"
    assert lines[4] == "  enabled=<bool>         - on/off (default: true)"
    assert lines[7] == "  drive=<str>"


def test_a_frozen_object_refuses_to_be_set() -> None:
    class Fixed(Object):
        def __init__(self, *, speed: int = 3) -> None:
            self.speed = speed
            super().__init__()

        @property
        def frozen(self) -> bool:
            return True

    with pytest.raises(PropertyError, match=r"anonymous device .* after it was realized"):
        Fixed().set_property("speed", 4)
