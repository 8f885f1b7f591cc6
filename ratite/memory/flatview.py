"""Flattening the memory tree: which region answers at each address, without overlaps."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

from ratite.memory.address import Gpa, Hva
from ratite.memory.region import MemoryRegion, RegionKind


class FlatRange(NamedTuple):
    """Addresses in a row that one region answers, from `offset_in_region` on."""

    start: int
    size: int
    region: MemoryRegion
    offset_in_region: int
    readonly: bool
    romd: bool
    direct: bool
    """Reads go to the region's RAM block."""

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.size

    @property
    def writable(self) -> bool:
        """Writes go to the region's RAM block."""
        return self.direct and not self.readonly and not self.romd

    @property
    def host(self) -> Hva | None:
        """Where the range's memory is in the host; None for I/O."""
        block = self.region.block
        return None if block is None else Hva(block.host + self.offset_in_region)


class _Leaf(NamedTuple):
    """A stretch of a region as the tree places it, still overlapping others. `base` is where its
    offset 0 lies.
    """

    start: int
    end: int
    region: MemoryRegion
    base: int
    readonly: bool

    def range(self, start: int, end: int) -> FlatRange:
        region = self.region
        direct = region.block is not None and (
            region.romd or region.kind is not RegionKind.ROM_DEVICE
        )
        offset = start - self.base
        return FlatRange(start, end - start, region, offset, self.readonly, region.romd, direct)


class FlatView:
    """The rendered form of a tree: sorted ranges. Never changes; safe to read on any thread."""

    def __init__(self, root: MemoryRegion | None, ranges: list[FlatRange]) -> None:
        self.root = root
        self.ranges = ranges
        self.starts = [entry.start for entry in ranges]

    def lookup(self, gpa: Gpa) -> FlatRange | None:
        """The range that holds an address; None if nothing answers there."""
        index = bisect_right(self.starts, gpa) - 1
        if index < 0:
            return None
        entry = self.ranges[index]
        return entry if gpa - entry.start < entry.size else None


def flat_root(root: MemoryRegion) -> MemoryRegion | None:
    """The region below `root` that alone decides the view; None if the view is empty.

    A root that only passes through to one region (an alias, or a container of one) shares that
    region's view.
    """
    while root.enabled and not root.readonly:
        if root.target is not None:
            if root.target_offset or root.size < root.target.size:
                return root
            root = root.target
            continue
        if root.terminates:
            return root
        shown = [child for child in root.subregions if child.enabled and child.size]
        if not shown:
            return None
        if len(shown) > 1 or shown[0].addr or shown[0].size < root.size:
            return root
        root = shown[0]
    return root if root.enabled else None


def render(root: MemoryRegion) -> FlatView:
    """Flatten the tree below `root`. The time it takes grows with n log n, n being the regions
    shown.
    """
    leaves = list(_leaves(root, 0, 0, root.size, False))
    rank_of = {leaf: rank for rank, leaf in enumerate(leaves)}
    by_start = sorted(leaves, key=itemgetter(0))
    pieces = _plain(by_start) or _sweep(by_start, rank_of)
    return FlatView(root, _merge(pieces))


def _leaves(
    region: MemoryRegion, base: int, low: int, high: int, readonly: bool
) -> Iterator[_Leaf]:
    """What `region`, placed at `base` and cut to [low, high), shows: what wins comes first."""
    low = max(low, base)
    high = min(high, base + region.size)
    if not region.enabled or low >= high:
        return
    readonly = readonly or region.readonly
    if region.target is not None:
        yield from _leaves(region.target, base - region.target_offset, low, high, readonly)
        return
    for child in region.subregions:
        yield from _leaves(child, base + child.addr, low, high, readonly)
    if region.terminates:
        yield _Leaf(low, high, region, base, readonly)


def _plain(by_start: list[_Leaf]) -> list[tuple[int, int, _Leaf]]:
    """The pieces if no two leaves overlap; empty otherwise."""
    end = 0
    for leaf in by_start:
        if leaf.start < end:
            return []
        end = leaf.end
    return [(leaf.start, leaf.end, leaf) for leaf in by_start]


def _sweep(by_start: list[_Leaf], rank_of: dict[_Leaf, int]) -> list[tuple[int, int, _Leaf]]:
    """Walk the addresses upward with a heap of the leaves that are open; the lowest rank shows."""
    bounds = sorted({leaf.start for leaf in by_start} | {leaf.end for leaf in by_start})
    pieces: list[tuple[int, int, _Leaf]] = []
    open_leaves: list[tuple[int, _Leaf]] = []
    coming = 0
    for position, following in pairwise(bounds):
        while coming < len(by_start) and by_start[coming].start <= position:
            leaf = by_start[coming]
            heapq.heappush(open_leaves, (rank_of[leaf], leaf))
            coming += 1
        while open_leaves and open_leaves[0][1].end <= position:
            heapq.heappop(open_leaves)
        if open_leaves:
            pieces.append((position, following, open_leaves[0][1]))
    return pieces


def _merge(pieces: list[tuple[int, int, _Leaf]]) -> list[FlatRange]:
    """Join neighbours that continue each other."""
    ranges: list[FlatRange] = []
    for start, end, leaf in pieces:
        piece = leaf.range(start, end)
        last = ranges[-1] if ranges else None
        if (
            last is not None
            and last.region is piece.region
            and last.start + last.size == start
            and last.offset_in_region + last.size == piece.offset_in_region
            and last.readonly == piece.readonly
        ):
            ranges[-1] = last._replace(size=last.size + piece.size)
        else:
            ranges.append(piece)
    return ranges
