"""Virtqueues as they lie in guest memory, for those who look at a device from outside.

Source: Virtio 1.2, chapter 2.7 (split virtqueues). Nothing here changes a queue, or breaks a device
whose guest has written nonsense.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ratite.core.errors import ConfigError
from ratite.devices.virtio.queue import DESC_INDIRECT, DESC_NEXT, DESCRIPTOR, MAX_CHAIN, VirtQueue
from ratite.memory import AddressSpace, Gpa


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One buffer of a chain."""

    address: int
    size: int
    flags: int


@dataclass(frozen=True, slots=True)
class Rings:
    """What the heads of a queue's rings say, and the chain of one slot of the available ring."""

    available_flags: int
    available_index: int
    used_flags: int
    used_index: int
    head: int
    chain: tuple[Descriptor, ...]


def available_index(queue: VirtQueue, memory: AddressSpace) -> int:
    """How far the guest has made chains available; 0 while there are no rings."""
    return _half(memory, queue.available + 2) if queue.ready else 0


def look(queue: VirtQueue, memory: AddressSpace, slot: int | None) -> Rings:
    """The rings, and the chain in this slot, modulo the ring's size; without one that which is
    taken next. Raises `ConfigError` if there are no rings.
    """
    if not queue.ready or queue.size <= 0:
        raise ConfigError("Region caches not initialized")
    place = (queue.last_available if slot is None else slot) % queue.size
    head = _half(memory, queue.available + 4 + 2 * place)
    return Rings(
        _half(memory, queue.available),
        _half(memory, queue.available + 2),
        _half(memory, queue.used),
        _half(memory, queue.used + 2),
        head,
        tuple(_chain(memory, queue, head)),
    )


def _chain(memory: AddressSpace, queue: VirtQueue, head: int) -> Iterator[Descriptor]:
    """The buffers from `head` on, as far as they make sense."""
    table, count, index = queue.descriptors, queue.size, head
    nested = False
    for _ in range(MAX_CHAIN):
        if index >= count:
            return
        address, size, flags, following = DESCRIPTOR.unpack(
            _bytes(memory, table + DESCRIPTOR.size * index, DESCRIPTOR.size)
        )
        if flags & DESC_INDIRECT:
            if nested or size % DESCRIPTOR.size:
                return
            table, count, index, nested = address, size // DESCRIPTOR.size, 0, True
            continue
        yield Descriptor(address, size, flags)
        if not flags & DESC_NEXT:
            return
        index = following


def _half(memory: AddressSpace, gpa: int) -> int:
    return int.from_bytes(_bytes(memory, gpa, 2), "little")


def _bytes(memory: AddressSpace, gpa: int, size: int) -> bytes:
    """Guest RAM; zeros where there is none, so that no device is read."""
    view = memory.map(Gpa(gpa & (1 << 64) - 1), size)
    return bytes(size) if view is None else bytes(view)
