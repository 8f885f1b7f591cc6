"""Disk images on the host: block nodes, and the drives that devices use them by."""

from ratite.block.drive import Drive, DriveUser, Poster
from ratite.block.file_node import FileNode, HostDeviceNode
from ratite.block.graph import BlockGraph
from ratite.block.layer import BlockLayer
from ratite.block.node import BlockNode
from ratite.block.options import (
    BlockdevOptions,
    CacheOptions,
    DetectZeroes,
    Discard,
    FileOptions,
    HostDeviceOptions,
    NodeOptions,
    NullAioOptions,
    NullCoOptions,
    OverlayOptions,
    RawOptions,
)
from ratite.block.overlay import OverlayNode
from ratite.block.permission import Permission
from ratite.block.pool import IoPool
from ratite.block.raw_node import RawNode
from ratite.block.stats import DriveStats
from ratite.block.throttle import Limits, Rate

__all__ = [
    "Drive",
    "DriveUser",
    "Poster",
    "FileNode",
    "HostDeviceNode",
    "BlockGraph",
    "BlockLayer",
    "BlockNode",
    "BlockdevOptions",
    "CacheOptions",
    "DetectZeroes",
    "Discard",
    "FileOptions",
    "HostDeviceOptions",
    "NodeOptions",
    "NullAioOptions",
    "NullCoOptions",
    "OverlayOptions",
    "RawOptions",
    "OverlayNode",
    "Permission",
    "IoPool",
    "RawNode",
    "DriveStats",
    "Limits",
    "Rate",
]
