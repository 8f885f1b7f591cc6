"""From annotations to the monitor's types."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, ClassVar

import pytest

from ratite.monitor.errors import QmpError
from ratite.monitor.types import Tagged, type_of
from ratite.qom import Doc, Named


class Colour(Enum):
    RED = "red"
    DARK_RED = "dark-red"


@dataclass(frozen=True)
class Point:
    x_pos: int
    y_pos: int = 0
    colour: Colour | None = None
    in_: Annotated[str | None, Named("in"), Doc("a word")] = None
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Circle:
    case: ClassVar[str] = "circle"
    radius: float


@dataclass(frozen=True)
class Square:
    case: ClassVar[str] = "square"
    side: int


Flat = Annotated[Circle | Square, Tagged("kind", "Shape")]
Nested = Annotated[Circle | Square, Tagged("kind", "Shape", nested="data")]


def test_objects_are_read_and_written() -> None:
    kind = type_of(Point)
    point = kind.parse({"x-pos": 1, "colour": "dark-red", "in": "a", "names": ["n"]}, "p")
    assert point == Point(1, 0, Colour.DARK_RED, "a", ["n"])
    assert kind.dump(point) == {
        "x-pos": 1, "y-pos": 0, "colour": "dark-red", "in": "a", "names": ["n"],
    }  # fmt: skip
    assert kind.dump(Point(1)) == {"x-pos": 1, "y-pos": 0, "names": []}


def test_unions_are_read_and_written() -> None:
    assert type_of(Flat).parse({"kind": "square", "side": 2}, "s") == Square(2)
    assert type_of(Nested).parse({"kind": "circle", "data": {"radius": 1}}, "s") == Circle(1)
    assert type_of(Flat).dump(Square(2)) == {"kind": "square", "side": 2}
    assert type_of(Nested).dump(Circle(1.5)) == {"kind": "circle", "data": {"radius": 1.5}}


@pytest.mark.parametrize(
    ("hint", "value", "text"),
    [
        (int, "1", "Invalid parameter type for 'v', expected: integer"),
        (int, True, "Invalid parameter type for 'v', expected: integer"),
        (int, 1.5, "Invalid parameter type for 'v', expected: integer"),
        (bool, 1, "Invalid parameter type for 'v', expected: boolean"),
        (float, "x", "Invalid parameter type for 'v', expected: number"),
        (str, None, "Invalid parameter type for 'v', expected: string"),
        (list[int], {}, "Invalid parameter type for 'v', expected: array"),
        (list[int], [1, "x"], "Invalid parameter type for 'v[1]', expected: integer"),
        (Colour, "blue", "Parameter 'v' does not accept value 'blue'"),
        (Colour, 1, "Invalid parameter type for 'v', expected: string"),
        (Point, 1, "Invalid parameter type for 'v', expected: object"),
        (Point, {}, "Parameter 'v.x-pos' is missing"),
        (Point, {"x-pos": 1, "z": 1}, "Parameter 'v.z' is unexpected"),
        (Point, {"x-pos": 1, "x_pos": 1}, "Parameter 'v.x_pos' is unexpected"),
        (Flat, {"side": 1}, "Parameter 'v.kind' is missing"),
        (Flat, {"kind": "oval"}, "Parameter 'kind' does not accept value 'oval'"),
        (Flat, {"kind": "square", "radius": 1}, "Parameter 'v.side' is missing"),
        (Nested, {"kind": "square"}, "Parameter 'v.data' is missing"),
        (Nested, {"kind": "square", "data": {"side": 1}, "x": 1}, "Parameter 'v.x' is unexpected"),
    ],
)
def test_what_does_not_fit_is_refused_in_qemus_words(hint: Any, value: object, text: str) -> None:
    with pytest.raises(QmpError) as error:
        type_of(hint).parse(value, "v")
    assert str(error.value) == text


def test_anything_passes_as_any() -> None:
    for value in (None, 1, [{}], {"a": True}):
        assert type_of(Any).parse(value, "v") == value


def test_an_annotation_without_a_type_is_refused_at_once() -> None:
    with pytest.raises(TypeError):
        type_of(bytes)
