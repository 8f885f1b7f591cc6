"""Split virtqueues: the device's side.

Source: Virtio 1.2, chapter 2.7 (split virtqueues) and 2.6.5 (indirect and event suppression).
Not modelled: packed virtqueues, in-order use, hosts that are big-endian, legacy guests that are.

Rings and buffers are used where they lie in guest RAM. The guest's vCPUs run meanwhile and may
change anything at any time, so every field is read once.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from typing import Protocol, TypedDict

from ratite.core.log import Log
from ratite.core.trace import TraceEvent
from ratite.memory import AddressSpace, FlatView, Gpa, RamAddr, RAMBlock

DESCRIPTOR = struct.Struct("<QIHH")  # address, length, flags, next
DESC_NEXT, DESC_WRITE, DESC_INDIRECT = 1, 2, 4
AVAIL_NO_INTERRUPT = 1
USED_NO_NOTIFY = 1
MAX_CHAIN = 1024  # descriptors, counting those of indirect tables

_NO_MEMORY = memoryview(b"")
_fence = threading.Lock()


@TraceEvent
def virtqueue_pop(vdev: str, n: int, head: int, in_num: int, out_num: int) -> str:
    """A device takes a chain: its first descriptor, and how many buffers it may write and read."""
    return f"vdev {vdev} n {n} head {head} in_num {in_num} out_num {out_num}"


@TraceEvent
def virtqueue_fill(vdev: str, n: int, head: int, size: int) -> str:
    """A device gives a chain back, with so many bytes written."""
    return f"vdev {vdev} n {n} head {head} len {size}"


@TraceEvent
def virtio_notify(vdev: str, n: int) -> str:
    """A device interrupts the guest for queue `n`."""
    return f"vdev {vdev} n {n}"


class QueueOwner(Protocol):
    """What a queue needs of its device."""

    log: Log

    @property
    def path(self) -> str:
        """Where it is in the composition tree."""

    @property
    def memory(self) -> AddressSpace:
        """What the device reads and writes."""

    def broken(self, text: str) -> None:
        """Stop the device until the guest resets it: it did what `text` says."""

    def interrupt_queue(self) -> None:
        """Tell the guest of used buffers."""


class QueueState(TypedDict):
    """What is migrated of a queue."""

    size: int
    ready: bool
    descriptors: int
    available: int
    used: int
    last_available: int
    used_index: int
    signalled: int


NEW_QUEUE = QueueState(
    size=0,
    ready=False,
    descriptors=0,
    available=0,
    used=0,
    last_available=0,
    used_index=0,
    signalled=-1,
)


class Element:
    """A chain of buffers that the guest made available.

    `readable` and `writable` are views of guest RAM, in order; the sizes are their sums in bytes.
    """

    __slots__ = ("dirty", "epoch", "head", "readable", "readable_size", "writable", "writable_size")

    def __init__(self, head: int, epoch: int) -> None:
        self.head = head
        self.epoch = epoch
        self.readable: list[memoryview] = []
        self.readable_size = 0
        self.writable: list[memoryview] = []
        self.writable_size = 0
        self.dirty: list[tuple[RAMBlock, RamAddr, int]] = []

    def fill(self, data: bytes | memoryview) -> int:
        """Copy `data` to the writable buffers as far as it fits; return how many bytes that are."""
        rest = memoryview(data)
        for view in self.writable:
            if not rest:
                break
            size = min(len(view), len(rest))
            view[:size] = rest[:size]
            rest = rest[size:]
        return len(data) - len(rest)

    def gather(self, limit: int) -> bytes:
        """Return a copy of the readable buffers' first `limit` bytes."""
        if self.readable and len(self.readable[0]) >= limit:
            return bytes(self.readable[0][:limit])
        return b"".join(self.readable)[:limit] if self.readable_size <= limit else self._some(limit)

    def _some(self, limit: int) -> bytes:
        data = b""
        for view in self.readable:
            data += view[: limit - len(data)]
        return data


