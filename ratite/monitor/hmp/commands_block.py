"""What is done to drives and block nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated

from ratite.block import BlockdevOptions
from ratite.core.errors import ConfigError, HostError
from ratite.core.keyval import nest, parse_keyval
from ratite.monitor.commands import blockdev, media
from ratite.monitor.errors import QmpError
from ratite.monitor.hmp.command import (
    Completed,
    DeviceName,
    File,
    Flag,
    Mebibytes,
    Number,
    Refusal,
    Rest,
    Shell,
    hmp,
)
from ratite.monitor.hmp.commands_block_info import drive_names
from ratite.monitor.later import Later, Outcome
from ratite.monitor.text import from_text
from ratite.monitor.types import type_of
from ratite.qom import Named

Device = Annotated[DeviceName, Completed(drive_names)]


@hmp("block_resize", "resize a block image", preconfig=True)
def block_resize(shell: Shell, device: Device, size: Mebibytes) -> None:
    """Change the size of a drive's image; without a suffix in MiB."""
    blockdev.block_resize(shell.vm, size, device)


@hmp("block_set_io_throttle", "change I/O throttle limits for a block drive", preconfig=True)
def block_set_io_throttle(
    shell: Shell,
    device: Device,
    bps: Number,
    bps_rd: Number,
    bps_wr: Number,
    iops: Number,
    iops_rd: Number,
    iops_wr: Number,
) -> None:
    """Limit what a drive does, by its name or by its device."""
    by_name = shell.vm.backends.block.drive(device) is not None
    media.block_set_io_throttle(
        shell.vm,
        bps,
        bps_rd,
        bps_wr,
        iops,
        iops_rd,
        iops_wr,
        device=device if by_name else None,
        id=None if by_name else device,
    )


@hmp("eject", "eject a removable medium (use -f to force it)")
def eject(shell: Shell, force: Annotated[bool, Flag("f")] = False, *, device: Device) -> None:
    """Empty a drive."""
    media.eject(shell.vm, device=device, force=force)


@hmp(
    "change",
    "change a removable medium, optional format, use -f to force the operation",
)
def change(
    shell: Shell,
    device: Device,
    force: Annotated[bool, Flag("f")] = False,
    *,
    filename: File,
    format: str = "",
    read_only_mode: Annotated[str, Named("read-only-mode")] = "retain",
) -> None:
    """Put another image into a drive."""
    known = {mode.value: mode for mode in media.ReadOnlyMode}
    mode = known.get(read_only_mode)
    if mode is None:
        raise QmpError(f"invalid parameter value: {read_only_mode}")
    media.blockdev_change_medium(
        shell.vm, filename, device=device, format=format or None, force=force, read_only_mode=mode
    )


@hmp("commit", "commit changes to the disk images (if -snapshot is used) or backing files")
def commit(shell: Shell, device: Annotated[Device, Named("device|all")]) -> Later:
    """Write what temporary overlays hold to the images below: of one drive, or of `all`. The guest
    goes on meanwhile.
    """
    layer = shell.vm.backends.block
    if device == "all":
        wanted = [drive for drive in layer.drives if drive.node and drive.node.backing]
    else:
        found = layer.drive(device)
        if found is None:
            raise Refusal(f"Device '{device}' not found")
        if found.node is None:
            raise Refusal(f"Device '{device}' has no medium")
        wanted = [found]
    with _commit_errors(device), ExitStack() as ends:
        begun = []
        for drive in wanted:
            one = layer.begin_commit(drive)
            if one is None:
                raise Refusal(f"'commit' error for '{device}': Operation not supported")
            ends.callback(one.end)
            begun.append(one)
        at_the_end = ends.pop_all()

    def copy() -> None:
        for one in begun:
            one.copy()

    def finish(outcome: Outcome) -> None:
        with _commit_errors(device), at_the_end:
            outcome()
            for one in begun:
                one.finish()

    return Later(copy, finish)


@contextmanager
def _commit_errors(device: str) -> Iterator[None]:
    try:
        yield
    except (OSError, HostError) as error:
        raise Refusal(f"'commit' error for '{device}': {_reason(error)}") from None


def _reason(error: OSError | HostError) -> str:
    if error.errno:
        return os.strerror(error.errno)
    return error.text if isinstance(error, HostError) else str(error)


@hmp("drive_add", "add drive, in the words of -drive; with -n a block node, in those of -blockdev")
def drive_add(
    shell: Shell, node: Annotated[bool, Flag("n")] = False, *, slot: str, options: Rest
) -> str:
    """Make a drive that no device has. The slot is of no meaning."""
    try:
        if node:
            _add_node(shell, options)
            return ""
        shell.vm.add_drive(options)
        return "OK\n"
    except (QmpError, ConfigError, HostError) as error:
        text = error.text if isinstance(error, ConfigError | HostError) else str(error)
        raise Refusal(text.removeprefix("-drive: ")) from None


def _add_node(shell: Shell, text: str) -> None:
    type_ = type_of(BlockdevOptions)
    tree = from_text(type_, nest(parse_keyval(text, "driver")))
    options = type_.parse(tree, "")
    if options.node_name is None:
        raise QmpError("'node-name' needs to be specified")
    blockdev.blockdev_add(shell.vm, options)


@hmp("drive_del", "remove host block device")
def drive_del(shell: Shell, device: Device) -> None:
    """Delete a drive, or a node. A device that has the drive finds it empty."""
    layer = shell.vm.backends.block
    drive = layer.drive(device)
    try:
        if drive is not None:
            layer.delete_drive(drive)
        elif layer.graph.find(device) is not None:
            layer.delete_node(device)
        else:
            raise Refusal(f"Device '{device}' not found")
    except ConfigError as error:
        raise Refusal(error.text) from None
