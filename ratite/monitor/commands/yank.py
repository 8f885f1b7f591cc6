"""Connections that can be broken by force, where the other end has stopped to answer.

Source: QEMU's QMP reference, "Yank feature". Not modelled: block nodes, none of which are remote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from ratite.chardev import SocketChardev
from ratite.monitor.command import command
from ratite.monitor.errors import DeviceNotFound
from ratite.monitor.vm import Vm
from ratite.qom import Tagged


@dataclass(frozen=True)
class YankInstanceBlockNode:
    """A block node."""

    case: ClassVar[str] = "block-node"
    node_name: str


@dataclass(frozen=True)
class YankInstanceChardev:
    """A character backend."""

    case: ClassVar[str] = "chardev"
    id: str


@dataclass(frozen=True)
class YankInstanceMigration:
    """The migration that goes on."""

    case: ClassVar[str] = "migration"


YankInstance = Annotated[
    YankInstanceBlockNode | YankInstanceChardev | YankInstanceMigration,
    Tagged("type", "YankInstance"),
]


def _found(vm: Vm) -> dict[Any, Callable[[], None]]:
    """What there is, with what breaks it."""
    found: dict[Any, Callable[[], None]] = {
        YankInstanceChardev(id): chardev.yank
        for id, chardev in vm.backends.chardevs.items()
        if isinstance(chardev, SocketChardev)
    }
    if (migration := vm.migration.going_on) is not None:
        found[YankInstanceMigration()] = migration.yank
    return found


@command("query-yank", allow_oob=True)
def query_yank(vm: Vm) -> list[YankInstance]:
    """The connections that can be broken."""
    return list(_found(vm))


@command("yank", allow_oob=True)
def yank(vm: Vm, instances: list[YankInstance]) -> None:
    """Break connections: the backend is closed, the migration fails. All or none of those given."""
    found = _found(vm)
    for instance in instances:
        if instance not in found:
            raise DeviceNotFound("Instance not found")
    for instance in instances:
        found[instance]()