class _Malformed(Exception):
    """The guest's ring or chain is nonsense. Never leaves this module."""


class VirtQueue:
    """One queue. `handler` is called with it when the guest notifies the device.

    The transport sets `size` and the three addresses, then calls `enable`.
    """

    def __init__(
        self, owner: QueueOwner, index: int, size: int, handler: Callable[[VirtQueue], None]
    ) -> None:
        self.index = index
        self.max_size = size
        self.handler = handler
        self.epoch = 0
        self._owner = owner
        self.reset()

    def reset(self) -> None:
        """Forget everything the guest set up. Elements popped before are void."""
        self.epoch += 1
        self.size = self.max_size
        self.ready = False
        self.descriptors = self.available = self.used = 0  # guest-physical addresses
        self.last_available = 0
        self.used_index = 0
        self.in_use = 0
        self.event_index = False
        self.indirect = False
        self.notify_on_empty = False
        self._signalled = -1  # used index at the last interrupt; -1: none yet
        self._flatview: FlatView | None = None
        self._desc = _NO_MEMORY
        self._avail = _NO_MEMORY
        self._used = _NO_MEMORY
        self._used_ring = _NO_MEMORY
        self._used_block: RAMBlock | None = None
        self._used_addr = RamAddr(0)
        self._window_start = self._window_end = 0  # the piece of RAM that buffers were last in
        self._window_block: RAMBlock | None = None
        self._window_base = 0
        self._window_writable = False

    def enable(self, *, event_index: bool, indirect: bool, notify_on_empty: bool = False) -> None:
        """Start using the rings, by the features that the driver accepted."""
        self.event_index = event_index
        self.indirect = indirect
        self.notify_on_empty = notify_on_empty
        self.ready = True
        self._flatview = None

    # -- what a device does

    def pop(self) -> Element | None:
        """Take the next chain that the guest made available; None if there is none.

        Anything wrong breaks the device, and nothing comes any more. Runs: per request.
        """
        if not self.ready:
            return None
        try:
            if self._owner.memory.flatview is not self._flatview:
                self._map_rings()
            pending = (self._avail[1] - self.last_available) & 0xFFFF
            if not pending:
                return None
            if pending > self.size:
                raise _Malformed(f"{pending} buffers available in a ring of {self.size}")
            head = self._avail[2 + (self.last_available & (self.size - 1))]
            element = Element(head, self.epoch)
            self._walk(element)
        except _Malformed as error:
            self._break(str(error))
            return None
        self.last_available = (self.last_available + 1) & 0xFFFF
        self.in_use += 1
        if trace := self._owner.log.trace:
            counts = len(element.writable), len(element.readable)
            trace(virtqueue_pop, self._owner.path, self.index, head, *counts)
        return element

    def unpop(self, element: Element) -> None:
        """Put the chain popped last back, as if it had not been taken."""
        if element.epoch == self.epoch:
            self.last_available = (self.last_available - 1) & 0xFFFF
            self.in_use -= 1

    def put_aside(self, element: Element) -> None:
        """Keep a chain, for `retake` by its head: here or, if the queue is saved, where it is
        loaded.
        """
        if element.epoch == self.epoch:
            self.in_use -= 1

    def retake(self, head: int) -> Element | None:
        """The chain that was put aside; None if the guest has made nonsense of it, which breaks the
        device, or has reset the queue.
        """
        if not self.ready:
            return None
        element = Element(head, self.epoch)
        try:
            if self._owner.memory.flatview is not self._flatview:
                self._map_rings()
            self._walk(element)
        except _Malformed as error:
            self._break(str(error))
            return None
        self.in_use += 1
        return element

    def push(self, element: Element, written: int) -> None:
        """Give a chain back to the guest, with `written` bytes in its writable buffers.

        Does nothing if the queue was reset since. Runs: per request.
        """
        if element.epoch != self.epoch:
            return
        self.in_use -= 1
        if trace := self._owner.log.trace:
            trace(virtqueue_fill, self._owner.path, self.index, element.head, written)
        for block, address, size in element.dirty:
            block.ram_list.mark_written(address, size)
        try:
            if self._owner.memory.flatview is not self._flatview:
                self._map_rings()
        except _Malformed as error:
            self._break(str(error))
            return
        slot = self.used_index & (self.size - 1)
        ring = self._used_ring
        ring[1 + 2 * slot] = element.head
        ring[2 + 2 * slot] = written & 0xFFFF_FFFF
        self.used_index = (self.used_index + 1) & 0xFFFF
        self._used[1] = self.used_index  # publishes the entry: a store after those above
        self._mark_used(4 + 8 * slot, 8)
        self._mark_used(0, 4)

    def notify(self) -> None:
        """Interrupt the guest if it wants to know of the chains given back. Runs: per request."""
        if self.ready and self._used and self._wants_interrupt():
            if trace := self._owner.log.trace:
                trace(virtio_notify, self._owner.path, self.index)
            self._owner.interrupt_queue()

    def set_notification(self, *, wanted: bool) -> None:
        """Say whether the guest shall notify us of new chains; advice that it may ignore.

        After switching it on the caller looks for chains once more.
        """
        if not (self.ready and self._used):
            return
        if self.event_index:
            if wanted:
                self._used[2 + 4 * self.size] = self._avail[1]
                self._mark_used(4 + 8 * self.size, 2)
        else:
            self._used[0] = 0 if wanted else USED_NO_NOTIFY
            self._mark_used(0, 2)
        if wanted:
            _barrier()

    def run(self, handle: Callable[[Element], bool]) -> None:
        """Call `handle` for each chain, with notifications off meanwhile.

        Stops when it answers False; the caller has then dealt with that chain.
        """
        while True:
            self.set_notification(wanted=False)
            while (element := self.pop()) is not None:
                if not handle(element):
                    return
            self.set_notification(wanted=True)
            if not self.ready or self.empty:
                return

    @property
    def empty(self) -> bool:
        """True if the guest has made nothing available that was not taken."""
        return not self._avail or self._avail[1] == self.last_available

    # -- migration

    def save(self, *, held: int = 0) -> QueueState:
        """What is migrated; `held` chains, popped last, are saved as not popped."""
        return QueueState(
            size=self.size,
            ready=self.ready,
            descriptors=self.descriptors,
            available=self.available,
            used=self.used,
            last_available=(self.last_available - held) & 0xFFFF,
            used_index=self.used_index,
            signalled=self._signalled,
        )

    def load(self, state: QueueState) -> None:
        """Take over what `save` answered; `enable` follows if it was ready."""
        self.reset()
        self.size = state["size"]
        self.descriptors = state["descriptors"]
        self.available = state["available"]
        self.used = state["used"]
        self.last_available = state["last_available"]
        self.used_index = state["used_index"]
        self._signalled = state["signalled"]

    # -- rings

    def _break(self, text: str) -> None:
        self.ready = False
        self._owner.broken(f"queue {self.index}: {text}")

    def _map_rings(self) -> None:
        size = self.size
        if size <= 0 or size & (size - 1) or size > self.max_size:
            raise _Malformed(f"size {size}")
        self._desc, _, _ = self._ring(self.descriptors, 16 * size, "descriptor table")
        avail, _, _ = self._ring(self.available, 6 + 2 * size, "available ring")
        self._avail = avail.cast("H")  # native access: 16 bits at once, never torn
        used, self._used_block, self._used_addr = self._ring(self.used, 6 + 8 * size, "used ring")
        self._used_ring = used[: 4 + 8 * size].cast("I")
        self._used = used.cast("H")
        self._window_start = self._window_end = 0
        self._flatview = self._owner.memory.flatview

    def _ring(self, gpa: int, size: int, name: str) -> tuple[memoryview, RAMBlock, RamAddr]:
        entry = self._owner.memory.lookup(Gpa(gpa))
        if entry is None or not entry.writable or gpa + size > entry.end:
            raise _Malformed(f"{name} at {gpa:#x} is not in RAM")
        block = entry.region.block
        assert block is not None
        offset = gpa - entry.start + entry.offset_in_region
        return block.view[offset : offset + size], block, RamAddr(block.offset + offset)

    def _mark_used(self, offset: int, size: int) -> None:
        block = self._used_block
        if block is not None:
            block.ram_list.mark_written(RamAddr(self._used_addr + offset), size)

    def _wants_interrupt(self) -> bool:
        _barrier()
        if self.notify_on_empty and not self.in_use and self.empty:
            return True
        if not self.event_index:
            return not self._avail[0] & AVAIL_NO_INTERRUPT
        old, new = self._signalled, self.used_index
        self._signalled = new
        event = self._avail[2 + self.size]
        # True if `event` is one of old .. new - 1: the guest waits for an entry just filled.
        return old < 0 or (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF

    # -- chains

    def _walk(self, element: Element) -> None:
        """Collect the buffers of the chain that starts at the element's head."""
        table, count, index = self._desc, self.size, element.head
        nested = False
        left = MAX_CHAIN
        seen = 0
        while True:
            if index >= count:
                raise _Malformed(f"descriptor {index} in a table of {count}")
            address, size, flags, following = DESCRIPTOR.unpack_from(table, 16 * index)
            if flags & DESC_INDIRECT:
                if nested or not self.indirect or flags & DESC_NEXT:
                    raise _Malformed("an indirect table where none may be")
                table, count, index, seen = self._indirect(address, size), size // 16, 0, 0
                nested = True
                continue
            seen += 1
            left -= 1
            if seen > count or left < 0:
                raise _Malformed("a chain that is too long or loops")
            self._buffer(element, address, size, bool(flags & DESC_WRITE))
            if not flags & DESC_NEXT:
                return
            index = following

    def _indirect(self, address: int, size: int) -> memoryview:
        if not size or size % 16:
            raise _Malformed(f"indirect table of {size} bytes")
        view = self._owner.memory.map(Gpa(address), size)
        if view is None:
            raise _Malformed(f"indirect table at {address:#x} is not in RAM")
        return view

    def _buffer(self, element: Element, address: int, size: int, writable: bool) -> None:
        if not size:
            raise _Malformed("an empty buffer")
        if writable:
            element.writable_size += size
        elif element.writable:
            raise _Malformed("a readable buffer after a writable one")
        else:
            element.readable_size += size
        while size:
            if not self._window_start <= address < self._window_end:
                self._find_window(address)
            block = self._window_block
            assert block is not None
            piece = min(size, self._window_end - address)
            offset = address - self._window_base
            view = block.view[offset : offset + piece]
            if writable:
                if not self._window_writable:
                    raise _Malformed(f"buffer to write at {address:#x} is in ROM")
                element.writable.append(view)
                element.dirty.append((block, RamAddr(block.offset + offset), piece))
            else:
                element.readable.append(view)
            address += piece
            size -= piece

    def _find_window(self, address: int) -> None:
        """Make the window the piece of RAM at `address`."""
        entry = self._owner.memory.lookup(Gpa(address))
        if entry is None or not entry.direct or entry.region.block is None:
            raise _Malformed(f"buffer at {address:#x} is not in RAM")
        self._window_start, self._window_end = entry.start, entry.end
        self._window_block = entry.region.block
        self._window_base = entry.start - entry.offset_in_region
        self._window_writable = entry.writable


def _barrier() -> None:
    """Order what was stored before against what is loaded after, as seen by the vCPUs."""
    with _fence:
        pass
