"""The properties that every machine has: how it was asked for.

Source: QEMU's QMP reference, the properties of `machine` objects; names and types are its. The
command line sets them (`-machine NAME=VALUE`, and options of their own); then they can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ratite.machines.config import MachineConfig
from ratite.qom import Fact, PropertyInfo


@dataclass(frozen=True, slots=True)
class MachineProperty:
    """One property. `read` answers it as JSON has it; what was not given is empty."""

    name: str
    type_name: str
    description: str
    read: Callable[[MachineConfig, int], object]
    """From the configuration and the bytes of guest memory."""


def _memory(config: MachineConfig, size: int) -> object:
    limits = {"slots": config.memory.slots, "max-size": config.memory.max_size}
    return {"size": size, **{name: value for name, value in limits.items() if value}}


def _smp(config: MachineConfig, _: int) -> object:
    smp = config.smp
    return {
        "cpus": smp.cpus,
        "maxcpus": smp.max_cpus,
        "sockets": smp.sockets,
        "cores": smp.cores,
        "threads": smp.threads,
    }


def _boot(config: MachineConfig, _: int) -> object:
    order = config.boot.order
    return {key: value for key, value in vars(order).items() if value is not None}


def _backend(config: MachineConfig, _: int) -> object:
    return f"/objects/{config.memory_backend}" if config.memory_backend else ""


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)


def _never(_: MachineConfig, __: int) -> object:
    return False


MACHINE_PROPERTIES = (
    MachineProperty("append", "string", "the kernel's command line", lambda c, _: c.boot.append),
    MachineProperty("boot", "BootConfiguration", "what to boot from: order, once, strict", _boot),
    MachineProperty(
        "dt-compatible",
        "string",
        "`compatible` of the generated device tree's root",
        lambda c, _: c.boot.dt_compatible,
    ),
    MachineProperty(
        "dtb",
        "string",
        "a device tree in place of the generated one",
        lambda c, _: _text(c.boot.dtb),
    ),
    MachineProperty(
        "dump-guest-core",
        "bool",
        "off: guest memory is left out of core dumps",
        lambda c, _: c.dump_guest_core,
    ),
    MachineProperty(
        "dumpdtb",
        "string",
        "write the device tree to this file and end",
        lambda c, _: _text(c.boot.dump_dtb),
    ),
    MachineProperty("firmware", "string", "the firmware", lambda c, _: c.boot.bios or ""),
    MachineProperty("graphics", "bool", "off: no board has graphics", _never),
    MachineProperty(
        "initrd",
        "string",
        "the kernel's initial file system",
        lambda c, _: _text(c.boot.initrd),
    ),
    MachineProperty("kernel", "string", "the kernel", lambda c, _: _text(c.boot.kernel)),
    MachineProperty(
        "mem-merge",
        "bool",
        "on: the host may keep equal pages of guest memory once",
        lambda c, _: c.merge_memory,
    ),
    MachineProperty("memory", "MemorySizeConfiguration", "the guest's memory", _memory),
    MachineProperty(
        "memory-backend",
        "link<memory-backend>",
        "id of the memory backend object that is the guest's memory",
        _backend,
    ),
    MachineProperty(
        "phandle-start",
        "int",
        "the first handle of a node of the generated device tree",
        lambda c, _: c.boot.first_phandle,
    ),
    MachineProperty("smp", "SMPConfiguration", "number and topology of the CPUs", _smp),
    MachineProperty("suppress-vmdesc", "bool", "off: saved state always describes itself", _never),
    MachineProperty("usb", "bool", "off: no board has USB", _never),
)


def facts_of(config: MachineConfig, memory_size: int) -> Iterator[Fact]:
    """What clients can read."""
    for entry in MACHINE_PROPERTIES:
        yield Fact(entry.name, entry.type_name, entry.read(config, memory_size))


def infos() -> Iterator[PropertyInfo]:
    """What they are, without values."""
    for entry in MACHINE_PROPERTIES:
        yield PropertyInfo(entry.name, entry.type_name, entry.description)
