"""The schema as clients read it: QEMU's introspection form.

Source: QEMU's "QMP Introspection" (`query-qmp-schema`). Names of types mean nothing and are
numbers; only types that some command or event uses are there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from ratite.monitor.command import Command
from ratite.monitor.event import EventType
from ratite.monitor.types import (
    AlternateType,
    ArrayType,
    Builtin,
    EnumType,
    LazyType,
    Member,
    ObjectType,
    Type,
    UnionType,
)

T = TypeVar("T")
Entry = dict[str, object]


class SchemaWriter:
    """Collects entries; types enter when something needs them."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._names: dict[int, str] = {}
        self._kept: list[Type] = []  # so that no identity is used twice
        self._builtins: set[str] = set()
        self._numbers = 0
        self._empty = ""

    def command(self, command: Command) -> None:
        """Enter a command."""
        arguments = command.arguments
        if command.variants is not None and isinstance(arguments, ObjectType):
            arguments = command.variants(arguments)
        entry: Entry = {"name": command.name, "meta-type": "command"}
        entry["arg-type"] = self.name_of(arguments)
        entry["ret-type"] = (
            self._nothing() if command.returns is None else self.name_of(command.returns)
        )
        if command.allow_oob:
            entry["allow-oob"] = True
        if command.features:
            entry["features"] = list(command.features)
        self.entries.append(entry)

    def event(self, event: EventType) -> None:
        """Enter an event."""
        arg_type = self.name_of(event.data)
        self.entries.append({"name": event.name, "meta-type": "event", "arg-type": arg_type})

    def name_of(self, type_: Type) -> str:
        """The name of a type, which is entered if it is new."""
        if isinstance(type_, Builtin):
            return self._builtin(type_)
        if isinstance(type_, ObjectType) and not type_.members and not type_.variants:
            return self._nothing()
        if isinstance(type_, LazyType):
            return self.name_of(type_.target)
        known = self._names.get(id(type_))
        if known is None:
            known = self._enter(type_)
        return known

    def _builtin(self, type_: Builtin) -> str:
        if type_.name not in self._builtins:
            self._builtins.add(type_.name)
            entry = {"name": type_.name, "meta-type": "builtin", "json-type": type_.json_type}
            self.entries.append(dict(entry))
        return type_.name

    def _nothing(self) -> str:
        if not self._empty:
            self._empty = self._number()
            self.entries.append({"name": self._empty, "meta-type": "object", "members": []})
        return self._empty

    def _number(self) -> str:
        self._numbers += 1
        return str(self._numbers - 1)

    def _enter(self, type_: Type) -> str:
        self._kept.append(type_)
        if isinstance(type_, ArrayType):
            element = self.name_of(type_.element)
            name = f"[{element}]"
            if not any(entry["name"] == name for entry in self.entries):
                self.entries.append({"name": name, "meta-type": "array", "element-type": element})
            self._names[id(type_)] = name
            return name
        name = self._names[id(type_)] = self._number()
        match type_:
            case EnumType():
                body = self._enum(type_)
            case ObjectType():
                body = self._object(type_)
            case UnionType():
                body = self._union(type_)
            case AlternateType():
                choices = [{"type": self.name_of(choice)} for choice in type_.choices]
                body = {"meta-type": "alternate", "members": choices}
            case _:
                raise TypeError(f"no entry for {type_!r}")
        self.entries.append({"name": name, **body})
        return name

    @staticmethod
    def _enum(type_: EnumType) -> Entry:
        words = list(type_.words)
        members = [{"name": word} for word in words]
        return {"meta-type": "enum", "members": members, "values": words}

    def _object(self, type_: ObjectType) -> Entry:
        if not type_.tag:
            features = {"features": list(type_.features)} if type_.features else {}
            members = [self._member(member) for member in type_.members]
            return {"meta-type": "object", "members": members, **features}
        assert type_.words is not None
        tag = {"name": type_.tag, "type": self.name_of(type_.words)}
        return {
            "meta-type": "object",
            "members": [
                tag if member.name == type_.tag else self._member(member)
                for member in type_.members
            ],
            "tag": type_.tag,
            "variants": [
                {"case": word, "type": self.name_of(case)} for word, case in type_.variants
            ],
        }

    def _member(self, member: Member) -> Entry:
        entry: Entry = {"name": member.name, "type": self.name_of(member.type)}
        if member.optional:
            entry["default"] = None
        if member.features:
            entry["features"] = list(member.features)
        return entry

    def _union(self, type_: UnionType) -> Entry:
        return {
            "meta-type": "object",
            "members": [self._member(member) for member in type_.members],
            "tag": type_.tag,
            "variants": [
                {"case": word, "type": self._case(type_, case)}
                for word, case in type_.variants.items()
            ],
        }

    def _case(self, type_: UnionType, case: ObjectType) -> str:
        if not type_.nested:
            return self.name_of(case)
        name = self._number()
        members = [{"name": type_.nested, "type": self.name_of(case)}]
        self.entries.append({"name": name, "meta-type": "object", "members": members})
        return name


def schema_of(commands: Iterable[Command], events: Iterable[EventType]) -> list[Entry]:
    """The whole schema."""
    writer = SchemaWriter()
    for command in commands:
        writer.command(command)
    for event in events:
        writer.event(event)
    return writer.entries
