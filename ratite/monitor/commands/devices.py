"""Devices that come and go.

Source: QEMU's QMP reference, "Device infrastructure (qdev)".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from ratite.core.keyval import is_identifier
from ratite.devices import Device
from ratite.machines.config import DeviceConfig, PropertyValue
from ratite.machines.machine import pluggable
from ratite.monitor.command import Rest, command
from ratite.monitor.errors import DeviceNotFound, QmpError
from ratite.monitor.events import DeviceDeleted
from ratite.monitor.vm import Vm
from ratite.qom import Doc


@command("device_add", features=("json-cli", "json-cli-hotplug"))
def device_add(
    vm: Vm,
    driver: Annotated[str, Doc("its type")],
    properties: Rest,
    bus: Annotated[str | None, Doc("where to plug it in")] = None,
    id: Annotated[str | None, Doc("its name below /machine/peripheral")] = None,
) -> None:
    """Plug in a device, with properties as its type has them. The bus must allow that."""
    cls = pluggable(driver)
    if id is not None and not is_identifier(id):
        raise QmpError("Parameter 'id' expects an identifier")
    given = dict[str, PropertyValue](_texts(properties))
    if bus is not None:
        given["bus"] = bus
    wanted = DeviceConfig(driver, id, given)
    place = vm.machine.bus_for(cls, wanted)
    if not place.hotpluggable:
        raise QmpError(f"Bus '{place.bus_name}' does not support hotplugging")
    vm.machine.plug_device(cls, wanted, place).hotplugged = True


def _texts(properties: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Values as the command line has them, as QEMU takes those of this command: a text may stand
    for a number, and what has no such form is left out.
    """
    for name, value in properties.items():
        if isinstance(value, bool):
            yield name, "on" if value else "off"
        elif isinstance(value, str | int | float):
            yield name, str(value)


@command("device_del")
def device_del(
    vm: Vm, id: Annotated[str, Doc("its id, or its absolute path in the composition tree")]
) -> None:
    """Take a device out. The event `DEVICE_DELETED` says when it is gone."""
    device = find_device(vm, id)
    bus = device.parent_bus
    if bus is None or not bus.hotpluggable:
        name = bus.bus_name if bus is not None else "none"
        raise QmpError(f"Bus '{name}' does not support hotplugging")
    event = DeviceDeleted(device.path, device.id or None)
    vm.machine.unplug_device(device)
    vm.loop.post(lambda: vm.hub.events.emit(event))  # after the answer


def find_device(vm: Vm, id: str) -> Device:
    """The device with an id or path. Raises `DeviceNotFound`, `QmpError`."""
    if id.startswith("/"):
        found = vm.root.resolve(id)
    else:
        peripheral = vm.machine.children.get("peripheral")
        found = peripheral.children.get(id) if peripheral is not None else None
    if found is None:
        raise DeviceNotFound(f"Device '{id}' not found")
    if not isinstance(found, Device):
        raise QmpError(f"{id} is not a hotpluggable device")
    return found
