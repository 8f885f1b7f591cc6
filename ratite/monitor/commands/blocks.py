"""What there is of drives and block nodes, and what they have done.

Source: QEMU's QMP reference, "Block devices". Not modelled: encryption, dirty bitmaps, jobs,
latency histograms, statistics by interval.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import monotonic_ns
from typing import Annotated, Any, ClassVar

from ratite.block import (
    BlockNode,
    DetectZeroes,
    Drive,
    DriveStats,
    FileNode,
    HostDeviceNode,
    OverlayNode,
)
from ratite.block.overlay import CLUSTER
from ratite.block.throttle import KINDS
from ratite.core.disk import IoStatus
from ratite.migration.snapshot import SnapshotInfo as Kept
from ratite.monitor.command import command
from ratite.monitor.types import Recursive
from ratite.monitor.vm import Vm
from ratite.qom import Doc, Named, Tagged

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class SnapshotInfo:
    """A snapshot of the machine."""

    id: str
    name: str
    vm_state_size: Annotated[int, Doc("bytes of the machine's state")]
    date_sec: Annotated[int, Doc("when it was made, in seconds since 1970")]
    date_nsec: int
    vm_clock_sec: Annotated[int, Doc("guest time")]
    vm_clock_nsec: int


def snapshot_info(kept: Kept) -> SnapshotInfo:
    """What clients are told of a snapshot."""
    date, date_ns = divmod(kept.date_ns, SECOND_NS)
    clock, clock_ns = divmod(kept.clock_ns, SECOND_NS)
    return SnapshotInfo(str(kept.number), kept.tag, kept.state_size, date, date_ns, clock, clock_ns)


def _snapshots(vm: Vm, node: BlockNode) -> list[SnapshotInfo] | None:
    """Those that lie beside the image, where this is the node in a drive; None if there are
    none.
    """
    for drive in vm.backends.block.drives if vm.initialized else ():
        if drive.node is node:
            return [snapshot_info(kept) for kept in vm.snapshots.list(drive)] or None
    return None


@dataclass(frozen=True)
class ImageInfo:
    """An image."""

    filename: str
    format: str
    virtual_size: Annotated[int, Doc("bytes that the guest sees")]
    actual_size: Annotated[int | None, Doc("bytes that the host keeps for it")] = None
    dirty_flag: bool | None = None
    cluster_size: int | None = None
    snapshots: list[SnapshotInfo] | None = None
    backing_image: Annotated[ImageInfo | None, Recursive, Doc("the image below")] = None


@dataclass(frozen=True)
class BlockdevCacheInfo:
    """How the host caches."""

    writeback: bool
    direct: bool
    no_flush: bool


@dataclass(frozen=True, kw_only=True)
class BlockDeviceInfo:
    """One block node; in a drive, with the drive's limits. A limit of 0 is none."""

    file: str
    node_name: str
    ro: Annotated[bool, Doc("read-only")]
    drv: Annotated[str, Doc("the driver")]
    backing_file: Annotated[str | None, Named("backing_file")] = None
    backing_file_depth: Annotated[int, Named("backing_file_depth")]
    encrypted: bool
    detect_zeroes: Annotated[DetectZeroes, Named("detect_zeroes")]
    bps: int = 0
    bps_rd: Annotated[int, Named("bps_rd")] = 0
    bps_wr: Annotated[int, Named("bps_wr")] = 0
    iops: int = 0
    iops_rd: Annotated[int, Named("iops_rd")] = 0
    iops_wr: Annotated[int, Named("iops_wr")] = 0
    image: ImageInfo
    bps_max: Annotated[int | None, Named("bps_max")] = None
    bps_rd_max: Annotated[int | None, Named("bps_rd_max")] = None
    bps_wr_max: Annotated[int | None, Named("bps_wr_max")] = None
    iops_max: Annotated[int | None, Named("iops_max")] = None
    iops_rd_max: Annotated[int | None, Named("iops_rd_max")] = None
    iops_wr_max: Annotated[int | None, Named("iops_wr_max")] = None
    bps_max_length: Annotated[int | None, Named("bps_max_length")] = None
    bps_rd_max_length: Annotated[int | None, Named("bps_rd_max_length")] = None
    bps_wr_max_length: Annotated[int | None, Named("bps_wr_max_length")] = None
    iops_max_length: Annotated[int | None, Named("iops_max_length")] = None
    iops_rd_max_length: Annotated[int | None, Named("iops_rd_max_length")] = None
    iops_wr_max_length: Annotated[int | None, Named("iops_wr_max_length")] = None
    iops_size: Annotated[int | None, Named("iops_size")] = None
    group: Annotated[str | None, Doc("the drives that share the limits")] = None
    cache: BlockdevCacheInfo
    write_threshold: Annotated[int, Named("write_threshold")]


