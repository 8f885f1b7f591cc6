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
from ratite.qom import Doc, Either, Feature, Named, Range, Tagged


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


MAX_DEPTH = 32
"""How often a type may be inside itself."""


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


class Unsigned(Integer):
    """Integers of 64 bits without a sign; a negative number is its two's complement."""

    def parse(self, value: object, where: str) -> Any:
        """The integer, from 0 on."""
        try:
            return Integer.parse(self, value, where) & ((1 << 64) - 1)
        except QmpError:
            raise QmpError(f"Parameter '{where}' expects uint64") from None


STR = Text("str", "string", "string", (str,))
INT = Integer("int", "int", "integer", (int,))
NUMBER = Builtin("number", "number", "number", (int, float))
BOOL = Builtin("bool", "boolean", "boolean", (bool,))
UINT64 = Unsigned("int", "int", "integer", (int,))
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
    features: tuple[str, ...] = ()


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
    features: tuple[str, ...] = ()

    def parse(self, value: object, where: str) -> Any:
        """An instance of the class."""
        assert self.cls is not None
        if not isinstance(value, dict):
            raise wrong_type(where, "object")
        return self.cls(**self.parse_members(value, _inside(where)))

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
    """One of several objects; a member says which. `shared` are the members that all cases have
    from a class in common, `variants` the cases without them.
    """

    name: str
    tag: str
    nested: str
    words: EnumType
    cases: Mapping[str, ObjectType]
    shared: tuple[Member, ...]
    variants: Mapping[str, ObjectType]

    @property
    def members(self) -> tuple[Member, ...]:
        """What every case has."""
        return (Member(self.tag, self.tag, self.words, optional=False), *self.shared)

    def parse(self, value: object, where: str) -> Any:
        """An instance of the case's class."""
        if not isinstance(value, dict):
            raise wrong_type(where, "object")
        place = _inside(where) + self.tag
        if self.tag not in value:
            raise missing(place)
        word = self.words.parse(value[self.tag], place)
        rest = {key: item for key, item in value.items() if key != self.tag}
        case = self.cases[word]
        if not self.nested:
            assert case.cls is not None
            return case.cls(**case.parse_members(rest, _inside(where)))
        inner = _inside(where) + self.nested
        if self.nested not in rest:
            raise missing(inner)
        if len(rest) > 1:
            other = next(key for key in rest if key != self.nested)
            raise unexpected(_inside(where) + other)
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
        yield from (member.type for member in self.shared)
        yield from self.variants.values()


class AlternateType(Type):
    """An object or a text: the value alone says which. Such types may contain themselves, so their
    parts are looked up when they are used.
    """

    def __init__(self, name: str, hints: Sequence[Any]) -> None:
        self.name = name
        self._hints = hints

    @property
    def choices(self) -> tuple[Type, ...]:
        """What it can be."""
        return tuple(type_of(hint) for hint in self._hints)

    def parse(self, value: object, where: str) -> Any:
        """A text as it is, an object as its type reads it."""
        check_depth(where)
        for choice in self.choices:
            if isinstance(value, str if choice is STR else dict):
                return choice.parse(value, where)
        raise wrong_type(where, self.name)

    def dump(self, value: Any) -> object:
        """The JSON value."""
        if isinstance(value, str):
            return value
        return next(choice for choice in self.choices if choice is not STR).dump(value)

    @property
    def title(self) -> str:
        """The alternate's name."""
        return self.name

    def parts(self) -> Iterator[Type]:
        """What it can be."""
        yield from self.choices


def check_depth(where: str) -> None:
    """Raise `QmpError` for a value that is inside too many others of its kind."""
    if where.count(".") >= MAX_DEPTH:
        raise QmpError(f"Parameter '{where[:20]}...' is nested too deeply")


class LazyType(Type):
    """A type inside itself: it is looked up when it is used."""

    def __init__(self, hint: Any) -> None:
        self._hint = hint

    @property
    def target(self) -> Type:
        """The type."""
        return type_of(self._hint)

    def parse(self, value: object, where: str) -> Any:
        """As the type does."""
        return self.target.parse(value, where)

    def dump(self, value: Any) -> object:
        """As the type does."""
        return self.target.dump(value)

    @property
    def title(self) -> str:
        """The type's."""
        return self.target.title

    def parts(self) -> Iterator[Type]:
        """The type."""
        yield self.target


class RecursiveMark:
    """Marks a member of the type that it is in."""


Recursive = RecursiveMark()


def _inside(where: str) -> str:
    """What stands before the names of members of the value at `where`."""
    return f"{where}." if where else ""


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
    if Recursive in marks:
        return LazyType(base)
    either = next((mark for mark in marks if isinstance(mark, Either)), None)
    if either is not None:
        return AlternateType(either.name, typing.get_args(base))
    if any(isinstance(mark, Range) and mark.type_name == "uint64" for mark in marks):
        return UINT64
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


@functools.cache
def object_type(cls: type) -> ObjectType:
    """The object that a dataclass describes."""
    hints = typing.get_type_hints(cls, include_extras=True)
    members = []
    for field in dataclasses.fields(cls):
        factory = field.default_factory is not dataclasses.MISSING
        optional = factory or field.default is not dataclasses.MISSING
        default = None if factory or not optional else field.default
        members.append(member(field.name, hints[field.name], optional=optional, default=default))
    features: tuple[str, ...] = getattr(cls, "features", ())
    return ObjectType(cls.__name__, tuple(members), cls, features=features)


def member(attribute: str, annotation: Any, *, optional: bool, default: Any = None) -> Member:
    """The member that a field or parameter stands for."""
    base, marks = unwrap(annotation)
    name, doc = wire_name(attribute), ""
    features: tuple[str, ...] = ()
    kept: list[object] = []
    for mark in marks:
        match mark:
            case Named(name=given):
                name = given
            case Doc(text=text):
                doc = text
            case Feature(name=word):
                features += (word,)
            case _:
                kept.append(mark)
    plain = functools.reduce(lambda hint, mark: Annotated[hint, mark], kept, base)
    return Member(name, attribute, type_of(plain), optional, default, doc, features)


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
    classes = [cls for cls in typing.get_args(base) or (base,) if cls is not types.NoneType]
    cases = {cls.case: object_type(cls) for cls in classes}
    words = word_type(f"{tagged.name}Kind", cases)
    base_class = None if tagged.nested else _common_base(classes)
    if base_class is None:
        return UnionType(tagged.name, tagged.tag, tagged.nested, words, cases, (), cases)
    shared = object_type(base_class).members
    names = {member.name for member in shared}
    own = {
        word: dataclasses.replace(
            case, members=tuple(member for member in case.members if member.name not in names)
        )
        for word, case in cases.items()
    }
    return UnionType(tagged.name, tagged.tag, "", words, cases, shared, own)


def _common_base(classes: Sequence[type]) -> type | None:
    """The dataclass that all of these derive from, if there is one."""
    for base in classes[0].__mro__[1:]:
        if dataclasses.is_dataclass(base) and all(issubclass(cls, base) for cls in classes):
            return base
    return None


def word_type(name: str, words: Iterable[str]) -> EnumType:
    """A choice of words that no Python enum lists."""
    return EnumType(name, {word: word for word in words})
