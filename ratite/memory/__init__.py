"""Guest-physical memory: RAM blocks, the tree of memory regions, address spaces and their views."""

from ratite.memory.address import (
    PAGE_BITS,
    PAGE_SIZE,
    BusError,
    Gpa,
    Hva,
    MemTxResult,
    RamAddr,
)
from ratite.memory.dump import mtree, mtree_flat, ramblock_info
from ratite.memory.flatview import FlatRange, FlatView
from ratite.memory.ram import DirtyClient, RAMBlock, RamList, runs
from ratite.memory.region import AccessSizes, Endianness, IoOps, MemoryRegion, RegionKind
from ratite.memory.space import AddressSpace, ViewListener

__all__ = [
    "PAGE_BITS",
    "PAGE_SIZE",
    "BusError",
    "Gpa",
    "Hva",
    "MemTxResult",
    "RamAddr",
    "mtree",
    "mtree_flat",
    "ramblock_info",
    "FlatRange",
    "FlatView",
    "DirtyClient",
    "RAMBlock",
    "RamList",
    "runs",
    "AccessSizes",
    "Endianness",
    "IoOps",
    "MemoryRegion",
    "RegionKind",
    "AddressSpace",
    "ViewListener",
]
