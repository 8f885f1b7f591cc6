"""The events that ratite's machines send."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from ratite.core.disk import ErrorAction
from ratite.devices.notice import (
    IoFailed,
    Notice,
    PortChanged,
    RxFilterChanged,
    ThresholdPassed,
)
from ratite.machines.lifecycle import Cause, Change
from ratite.migration.outgoing import Status
from ratite.monitor.event import SECOND_NS, event
from ratite.net import SocketAddress
from ratite.net.netdev import Place
from ratite.qom import Doc


@event("STOP")
@dataclass(frozen=True)
class Stop:
    """The guest was paused."""


@event("RESUME")
@dataclass(frozen=True)
class Resume:
    """The guest runs, for the first time or again."""


@event("POWERDOWN")
@dataclass(frozen=True)
class Powerdown:
    """The power button was pressed: the guest may shut down now, or not."""


@event("RESET")
@dataclass(frozen=True)
class Reset:
    """The machine was reset."""

    guest: Annotated[bool, Doc("whether the guest asked for it")]
    reason: Cause


@event("SHUTDOWN")
@dataclass(frozen=True)
class Shutdown:
    """The machine has shut down, or is about to end."""

    guest: Annotated[bool, Doc("whether the guest asked for it")]
    reason: Cause


@event("DEVICE_DELETED")
@dataclass(frozen=True)
class DeviceDeleted:
    """A device is gone, after `device_del` and the guest's consent."""

    path: Annotated[str, Doc("where it was in the composition tree")]
    device: Annotated[str | None, Doc("its id, if it had one")] = None


@event("DEVICE_UNPLUG_GUEST_ERROR")
@dataclass(frozen=True)
class DeviceUnplugGuestError:
    """The guest refused to let a device go."""

    path: str
    device: str | None = None


@event("VSERPORT_CHANGE", limit_ns=SECOND_NS, key="id")
@dataclass(frozen=True)
class VserportChange:
    """The guest opened or closed a virtio-serial port."""

    id: Annotated[str, Doc("the port's")]
    open: bool


class IoOperation(Enum):
    """What a drive was doing."""

    READ = "read"
    WRITE = "write"


@event("BLOCK_IO_ERROR")
@dataclass(frozen=True)
class BlockIoError:
    """The host could not do a request of the guest's to a drive."""

    device: Annotated[str, Doc("the drive's name; empty if only its node has one")]
    operation: IoOperation
    action: ErrorAction
    reason: Annotated[str, Doc("for people")]
    node_name: Annotated[str | None, Doc("the node's name")] = None
    nospace: Annotated[bool | None, Doc("whether the host's file system is full")] = None


@event("MIGRATION")
@dataclass(frozen=True)
class MigrationEvent:
    """A migration has come to another state. Sent with the capability `events` on."""

    status: Status


@event("MIGRATION_PASS")
@dataclass(frozen=True)
class MigrationPass:
    """Memory is looked through once more for what the guest wrote. Sent like `MIGRATION`."""

    pass_: Annotated[int, Doc("counts from 1")]


@event("BLOCK_WRITE_THRESHOLD")
@dataclass(frozen=True)
class BlockWriteThreshold:
    """A write went beyond what `block-set-write-threshold` has set, which is unset now."""

    node_name: str
    amount_exceeded: Annotated[int, Doc("bytes")]
    write_threshold: Annotated[int, Doc("what was set, in bytes")]


@event("NIC_RX_FILTER_CHANGED")
@dataclass(frozen=True)
class NicRxFilterChanged:
    """The guest changed which frames a network card takes. It is sent once; `query-rx-filter` for
    the card has it sent again.
    """

    path: Annotated[str, Doc("of the card")]
    name: Annotated[str | None, Doc("its id, if it has one")] = None


@event("NETDEV_STREAM_CONNECTED")
@dataclass(frozen=True)
class NetdevStreamConnected:
    """A `stream` netdev has a peer."""

    netdev_id: str
    addr: Annotated[SocketAddress, Doc("the peer's")]


@event("NETDEV_STREAM_DISCONNECTED")
@dataclass(frozen=True)
class NetdevStreamDisconnected:
    """A `stream` netdev has no peer any more."""

    netdev_id: str


def stream_event(netdev: str, address: Place | None) -> object:
    """The event for a peer that came, or went."""
    if address is None:
        return NetdevStreamDisconnected(netdev)
    return NetdevStreamConnected(netdev, address)


def lifecycle_event(change: Change, cause: Cause) -> object:
    """The event for what happened to the machine as a whole."""
    match change:
        case Change.STOP:
            return Stop()
        case Change.RESUME:
            return Resume()
        case Change.POWERDOWN:
            return Powerdown()
        case Change.RESET:
            return Reset(cause.guest, cause)
        case Change.SHUTDOWN:
            return Shutdown(cause.guest, cause)


def notice_event(notice: Notice) -> object:
    """The event for what a device noticed."""
    match notice:
        case PortChanged(id=id, is_open=is_open):
            return VserportChange(id, is_open)
        case IoFailed():
            return BlockIoError(
                notice.drive,
                IoOperation.WRITE if notice.is_write else IoOperation.READ,
                notice.action,
                os.strerror(notice.errno),
                notice.node or None,
                notice.errno == errno.ENOSPC if notice.tells_space else None,
            )
        case ThresholdPassed(node=node, exceeded=exceeded, threshold=threshold):
            return BlockWriteThreshold(node, exceeded, threshold)
        case RxFilterChanged(id=id, path=path):
            return NicRxFilterChanged(path, id or None)
