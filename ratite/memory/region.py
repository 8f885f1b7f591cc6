"""Memory regions: the tree that says what answers at which address.

A region is RAM, ROM, a ROM device (reads go to memory, writes to a device), I/O, an alias of a part
of another region, or a container. Where children of one region overlap, the higher priority shows;
of equals, the one added last.
"""

from __future__ import annotations

import enum
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from ratite.memory.address import BusError, MemTxResult
from ratite.memory.ram import RAMBlock
from ratite.qom import Fact, Object, Property, PropertyInfo

if TYPE_CHECKING:
    from ratite.memory.flatview import FlatView
    from ratite.memory.space import AddressSpace

Endianness = Literal["little", "big", "native"]

OK = MemTxResult.OK
ERROR = MemTxResult.ERROR
DECODE_ERROR = MemTxResult.DECODE_ERROR

Observer = Callable[[int, int, int], None]
"""Called with offset, value and size of an access, with the machine lock held."""

_MASK = tuple((1 << 8 * size) - 1 for size in range(9))


class IoOps(Protocol):
    """What answers in an I/O region: offsets count from the region's start, sizes are bytes.

    Called with the machine lock held. May raise `BusError`, nothing else.
    """

    def read(self, offset: int, size: int) -> int:
        """The value, `size` bytes wide."""

    def write(self, offset: int, value: int, size: int) -> None:
        """Take a value of `size` bytes."""


@dataclass(frozen=True, slots=True)
class AccessSizes:
    """Sizes in bytes that accesses may have, and whether they may be unaligned."""

    minimum: int = 1
    maximum: int = 8
    unaligned: bool = False


class RegionKind(enum.Enum):
    """What a region is."""

    CONTAINER = enum.auto()
    RAM = enum.auto()
    ROM = enum.auto()
    ROM_DEVICE = enum.auto()
    IO = enum.auto()
    ALIAS = enum.auto()


