"""The types of the monitor's language, derived from Python annotations.

One model serves checking and reading arguments, writing results, introspection, completion and the
reference manual. Python's `snake_case` is `dash-case` on the wire (`Named` says otherwise), an enum
member's value is its word, `X | None = None` or any other default makes a member optional, and a
dataclass is an object. `Annotated[A | B, Tagged("type", "Either")]` is a union: each class names
its case in a ClassVar `case`.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from ratite.monitor.errors import QmpError, missing, unexpected, wrong_type
from ratite.qom import Doc, Named


@dataclass(frozen=True, slots=True)
class Tagged:
    """Annotation of a union: the member that says which case it is, and the union's name.

    With `nested`, the other members are in an object of their own, under that name.
    """

    tag: str
    name: str
    nested: str = ""


class Type(ABC):
    """One type of the language."""

    @abstractmethod
    def parse(self, value: object, where: str) -> Any:
        """The Python value of a JSON value. `where` names it in the `QmpError` that is raised if
        it does not fit.
        """

    @abstractmethod
    def dump(self, value: Any) -> object:
        """The JSON value of a Python value."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What the reference manual calls it."""

    def parts(self) -> Iterator[Type]:
        """The types that it is made of."""
        yield from ()


@dataclass(frozen=True, slots=True, eq=False)
class Builtin(Type):
    """A type that needs no definition."""

    name: str
    json_type: str
    expected: str
    accepts: tuple[type, ...]

    def parse(self, value: object, where: str) -> Any:
        """The value itself, if it is of the type."""
        fits = isinstance(value, self.accepts)
        if isinstance(value, bool) and bool not in self.accepts and object not in self.accepts:
            fits = False
        if not fits:
            raise wrong_type(where, self.expected)
        return value

    def dump(self, value: Any) -> object:
        """The value itself."""
        return value

    @property
    def title(self) -> str:
        """The JSON type."""
        return self.expected


class Text(Builtin):
    """Strings that may be passed on to the host, where they end at a NUL: so they have none."""

    def parse(self, value: object, where: str) -> Any:
        """The string itself."""
        text = Builtin.parse(self, value, where)
        if "\0" in text:
            raise QmpError(f"Parameter '{where}' must not contain a NUL character")
        return text


class Integer(Builtin):
    """Integers of 64 bits, signed or not."""

    def parse(self, value: object, where: str) -> Any:
        """The integer itself."""
        number = Builtin.parse(self, value, where)
        if not -(1 << 63) <= number < 1 << 64:
            raise wrong_type(where, self.expected)
        return number


STR = Text("str", "string", "string", (str,))
INT = Integer("int", "int", "integer", (int,))
NUMBER = Builtin("number", "number", "number", (int, float))
BOOL = Builtin("bool", "boolean", "boolean", (bool,))
ANY = Builtin("any", "value", "any value", (object,))


@dataclass(frozen=True, slots=True, eq=False)
class EnumType(Type):
    """A choice of words, with the Python value of each."""

    name: str
    values: Mapping[str, Any]

    @property
    def words(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self.values)

    def parse(self, value: object, where: str) -> Any:
        """The Python value of a word."""
        if not isinstance(value, str):
            raise wrong_type(where, "string")
        if value not in self.values:
            name = where.rpartition(".")[2]
            raise QmpError(f"Parameter '{name}' does not accept value '{value}'")
        return self.values[value]

    def dump(self, value: Any) -> object:
        """The word."""
        return value.value if isinstance(value, enum.Enum) else value

    @property
    def title(self) -> str:
        """The enum's name."""
        return self.name


@dataclass(frozen=True, slots=True, eq=False)
class ArrayType(Type):
    """Any number of one type."""

    element: Type

    def parse(self, value: object, where: str) -> Any:
        """A list of the elements."""
        if not isinstance(value, list):
            raise wrong_type(where, "array")
        return [self.element.parse(item, f"{where}[{n}]") for n, item in enumerate(value)]

    def dump(self, value: Any) -> object:
        """A list of the elements."""
        dump = self.element.dump
        return [dump(item) for item in value]

    @property
    def title(self) -> str:
        """An array of what."""
        return f"array of {self.element.title}"

    def parts(self) -> Iterator[Type]:
        """The element's type."""
        yield self.element


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One member of an object."""

    name: str
    attribute: str
    type: Type
    optional: bool
    default: Any = None
    doc: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectType(Type):
    """Named members. `rest`, if not empty, is the attribute that takes members of other names.

    `variants` are further members by the word of the member `tag`; introspection shows them, and
    whoever gives them checks them.
    """

    name: str
    members: tuple[Member, ...]
    cls: type | None = None
    rest: str = ""
    tag: str = ""
    variants: tuple[tuple[str, ObjectType], ...] = ()
    words: EnumType | None = None  # the type of the tag, where the members have a plain string

    def parse(self, value: object, where: str) -> Any:
        """An instance of the class."""
        assert self.cls is not None
        if not isinstance(value, dict):
            raise wrong_type(where, "object")
        return self.cls(**self.parse_members(value, f"{where}."))

    def parse_members(self, given: Mapping[str, object], prefix: str = "") -> dict[str, Any]:
        """The members as keyword arguments."""
        arguments: dict[str, Any] = {}
        found = 0
        for member in self.members:
            if member.name in given:
                found += 1
                place = prefix + member.name
                arguments[member.attribute] = member.type.parse(given[member.name], place)
            elif not member.optional:
                raise missing(prefix + member.name)
        if self.rest:
            names = {member.name for member in self.members}
            arguments[self.rest] = {k: v for k, v in given.items() if k not in names}
        elif found < len(given):
            names = {member.name for member in self.members}
            raise unexpected(prefix + next(key for key in given if key not in names))
        return arguments

    def dump(self, value: Any) -> object:
        """An object without the optional members that are None."""
        answer: dict[str, object] = {}
        for member in self.members:
            item = getattr(value, member.attribute)
            if item is not None or not member.optional:
                answer[member.name] = member.type.dump(item)
        return answer

    @property
    def title(self) -> str:
        """The class's name."""
        return self.name

    def parts(self) -> Iterator[Type]:
        """The members' types, and the variants."""
        yield from (member.type for member in self.members)
        yield from (variant for _, variant in self.variants)


