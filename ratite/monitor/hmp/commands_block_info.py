"""What there is of drives and block nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from ratite.block import DetectZeroes
from ratite.block.throttle import KINDS
from ratite.core.disk import IoStatus
from ratite.core.size import human_size
from ratite.monitor.commands import blocks
from ratite.monitor.hmp.command import Completed, Flag, Shell, hmp
from ratite.monitor.hmp.commands_snapshots import snapshot_table


def drive_names(shell: Shell) -> Iterable[str]:
    """The drives that have a name."""
    return (drive.name for drive in shell.vm.backends.block.drives if drive.name)


@hmp(
    "info block",
    "show info of one block device or all block devices (-n: show named nodes; -v: show details)",
)
def block(
    shell: Shell,
    nodes: Annotated[bool, Flag("n")] = False,
    verbose: Annotated[bool, Flag("v")] = False,
    device: Annotated[str, Completed(drive_names)] = "",
) -> str:
    """The drives and their nodes."""
    text = ""
    if not nodes:
        drives = blocks.query_block(shell.vm)
        for number, info in enumerate(drives):
            if device in ("", info.device):
                text += "\n" if number else ""
                text += _entry_text(info, info.inserted, verbose=verbose)
    if nodes or device:
        for number, node in enumerate(blocks.query_named_block_nodes(shell.vm)):
            if device in ("", node.node_name):
                text += "\n" if number else ""
                text += _entry_text(None, node, verbose=verbose)
    return text


def _entry_text(
    info: blocks.BlockInfo | None, node: blocks.BlockDeviceInfo | None, *, verbose: bool
) -> str:
    """A drive, a node, or a drive with the node in it."""
    lines = [_head(info, node)]
    if info is not None:
        if info.qdev:
            lines.append(f"    Attached to:      {info.qdev}")
        if info.io_status not in (None, IoStatus.OK):
            lines.append(f"    I/O status:       {info.io_status.value}")
        if info.removable:
            lines.append("    Removable device: not locked, tray closed")
    if node is not None:
        lines += _node_lines(node)
        if verbose:
            lines += ["", "Images:", *_image_lines(node.image)]
    return "\n".join([*lines, ""])


def _head(info: blocks.BlockInfo | None, node: blocks.BlockDeviceInfo | None) -> str:
    if info is not None and info.device:
        name = info.device + (f" ({node.node_name})" if node is not None else "")
    elif node is not None:
        name = node.node_name
    else:
        name = (info.qdev if info is not None else None) or "<anonymous>"
    if node is None:
        return f"{name}: [not inserted]"
    return f"{name}: {node.file} ({node.drv}{', read-only' if node.ro else ''})"


def _node_lines(node: blocks.BlockDeviceInfo) -> list[str]:
    cache = "writeback" if node.cache.writeback else "writethrough"
    cache += ", direct" if node.cache.direct else ""
    cache += ", ignore flushes" if node.cache.no_flush else ""
    lines = [f"    Cache mode:       {cache}"]
    if node.backing_file is not None:
        depth = node.backing_file_depth
        lines.append(f"    Backing file:     {node.backing_file} (chain depth: {depth})")
    if node.detect_zeroes is not DetectZeroes.OFF:
        lines.append(f"    Detect zeroes:    {node.detect_zeroes.value}")
    if any(getattr(node, kind) for kind in KINDS):
        lines.append(f"    I/O throttling:   {_limits_text(node)}")
    return lines


def _limits_text(node: blocks.BlockDeviceInfo) -> str:
    shown = []
    for unit in ("bps", "iops"):
        kinds = [kind for kind in KINDS if kind.startswith(unit)]
        shown += [f"{kind}={getattr(node, kind)}" for kind in kinds]
        shown += [f"{kind}_max={getattr(node, f'{kind}_max') or 0}" for kind in kinds]
    return " ".join([*shown, f"iops_size={node.iops_size or 0}", f"group={node.group}"])


def _image_lines(image: blocks.ImageInfo | None) -> list[str]:
    """An image, and those below it."""
    lines = []
    while image is not None:
        lines += [f"image: {image.filename}", f"file format: {image.format}"]
        lines.append(f"virtual size: {human_size(image.virtual_size)} ({image.virtual_size} bytes)")
        lines.append(f"disk size: {human_size(image.actual_size or 0)}")
        if image.cluster_size is not None:
            lines.append(f"cluster_size: {image.cluster_size}")
        if image.snapshots:
            lines.append("Snapshot list:")
            lines += snapshot_table(image.snapshots, ids=True).splitlines()
        image = image.backing_image
    return lines


@hmp("info blockstats", "show block device statistics")
def blockstats(shell: Shell) -> str:
    """What the drives have done."""
    keys = (
        "rd_bytes wr_bytes rd_operations wr_operations flush_operations wr_total_time_ns "
        "rd_total_time_ns flush_total_time_ns rd_merged wr_merged idle_time_ns"
    ).split()
    lines = []
    for found in blocks.query_blockstats(shell.vm):
        values = " ".join(f"{key}={getattr(found.stats, key) or 0}" for key in keys)
        lines.append(f"{found.device}: {values}\n")
    return "".join(lines)


@hmp("info block-jobs", "show progress of ongoing block device operations")
def block_jobs(shell: Shell) -> str:
    """What goes on in the background: nothing."""
    return "No active jobs\n"
