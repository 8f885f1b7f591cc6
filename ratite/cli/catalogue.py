"""The lists of what there is: the answers to `-device help`, `-object help` and their like.

Everything in them comes from the types' own declarations. Headings and forms are QEMU's, because
scripts read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ratite.cli.draft import Display, Topic, Wanted
from ratite.cli.keyval import suggest
from ratite.cli.machine_option import ACCEL
from ratite.core import ConfigError
from ratite.core.log import help_text as log_help
from ratite.core.trace import event_names
from ratite.machines.facts import infos
from ratite.monitor.type_help import (
    all_devices,
    creatable_objects,
    devices_text,
    listing,
    objects_text,
    properties_text,
    property_list,
)
from ratite.qom import Object, PropertyInfo, registry

_UNKNOWN = {
    "-device": "Device '{}' not found",
    "-object": "Parameter 'qom-type' does not accept value '{}'",
    "-chardev": "'{}' is not a known type",
    "-cpu": "'{}' is not a known model",
}
_CHARDEV_PREFIX = "chardev-"
_INTERNAL_CHARDEVS = frozenset({"chardev-mux-port", "chardev-local"})  # made by others


def answer(wanted: Wanted) -> str:
    """The list, or one type's properties. Raises ConfigError for a type that does not exist."""
    match wanted.topic:
        case Topic.DEVICES if wanted.name is None:
            return devices_text()
        case Topic.DEVICES:
            return _properties(wanted.name, all_devices(), "-device")
        case Topic.OBJECTS if wanted.name is None:
            return objects_text()
        case Topic.OBJECTS:
            return _properties(wanted.name, creatable_objects(), "-object")
        case Topic.CHARDEVS:
            return _chardevs(wanted.name)
        case Topic.NETDEVS:
            return _netdevs(wanted.name)
        case Topic.DISPLAYS:
            return f"Available display backend types:\n{Display.NONE.value}\n"
        case Topic.LOG:
            return log_help()
        case Topic.TRACE:
            return "".join(f"{name}\n" for name in event_names())
        case Topic.MACHINES:
            return _machines() if wanted.name is None else _machine_properties(wanted.name)
        case Topic.CPUS:
            return _cpus(wanted.name)
        case Topic.ACCELS:
            return _accelerators()
    raise ConfigError(f"there is no list of {wanted.topic.value}")


def _properties(name: str | None, classes: Mapping[str, type[Object]], option: str) -> str:
    name = name or ""
    cls = classes.get(name)
    if cls is None:
        text = _UNKNOWN[option].format(name)
        raise ConfigError(f"{option}: {text}{_hint(name, classes, option)}")
    return properties_text(name, cls)


def _hint(name: str, known: Iterable[str], option: str) -> str:
    hint = suggest(name, known)
    return hint if "did you mean" in hint else f"; `{option} help` lists them"


def _chardevs(name: str | None) -> str:
    classes = {
        cls.type_name.removeprefix(_CHARDEV_PREFIX): cls
        for cls in registry.all()
        if cls.type_name.startswith(_CHARDEV_PREFIX) and cls.type_name not in _INTERNAL_CHARDEVS
    }
    if name is None:
        return listing("Available chardev backend types:", classes)
    return _properties(name, classes, "-chardev")


def _netdevs(name: str | None) -> str:
    from ratite.monitor.types import UnionType, type_of
    from ratite.net import KINDS, NetdevUnion

    if name is None:
        return "\n".join(["Available netdev backend types:", *KINDS]) + "\n"
    union = type_of(NetdevUnion)
    assert isinstance(union, UnionType)
    if name not in union.cases:
        raise ConfigError(f"-netdev: '{name}' is not a known type{_hint(name, KINDS, '-netdev')}")
    members = union.cases[name].members
    lines = [f"{f'  {m.name}=<{m.type.title}>':<24} - {m.doc}".rstrip(" -") for m in members]
    return property_list(name, lines)


def _machines() -> str:
    from ratite.machines.machine import machine_types

    lines = [f"{name:<20} {cls.description}" for name, cls in machine_types("riscv64").items()]
    return "\n".join(["Supported machines are:", *lines]) + "\n"


def _machine_properties(name: str) -> str:
    """Those of the board, and those that every machine has."""
    from ratite.machines.machine import machine_types

    boards = machine_types("riscv64")
    board = boards.get(name)
    if board is None:
        raise ConfigError(
            f"-machine: unsupported machine type '{name}'{_hint(name, boards, '-machine')}"
        )
    common = [
        f"{f'  {entry.name}=<{entry.type_name}>':<24} - {entry.description}"
        for entry in (*infos(), PropertyInfo("accel", "string", ACCEL))
    ]
    own = [entry.help_line() for entry in board.properties().values()]
    return property_list(board.type_name, [*common, *own])


def _cpus(name: str | None) -> str:
    from ratite.cpu.riscv import MODELS

    if name is None:
        return "".join(f"{model}\n" for model in MODELS)
    return _properties(name, dict(MODELS), "-cpu")


def _accelerators() -> str:
    from ratite.accel.registry import NAMES

    return "".join(["Accelerators supported by ratite:\n", *(f"{name}\n" for name in NAMES)])
