"""A configuration while its options are being read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from ratite.core import ConfigError
from ratite.machines.config import DriveConfig, DriveInterface, MachineConfig, MonitorMode


class Topic(Enum):
    """What a user can ask help on."""

    OPTIONS = "options"
    VERSION = "version"
    MACHINES = "machines"
    CPUS = "cpus"
    ACCELS = "accels"
    DEVICES = "devices"
    OBJECTS = "objects"
    CHARDEVS = "chardevs"
    NETDEVS = "netdevs"
    DISPLAYS = "displays"
    LOG = "log"
    TRACE = "trace"


class Wanted(Exception):
    """The command line asks for help on a topic, or on one `name` of it, and for nothing else."""

    def __init__(self, topic: Topic, name: str | None = None) -> None:
        super().__init__(topic, name)
        self.topic = topic
        self.name = name


class Display(Enum):
    """Where serial port and monitor go when nothing says so."""

    TERMINAL = "terminal"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ShortMonitor:
    """A monitor on a character device in its short form, as written."""

    text: str
    mode: MonitorMode = MonitorMode.READLINE
    pretty: bool = False
    option: str = "-monitor"


@dataclass(slots=True)
class Draft:
    """The configuration so far, and what it takes to complete it."""

    config: MachineConfig = field(default_factory=MachineConfig)
    display: Display = Display.TERMINAL
    nographic: bool = False
    serials: list[str] = field(default_factory=list)  # the values of -serial
    monitors: list[ShortMonitor] = field(default_factory=list)  # of -monitor, -qmp, -qmp-pretty
    explicit_monitor: bool = False  # any option settled where the monitor is

    def set(self, path: str, value: object) -> None:
        """Replace the field that `path` names, with dots."""
        self.config = _replaced(self.config, path.split("."), value)

    def append(self, path: str, value: object) -> None:
        """Add to the tuple that `path` names."""
        current: Any = self.config
        for name in path.split("."):
            current = getattr(current, name)
        self.set(path, (*current, value))

    def locate(self, path: str, origin: str) -> None:
        """Note where the user asked for the last item of the tuple that `path` names, if that can
        still turn out to be wrong.
        """
        *before, last = getattr(self.config, path)
        if hasattr(last, "origin"):
            self.set(path, (*before, replace(last, origin=origin)))

    def set_property(self, path: str, id: str, name: str, value: str) -> bool:
        """Give the item with this id of the tuple that `path` names a property; whether there is
        one that is not written in JSON.
        """
        items = list(getattr(self.config, path))
        for index, item in enumerate(items):
            if item.id == id and not getattr(item, "strict", False):
                items[index] = replace(item, properties={**item.properties, name: value})
                self.set(path, tuple(items))
                return True
        return False

    def finish(self) -> MachineConfig:
        """The configuration, with drives numbered and every id checked to be the only one."""
        self.set("drives", tuple(_numbered(self.config.drives)))
        config = self.config
        _check_unique("-drive", [drive.id for drive in config.drives])
        _check_unique("-chardev", [chardev.id for chardev in config.chardevs])
        _check_unique("-netdev", [str(wanted.options["id"]) for wanted in config.netdevs])
        _check_unique("-object", [item.id for item in config.objects])
        _check_unique("-device", [device.id for device in config.devices if device.id])
        return config


def drive_from_pflash(text: str) -> DriveConfig:
    """`-pflash FILE` is a drive for the next free flash bank."""
    if not text:
        raise ConfigError("an empty file name")
    return DriveConfig(id="", file=Path(text), interface=DriveInterface.PFLASH)


def _replaced(config: Any, path: list[str], value: object) -> Any:
    name, *below = path
    if below:
        value = _replaced(getattr(config, name), below, value)
    return replace(config, **{name: value})


def _numbered(drives: Iterable[DriveConfig]) -> Iterable[DriveConfig]:
    """Give each drive an index, the first free one of its interface, and an id made of both."""
    taken: set[tuple[DriveInterface, int]] = set()
    for drive in drives:
        index = drive.index if drive.index is not None else drive.unit
        if index is None:
            index = next(n for n in range(len(taken) + 1) if (drive.interface, n) not in taken)
        elif (drive.interface, index) in taken:
            raise ConfigError(f"-drive: two drives with if={drive.interface.value},index={index}")
        taken.add((drive.interface, index))
        name = drive.id or f"{drive.interface.value}{index}"
        yield replace(drive, id=name, index=index, unit=index)


def _check_unique(option: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for id in ids:
        if id in seen:
            raise ConfigError(f"{option}: Duplicate ID '{id}' for {option[1:]}")
        seen.add(id)
