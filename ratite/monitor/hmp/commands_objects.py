"""Objects, devices and character backends."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated

from ratite.chardev import Chardev
from ratite.core.keyval import parse_keyval
from ratite.devices import Device
from ratite.machines.config import ChardevConfig, ObjectConfig, PropertyValue
from ratite.monitor import type_help
from ratite.monitor.commands import chardevs, descriptors, devices, objects
from ratite.monitor.errors import QmpError, missing
from ratite.monitor.hmp.command import Completed, Flag, Number, Refusal, Rest, Shell, hmp
from ratite.monitor.json_stream import Fault, parse
from ratite.monitor.later import Later


def _paths(shell: Shell) -> Iterable[str]:
    return (node.path for node in shell.vm.root.walk())


def _device_types(shell: Shell) -> Iterable[str]:
    return (*type_help.creatable_devices(), "help")


def _object_types(shell: Shell) -> Iterable[str]:
    return (*type_help.creatable_objects(), "help")


def _removable(shell: Shell) -> Iterable[str]:
    found = shell.vm.machine.children.get("peripheral")
    for id, device in found.children.items() if found is not None else ():
        bus = device.parent_bus if isinstance(device, Device) else None
        if bus is not None and bus.hotpluggable:
            yield id


def _chardev_ids(shell: Shell) -> Iterable[str]:
    return shell.vm.backends.chardevs


Path = Annotated[str, Completed(_paths)]
ChardevId = Annotated[str, Completed(_chardev_ids)]


@hmp("qom-list", "list QOM properties", preconfig=True)
def qom_list(shell: Shell, path: Path = "") -> str:
    """The properties and children of an object."""
    if not path:
        return "/\n"
    infos = objects.qom_list(shell.vm, path)
    return "".join(f"{info.name} ({info.type})\n" for info in infos)


@hmp("qom-get", "print QOM property", preconfig=True)
def qom_get(shell: Shell, path: Path, property: str) -> str:
    """A property's value, as JSON."""
    value = objects.qom_get(shell.vm, path, property)
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"


@hmp(
    "qom-set", "set QOM property.\n\t\t\t-j: the value is specified in json format.", preconfig=True
)
def qom_set(
    shell: Shell, path: Path, property: str, value: Rest, json_: Annotated[bool, Flag("j")] = False
) -> None:
    """Set a property, from text or JSON."""
    if json_:
        given = parse(value.encode())
        if isinstance(given, Fault):
            raise QmpError(given.text)
        objects.qom_set(shell.vm, path, property, given)
        return
    target = objects.find_object(shell.vm, path)
    target.set_property(property, value, shell.vm.backends.resolve)


@hmp("object_add", "create QOM object", preconfig=True)
def object_add(shell: Shell, object: Annotated[Rest, Completed(_object_types)]) -> str:
    """Make an object: `[qom-type=]TYPE,id=ID[,PROP=VALUE]...`. `help` lists the types, `TYPE,help`
    a type's properties.
    """
    given = parse_keyval(object, "qom-type")
    kind, id = given.pop("qom-type", None), given.pop("id", None)
    if kind in type_help.HELP or type_help.wants_help(given):
        found = type_help.creatable_objects().get(kind or "")
        return type_help.properties_text(kind or "", found) if found else type_help.objects_text()
    if kind is None or id is None:
        raise missing("qom-type" if kind is None else "id")
    shell.vm.backends.add_object(ObjectConfig(kind, id, dict[str, PropertyValue](given)))
    return ""


def _object_ids(shell: Shell) -> Iterable[str]:
    return shell.vm.root.children["objects"].children


@hmp("object_del", "destroy QOM object", preconfig=True)
def object_del(shell: Shell, id: Annotated[str, Completed(_object_ids)]) -> None:
    """Delete an object."""
    objects.object_del(shell.vm, id)


