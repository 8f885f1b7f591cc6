"""Buses: where devices plug in."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, ClassVar

from ratite.core.errors import ConfigError
from ratite.qom import Fact, Object, PropertyInfo

if TYPE_CHECKING:
    from ratite.devices.device import Device


class Bus(Object):
    """A bus of some type, usually owned by the device that drives it.

    `devices` has the latest one first, which is the order `info qtree` and the search for a free
    bus go by.
    """

    type_name = "bus"
    abstract = True
    max_devices: ClassVar[int | None] = None
    hotpluggable: ClassVar[bool] = False
    """True if devices may come and go while the guest runs."""

    def __init__(self, bus_name: str, owner: Device | None = None) -> None:
        super().__init__()
        self.bus_name = bus_name
        self.owner = owner
        self.devices: list[Device] = []
        self._numbers = count()

    @property
    def full(self) -> bool:
        """True if no further device fits."""
        return self.max_devices is not None and len(self.devices) >= self.max_devices

    def is_a(self, bus_type: str) -> bool:
        """True if devices for buses of this type fit."""
        return any(vars(cls).get("type_name") == bus_type for cls in type(self).__mro__)

    def plug(self, device: Device) -> None:
        """Attach a device and realize it. Raises what `realize` raises, with the device detached
        again.
        """
        self.attach(device)
        try:
            device.realize()
        except BaseException:
            self.detach(device)
            raise

    def unplug(self, device: Device) -> None:
        """Unrealize a device and detach it."""
        device.unrealize()
        self.detach(device)

    def attach(self, device: Device) -> None:
        """Take a device that is on no bus. Raises `ConfigError` if it does not fit."""
        if device.bus_type is None or not self.is_a(device.bus_type):
            raise ConfigError(
                f"Device '{device.type_name}' can't go on {self.type_name} bus '{self.bus_name}'"
            )
        if self.full:
            raise ConfigError(f"Bus '{self.bus_name}' is full")
        assert device.parent_bus is None
        device.parent_bus = self
        self.devices.insert(0, device)
        self.set_link(f"child[{next(self._numbers)}]", device.type_name, device)

    def detach(self, device: Device) -> None:
        """Let a device go."""
        self.devices.remove(device)
        device.parent_bus = None
        self.remove_link(next(n for n, link in self.links.items() if link.target is device))

    @classmethod
    def fact_infos(cls) -> list[PropertyInfo]:
        """What `facts` names."""
        return [*super().fact_infos(), PropertyInfo("realized", "bool")]

    def facts(self) -> list[Fact]:
        """What clients can read."""
        return [*super().facts(), Fact("realized", "bool", True)]

    def walk_buses(self) -> Iterator[Bus]:
        """This bus and all below it, parents first, in the order of `info qtree`."""
        yield self
        for device in self.devices:
            for bus in device.buses:
                yield from bus.walk_buses()


class SystemBus(Bus):
    """The bus of devices that sit at fixed addresses."""

    type_name = "System"


def name_buses(device: Device, root: Bus) -> None:
    """Name the buses of a new device as users call them: after its id, or numbered by type among
    all buses below `root`.
    """
    for number, bus in enumerate(device.buses):
        stem = device.id or bus.type_name
        taken = {other.bus_name for other in root.walk_buses()}
        names = (f"{stem}.{n}" for n in count(number))
        device.name_bus(bus, next(name for name in names if name not in taken))


def find_free_bus(root: Bus, bus_type: str) -> Bus | None:
    """The bus below `root` that a device for `bus_type` goes to if its user names none; None if all
    are full.
    """
    return next((bus for bus in root.walk_buses() if bus.is_a(bus_type) and not bus.full), None)


def find_bus(root: Bus, name: str) -> Bus | None:
    """The bus of this name below `root`."""
    return next((bus for bus in root.walk_buses() if bus.bus_name == name), None)
