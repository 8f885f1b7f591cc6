"""Drives: their media, and how fast they may be.

Source: QEMU's QMP reference, "Block devices". No device here has removable media; a drive that no
device has can be filled and emptied.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Annotated

from ratite.block import Drive, FileOptions, Limits, RawOptions
from ratite.monitor.command import command
from ratite.monitor.errors import DeviceNotFound, QmpError
from ratite.monitor.vm import Vm
from ratite.qom import Doc, Feature, Named

Device = Annotated[str | None, Feature("deprecated"), Doc("the drive's name")]
Id = Annotated[str | None, Doc("id or path of the device that has the drive")]


def find_drive(vm: Vm, device: str | None, id: str | None) -> Drive:
    """The drive that a client means. Raises `QmpError`."""
    if (device is None) == (id is None):
        raise QmpError("Need exactly one of 'device' and 'id'")
    layer = vm.backends.block
    found = layer.drive(device) if device is not None else layer.drive_of_device(str(id))
    if found is None:
        raise DeviceNotFound(f"Device '{device if device is not None else id}' not found")
    return found


@command("blockdev-open-tray")
def blockdev_open_tray(
    vm: Vm,
    device: Device = None,
    id: Id = None,
    force: Annotated[bool | None, Doc("even if the guest has locked it")] = None,
) -> None:
    """Open the tray of a drive with removable media. A drive without a tray stays as it is."""
    vm.backends.block.check_removable(find_drive(vm, device, id))


@command("blockdev-close-tray")
def blockdev_close_tray(vm: Vm, device: Device = None, id: Id = None) -> None:
    """Close the tray of a drive with removable media. A drive without a tray stays as it is."""
    vm.backends.block.check_removable(find_drive(vm, device, id))


@command("blockdev-remove-medium")
def blockdev_remove_medium(vm: Vm, id: Annotated[str, Doc("id or path of the device")]) -> None:
    """Empty a drive whose tray is open."""
    drive = find_drive(vm, None, id)
    vm.backends.block.check_removable(drive)
    vm.backends.block.eject(drive)


@command("blockdev-insert-medium")
def blockdev_insert_medium(
    vm: Vm, id: Annotated[str, Doc("id or path of the device")], node_name: str
) -> None:
    """Put a node into an empty drive."""
    drive = find_drive(vm, None, id)
    node = vm.backends.block.graph.find(node_name)
    if node is None:
        raise QmpError(f"Node '{node_name}' not found")
    if any(link.role == "root" for link in node.users):
        raise QmpError(f"Node '{node_name}' is already in use")
    if not drive.removable:
        raise QmpError("Device is not removable")
    drive.insert(node)


class ReadOnlyMode(Enum):
    """Whether a new medium may be written."""

    RETAIN = "retain"
    READ_ONLY = "read-only"
    READ_WRITE = "read-write"


@command("blockdev-change-medium")
def blockdev_change_medium(
    vm: Vm,
    filename: str,
    device: Device = None,
    id: Id = None,
    format: Annotated[str | None, Doc("`raw`, which is the default")] = None,
    force: bool | None = None,
    read_only_mode: Annotated[ReadOnlyMode, Doc("as the drive was before")] = ReadOnlyMode.RETAIN,
) -> None:
    """Put another image into a drive."""
    drive = find_drive(vm, device, id)
    if format not in (None, "raw"):
        raise QmpError(f"Unknown driver '{format}'")
    read_only = read_only_mode is ReadOnlyMode.READ_ONLY
    if read_only_mode is ReadOnlyMode.RETAIN:
        read_only = drive.read_only if drive.node is not None else drive.media_read_only
    options = RawOptions(file=FileOptions(filename=filename), read_only=read_only)
    if drive.node is not None:
        old = drive.node.options
        options = replace(options, cache=old.cache, discard=old.discard)
    vm.backends.block.change(drive, options)
    drive.media_read_only = read_only


@command("eject")
def eject(
    vm: Vm,
    device: Device = None,
    id: Id = None,
    force: Annotated[bool | None, Doc("even if the guest has locked it")] = None,
) -> None:
    """Empty a drive with removable media. Does nothing if it is empty."""
    drive = find_drive(vm, device, id)
    vm.backends.block.check_removable(drive)
    vm.backends.block.eject(drive)


@command("block_set_io_throttle", preconfig=True)
def block_set_io_throttle(
    vm: Vm,
    bps: Annotated[int, Doc("bytes per second; 0: no limit")],
    bps_rd: Annotated[int, Named("bps_rd"), Doc("of reads")],
    bps_wr: Annotated[int, Named("bps_wr"), Doc("of writes")],
    iops: Annotated[int, Doc("requests per second")],
    iops_rd: Annotated[int, Named("iops_rd")],
    iops_wr: Annotated[int, Named("iops_wr")],
    device: Device = None,
    id: Id = None,
    bps_max: Annotated[int, Named("bps_max"), Doc("in bursts")] = 0,
    bps_rd_max: Annotated[int, Named("bps_rd_max")] = 0,
    bps_wr_max: Annotated[int, Named("bps_wr_max")] = 0,
    iops_max: Annotated[int, Named("iops_max")] = 0,
    iops_rd_max: Annotated[int, Named("iops_rd_max")] = 0,
    iops_wr_max: Annotated[int, Named("iops_wr_max")] = 0,
    bps_max_length: Annotated[int, Named("bps_max_length"), Doc("of bursts, in seconds")] = 1,
    bps_rd_max_length: Annotated[int, Named("bps_rd_max_length")] = 1,
    bps_wr_max_length: Annotated[int, Named("bps_wr_max_length")] = 1,
    iops_max_length: Annotated[int, Named("iops_max_length")] = 1,
    iops_rd_max_length: Annotated[int, Named("iops_rd_max_length")] = 1,
    iops_wr_max_length: Annotated[int, Named("iops_wr_max_length")] = 1,
    iops_size: Annotated[int, Named("iops_size"), Doc("a longer request counts as several")] = 0,
    group: Annotated[str | None, Doc("share the limits with the drives of this group")] = None,
) -> None:
    """Limit what a drive does. All zero ends that."""
    given = dict(locals())
    drive = find_drive(vm, device, id)
    if drive.node is None:
        raise QmpError("Device has no medium")
    limits = Limits.of({name: given[name] for name in given if name.startswith(("bps", "iops"))})
    vm.backends.block.set_limits(drive, limits, group, device or str(id))
