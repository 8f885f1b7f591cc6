"""The option table as management tools ask for it.

Source: QEMU's QMP reference, `query-command-line-options`, for the names of options and types.

Keys are those that an option's `form` shows; of options whose values are the properties of some
type, or the options of block nodes, they are taken from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ratite.block.options import BlockdevOptions
from ratite.chardev import Chardev
from ratite.cli.machine_option import ACCEL
from ratite.cli.options import OPTIONS
from ratite.cli.storage import NODE_KEYS, limit_keys
from ratite.machines.facts import infos
from ratite.machines.machine import machine_types
from ratite.monitor import KeyInfo, OptionInfo
from ratite.monitor.types import Member, ObjectType, UnionType, type_of
from ratite.qom import Property, registry

_KEY = re.compile(r"([a-z][a-z0-9_.-]*)=\]?((?:on\|off|on|off|N|SIZE)(?![|\w]))?")
_TYPES = {"on|off": "boolean", "on": "boolean", "off": "boolean", "N": "number", "SIZE": "size"}
_ID = "id"  # every group has it, and none tells


def describe_options() -> list[OptionInfo]:
    """The groups of options, with the keys of each."""
    found = []
    for option in OPTIONS:
        if option.section:
            keys = {info.name: info for info in _shown(f"{option.form},{option.keys}")}
            for info in _MORE.get(option.section, _none)():
                keys.setdefault(info.name, info)
            keys.pop(_ID, None)
            found.append(OptionInfo(option.section, tuple(keys.values())))
    return found


def _none() -> Iterator[KeyInfo]:
    yield from ()


def _shown(form: str) -> Iterator[KeyInfo]:
    for name, kind in _KEY.findall(form):
        yield KeyInfo(name, _TYPES.get(kind, "string"))


def _chardev() -> Iterator[KeyInfo]:
    yield KeyInfo("backend", "string", "what it is")
    for cls in registry.all():
        if issubclass(cls, Chardev):
            yield from map(_of_property, cls.properties().values())


def _of_property(entry: Property) -> KeyInfo:
    name = "boolean" if entry.type_name == "bool" else entry.type_name
    if entry.minimum != entry.maximum:
        name = "size" if entry.range_name == "size" else "number"
    known = name in ("boolean", "number", "size")
    return KeyInfo(entry.name, name if known else "string", entry.description)


def _machine() -> Iterator[KeyInfo]:
    yield KeyInfo("type", "string", "the board")
    yield KeyInfo("accel", "string", ACCEL)
    types = {"bool": "boolean", "int": "number"}
    for info in infos():
        yield KeyInfo(info.name, types.get(info.type_name, "string"), info.description)
    for board in machine_types("riscv64").values():
        yield from map(_of_property, board.properties().values())


def _drive() -> Iterator[KeyInfo]:
    yield from (KeyInfo(name, "number") for name in limit_keys())
    yield KeyInfo("throttling.group", "string", "the name of drives that share the limits")
    yield KeyInfo("driver", "string", "of the drive's node")
    yield KeyInfo("cache.writeback", "boolean", "whether the guest sees a write cache")
    nodes = type_of(BlockdevOptions)
    assert isinstance(nodes, UnionType)
    for case in nodes.cases.values():
        for info in _of_members(case.members, ""):
            if info.name in NODE_KEYS or info.name.startswith("cache."):
                yield info


def _of_members(members: tuple[Member, ...], prefix: str) -> Iterator[KeyInfo]:
    types = {"boolean": "boolean", "int": "number"}
    for member in members:
        if isinstance(member.type, ObjectType):
            yield from _of_members(member.type.members, f"{prefix}{member.name}.")
        else:
            json_type = getattr(member.type, "json_type", "")
            kind = types.get(json_type, "string")
            yield KeyInfo(f"{prefix}{member.name}", kind, member.doc)


_MORE: dict[str, Callable[[], Iterator[KeyInfo]]] = {
    "chardev": _chardev,
    "drive": _drive,
    "machine": _machine,
}