@dataclass(frozen=True)
class BlockInfo:
    """One drive."""

    device: Annotated[str, Doc("its name; empty if only its node has one")]
    type: Annotated[str, Doc("always `unknown`")]
    removable: Annotated[bool, Doc("whether its medium can be changed")]
    locked: bool
    qdev: Annotated[str | None, Doc("id or path of the device that has it")] = None
    inserted: Annotated[BlockDeviceInfo | None, Doc("the node in it")] = None
    tray_open: Annotated[bool | None, Named("tray_open")] = None
    io_status: Annotated[IoStatus | None, Doc("where errors can stop the machine")] = None


def describe_node(
    vm: Vm, node: BlockNode, drive: Drive | None = None, *, flat: bool = False
) -> BlockDeviceInfo:
    """A node, with the limits and the cache of the drive that it is in; `flat` leaves out what lies
    below.
    """
    backing = node.backing
    depth = 0
    while backing is not None and not flat:
        depth += 1
        backing = backing.backing
    options = node.options
    writeback = drive.write_cache if drive is not None else True
    return BlockDeviceInfo(
        file=node.filename,
        node_name=node.name,
        ro=node.read_only,
        drv=node.driver,
        backing_file=node.backing.filename if node.backing is not None else None,
        backing_file_depth=depth,
        encrypted=False,
        detect_zeroes=options.detect_zeroes or DetectZeroes.OFF,
        image=replace(_describe_image(node, flat=flat), snapshots=_snapshots(vm, node)),
        cache=BlockdevCacheInfo(writeback, options.direct, options.no_flush),
        write_threshold=_signed(node.write_threshold),
        **_limits(drive),
    )


def _describe_image(node: BlockNode, *, flat: bool) -> ImageInfo:
    backing = node.backing
    return ImageInfo(
        filename=node.filename,
        format=node.driver,
        virtual_size=node.size,
        actual_size=node.allocated_size,
        dirty_flag=None if _is_null(node) else False,
        cluster_size=CLUSTER if isinstance(node, OverlayNode) else None,
        backing_image=None if backing is None or flat else _describe_image(backing, flat=False),
    )


def _is_null(node: BlockNode) -> bool:
    """Whether there is no image at all."""
    if not node.children:
        return not isinstance(node, FileNode)
    return "file" in node.children and _is_null(node.children["file"].node)


def _signed(value: int) -> int:
    """A number of 64 bits as the protocol has it."""
    return value - (1 << 64) if value >> 63 else value


def _limits(drive: Drive | None) -> dict[str, Any]:
    """The limits of a drive as members."""
    if drive is None or drive.throttle is None:
        return {}
    limits = drive.throttle.limits
    found: dict[str, Any] = {"group": drive.throttle.name, "iops_size": limits.iops_size or None}
    for kind in KINDS:
        rate = limits.rate(kind)
        found[kind] = rate.average
        if rate.burst:
            found |= {f"{kind}_max": rate.burst, f"{kind}_max_length": rate.burst_s}
    return found