class MemoryRegion(Object):
    """One node of the memory tree. Made by the class methods; sizes are bytes, up to 2**64."""

    type_name = "memory-region"

    def __init__(
        self,
        kind: RegionKind,
        region_name: str,
        size: int,
        *,
        block: RAMBlock | None = None,
        ops: IoOps | None = None,
        target: MemoryRegion | None = None,
        target_offset: int = 0,
    ) -> None:
        super().__init__()
        assert 0 <= size <= 1 << 64
        self.kind = kind
        self.region_name = region_name
        self.size = size
        self.block = block
        self.target = target
        self.target_offset = target_offset
        self.readonly = kind is RegionKind.ROM
        self.addr = 0
        self.priority = 0
        self.enabled = True
        self.romd = kind is RegionKind.ROM_DEVICE
        self.container_region: MemoryRegion | None = None
        self.endianness: Endianness = "little"
        self.valid = AccessSizes()
        self.impl = AccessSizes(1, 4)
        self.terminates = kind not in (RegionKind.CONTAINER, RegionKind.ALIAS)
        self._ops = ops
        self._observers: tuple[Observer | None, Observer | None] = (None, None)
        self._subregions: dict[MemoryRegion, None] = {}
        self._ordered: list[MemoryRegion] | None = []
        self._aliases: weakref.WeakSet[MemoryRegion] | None = None
        self._spaces: list[AddressSpace] = []
        self._view: FlatView | None = None
        if ops is not None:
            self._plan()
        if target is not None:
            if target._aliases is None:
                target._aliases = weakref.WeakSet()
            target._aliases.add(self)

    def __repr__(self) -> str:
        return f"MemoryRegion({self.region_name!r}, {self.kind.name}, size={self.size:#x})"

    # -- constructors

    @classmethod
    def container(cls, name: str, size: int) -> MemoryRegion:
        """A region that shows only its children."""
        return cls(RegionKind.CONTAINER, name, size)

    @classmethod
    def ram(cls, name: str, block: RAMBlock) -> MemoryRegion:
        """A block that the guest reads and writes."""
        return cls(RegionKind.RAM, name, block.size, block=block)

    @classmethod
    def rom(cls, name: str, block: RAMBlock) -> MemoryRegion:
        """A block that the guest only reads; its writes are lost."""
        return cls(RegionKind.ROM, name, block.size, block=block)

    @classmethod
    def rom_device(
        cls,
        name: str,
        block: RAMBlock,
        ops: IoOps,
        *,
        endianness: Endianness = "little",
        valid: AccessSizes | None = None,
        impl: AccessSizes | None = None,
    ) -> MemoryRegion:
        """A block that the guest reads directly while `romd` is set; writes, and reads otherwise,
        go to `ops`.
        """
        region = cls(RegionKind.ROM_DEVICE, name, block.size, block=block, ops=ops)
        region._set_access(endianness, valid, impl)
        return region

    @classmethod
    def io(
        cls,
        name: str,
        size: int,
        ops: IoOps,
        *,
        endianness: Endianness = "little",
        valid: AccessSizes | None = None,
        impl: AccessSizes | None = None,
    ) -> MemoryRegion:
        """A device. `valid` is what the guest may do (default: 1 to 8 bytes, aligned), `impl` what
        `ops` can do (default: 1 to 4 bytes, aligned); an access between the two is split or
        widened.
        """
        region = cls(RegionKind.IO, name, size, ops=ops)
        region._set_access(endianness, valid, impl)
        return region

    @classmethod
    def alias(cls, name: str, target: MemoryRegion, offset: int, size: int) -> MemoryRegion:
        """A window of `size` bytes on another region, from `offset` on."""
        return cls(RegionKind.ALIAS, name, size, target=target, target_offset=offset)

    # -- the tree

    @property
    def subregions(self) -> list[MemoryRegion]:
        """The children, the one that shows first in front."""
        if self._ordered is None:
            newest_first = reversed(self._subregions)
            self._ordered = sorted(newest_first, key=lambda region: -region.priority)
        return self._ordered

    def add_subregion(self, offset: int, region: MemoryRegion, priority: int = 0) -> None:
        """Place a region that is in no container yet."""
        assert region.container_region is None, f"{region!r} is in a container already"
        region.container_region = self
        region.addr = offset
        region.priority = priority
        self._subregions[region] = None
        self._ordered = None
        region._changed()

    def del_subregion(self, region: MemoryRegion) -> None:
        """Take a region out."""
        assert region.container_region is self
        region.container_region = None
        del self._subregions[region]
        self._ordered = None
        self._changed()

    def set_address(self, offset: int) -> None:
        """Move within the container."""
        if offset != self.addr:
            self.addr = offset
            self._changed()

    def set_size(self, size: int) -> None:
        """Grow or shrink."""
        if size != self.size:
            self.size = size
            self._changed()

    def set_enabled(self, enabled: bool) -> None:
        """Show or hide the region with all below it."""
        if enabled != self.enabled:
            self.enabled = enabled
            self._changed()

    def set_romd(self, romd: bool) -> None:
        """Let a ROM device's reads go to its memory, or to its `ops`."""
        assert self.kind is RegionKind.ROM_DEVICE
        if romd != self.romd:
            self.romd = romd
            self._changed()

    def set_readonly(self, readonly: bool) -> None:
        """Refuse or allow writes to RAM, here and below."""
        if readonly != self.readonly:
            self.readonly = readonly
            self._changed()

    def set_alias_offset(self, offset: int) -> None:
        """Move an alias's window on its target."""
        assert self.kind is RegionKind.ALIAS
        if offset != self.target_offset:
            self.target_offset = offset
            self._changed()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Put off rendering, in every address space that shows this region, to the end of the
        block.
        """
        with ExitStack() as stack:
            for space in self._showing():
                stack.enter_context(space.transaction())
            yield

    @property
    def type_text(self) -> str:
        """What `info mtree` calls the kind: ram, rom, romd or i/o."""
        match self.kind:
            case RegionKind.ALIAS:
                assert self.target is not None
                return self.target.type_text
            case RegionKind.ROM_DEVICE if self.romd:
                return "romd"
            case RegionKind.RAM | RegionKind.ROM:
                return "rom" if self.readonly else "ram"
            case _:
                return "i/o"

    def _showing(self) -> list[AddressSpace]:
        """The address spaces this region may show in, their views marked stale on the way."""
        spaces: list[AddressSpace] = []
        todo = [self]
        while todo:
            node = todo.pop()
            node._view = None
            spaces += node._spaces
            if node.container_region is not None:
                todo.append(node.container_region)
            if node._aliases:
                todo.extend(node._aliases)
        return spaces

    def _changed(self) -> None:
        for space in self._showing():
            space.refresh()

    @property
    def absolute_address(self) -> int:
        """Where it is in the outermost region that holds it, other than through an alias."""
        address, region = 0, self
        while region.container_region is not None:
            address, region = address + region.addr, region.container_region
        return address

    # -- QOM

    @classmethod
    def properties(cls) -> Mapping[str, Property]:
        """None that a user could set: the machine decides what a region is."""
        return {}

    @classmethod
    def fact_infos(cls) -> list[PropertyInfo]:
        """What `facts` names."""
        return [
            *super().fact_infos(),
            PropertyInfo("container", "link<memory-region>"),
            PropertyInfo("addr", "uint64"),
            PropertyInfo("size", "uint64"),
            PropertyInfo("priority", "uint32"),
        ]

    def facts(self) -> list[Fact]:
        """What clients can read."""
        container = self.container_region.path if self.container_region else ""
        return [
            *super().facts(),
            Fact("container", "link<memory-region>", container),
            Fact("addr", "uint64", self.addr),
            Fact("size", "uint64", min(self.size, (1 << 64) - 1)),
            Fact("priority", "uint32", self.priority),
        ]

    # -- I/O. Values travel as the little-endian reading of the bytes on the bus (native ones as
    # they are).

    def read_io(self, offset: int, size: int) -> tuple[int, MemTxResult]:
        """Read from the device behind the region.

        Runs: per MMIO read.
        """
        if self._direct[size] and not offset & self._misaligned[size]:
            try:
                return self._read(offset, size) & _MASK[size], OK
            except BusError:
                return 0, ERROR
        return self._read_adjusted(offset, size)

    def write_io(self, offset: int, value: int, size: int) -> MemTxResult:
        """Write to the device behind the region. `value` is within `size` bytes.

        Runs: per MMIO write.
        """
        if self._direct[size] and not offset & self._misaligned[size]:
            try:
                self._write(offset, value, size)
            except BusError:
                return ERROR
            return OK
        return self._write_adjusted(offset, value, size)

    def observe(self, read: Observer | None, write: Observer | None) -> None:
        """From now on call these, and no others, after each read from the device behind the region
        and before each write to it. An unobserved region does not pay for this.
        """
        self._observers = (read, write)
        self._plan()

    def largest_access(self, offset: int, limit: int) -> int:
        """The size of the largest single access that is valid at `offset` and no longer than
        `limit` bytes.
        """
        size = self.valid.maximum
        while size > 1 and (size > limit or (offset & (size - 1) and not self.valid.unaligned)):
            size >>= 1
        return size

    def _set_access(
        self, endianness: Endianness, valid: AccessSizes | None, impl: AccessSizes | None
    ) -> None:
        self.endianness = endianness
        if valid is not None:
            self.valid = valid
        if impl is not None:
            self.impl = impl
        self._plan()

    def _plan(self) -> None:
        """Precompute which accesses go straight to `ops`."""
        assert self._ops is not None
        read, write = self._observers
        self._read = self._ops.read if read is None else self._observed_read
        self._write = self._ops.write if write is None else self._observed_write
        low = max(self.valid.minimum, self.impl.minimum)
        high = min(self.valid.maximum, self.impl.maximum)
        self._direct = [
            size in (1, 2, 4, 8) and low <= size <= high and (self.endianness != "big" or size == 1)
            for size in range(9)
        ]
        unaligned = self.valid.unaligned and self.impl.unaligned
        self._misaligned = [0 if unaligned or not size else size - 1 for size in range(9)]

    def _observed_read(self, offset: int, size: int) -> int:
        observer = self._observers[0]
        assert self._ops is not None and observer is not None
        value = self._ops.read(offset, size)
        observer(offset, value, size)
        return value

    def _observed_write(self, offset: int, value: int, size: int) -> None:
        observer = self._observers[1]
        assert self._ops is not None and observer is not None
        observer(offset, value, size)
        self._ops.write(offset, value, size)

    def _valid(self, offset: int, size: int) -> bool:
        rules = self.valid
        if not rules.minimum <= size <= rules.maximum:
            return False
        return rules.unaligned or not offset & (size - 1)

    def _steps(self, offset: int, size: int) -> Iterator[tuple[int, int, int, int]]:
        """Cut an access into what `ops` can do: (address, size, first byte used, bytes used) of
        each step.
        """
        rules = self.impl
        end = offset + size
        while offset < end:
            step = min(rules.maximum, size)
            while step > 1 and (step > end - offset or (offset % step and not rules.unaligned)):
                step >>= 1
            skip = 0
            if step < rules.minimum:
                step = rules.minimum
                skip = 0 if rules.unaligned else offset % step
            used = min(step - skip, end - offset)
            yield offset - skip, step, skip, used
            offset += used

    def _read_adjusted(self, offset: int, size: int) -> tuple[int, MemTxResult]:
        if not self._valid(offset, size):
            return 0, DECODE_ERROR
        order: Literal["little", "big"] = "big" if self.endianness == "big" else "little"
        data = b""
        result = OK
        for start, step, skip, used in self._steps(offset, size):
            try:
                value = self._read(start, step) & _MASK[step]
            except BusError:
                value, result = 0, ERROR
            data += value.to_bytes(step, order)[skip : skip + used]
        return int.from_bytes(data, "little"), result

    def _write_adjusted(self, offset: int, value: int, size: int) -> MemTxResult:
        if not self._valid(offset, size):
            return DECODE_ERROR
        order: Literal["little", "big"] = "big" if self.endianness == "big" else "little"
        data = value.to_bytes(size, "little")
        result = OK
        for start, step, skip, used in self._steps(offset, size):
            word = (bytes(skip) + data[:used]).ljust(step, b"\0")
            data = data[used:]
            try:
                self._write(start, int.from_bytes(word, order), step)
            except BusError:
                result = ERROR
        return result
