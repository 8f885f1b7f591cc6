"""The lists of types that users can make, and of one type's properties: what `help` in place of a
type or a property answers, on the command line and in the monitor.

Everything in them comes from the types' own declarations. Headings and forms are QEMU's, because
scripts read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ratite.devices import Device
from ratite.qom import Object, registry

HELP = ("help", "?")
_CATEGORIES = (
    "Controller/Bridge/Hub",
    "USB",
    "Storage",
    "Network",
    "Input",
    "Display",
    "Sound",
    "Misc",
    "CPU",
    "Watchdog",
)


def wants_help(given: Mapping[str, object]) -> bool:
    """Whether settings ask for help on a type's properties."""
    return any(word in given for word in HELP)


def creatable_devices() -> dict[str, type[Device]]:
    """What `-device` and `device_add` make, by type name."""
    return {
        cls.type_name: cls
        for cls in registry.all()
        if issubclass(cls, Device) and cls.is_pluggable()
    }


def creatable_objects() -> dict[str, type[Object]]:
    """What `-object` and `object_add` make, by type name."""
    return {cls.type_name: cls for cls in registry.all() if cls.is_user_creatable()}


def devices_text(*, with_internal: bool = False) -> str:
    """The list of devices, by category; those that only boards make, too, if asked for."""
    classes = [
        cls
        for cls in registry.all()
        if issubclass(cls, Device)
        and (cls.is_pluggable() or (with_internal and not cls.is_abstract()))
    ]
    sections = []
    for category in (*_CATEGORIES, *sorted({c.category for c in classes} - {*_CATEGORIES})):
        lines = [_device_line(cls) for cls in classes if cls.category == category]
        if lines:
            sections.append("\n".join([f"{category} devices:", *lines]) + "\n")
    return "\n".join(sections)


def _device_line(cls: type[Device]) -> str:
    line = f'name "{cls.type_name}"'
    if cls.bus_type is not None:
        line += f", bus {cls.bus_type}"
    if cls.description:
        line += f', desc "{cls.description}"'
    if not cls.is_pluggable():
        line += ", no-user"
    return line


def all_devices() -> dict[str, type[Object]]:
    """Every type that clients know as a device, creatable or not."""
    return {
        cls.type_name: cls
        for cls in registry.all()
        if Device.type_name in cls.lineage() and not cls.is_abstract()
    }


def objects_text() -> str:
    """The list of objects."""
    return listing("List of user creatable objects:", creatable_objects())


def listing(heading: str, names: Iterable[str]) -> str:
    """A list below a heading."""
    return "\n".join([heading, *(f"  {name}" for name in names)]) + "\n"


def properties_text(name: str, cls: type[Object]) -> str:
    """The properties of the type that users call `name`."""
    return property_list(name, [entry.help_line() for entry in cls.properties().values()])


def property_list(name: str, lines: list[str]) -> str:
    """Lines about properties as one text."""
    if not lines:
        return f"There are no options for {name}.\n"
    return "\n".join([f"{name} options:", *sorted(lines)]) + "\n"
