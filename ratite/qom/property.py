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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

from ratite.core.errors import ConfigError
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

    def get(self, instance: object) -> Any:
        """The value in an instance."""
        value: Any = instance
        for part in self.attribute.split("."):
            value = getattr(value, part)
        return value

    def parse(self, owner: str, value: object, resolve: Resolver | None = None) -> Any:
        """Read a value given as text or JSON for the type `owner`. Raises `PropertyError`."""
        match self.form:
            case Form.BOOL:
                return self._bool(value)
            case Form.INT | Form.SIZE:
                return self._int(value)
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
            text = json.dumps(shown) if isinstance(shown, bool) else str(shown)
            default = f" (default: {text})" if text else ""
        if not (self.description or default):
            return head
        return f"{head:<24} - {self.description}{default}"

    def _wrong_type(self, expected: str) -> PropertyError:
        return PropertyError(f"Invalid parameter type for '{self.name}', expected: {expected}")

    def _bool(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        if not isinstance(value, str):
            raise self._wrong_type("boolean")
        if value in ("on", "yes", "true", "y"):
            return True
        if value in ("off", "no", "false", "n"):
            return False
        raise PropertyError(f"Parameter '{self.name}' expects 'on' or 'off'")

    def _int(self, value: object) -> int:
        if isinstance(value, str):
            number = self._number(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            number = value
        else:
            raise self._wrong_type("integer")
        if not self.minimum <= number <= self.maximum:
            raise PropertyError(
                f"Parameter '{self.name}' expects {self.type_name}_t"
                f" ({self.minimum} to {self.maximum}), not {number}"
            )
        return number

    def _number(self, text: str) -> int:
        if self.form is Form.SIZE:
            return parse_size(text)
        try:
            return int(text, 0)
        except ValueError:
            raise PropertyError(f"Parameter '{self.name}' expects integer, not '{text}'") from None

    def _choice(self, value: object) -> Any:
        for word, choice in self.choices:
            if value == word:
                return choice
        raise PropertyError(
            f"Parameter '{self.name}' does not accept value '{value}';"
            f" it takes {', '.join(word for word, _ in self.choices)}"
        )

    def _backend(self, owner: str, value: object, resolve: Resolver | None) -> object:
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
        if found is None:
            raise PropertyError(f"Property '{owner}.{self.name}' can't find value '{value}'")
        return found


def declared_properties(cls: type) -> Mapping[str, Property]:
    """The properties that a class's constructor declares, in its order, by name. Reads the
    signature each time.
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
            group = _group_properties(parameter.name, hint)
            found.update((entry.name, entry) for entry in group)
        else:
            entry = _property(parameter.name, parameter.name, hint, default)
            found[entry.name] = entry
    return found


def parse_arguments(
    owner: str,
    properties: Mapping[str, Property],
    values: Mapping[str, object],
    resolve: Resolver | None = None,
) -> dict[str, Any]:
    """Turn property values as users write them into keyword arguments. Raises `PropertyError`.

    The values of a group come as a dict under the group's parameter name; see `build_groups`.
    """
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        entry = properties.get(name)
        if entry is None:
            raise PropertyError(f"Property '{owner}.{name}' not found")
        parsed = entry.parse(owner, value, resolve)
        group, dot, field = entry.attribute.partition(".")
        if dot:
            arguments.setdefault(group, {})[field] = parsed
        else:
            arguments[group] = parsed
    for entry in properties.values():
        if entry.default is Required.REQUIRED and entry.name not in values:
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


def _group_properties(parameter: str, group: type[PropertyGroup]) -> list[Property]:
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
    description = ""
    limits: Range | None = None
    backend: Backend | None = None
    for mark in marks:
        match mark:
            case Named(name=given):
                shown = given
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
        )
    if base is str:
        return Property(shown, attribute, Form.STR, "str", default, description)
    if isinstance(base, type) and issubclass(base, enum.Enum):
        choices = tuple((str(member.value), member) for member in base)
        return Property(
            shown, attribute, Form.ENUM, base.__name__, default, description, choices=choices
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
