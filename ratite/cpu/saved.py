"""A CPU's declared state as plain data, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ratite.core.errors import ConfigError
from ratite.native import Array, Field, Nested, Struct


def save_fields(state: Struct, names: Iterable[str]) -> dict[str, Any]:
    """The values of fields; `a.b` is the field `b` of the struct `a`, an array is a list."""
    saved: dict[str, Any] = {}
    for name in names:
        owner, member = _find(state, name)
        value = getattr(owner, member.name)
        saved[name] = [int(item) for item in value] if isinstance(member, Array) else int(value)
    return saved


def check_fields(saved: Mapping[str, Any], state: Struct, names: Iterable[str]) -> None:
    """Raise `ConfigError` unless `load_fields` could take this."""
    for name in names:
        if name not in saved:
            raise ConfigError(f"it lacks '{name}'")
        _, member = _find(state, name)
        value = saved[name]
        values = value if isinstance(member, Array) else [value]
        length = member.length if isinstance(member, Array) else 1
        if not isinstance(values, list) or len(values) != length:
            raise ConfigError(f"'{name}' has another length")
        low = -(1 << member.kind.WIDTH - 1) if member.kind.SIGNED else 0
        high = low + member.kind.MASK
        if not all(type(item) is int and low <= item <= high for item in values):
            raise ConfigError(f"'{name}' is out of range")


def load_fields(saved: Mapping[str, Any], state: Struct, names: Iterable[str]) -> None:
    """Set what `save_fields` answered."""
    for name in names:
        owner, member = _find(state, name)
        if isinstance(member, Array):
            cells = getattr(owner, member.name)
            for index, item in enumerate(saved[name]):
                cells[index] = member.kind(item)
        else:
            setattr(owner, member.name, member.kind(saved[name]))


def _find(state: Struct, name: str) -> tuple[Struct, Field[Any] | Array[Any]]:
    first, _, rest = name.partition(".")
    member = type(state).MEMBERS[first]
    if isinstance(member, Nested):
        return _find(getattr(state, first), rest)
    return state, member