def shown_drives(vm: Vm) -> list[Drive]:
    """The drives that have a name or a device."""
    return [drive for drive in vm.backends.block.drives if drive.name or drive.user is not None]


@command("query-block", preconfig=True)
def query_block(vm: Vm) -> list[BlockInfo]:
    """All drives."""
    return [
        BlockInfo(
            drive.name,
            "unknown",
            removable=drive.removable,
            locked=False,
            qdev=drive.qdev or None,
            inserted=describe_node(vm, drive.node, drive) if drive.node is not None else None,
            io_status=drive.io_status if drive.tells_status else None,
        )
        for drive in shown_drives(vm)
    ]


@command("query-named-block-nodes", preconfig=True)
def query_named_block_nodes(
    vm: Vm, flat: Annotated[bool | None, Doc("leave out what lies below a node")] = None
) -> list[BlockDeviceInfo]:
    """All block nodes, the latest first."""
    nodes = reversed(vm.backends.block.graph.nodes.values())
    return [describe_node(vm, node, flat=bool(flat)) for node in nodes]


# -- statistics


@dataclass(frozen=True, kw_only=True)
class BlockDeviceStats:
    """What a drive has done; of a node only where the farthest write ended is counted. Requests are
    never merged.
    """

    rd_bytes: Annotated[int, Named("rd_bytes")] = 0
    wr_bytes: Annotated[int, Named("wr_bytes")] = 0
    unmap_bytes: Annotated[int, Named("unmap_bytes")] = 0
    rd_operations: Annotated[int, Named("rd_operations")] = 0
    wr_operations: Annotated[int, Named("wr_operations")] = 0
    flush_operations: Annotated[int, Named("flush_operations")] = 0
    unmap_operations: Annotated[int, Named("unmap_operations")] = 0
    rd_total_time_ns: Annotated[int, Named("rd_total_time_ns")] = 0
    wr_total_time_ns: Annotated[int, Named("wr_total_time_ns")] = 0
    flush_total_time_ns: Annotated[int, Named("flush_total_time_ns")] = 0
    unmap_total_time_ns: Annotated[int, Named("unmap_total_time_ns")] = 0
    wr_highest_offset: Annotated[int, Named("wr_highest_offset")] = 0
    rd_merged: Annotated[int, Named("rd_merged")] = 0
    wr_merged: Annotated[int, Named("wr_merged")] = 0
    unmap_merged: Annotated[int, Named("unmap_merged")] = 0
    idle_time_ns: Annotated[
        int | None, Named("idle_time_ns"), Doc("since the last access, if there was one")
    ] = None
    failed_rd_operations: Annotated[int, Named("failed_rd_operations")] = 0
    failed_wr_operations: Annotated[int, Named("failed_wr_operations")] = 0
    failed_flush_operations: Annotated[int, Named("failed_flush_operations")] = 0
    failed_unmap_operations: Annotated[int, Named("failed_unmap_operations")] = 0
    invalid_rd_operations: Annotated[int, Named("invalid_rd_operations")] = 0
    invalid_wr_operations: Annotated[int, Named("invalid_wr_operations")] = 0
    invalid_flush_operations: Annotated[int, Named("invalid_flush_operations")] = 0
    invalid_unmap_operations: Annotated[int, Named("invalid_unmap_operations")] = 0
    account_invalid: Annotated[bool, Named("account_invalid")] = False
    account_failed: Annotated[bool, Named("account_failed")] = False
    timed_stats: Annotated[list[Any], Named("timed_stats")] = field(default_factory=list)


@dataclass(frozen=True)
class FileStats:
    """Discards that reached a file."""

    case: ClassVar[str] = "file"
    discard_nb_ok: int
    discard_nb_failed: int
    discard_bytes_ok: int


@dataclass(frozen=True)
class HostDeviceStats(FileStats):
    """Discards that reached a block device."""

    case: ClassVar[str] = "host_device"