@dataclass(frozen=True, slots=True, eq=False)
class UnionType(Type):
    """One of several objects; a member says which."""

    name: str
    tag: str
    nested: str
    words: EnumType
    cases: Mapping[str, ObjectType]

    def parse(self, value: object, where: str) -> Any:
        """An instance of the case's class."""
        if not isinstance(value, dict):
            raise wrong_type(where, "object")
        place = f"{where}.{self.tag}"
        if self.tag not in value:
            raise missing(place)
        word = self.words.parse(value[self.tag], place)
        rest = {key: item for key, item in value.items() if key != self.tag}
        case = self.cases[word]
        if not self.nested:
            assert case.cls is not None
            return case.cls(**case.parse_members(rest, f"{where}."))
        inner = f"{where}.{self.nested}"
        if self.nested not in rest:
            raise missing(inner)
        if len(rest) > 1:
            raise unexpected(f"{where}.{next(key for key in rest if key != self.nested)}")
        return case.parse(rest[self.nested], inner)

    def dump(self, value: Any) -> object:
        """The case's members and its word."""
        body = self.cases[value.case].dump(value)
        assert isinstance(body, dict)
        return {self.tag: value.case, **({self.nested: body} if self.nested else body)}

    @property
    def title(self) -> str:
        """The union's name."""
        return self.name

    def parts(self) -> Iterator[Type]:
        """The cases."""
        yield self.words
        yield from self.cases.values()


_PLAIN: dict[object, Type] = {str: STR, int: INT, float: NUMBER, bool: BOOL, Any: ANY, object: ANY}


def wire_name(name: str) -> str:
    """A Python name as the protocol has it."""
    return name.rstrip("_").replace("_", "-")


@functools.cache
def type_of(annotation: Any) -> Type:
    """The type that an annotation stands for. Raises `TypeError` if there is none."""
    base, marks = unwrap(annotation)
    tagged = next((mark for mark in marks if isinstance(mark, Tagged)), None)
    if tagged is not None:
        return _union(base, tagged)
    if base in _PLAIN:
        return _PLAIN[base]
    origin = typing.get_origin(base)
    if origin in (list, tuple, Sequence):
        return ArrayType(type_of(typing.get_args(base)[0]))
    if isinstance(base, type) and issubclass(base, enum.Enum):
        return EnumType(base.__name__, {str(entry.value): entry for entry in base})
    if isinstance(base, type) and dataclasses.is_dataclass(base):
        return object_type(base)
    raise TypeError(f"the monitor has no type for {annotation!r}")


def object_type(cls: type) -> ObjectType:
    """The object that a dataclass describes."""
    hints = typing.get_type_hints(cls, include_extras=True)
    members = []
    for field in dataclasses.fields(cls):
        factory = field.default_factory is not dataclasses.MISSING
        optional = factory or field.default is not dataclasses.MISSING
        default = None if factory or not optional else field.default
        members.append(member(field.name, hints[field.name], optional=optional, default=default))
    return ObjectType(cls.__name__, tuple(members), cls)


def member(attribute: str, annotation: Any, *, optional: bool, default: Any = None) -> Member:
    """The member that a field or parameter stands for."""
    base, marks = unwrap(annotation)
    name, doc = wire_name(attribute), ""
    kept: list[object] = []
    for mark in marks:
        match mark:
            case Named(name=given):
                name = given
            case Doc(text=text):
                doc = text
            case _:
                kept.append(mark)
    plain = functools.reduce(lambda hint, mark: Annotated[hint, mark], kept, base)
    return Member(name, attribute, type_of(plain), optional, default, doc)


def unwrap(hint: Any) -> tuple[Any, list[object]]:
    """Take `Annotated` and `| None` off: the plain type, and the marks found on the way."""
    marks: list[object] = []
    while True:
        origin = typing.get_origin(hint)
        if origin is Annotated:
            marks.extend(hint.__metadata__)
            hint = hint.__origin__
            continue
        if origin in (typing.Union, types.UnionType):
            plain = [part for part in typing.get_args(hint) if part is not types.NoneType]
            if len(plain) == 1:
                hint = plain[0]
                continue
        return hint, marks


def _union(base: Any, tagged: Tagged) -> UnionType:
    classes = typing.get_args(base) or (base,)
    cases = {cls.case: object_type(cls) for cls in classes}
    words = word_type(f"{tagged.name}Kind", cases)
    return UnionType(tagged.name, tagged.tag, tagged.nested, words, cases)


def word_type(name: str, words: Iterable[str]) -> EnumType:
    """A choice of words that no Python enum lists."""
    return EnumType(name, {word: word for word in words})
