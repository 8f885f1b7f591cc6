"""Address spaces: a memory tree as a CPU or a bus master sees it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

from ratite.memory.address import Gpa, MemTxResult, RamAddr
from ratite.memory.flatview import FlatRange, FlatView, flat_root, render
from ratite.memory.region import MemoryRegion, RegionKind

OK = MemTxResult.OK
DECODE_ERROR = MemTxResult.DECODE_ERROR

_WRAP = (1 << 64) - 1


class ViewListener(Protocol):
    """Told of each new view of an address space, with the machine lock held."""

    def commit(self, old: FlatView | None, new: FlatView) -> None:
        """The view changed from `old` (None: the listener is new) to `new`, which is in force
        already.
        """


class AddressSpace:
    """A tree's root, its view, and access through it.

    Reads may come from any thread that holds the machine lock, or from any thread as far as they
    meet RAM only. Scalar values have the guest's byte order, which is little-endian unless said
    otherwise.
    """

    def __init__(
        self, root: MemoryRegion, name: str, *, order: Literal["little", "big"] = "little"
    ) -> None:
        self.root = root
        self.name = name
        self.order = order
        self.render_count = 0
        self._listeners: list[ViewListener] = []
        self._depth = 0
        self._stale = False
        root._spaces.append(self)
        self._view = self._current_view()

    def __repr__(self) -> str:
        return f"AddressSpace({self.name!r})"

    def close(self) -> None:
        """Follow the tree no more."""
        self.root._spaces.remove(self)
        self._listeners.clear()

    # -- the view

    @property
    def flatview(self) -> FlatView:
        """The view in force."""
        return self._view

    def add_listener(self, listener: ViewListener) -> None:
        """Call `listener.commit` with the present view now, and with each new one."""
        self._listeners.append(listener)
        listener.commit(None, self._view)

    def remove_listener(self, listener: ViewListener) -> None:
        """Undo `add_listener`."""
        self._listeners.remove(listener)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Put off following changes of the tree to the end of the outermost block."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth and self._stale:
                self.refresh()

    def refresh(self) -> None:
        """Follow the tree: called by a region that changed."""
        if self._depth:
            self._stale = True
            return
        self._stale = False
        old = self._view
        new = self._current_view()
        if new is old:
            return
        self._view = new
        if new.ranges != old.ranges:
            for listener in tuple(self._listeners):
                listener.commit(old, new)

    def _current_view(self) -> FlatView:
        root = flat_root(self.root)
        if root is None:
            return FlatView(None, [])
        if root._view is None:
            root._view = render(root)
            self.render_count += 1
        return root._view

    def lookup(self, gpa: Gpa) -> FlatRange | None:
        """The range that holds an address; None if nothing answers there."""
        return self._view.lookup(gpa)

    # -- scalars: 1, 2, 4 or 8 bytes

    def read(self, gpa: Gpa, size: int) -> tuple[int, MemTxResult]:
        """Read as one access. Where nothing answers the value is 0.

        Runs: per MMIO read.
        """
        view = self._view
        index = bisect_right(view.starts, gpa) - 1
        if index >= 0:
            entry = view.ranges[index]
            offset = gpa - entry.start
            if offset + size <= entry.size:
                offset += entry.offset_in_region
                region = entry.region
                if entry.direct:
                    assert region.block is not None
                    view_bytes = region.block.view[offset : offset + size]
                    return int.from_bytes(view_bytes, self.order), OK
                answer = region.read_io(offset, size)
                return answer if self.order == "little" else self._swapped(region, answer, size)
        data, result = self.read_bytes(gpa, size)
        return int.from_bytes(data, self.order), result

    def write(self, gpa: Gpa, size: int, value: int) -> MemTxResult:
        """Write as one access; bits of `value` beyond `size` bytes are cut off. Writes to ROM are
        lost.

        Runs: per MMIO write.
        """
        value &= (1 << 8 * size) - 1
        view = self._view
        index = bisect_right(view.starts, gpa) - 1
        if index >= 0:
            entry = view.ranges[index]
            offset = gpa - entry.start
            if offset + size <= entry.size:
                offset += entry.offset_in_region
                region = entry.region
                if region.block is None or region.kind is RegionKind.ROM_DEVICE:
                    if self.order == "big" and region.endianness != "native":
                        value = _swap(value, size)
                    return region.write_io(offset, value, size)
                if not entry.readonly:
                    region.block.write(offset, value.to_bytes(size, self.order))
                return OK
        return self.write_bytes(gpa, value.to_bytes(size, self.order))

    # -- any length

    def read_bytes(self, gpa: Gpa, size: int) -> tuple[bytes, MemTxResult]:
        """Read bytes in a row, through as many ranges and accesses as it takes; zeros where nothing
        answers.
        """
        entry = self._view.lookup(gpa)
        if entry is not None and entry.direct and gpa + size <= entry.end:
            assert entry.region.block is not None
            offset = gpa - entry.start + entry.offset_in_region
            return bytes(entry.region.block.view[offset : offset + size]), OK
        data = bytearray()
        result = OK
        for at, entry, length in self._pieces(gpa, size):
            if entry is None:
                data += bytes(length)
                result = DECODE_ERROR
                continue
            offset = at - entry.start + entry.offset_in_region
            if entry.direct:
                assert entry.region.block is not None
                data += entry.region.block.view[offset : offset + length]
            else:
                part, ended = self._read_device(entry.region, offset, length)
                data += part
                result = max(result, ended)
        return bytes(data), result

    def write_bytes(self, gpa: Gpa, data: bytes | bytearray | memoryview) -> MemTxResult:
        """Write bytes in a row, through as many ranges and accesses as it takes. Writes to ROM are
        lost.
        """
        view = memoryview(data)
        result = OK
        for at, entry, length in self._pieces(gpa, len(view)):
            part, view = view[:length], view[length:]
            if entry is None:
                result = DECODE_ERROR
                continue
            offset = at - entry.start + entry.offset_in_region
            block = entry.region.block
            if entry.writable and block is not None:
                block.write(offset, part)
            elif block is None or not (entry.readonly or (entry.direct and not entry.romd)):
                result = max(result, self._write_device(entry.region, offset, part))
        return result

    def write_rom(self, gpa: Gpa, data: bytes | bytearray | memoryview) -> MemTxResult:
        """Write bytes as a loader does: RAM, ROM and flash take them alike, devices do not."""
        view = memoryview(data)
        result = OK
        for at, entry, length in self._pieces(gpa, len(view)):
            part, view = view[:length], view[length:]
            if entry is None or entry.region.block is None:
                result = DECODE_ERROR
                continue
            entry.region.block.write(at - entry.start + entry.offset_in_region, part)
        return result

    def map(self, gpa: Gpa, size: int) -> memoryview | None:
        """The memory itself, if the whole range is one piece of RAM or ROM; read-only if the guest
        may only read.

        Who writes to it calls `mark_written` for the same range afterwards.
        """
        entry = self._view.lookup(gpa)
        if entry is None or not entry.direct or gpa + size > entry.end:
            return None
        assert entry.region.block is not None
        offset = gpa - entry.start + entry.offset_in_region
        view = entry.region.block.view[offset : offset + size]
        return view if entry.writable else view.toreadonly()

    def mark_written(self, gpa: Gpa, size: int) -> None:
        """Tell the dirty clients of a write that was made through `map`."""
        for at, entry, length in self._pieces(gpa, size):
            if entry is not None and entry.region.block is not None:
                block = entry.region.block
                offset = at - entry.start + entry.offset_in_region
                block.ram_list.mark_written(RamAddr(block.offset + offset), length)

    def _pieces(self, gpa: int, size: int) -> Iterator[tuple[int, FlatRange | None, int]]:
        """Cut a range at the view's boundaries: address, range (None: nothing there), length."""
        view = self._view
        while size > 0:
            gpa &= _WRAP
            index = bisect_right(view.starts, gpa) - 1
            entry = view.ranges[index] if index >= 0 else None
            if entry is not None and gpa < entry.end:
                length = min(size, entry.end - gpa)
            else:
                entry = None
                following = view.starts[index + 1] if index + 1 < len(view.starts) else _WRAP + 1
                length = min(size, following - gpa)
            yield gpa, entry, length
            gpa += length
            size -= length

    def _read_device(
        self, region: MemoryRegion, offset: int, length: int
    ) -> tuple[bytes, MemTxResult]:
        order = self.order if region.endianness == "native" else "little"
        data = b""
        result = OK
        while length:
            size = region.largest_access(offset, length)
            value, ended = region.read_io(offset, size)
            data += value.to_bytes(size, order)
            result = max(result, ended)
            offset += size
            length -= size
        return data, result

    def _write_device(self, region: MemoryRegion, offset: int, data: memoryview) -> MemTxResult:
        order = self.order if region.endianness == "native" else "little"
        result = OK
        while data:
            size = region.largest_access(offset, len(data))
            ended = region.write_io(offset, int.from_bytes(data[:size], order), size)
            result = max(result, ended)
            offset += size
            data = data[size:]
        return result

    @staticmethod
    def _swapped(
        region: MemoryRegion, answer: tuple[int, MemTxResult], size: int
    ) -> tuple[int, MemTxResult]:
        if region.endianness == "native":
            return answer
        return _swap(answer[0], size), answer[1]


def _swap(value: int, size: int) -> int:
    return int.from_bytes(value.to_bytes(size, "little"), "big")