@dataclass(frozen=True, kw_only=True)
class BlockStats:
    """What a drive or a node has done."""

    device: Annotated[str | None, Doc("the drive's name")] = None
    qdev: Annotated[str | None, Doc("id or path of the device that has it")] = None
    node_name: str | None = None
    stats: BlockDeviceStats
    driver_specific: Annotated[
        FileStats | HostDeviceStats | None, Tagged("driver", "BlockStatsSpecific")
    ] = None
    parent: Annotated[BlockStats | None, Recursive, Doc("the node below")] = None
    backing: Annotated[BlockStats | None, Recursive, Doc("the image below")] = None


def _node_stats(node: BlockNode) -> BlockStats:
    return BlockStats(
        node_name=node.name,
        stats=BlockDeviceStats(wr_highest_offset=node.highest_write),
        **_below(node, with_backing=True),
    )


def _below(node: BlockNode, *, with_backing: bool) -> dict[str, Any]:
    """What a node's driver counts, and the nodes below."""
    found: dict[str, Any] = {}
    if isinstance(node, FileNode):
        counts = node.discard_counts
        kind = HostDeviceStats if isinstance(node, HostDeviceNode) else FileStats
        found["driver_specific"] = kind(counts.done, counts.failed, counts.done_bytes)
    if "file" in node.children:
        found["parent"] = _node_stats(node.children["file"].node)
    if node.backing is not None and with_backing:
        found["backing"] = _node_stats(node.backing)
    return found


def _drive_stats(stats: DriveStats, highest: int) -> BlockDeviceStats:
    last = stats.last_access_ns
    return BlockDeviceStats(
        rd_bytes=stats.read.bytes,
        wr_bytes=stats.write.bytes,
        unmap_bytes=stats.unmap.bytes,
        rd_operations=stats.read.operations,
        wr_operations=stats.write.operations,
        flush_operations=stats.flush.operations,
        unmap_operations=stats.unmap.operations,
        rd_total_time_ns=stats.read.total_time_ns,
        wr_total_time_ns=stats.write.total_time_ns,
        flush_total_time_ns=stats.flush.total_time_ns,
        unmap_total_time_ns=stats.unmap.total_time_ns,
        wr_highest_offset=highest,
        idle_time_ns=monotonic_ns() - last if last else None,
        failed_rd_operations=stats.read.failed,
        failed_wr_operations=stats.write.failed,
        failed_flush_operations=stats.flush.failed,
        failed_unmap_operations=stats.unmap.failed,
        invalid_rd_operations=stats.read.invalid,
        invalid_wr_operations=stats.write.invalid,
        invalid_flush_operations=stats.flush.invalid,
        invalid_unmap_operations=stats.unmap.invalid,
        account_invalid=stats.account_invalid,
        account_failed=stats.account_failed,
    )


@command("query-blockstats", preconfig=True)
def query_blockstats(
    vm: Vm, query_nodes: Annotated[bool | None, Doc("by node, not by drive")] = None
) -> list[BlockStats]:
    """What the drives have done so far."""
    if query_nodes:
        nodes = vm.backends.block.graph.nodes.values()
        return [
            BlockStats(
                node_name=node.name,
                stats=BlockDeviceStats(wr_highest_offset=node.highest_write),
                **_below(node, with_backing=False),
            )
            for node in nodes
        ]
    return [
        BlockStats(
            device=drive.name,
            qdev=drive.qdev or None,
            node_name=drive.node_name or None,
            stats=_drive_stats(drive.stats, drive.node.highest_write if drive.node else 0),
            **(_below(drive.node, with_backing=True) if drive.node else {}),
        )
        for drive in shown_drives(vm)
    ]


# -- jobs


@command("query-block-jobs", preconfig=True)
def query_block_jobs() -> list[Any]:
    """What is going on in the block graph in the background: nothing."""
    return []
