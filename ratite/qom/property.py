"""Typed properties, derived from the keyword-only parameters of a constructor.

    class Plic(Device):
        def __init__(self, harts: Sequence[HartPins], *, num_sources: UInt32 = 96) -> None:
            self.num_sources = num_sources
            super().__init__()

declares the property `num-sources` of type `uint32`, read back from the attribute of the same name.
An annotation can say more: `Annotated[UInt32, Doc("lines in"), Named("sources")]`. A frozen
dataclass that derives from `PropertyGroup` stands for one property per field.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

from ratite.core.errors import ConfigError
from ratite.core.number import whole_number
from ratite.core.size import format_size, parse_size


class PropertyError(ConfigError):
    """A property that does not exist, cannot take a value, or cannot be set now."""


class InUse(ConfigError):
    """A backend that another user has to itself."""


@dataclass(frozen=True, slots=True)
class Range:
    """Annotation of an int: the name of its type and its limits, both inclusive."""

    type_name: str
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Doc:
    """Annotation: one line that `-device X,help` shows."""

    text: str


@dataclass(frozen=True, slots=True)
class Named:
    """Annotation: the property's name, where it is not the parameter's with dashes."""

    name: str


@dataclass(frozen=True, slots=True)
class TypeName:
    """Annotation of an enum: what clients know the type as, where it is not the class's name."""

    name: str


@dataclass(frozen=True, slots=True)
class Backend:
    """Annotation of a parameter that takes a host-side object: users give its id.

    `kind` is the word that a `Resolver` is asked with ("drive", "chardev", "netdev", "rng-backend"
    ...); `type_name` is what `qom-list` shows.
    """

    kind: str
    type_name: str = "str"


class PropertyGroup:
    """Base of a frozen dataclass whose fields are properties, for constructors that share many."""


UInt8 = Annotated[int, Range("uint8", 0, 0xFF)]
UInt16 = Annotated[int, Range("uint16", 0, 0xFFFF)]
UInt32 = Annotated[int, Range("uint32", 0, 0xFFFF_FFFF)]
UInt64 = Annotated[int, Range("uint64", 0, 0xFFFF_FFFF_FFFF_FFFF)]
Int32 = Annotated[int, Range("int32", -(1 << 31), (1 << 31) - 1)]
Int64 = Annotated[int, Range("int64", -(1 << 63), (1 << 63) - 1)]
Size = Annotated[int, Range("size", 0, 0xFFFF_FFFF_FFFF_FFFF)]

NOTHING: Mapping[str, str] = types.MappingProxyType({})
INT64 = (-(1 << 63), (1 << 63) - 1)
Resolver = Callable[[str, str], object | None]
"""Answers the host-side object of a kind with an id; None if there is none."""


@runtime_checkable
class Identified(Protocol):
    """What a backend shows of itself."""

    id: str


@runtime_checkable
class HasPath(Protocol):
    """What is in the composition tree."""

    @property
    def path(self) -> str:
        """Where."""


@runtime_checkable
class Typed(Protocol):
    """What has a type by name."""

    def is_of(self, type_name: str) -> bool:
        """Whether it is of this type, or of one that refines it."""


class Required(enum.Enum):
    """Marks a property without a default."""

    REQUIRED = "required"


class Form(enum.Enum):
    """How a property's value is written."""

    BOOL = enum.auto()
    INT = enum.auto()
    SIZE = enum.auto()
    STR = enum.auto()
    ENUM = enum.auto()
    BACKEND = enum.auto()
    INTS = enum.auto()
    NUMBERS = enum.auto()  # integers by name; `choices` are the names


