"""What firmware is told of the order in which devices shall be booted from.

Source: the files `bootorder` and `bios-geometry` that QEMU 7.2 gives through fw_cfg, and the names
of devices in them (IEEE 1275, Open Firmware).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Protocol, runtime_checkable

from ratite.core.errors import ConfigError
from ratite.devices import Device


@runtime_checkable
class Bootable(Protocol):
    """A device that firmware may boot from."""

    boot_name: ClassVar[str]
    """What it is called below its transport."""

    bootindex: int
    """Its place in the order; less than 0: in none."""


@runtime_checkable
class HasGeometry(Protocol):
    """A disk that may have a logical geometry, all of whose numbers are more than 0 then."""

    @property
    def logical_geometry(self) -> tuple[int, int, int]:
        """Cylinders, heads, sectors."""


def check_index(device: object, others: Iterable[object]) -> None:
    """Raise `ConfigError` if one of the others has the device's place."""
    if not isinstance(device, Bootable) or device.bootindex < 0:
        return
    for other in others:
        taken = isinstance(other, Bootable) and other.bootindex == device.bootindex
        if taken and other is not device:
            raise ConfigError(f"The bootindex {device.bootindex} has already been used")


def boot_files(devices: Iterable[object]) -> dict[str, bytes]:
    """The files of these devices."""
    found = [entry for entry in devices if isinstance(entry, Bootable) and entry.bootindex >= 0]
    found.sort(key=lambda entry: entry.bootindex)
    geometries = [
        " ".join((_path(entry), *map(str, entry.logical_geometry)))
        for entry in found
        if isinstance(entry, HasGeometry) and any(entry.logical_geometry)
    ]
    return {"bootorder": _file(map(_path, found)), "bios-geometry": _file(geometries)}


def _file(lines: Iterable[str]) -> bytes:
    text = "\n".join(lines)
    return text.encode() + b"\0" if text else b""


def _path(entry: Bootable) -> str:
    bus = entry.parent_bus if isinstance(entry, Device) else None
    owner = bus.owner if bus is not None else None
    if owner is None:
        return f"/{entry.boot_name}"
    return f"/{owner.type_name}@{owner.mmio.addr:016x}/{entry.boot_name}"