@hmp("device_add", "add device, like -device on the command line")
def device_add(shell: Shell, device: Annotated[Rest, Completed(_device_types)]) -> str:
    """Plug in a device: `DRIVER[,PROP=VALUE]...`. `help` lists the drivers, `DRIVER,help` the
    properties of one.
    """
    given = parse_keyval(device, "driver")
    driver, bus, id = (given.pop(name, None) for name in ("driver", "bus", "id"))
    if driver in type_help.HELP:
        return type_help.devices_text()
    if driver is None:
        raise missing("driver")
    if type_help.wants_help(given):
        found = type_help.all_devices().get(driver)
        if found is None:
            raise Refusal(f"Device '{driver}' not found")
        return type_help.properties_text(driver, found)
    devices.device_add(shell.vm, driver, dict(given), bus, id)
    return ""


@hmp("device_del", "remove device")
def device_del(shell: Shell, device: Annotated[str, Completed(_removable)]) -> None:
    """Take a device out."""
    devices.device_del(shell.vm, device)


@hmp("chardev-add", "add chardev")
def chardev_add(shell: Shell, args: Rest) -> str | Later:
    """Open a character backend: `BACKEND,id=ID[,PROP=VALUE]...`."""
    if args in ("help", "?"):
        kinds = chardevs.query_chardev_backends()
        return "\n  ".join(["Available chardev backend types:", *(k.name for k in kinds)]) + "\n"
    return _announcing(chardevs.plug(shell.vm, _chardev(args, "")))


def _chardev(args: str, id: str) -> ChardevConfig:
    """A backend in the words of -chardev; with an id that is known, none must be given."""
    given = parse_keyval(args, "backend")
    backend, named = given.pop("backend", None), given.pop("id", None)
    if id and named is not None:
        raise QmpError(f"id={named}: the chardev has its id already; leave it out")
    named = named or id
    if backend is None or not named:
        raise QmpError(f"chardev: no {'backend' if backend is None else 'id'} specified")
    mux = given.pop("mux", "off") == "on"
    return ChardevConfig(backend, named, mux, dict(given))


@hmp("chardev-change", "change chardev")
def chardev_change(shell: Shell, id: ChardevId, args: Rest) -> str | Later:
    """Open another character backend in place of one: `BACKEND[,PROP=VALUE]...`."""
    shell.vm.backends.check_changeable(id)
    return _announcing(chardevs.change(shell.vm, _chardev(args, id)))


def _announcing(found: Chardev | Later) -> str | Later:
    if isinstance(found, Later):
        return found.then(lambda outcome: _announced(outcome()))
    return _announced(found)


def _announced(made: Chardev) -> str:
    return f"{made.announcement}\n" if made.announcement else ""


@hmp("chardev-remove", "remove chardev")
def chardev_remove(shell: Shell, id: ChardevId) -> None:
    """Close a character backend."""
    chardevs.chardev_remove(shell.vm, id)


@hmp("chardev-send-break", "send a break on chardev")
def chardev_send_break(shell: Shell, id: ChardevId) -> None:
    """Send a serial break."""
    chardevs.chardev_send_break(shell.vm, id)


@hmp("ringbuf_read", "Read from a ring buffer character device")
def ringbuf_read(shell: Shell, device: ChardevId, size: Number) -> str:
    """Take bytes out of a ring buffer."""
    return chardevs.ringbuf_read(shell.vm, device, size) + "\n"


@hmp("ringbuf_write", "Write to a ring buffer character device")
def ringbuf_write(shell: Shell, device: ChardevId, data: str) -> None:
    """Put bytes into a ring buffer."""
    chardevs.ringbuf_write(shell.vm, device, data)


@hmp("getfd", "receive a file descriptor via SCM rights and assign it a name", preconfig=True)
def getfd(shell: Shell, name: str) -> None:
    """Keep the descriptor that came with this line."""
    descriptors.getfd(shell.session, name)


@hmp("closefd", "close a file descriptor previously passed via SCM rights", preconfig=True)
def closefd(shell: Shell, name: str) -> None:
    """Close a descriptor that `getfd` kept."""
    descriptors.closefd(shell.session, name)
