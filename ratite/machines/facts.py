"""What management clients can read of a machine besides its own properties: how it was asked for.

Source: QEMU's QMP reference, the properties of `machine` objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ratite.machines.config import MachineConfig
from ratite.qom import Fact


def facts_of(config: MachineConfig, memory_size: int) -> Iterator[Fact]:
    """Names and types are QEMU's; what was not given is empty."""
    boot, smp = config.boot, config.smp
    files = {"kernel": boot.kernel, "initrd": boot.initrd, "dtb": boot.dtb}
    for name, path in {**files, "dumpdtb": boot.dump_dtb}.items():
        yield Fact(name, "string", _text(path))
    yield Fact("append", "string", boot.append)
    yield Fact("firmware", "string", boot.bios or "")
    backend = config.memory_backend
    yield Fact("memory-backend", "link<memory-backend>", f"/objects/{backend}" if backend else "")
    yield Fact("dump-guest-core", "bool", config.dump_guest_core)
    yield Fact("usb", "bool", False)
    limits = {"slots": config.memory.slots, "max-size": config.memory.max_size}
    memory = {"size": memory_size, **{name: value for name, value in limits.items() if value}}
    yield Fact("memory", "MemorySizeConfiguration", memory)
    topology = {
        "cpus": smp.cpus,
        "maxcpus": smp.max_cpus,
        "sockets": smp.sockets,
        "cores": smp.cores,
        "threads": smp.threads,
    }
    yield Fact("smp", "SMPConfiguration", topology)


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)
