"""Drives and their images.

Source: QEMU's QMP reference, "Block devices". Not modelled: throttling, encryption, jobs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated, Any

from ratite.block import Drive
from ratite.devices import Device
from ratite.monitor.command import command
from ratite.monitor.vm import Vm
from ratite.qom import Doc, Named


@dataclass(frozen=True)
class ImageInfo:
    """An image file."""

    filename: str
    format: str
    virtual_size: Annotated[int, Doc("bytes that the guest sees")]
    actual_size: Annotated[int | None, Doc("bytes that the file takes")] = None
    dirty_flag: bool | None = None


@dataclass(frozen=True)
class BlockdevCacheInfo:
    """How the host caches."""

    writeback: bool
    direct: bool
    no_flush: bool


@dataclass(frozen=True)
class BlockDeviceInfo:
    """One node of the block graph. The limits are 0: none."""

    file: str
    node_name: str
    ro: Annotated[bool, Doc("read-only")]
    drv: Annotated[str, Doc("the driver")]
    backing_file_depth: Annotated[int, Named("backing_file_depth")]
    encrypted: bool
    detect_zeroes: Annotated[str, Named("detect_zeroes")]
    bps: int
    bps_rd: Annotated[int, Named("bps_rd")]
    bps_wr: Annotated[int, Named("bps_wr")]
    iops: int
    iops_rd: Annotated[int, Named("iops_rd")]
    iops_wr: Annotated[int, Named("iops_wr")]
    image: ImageInfo
    cache: BlockdevCacheInfo
    write_threshold: Annotated[int, Named("write_threshold")]


@dataclass(frozen=True)
class BlockInfo:
    """One drive."""

    device: Annotated[str, Doc("its id")]
    type: Annotated[str, Doc("always `unknown`")]
    removable: bool
    locked: bool
    qdev: Annotated[str | None, Doc("id or path of the device that has it")] = None
    io_status: str | None = None
    inserted: BlockDeviceInfo | None = None


def describe(drive: Drive) -> BlockDeviceInfo:
    """The node of a drive."""
    node = drive.node
    actual = None
    if os.path.exists(node.name):
        actual = os.stat(node.name).st_blocks * 512
    image = ImageInfo(node.name, "raw", node.size, actual, False)
    cache = BlockdevCacheInfo(drive.write_cache, node.cache.direct, node.cache.ignores_flush)
    return BlockDeviceInfo(
        file=node.name,
        node_name=f"#{drive.id}",
        ro=node.read_only,
        drv="raw",
        backing_file_depth=0,
        encrypted=False,
        detect_zeroes="off",
        bps=0,
        bps_rd=0,
        bps_wr=0,
        iops=0,
        iops_rd=0,
        iops_wr=0,
        image=image,
        cache=cache,
        write_threshold=0,
    )


def users(vm: Vm) -> dict[int, str]:
    """The device that has each drive, by the drive's identity: its id, or its path."""
    found = {}
    for node in vm.machine.walk():
        if isinstance(node, Device):
            for entry in node.properties().values():
                if entry.kind == "drive" and (drive := entry.get(node)) is not None:
                    found[id(drive)] = node.id or node.path
    return found


@command("query-block", preconfig=True)
def query_block(vm: Vm) -> list[BlockInfo]:
    """All drives."""
    attached = users(vm)
    return [
        BlockInfo(
            name,
            "unknown",
            removable=False,
            locked=False,
            qdev=attached.get(id(drive)),
            io_status="ok",
            inserted=describe(drive),
        )
        for name, drive in vm.backends.drives.items()
    ]


@command("query-named-block-nodes", preconfig=True)
def query_named_block_nodes(
    vm: Vm, flat: Annotated[bool | None, Doc("leave out what lies below a node")] = None
) -> list[BlockDeviceInfo]:
    """All nodes of the block graph."""
    return [describe(drive) for drive in vm.backends.drives.values()]


@dataclass(frozen=True)
class BlockDeviceStats:
    """What a drive has done. Times, merges and failures by kind are not counted, and are 0."""

    rd_bytes: Annotated[int, Named("rd_bytes")]
    wr_bytes: Annotated[int, Named("wr_bytes")]
    unmap_bytes: Annotated[int, Named("unmap_bytes")]
    rd_operations: Annotated[int, Named("rd_operations")]
    wr_operations: Annotated[int, Named("wr_operations")]
    unmap_operations: Annotated[int, Named("unmap_operations")]
    flush_operations: Annotated[int, Named("flush_operations")]
    rd_total_time_ns: Annotated[int, Named("rd_total_time_ns")] = 0
    wr_total_time_ns: Annotated[int, Named("wr_total_time_ns")] = 0
    unmap_total_time_ns: Annotated[int, Named("unmap_total_time_ns")] = 0
    flush_total_time_ns: Annotated[int, Named("flush_total_time_ns")] = 0
    wr_highest_offset: Annotated[int, Named("wr_highest_offset")] = 0
    rd_merged: Annotated[int, Named("rd_merged")] = 0
    wr_merged: Annotated[int, Named("wr_merged")] = 0
    unmap_merged: Annotated[int, Named("unmap_merged")] = 0
    failed_rd_operations: Annotated[int, Named("failed_rd_operations")] = 0
    failed_wr_operations: Annotated[int, Named("failed_wr_operations")] = 0
    failed_unmap_operations: Annotated[int, Named("failed_unmap_operations")] = 0
    failed_flush_operations: Annotated[int, Named("failed_flush_operations")] = 0
    invalid_rd_operations: Annotated[int, Named("invalid_rd_operations")] = 0
    invalid_wr_operations: Annotated[int, Named("invalid_wr_operations")] = 0
    invalid_unmap_operations: Annotated[int, Named("invalid_unmap_operations")] = 0
    invalid_flush_operations: Annotated[int, Named("invalid_flush_operations")] = 0
    account_invalid: Annotated[bool, Named("account_invalid")] = True
    account_failed: Annotated[bool, Named("account_failed")] = True
    timed_stats: Annotated[list[Any], Named("timed_stats")] = field(default_factory=list)


@dataclass(frozen=True)
class BlockStats:
    """One drive's counters."""

    stats: BlockDeviceStats
    device: str | None = None
    qdev: str | None = None
    node_name: str | None = None


@command("query-blockstats", preconfig=True)
def query_blockstats(
    vm: Vm, query_nodes: Annotated[bool | None, Doc("by node, not by drive")] = None
) -> list[BlockStats]:
    """What the drives have done so far."""
    attached = users(vm)
    found = []
    for name, drive in vm.backends.drives.items():
        done = drive.stats
        stats = BlockDeviceStats(
            done.rd_bytes,
            done.wr_bytes,
            done.unmap_bytes,
            done.rd_operations,
            done.wr_operations,
            done.unmap_operations,
            done.flush_operations,
        )
        by_drive = None if query_nodes else name
        user = None if query_nodes else attached.get(id(drive))
        found.append(BlockStats(stats, by_drive, user, f"#{name}"))
    return found


@command("query-block-jobs", preconfig=True)
def query_block_jobs() -> list[Any]:
    """What is going on in the block graph in the background: nothing."""
    return []
