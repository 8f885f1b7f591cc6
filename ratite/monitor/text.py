"""Values written as text, where JSON has types of its own: the command line's `k=v` form.

Source: QEMU's manual, on the dotted form of `-blockdev`, for what text stands for which value.
"""

from __future__ import annotations

from ratite.core.number import whole_number
from ratite.monitor.errors import QmpError
from ratite.monitor.types import (
    BOOL,
    INT,
    AlternateType,
    ObjectType,
    Type,
    UnionType,
    check_depth,
)


def from_text(type_: Type, value: object, where: str = "") -> object:
    """The JSON value that a text, or a tree of texts by name, stands for as this type. What does
    not fit is left for the type to refuse. Raises `QmpError` for a text that has no meaning.
    """
    match type_:
        case UnionType() if isinstance(value, dict):
            case = type_.cases.get(str(value.get(type_.tag)))
            return value if case is None else _members(case, value, where)
        case ObjectType() if isinstance(value, dict):
            return _members(type_, value, where)
        case AlternateType() if isinstance(value, dict):
            check_depth(where)
            inner = next(choice for choice in type_.choices if isinstance(choice, UnionType))
            return from_text(inner, value, where)
    if not isinstance(value, str):
        return value
    if type_ is BOOL:
        if value not in ("on", "off"):
            raise QmpError(f"Parameter '{where}' expects 'on' or 'off'")
        return value == "on"
    if type_ is INT:
        try:
            return whole_number(value)
        except ValueError:
            raise QmpError(f"Parameter '{where}' expects integer") from None
    return value


def _members(type_: ObjectType, value: dict[str, object], where: str) -> dict[str, object]:
    known = {member.name: member.type for member in type_.members}
    prefix = f"{where}." if where else ""
    return {
        key: from_text(known[key], item, prefix + key) if key in known else item
        for key, item in value.items()
    }
