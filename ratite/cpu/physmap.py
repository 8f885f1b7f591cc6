"""The physical memory map as native code reads it, rebuilt whenever the address space changes."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable
from ctypes import addressof, c_char

from ratite.isa.state import RANGE_READONLY, PhysMap, PhysRange
from ratite.memory import AddressSpace, FlatView
from ratite.native import u64

_KEPT = 256
"""Old maps stay readable for a while: a vCPU may be in the middle of a look-up."""


class PhysMapPublisher:
    """Listens to an address space and publishes its map."""

    def __init__(self, space: AddressSpace, publish: Callable[[int], None]) -> None:
        self._publish = publish
        self._kept: deque[mmap.mmap] = deque(maxlen=_KEPT)
        self.address = 0
        space.add_listener(self)

    def commit(self, old: FlatView | None, new: FlatView) -> None:
        """Build the new map and hand out its host address."""
        ranges = new.ranges
        size = PhysMap.SIZE + len(ranges) * PhysRange.SIZE
        memory = mmap.mmap(-1, size)
        base = addressof(c_char.from_buffer(memory))
        PhysMap(base).count = u64(len(ranges))
        for index, flat in enumerate(ranges):
            place = PhysRange(base + PhysMap.SIZE + index * PhysRange.SIZE)
            place.start = u64(flat.start)
            place.end = u64(flat.start + flat.size - 1)
            block = flat.region.block
            if flat.direct and block is not None:
                place.host = u64(block.host + flat.offset_in_region)
                place.ram = u64(block.offset + flat.offset_in_region)
                place.flags = u64(0 if flat.writable else RANGE_READONLY)
        self._kept.append(memory)
        self.address = base
        self._publish(base)
