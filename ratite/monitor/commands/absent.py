"""What no machine here has: clients ask nevertheless, and are answered as QEMU answers them on such
a machine.

Source: QEMU's QMP reference: "TPM", "Rocker switch device", "COLO", "Record/replay" and "ACPI".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from ratite.monitor.command import command
from ratite.monitor.commands.run_state import UNSUPPORTED
from ratite.monitor.errors import QmpError


@command("query-tpm")
def query_tpm() -> list[Any]:
    """The TPM devices: none."""
    return []


@dataclass(frozen=True)
class GuidInfo:
    """An identifier of a machine."""

    guid: str


@command("query-vm-generation-id")
def query_vm_generation_id() -> GuidInfo:
    """The identifier that changes with each copy of the guest: no board has it, so that this
    fails."""
    raise QmpError(UNSUPPORTED)


@command("query-acpi-ospm-status")
def query_acpi_ospm_status() -> list[Any]:
    """What the guest reports of its hot-plugged parts: no board has ACPI, so that this fails."""
    raise QmpError("command is not supported, missing ACPI device")


@command("query-pr-managers", preconfig=True)
def query_pr_managers() -> list[Any]:
    """The helpers for persistent reservations of disks: none."""
    return []


class ReplayMode(Enum):
    """Whether a run is recorded."""

    NONE = "none"
    RECORD = "record"
    PLAY = "play"


@dataclass(frozen=True)
class ReplayInfo:
    """Answer to `query-replay`."""

    mode: ReplayMode
    icount: int
    filename: str | None = None


@command("query-replay")
def query_replay() -> ReplayInfo:
    """Record and replay: there is none."""
    return ReplayInfo(ReplayMode.NONE, 0)


class COLOMode(Enum):
    """The part that a machine plays in coarse-grained lock-stepping."""

    NONE = "none"
    PRIMARY = "primary"
    SECONDARY = "secondary"


class COLOExitReason(Enum):
    """Why it ended."""

    NONE = "none"
    REQUEST = "request"
    ERROR = "error"
    PROCESSING = "processing"


@dataclass(frozen=True)
class COLOStatus:
    """Answer to `query-colo-status`."""

    mode: COLOMode
    last_mode: COLOMode
    reason: COLOExitReason


@command("query-colo-status")
def query_colo_status() -> COLOStatus:
    """Coarse-grained lock-stepping with another machine: there is none."""
    return COLOStatus(COLOMode.NONE, COLOMode.NONE, COLOExitReason.NONE)


@dataclass(frozen=True)
class RockerSwitch:
    """A switch device."""

    name: str
    id: int
    ports: int


def _no_rocker(name: str) -> QmpError:
    return QmpError(f"rocker {name} not found")


@command("query-rocker")
def query_rocker(name: str) -> RockerSwitch:
    """A switch device: no board has one, so that this fails."""
    raise _no_rocker(name)


@command("query-rocker-ports")
def query_rocker_ports(name: str) -> list[Any]:
    """The ports of a switch device: no board has one, so that this fails."""
    raise _no_rocker(name)


@command("query-rocker-of-dpa-flows")
def query_rocker_of_dpa_flows(name: str, tbl_id: int | None = None) -> list[Any]:
    """The flow tables of a switch device: no board has one, so that this fails."""
    raise _no_rocker(name)


@command("query-rocker-of-dpa-groups")
def query_rocker_of_dpa_groups(name: str, type: int | None = None) -> list[Any]:
    """The groups of a switch device: no board has one, so that this fails."""
    raise _no_rocker(name)
