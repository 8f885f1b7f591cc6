"""From annotations to the monitor's types."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, ClassVar

import pytest

from ratite.monitor.errors import QmpError
from ratite.monitor.introspect import SchemaWriter
from ratite.monitor.text import from_text
from ratite.monitor.types import Recursive, type_of
from ratite.qom import Doc, Either, Feature, Named, Tagged, UInt64


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


@dataclass(frozen=True, kw_only=True)
class Node:
    """What a leaf and a branch have in common."""

    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Leaf(Node):
    case: ClassVar[str] = "leaf"
    features: ClassVar[tuple[str, ...]] = ("green",)
    size: Annotated[int | None, Feature("deprecated")] = None


@dataclass(frozen=True, kw_only=True)
class Branch(Node):
    case: ClassVar[str] = "branch"
    below: Annotated[Tree | str, Either("TreeRef")]
    strong: bool = False


Tree = Annotated[Leaf | Branch, Tagged("kind", "Tree")]


@dataclass(frozen=True)
class Chain:
    value: int
    rest: Annotated[Chain | None, Recursive] = None


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
        (int, 1 << 64, "Invalid parameter type for 'v', expected: integer"),
        (UInt64, 1 << 64, "Parameter 'v' expects uint64"),
        (UInt64, "1", "Parameter 'v' expects uint64"),
        (
            Tree,
            {"kind": "branch", "below": 1},
            "Invalid parameter type for 'v.below', expected: TreeRef",
        ),
        (
            Tree,
            {"kind": "branch", "below": {"kind": "leaf", "x": 1}},
            "Parameter 'v.below.x' is unexpected",
        ),
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


def test_a_union_may_contain_itself_or_a_name() -> None:
    tree = {"kind": "branch", "name": "b", "below": {"kind": "branch", "below": "other"}}
    found = type_of(Tree).parse(tree, "")
    assert found == Branch(name="b", below=Branch(below="other"))
    assert type_of(Tree).dump(found) == {
        "kind": "branch",
        "name": "b",
        "below": {"kind": "branch", "below": "other", "strong": False},
        "strong": False,
    }
    with pytest.raises(QmpError, match="Parameter 'kind' does not accept value 'bush'"):
        type_of(Tree).parse({"kind": "bush"}, "")


def test_what_contains_itself_too_often_is_refused() -> None:
    tree: dict[str, Any] = {"kind": "leaf"}
    for _ in range(5000):
        tree = {"kind": "branch", "below": tree}
    with pytest.raises(QmpError, match="nested too deeply"):
        type_of(Tree).parse(tree, "")
    with pytest.raises(QmpError, match="nested too deeply"):
        from_text(type_of(Tree), tree)


def test_an_object_may_contain_itself() -> None:
    chain = {"value": 1, "rest": {"value": 2}}
    assert type_of(Chain).parse(chain, "c") == Chain(1, Chain(2))
    assert type_of(Chain).dump(Chain(1, Chain(2))) == chain


def test_a_number_of_64_bits_has_no_sign() -> None:
    assert type_of(UInt64).parse(-5, "v") == (1 << 64) - 5
    assert type_of(UInt64).parse((1 << 64) - 1, "v") == (1 << 64) - 1


def test_the_schema_of_what_contains_itself() -> None:
    writer = SchemaWriter()
    name = writer.name_of(type_of(Tree))
    chain = writer.name_of(type_of(Chain))
    entries = {str(entry["name"]): entry for entry in writer.entries}
    top: Any = entries[name]
    assert [member["name"] for member in top["members"]] == ["kind", "name"]
    cases: Any = {variant["case"]: entries[variant["type"]] for variant in top["variants"]}
    assert cases["leaf"]["features"] == ["green"]
    (size,) = cases["leaf"]["members"]
    assert size["features"] == ["deprecated"] and size["default"] is None
    below, strong = cases["branch"]["members"]
    assert "default" not in below and "default" in strong
    alternate: Any = entries[below["type"]]
    assert alternate["meta-type"] == "alternate"
    assert {member["type"] for member in alternate["members"]} == {name, "str"}
    link: Any = entries[chain]
    assert link["members"][1] == {"name": "rest", "type": chain, "default": None}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ({"kind": "leaf", "size": "0x10"}, {"kind": "leaf", "size": 16}),
        (
            {"kind": "branch", "strong": "on", "below": {"kind": "leaf", "size": "3", "x": "y"}},
            {"kind": "branch", "strong": True, "below": {"kind": "leaf", "size": 3, "x": "y"}},
        ),
        (
            {"kind": "branch", "below": "5", "strong": "off"},
            {"kind": "branch", "below": "5", "strong": False},
        ),
        ({"kind": "bush", "size": "3"}, {"kind": "bush", "size": "3"}),
        ({"kind": "leaf", "size": 3}, {"kind": "leaf", "size": 3}),
        ("leaf", "leaf"),
    ],
)
def test_texts_stand_for_values(text: object, value: object) -> None:
    assert from_text(type_of(Tree), text) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ({"kind": "leaf", "size": "many"}, "Parameter 'size' expects integer"),
        ({"kind": "branch", "strong": "yes"}, "Parameter 'strong' expects 'on' or 'off'"),
        (
            {"kind": "branch", "below": {"kind": "leaf", "size": "1k"}},
            "Parameter 'below.size' expects integer",
        ),
    ],
)
def test_texts_without_a_meaning_are_refused(text: object, complaint: str) -> None:
    with pytest.raises(QmpError) as error:
        from_text(type_of(Tree), text)
    assert str(error.value) == complaint
