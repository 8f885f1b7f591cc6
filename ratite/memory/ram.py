"""RAM blocks and the dirty maps over them."""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable, Iterator

from ratite.core.errors import ConfigError, HostError
from ratite.memory.address import PAGE_BITS, PAGE_SIZE, Hva, RamAddr
from ratite.memory.host import HostMemory

CodeListener = Callable[[RamAddr, int], None]

_SPACE_SIZE = 1 << 42  # RAM addresses are below this
_BLOCK_ALIGN = 256 << 10  # as QEMU places blocks, so that offsets in `info ramblock` agree


def runs(dirty: bytes) -> Iterator[tuple[int, int]]:
    """The runs of dirty pages: index of the first, index after the last."""
    stop = 0
    while (start := dirty.find(1, stop)) >= 0:
        stop = dirty.find(0, start)
        stop = len(dirty) if stop < 0 else stop
        yield start, stop


class DirtyClient(enum.IntEnum):
    """Who wants to know which pages were written."""

    CODE = 0
    """1: the page holds no translated code. 0: it does, and a writer must call `code_written`."""
    MIGRATION = 1
    DISPLAY = 2


class RAMBlock:
    """One host mapping that backs guest RAM or ROM. Made by `RamList.alloc`."""

    def __init__(
        self, ram_list: RamList, idstr: str, size: int, offset: RamAddr, mapping: HostMemory
    ) -> None:
        self.idstr = idstr
        self.size = size
        self.offset = offset
        self.host = mapping.host
        self.view = mapping.view
        self.page_size = PAGE_SIZE
        self.ram_list = ram_list
        self._mapping = mapping

    def __repr__(self) -> str:
        return f"RAMBlock({self.idstr!r}, size={self.size:#x}, offset={self.offset:#x})"

    def leave_out_of_dumps(self) -> None:
        """Have the host leave the block out of core dumps."""
        self._mapping.leave_out_of_dumps()

    def let_merge(self) -> None:
        """Let the host keep pages that are equal once, if it can do that."""
        self._mapping.let_merge()

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from inside the block; fewer if it ends before."""
        return bytes(self.view[offset : offset + size])

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Store bytes, all inside the block, and tell the dirty clients."""
        size = len(data)
        self.view[offset : offset + size] = data
        self.ram_list.mark_written(RamAddr(self.offset + offset), size)