@dataclass(frozen=True, slots=True)
class Property:
    """One property of a type: `name` as users write it, `attribute` (dotted, inside a group) as
    Python has it.
    """

    name: str
    attribute: str
    form: Form
    type_name: str
    default: Any
    description: str = ""
    minimum: int = 0
    maximum: int = 0
    choices: tuple[tuple[str, Any], ...] = ()
    kind: str = ""
    range_name: str = ""

    def get(self, instance: object) -> Any:
        """The value in an instance."""
        value: Any = instance
        for part in self.attribute.split("."):
            value = getattr(value, part)
        return value

    def parse(
        self, owner: str, value: object, resolve: Resolver | None = None, *, strict: bool = False
    ) -> Any:
        """Read a value given as text or JSON for the type `owner`. Raises `PropertyError`. If it is
        `strict`, the value is of JSON's type: a text is no number.
        """
        match self.form:
            case Form.BOOL:
                return self._bool(value, strict)
            case Form.INT | Form.SIZE:
                return self._int(value, strict)
            case Form.INTS:
                return self._ints(value, strict)
            case Form.NUMBERS:
                return self._numbers(value, strict)
            case Form.STR:
                if not isinstance(value, str):
                    raise self._wrong_type("string")
                if "\0" in value:
                    raise PropertyError(f"Parameter '{self.name}' must not contain a NUL character")
                return value
            case Form.ENUM:
                return self._choice(value)
            case Form.BACKEND:
                return self._backend(owner, value, resolve)

    def to_json(self, value: Any) -> object:
        """The value as `qom-get` answers it."""
        if self.form is Form.INTS:
            return list(value)
        if self.form is Form.NUMBERS:
            return dict(value)
        if self.form is Form.ENUM:
            return next((word for word, choice in self.choices if choice == value), "")
        if self.form is Form.BACKEND:
            if self.type_name.startswith("link<") and isinstance(value, HasPath):
                return value.path
            return value.id if isinstance(value, Identified) else ""
        return "" if value is None else value

    def to_text(self, value: Any) -> str:
        """The value as `info qtree` prints it."""
        value = self.to_json(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            if self.form is Form.SIZE:
                return f"{value} ({format_size(value)})"
            if self.minimum == 0:
                return f"{value} ({value:#x})"
            return str(value)
        return json.dumps(value, ensure_ascii=False)

    def help_line(self) -> str:
        """The line of `-device X,help`: name, type, description, default."""
        head = f"  {self.name}=<{self.type_name}>"
        default = ""
        if self.default is not Required.REQUIRED and self.form is not Form.BACKEND:
            shown = self.to_json(self.default)
            default = f" (default: {json.dumps(shown)})" if shown not in ("", [], {}) else ""
        if not (self.description or default):
            return head
        return f"{head:<24} - {self.description}{default}"

    def _wrong_type(self, expected: str, where: str = "") -> PropertyError:
        name = where or self.name
        return PropertyError(f"Invalid parameter type for '{name}', expected: {expected}")

    def _bool(self, value: object, strict: bool) -> bool:
        if isinstance(value, bool):
            return value
        if strict or not isinstance(value, str):
            raise self._wrong_type("boolean")
        if value in ("on", "yes", "true", "y"):
            return True
        if value in ("off", "no", "false", "n"):
            return False
        raise PropertyError(f"Parameter '{self.name}' expects 'on' or 'off'")

    def _int(self, value: object, strict: bool, where: str = "") -> int:
        name = where or self.name
        if isinstance(value, str) and not strict:
            number = self._number(value, name)
        elif isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif strict and self.minimum >= 0:
            raise PropertyError(f"Parameter '{name}' expects uint64")
        else:
            raise self._wrong_type("integer", name)
        if not self.minimum <= number <= self.maximum:
            wide = strict and self.maximum >> 63
            raise PropertyError(
                f"Parameter '{name}' expects {'uint64' if wide else f'{self.range_name}_t'}",
                hint=f"{self.minimum} to {self.maximum}, not {number}",
            )
        return number

    def _number(self, text: str, name: str) -> int:
        if self.form is Form.SIZE:
            try:
                return parse_size(text)
            except ConfigError as error:
                raise PropertyError(
                    f"Parameter '{name}' expects a size value", hint=str(error)
                ) from None
        try:
            return whole_number(text)
        except ValueError:
            raise PropertyError(
                f"Parameter '{name}' expects integer", hint=f"'{text}' is not a number"
            ) from None

    def _ints(self, value: object, strict: bool) -> tuple[int, ...]:
        """A list; as text, numbers and ranges `FIRST-LAST` with commas."""
        if isinstance(value, str) and not strict:
            return tuple(self._ranges(value))
        if not isinstance(value, list):
            raise self._wrong_type("array")
        return tuple(
            self._int(item, strict, f"{self.name}[{index}]") for index, item in enumerate(value)
        )

    def _ranges(self, text: str) -> Iterator[int]:
        for item in filter(None, text.split(",")):
            first, _, last = item.partition("-")
            start = self._int(first, False)
            yield from range(start, self._int(last, False) + 1 if last else start + 1)

    def _numbers(self, value: object, strict: bool) -> dict[str, int]:
        if not isinstance(value, dict):
            raise self._wrong_type("object")
        one = dataclasses.replace(self, form=Form.INT, minimum=INT64[0], maximum=INT64[1])
        names = {name for name, _ in self.choices}
        for name in value:
            if name not in names:
                raise PropertyError(f"Parameter '{self.name}.{name}' is unexpected")
        return {name: one._int(item, strict, f"{self.name}.{name}") for name, item in value.items()}

    def _choice(self, value: object) -> Any:
        for word, choice in self.choices:
            if value == word:
                return choice
        if not isinstance(value, str):
            raise self._wrong_type("string")
        raise PropertyError(
            f"Parameter '{self.name}' does not accept value '{value}'",
            hint=f"it takes {', '.join(word for word, _ in self.choices)}",
        )

    def _backend(self, owner: str, value: object, resolve: Resolver | None) -> object:
        if value is None or isinstance(value, bool | int | float | list | dict):
            raise self._wrong_type("string")
        if not isinstance(value, str):
            return value
        if not value and self.default is None:
            return None
        try:
            found = resolve(self.kind, value) if resolve is not None else None
        except InUse:
            raise PropertyError(
                f"Property '{owner}.{self.name}' can't take value '{value}', it's in use"
            ) from None
        link = self.type_name.startswith("link<")
        if found is None and link:
            raise PropertyError(f"Device '{value}' not found")
        if found is None:
            raise PropertyError(f"Property '{owner}.{self.name}' can't find value '{value}'")
        if link and isinstance(found, Typed) and not found.is_of(self.kind):
            raise self._wrong_type(self.kind)
        return found


def declared_properties(cls: type, names: Mapping[str, str] = NOTHING) -> Mapping[str, Property]:
    """The properties that a class's constructor declares, in its order, by name. Reads the
    signature each time. `names` has other names for types of values.
    """
    function = cls.__init__  # type: ignore[misc]
    if function is object.__init__:
        return {}
    parameters = inspect.signature(function).parameters.values()
    declared = [entry for entry in parameters if entry.kind is inspect.Parameter.KEYWORD_ONLY]
    # Without properties the annotations need not be importable at run time.
    hints = typing.get_type_hints(function, include_extras=True) if declared else {}
    found: dict[str, Property] = {}
    for parameter in declared:
        default = Required.REQUIRED if parameter.default is parameter.empty else parameter.default
        hint = hints[parameter.name]
        if isinstance(hint, type) and issubclass(hint, PropertyGroup):
            group = group_properties(parameter.name, hint)
            found.update((entry.name, entry) for entry in group)
        else:
            entry = _property(parameter.name, parameter.name, hint, default)
            found[entry.name] = entry
    return {
        name: dataclasses.replace(entry, type_name=names.get(entry.type_name, entry.type_name))
        for name, entry in found.items()
    }


def parse_arguments(
    owner: str,
    properties: Mapping[str, Property],
    values: Mapping[str, object],
    resolve: Resolver | None = None,
    *,
    strict: bool = False,
    defaults: Mapping[str, str] = NOTHING,
) -> dict[str, Any]:
    """Turn property values as users write them into keyword arguments. Raises `PropertyError`.
    `strict` as in `Property.parse`; `defaults` are texts for properties without a value.

    The values of a group come as a dict under the group's parameter name; see `build_groups`.
    """
    arguments: dict[str, Any] = {}
    for name, value in {**defaults, **values}.items():
        entry = properties.get(name)
        if entry is None:
            raise PropertyError(f"Property '{owner}.{name}' not found")
        if name in values:
            parsed = entry.parse(owner, value, resolve, strict=strict)
        else:
            try:
                parsed = entry.parse(owner, value, resolve)
            except PropertyError as error:
                text = f"can't apply global {owner}.{name}={value}: {error.text}"
                raise PropertyError(text, hint=error.hint) from None
        group, dot, field = entry.attribute.partition(".")
        if dot:
            arguments.setdefault(group, {})[field] = parsed
        else:
            arguments[group] = parsed
    for entry in properties.values():
        if entry.default is Required.REQUIRED and entry.name not in (values.keys() | defaults):
            raise PropertyError(f"Property '{owner}.{entry.name}' must be set")
    return arguments


def build_groups(cls: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Replace each dict that `parse_arguments` made for a group by the group's dataclass."""
    hints = typing.get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    for name, value in arguments.items():
        hint = hints[name]
        if isinstance(hint, type) and issubclass(hint, PropertyGroup):
            arguments[name] = hint(**value)
    return arguments


def group_properties(parameter: str, group: type[PropertyGroup]) -> list[Property]:
    """The properties that a constructor's parameter of this class stands for."""
    assert dataclasses.is_dataclass(group)
    hints = typing.get_type_hints(group, include_extras=True)
    return [
        _property(
            field.name,
            f"{parameter}.{field.name}",
            hints[field.name],
            Required.REQUIRED if field.default is dataclasses.MISSING else field.default,
        )
        for field in dataclasses.fields(group)
    ]


def _property(name: str, attribute: str, hint: Any, default: Any) -> Property:
    base, marks = _unwrap(hint)
    shown = name.replace("_", "-")
    description = type_name = ""
    limits: Range | None = None
    backend: Backend | None = None
    for mark in marks:
        match mark:
            case Named(name=given):
                shown = given
            case TypeName(name=given):
                type_name = given
            case Doc(text=text):
                description = text
            case Range():
                limits = mark
            case Backend():
                backend = mark
    if backend is not None:
        return Property(
            shown,
            attribute,
            Form.BACKEND,
            backend.type_name,
            default,
            description,
            kind=backend.kind,
        )
    if base is bool:
        return Property(shown, attribute, Form.BOOL, "bool", default, description or "on/off")
    if base is int:
        limits = limits or Range("int64", -(1 << 63), (1 << 63) - 1)
        form = Form.SIZE if limits.type_name == "size" else Form.INT
        return Property(
            shown,
            attribute,
            form,
            limits.type_name,
            default,
            description,
            limits.minimum,
            limits.maximum,
            range_name=limits.type_name,
        )
    if typing.get_origin(base) is tuple and limits is not None:
        return Property(
            shown,
            attribute,
            Form.INTS,
            limits.type_name,
            default,
            description,
            limits.minimum,
            limits.maximum,
            range_name=limits.type_name,
        )
    if base is str:
        return Property(shown, attribute, Form.STR, "str", default, description)
    if isinstance(base, type) and issubclass(base, enum.Enum):
        choices = tuple((str(member.value), member) for member in base)
        type_name = type_name or base.__name__
        return Property(
            shown, attribute, Form.ENUM, type_name, default, description, choices=choices
        )
    raise TypeError(f"parameter '{name}': no property has the type {hint!r}")


def _unwrap(hint: Any) -> tuple[Any, list[object]]:
    """Take `Annotated` and `| None` off an annotation: the plain type, and the marks found on the
    way.
    """
    marks: list[object] = []
    while True:
        origin = typing.get_origin(hint)
        if origin is Annotated:
            marks.extend(hint.__metadata__)
            hint = hint.__origin__
        elif origin in (typing.Union, types.UnionType):
            plain = [part for part in typing.get_args(hint) if part is not types.NoneType]
            if len(plain) != 1:
                return hint, marks
            hint = plain[0]
        else:
            return hint, marks