class RamList:
    """The RAM of one machine: its blocks in one RAM space, and a dirty byte per 4 KiB page for each
    client.

    Dirty maps never move, so generated code may hold their addresses. Byte 1 is dirty. New blocks
    are dirty for all. Raises `HostError` where there is no room for the maps.
    """

    def __init__(self) -> None:
        self._blocks: list[RAMBlock] = []
        # Reserved for the whole RAM space, committed by the host page by page as blocks need it.
        pages = _SPACE_SIZE >> PAGE_BITS
        try:
            self._dirty = [HostMemory(pages) for _ in DirtyClient]
        except OSError as error:
            raise HostError.from_os(f"reserve {pages >> 20} MiB for a dirty map", error) from error
        self._code = self._dirty[DirtyClient.CODE].map
        self._migration = self._dirty[DirtyClient.MIGRATION].map
        self._display = self._dirty[DirtyClient.DISPLAY].map
        self._code_listeners: list[CodeListener] = []

    @property
    def blocks(self) -> tuple[RAMBlock, ...]:
        """All blocks, in order of allocation."""
        return tuple(self._blocks)

    def alloc(self, idstr: str, size: int, *, memory: HostMemory | None = None) -> RAMBlock:
        """Map a new zeroed block, or take this memory of that size; `size` is rounded up to whole
        pages.

        Raises `HostError` if the host cannot give the memory and `ConfigError` if the id is taken
        or the size is 0.
        """
        if size <= 0:
            raise ConfigError(f"RAM block '{idstr}': the size must be more than 0")
        if any(block.idstr == idstr for block in self._blocks):
            raise ConfigError(f"RAM block '{idstr}' exists already")
        size = -(-size // PAGE_SIZE) * PAGE_SIZE
        offset = self._place(size)
        mapping = memory or self._map(idstr, size)
        block = RAMBlock(self, idstr, size, offset, mapping)
        first, count = offset >> PAGE_BITS, size >> PAGE_BITS
        for dirty in self._dirty:
            dirty.view[first : first + count] = b"\1" * count
        self._blocks.append(block)
        return block

    def free(self, block: RAMBlock) -> None:
        """Forget a block. The host memory goes with the last view of it."""
        self._blocks.remove(block)
        self.code_written(block.offset, block.size)

    def find(self, ram_addr: RamAddr) -> RAMBlock | None:
        """The block that holds a RAM address."""
        for block in self._blocks:
            if 0 <= ram_addr - block.offset < block.size:
                return block
        return None

    def find_host(self, host: Hva) -> RAMBlock | None:
        """The block that holds a host address."""
        for block in self._blocks:
            if 0 <= host - block.host < block.size:
                return block
        return None

    # -- dirty maps

    def dirty_address(self, client: DirtyClient) -> Hva:
        """Where the client's map starts: the byte of RAM address `a` is at this plus `a >> 12`."""
        return self._dirty[client].host

    def dirty_map(self, client: DirtyClient) -> memoryview:
        """The client's map, writable, one byte for each page of RAM space."""
        return self._dirty[client].view

    def mark_written(self, ram_addr: RamAddr, size: int) -> None:
        """Note a write that has been done: dirty for all clients, and translated code there is
        dropped.

        Runs: per DMA write.
        """
        if size <= 0:
            return
        first = ram_addr >> PAGE_BITS
        last = (ram_addr + size - 1) >> PAGE_BITS
        if first == last:
            self._migration[first] = 1
            self._display[first] = 1
            if self._code[first]:
                return
        else:
            ones = b"\1" * (last + 1 - first)
            self._migration[first : last + 1] = ones
            self._display[first : last + 1] = ones
            if self._code.find(b"\0", first, last + 1) < 0:
                return
        self.code_written(ram_addr, size)

    def code_written(self, ram_addr: RamAddr, size: int) -> None:
        """Tell the code listeners that bytes changed on pages that may hold translated code."""
        for listener in self._code_listeners:
            listener(ram_addr, size)

    def add_code_listener(self, listener: CodeListener) -> None:
        """Have this called with RAM address and size when translated code may have changed.

        It drops the code and sets the CODE bytes of pages that hold none any more back to 1.
        """
        self._code_listeners.append(listener)

    def remove_code_listener(self, listener: CodeListener) -> None:
        """Undo `add_code_listener`."""
        self._code_listeners.remove(listener)

    def take_dirty(self, client: DirtyClient, ram_addr: RamAddr, size: int) -> bytes:
        """The dirty bytes of the pages touched by a range, which are clean for this client from now
        on. Writers may be at work: a page that gets dirty meanwhile is in this answer or stays
        dirty. Their softmmu TLBs are the caller's affair.
        """
        first = ram_addr >> PAGE_BITS
        end = ((ram_addr + size - 1) >> PAGE_BITS) + 1
        view = self._dirty[client].view[first:end]
        taken = bytes(view)
        # Bytes that were 0 are left alone: one may be 1 by now.
        for start, stop in runs(taken):
            view[start:stop] = bytes(stop - start)
        return taken

    def count_dirty(self, client: DirtyClient) -> int:
        """How many pages are dirty for the client now."""
        view = self._dirty[client].view
        return sum(
            bytes(view[at : at + block.size // PAGE_SIZE]).count(1)
            for block in self._blocks
            for at in (block.offset // PAGE_SIZE,)
        )

    def mark_all(self, client: DirtyClient) -> None:
        """Make every page dirty for a client that does not look any more, so that stores go
        straight to memory again.
        """
        for block in self._blocks:
            first, count = block.offset >> PAGE_BITS, block.size >> PAGE_BITS
            self._dirty[client].view[first : first + count] = b"\1" * count

    def _place(self, size: int) -> RamAddr:
        """The lowest offset of the smallest gap that the block fits into."""
        blocks = sorted(self._blocks, key=lambda block: block.offset)
        starts = [0, *(-(-(b.offset + b.size) // _BLOCK_ALIGN) * _BLOCK_ALIGN for b in blocks)]
        ends = [*(block.offset for block in blocks), _SPACE_SIZE]
        gaps = [(end - start, start) for start, end in zip(starts, ends, strict=True)]
        fitting = [gap for gap in gaps if gap[0] >= size]
        if not fitting:
            raise ConfigError(f"no room for {size} bytes in the RAM space of {_SPACE_SIZE} bytes")
        return RamAddr(min(fitting)[1])

    @staticmethod
    def _map(idstr: str, size: int) -> HostMemory:
        attempt = f"set up {size >> 20} MiB of guest memory for"
        try:
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            if size > total:
                raise OSError(errno.ENOMEM, f"the host has {total >> 20} MiB")
            memory = HostMemory(size, share=False)
            memory.prefer_huge_pages()
            return memory
        except OSError as error:
            raise HostError.from_os(attempt, error, idstr) from error
