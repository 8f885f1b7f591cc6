"""RAM in a stream: sections of page runs. A run of pages that hold zeros only is its header.

payload   u32 number of runs; each: u64 first page of the block, u32 pages, u32 kind
          (0: zeros, 1: data); then the data of all runs that have some
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ratite.memory import PAGE_SIZE, RAMBlock, RamList
from ratite.migration.stream import Section, StreamError

_COUNT = struct.Struct("<I")
_RUN = struct.Struct("<QII")
ZEROS, DATA = 0, 1
CHUNK_PAGES = 256
"""Pages that one section covers at most."""
PREFIX = "ram/"
_ZERO_PAGE = bytes(PAGE_SIZE)
_ZERO_CHUNK = bytes(PAGE_SIZE * CHUNK_PAGES)

Run = tuple[int, int, int]


@dataclass(slots=True)
class PageCounts:
    """Pages sent, by kind."""

    zeros: int = 0
    data: int = 0


def encode(block: RAMBlock, first: int, count: int, counts: PageCounts) -> bytes:
    """The payload for up to `CHUNK_PAGES` pages of a block. The guest may be writing to them."""
    content = bytes(block.view[first * PAGE_SIZE : (first + count) * PAGE_SIZE])
    found: list[list[int]] = []
    data: list[bytes] = []
    if content == _ZERO_CHUNK[: len(content)]:
        found = [[first, count, ZEROS]]
        counts.zeros += count
    else:
        for index in range(count):
            page = content[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]
            kind = ZEROS if page == _ZERO_PAGE else DATA
            if kind == DATA:
                data.append(page)
            if found and found[-1][2] == kind:
                found[-1][1] += 1
            else:
                found.append([first + index, 1, kind])
        counts.data += len(data)
        counts.zeros += count - len(data)
    return b"".join([_COUNT.pack(len(found)), *(_RUN.pack(*run) for run in found), *data])


def chunks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """First page and number of pages of the sections that cover a run of pages."""
    for first in range(start, stop, CHUNK_PAGES):
        yield first, min(CHUNK_PAGES, stop - first)


def check(section: Section, ram: RamList) -> tuple[RAMBlock, list[Run]]:
    """The block and runs of a section of RAM that fit this machine. Raises `StreamError`."""
    name = section.name.removeprefix(PREFIX)
    block = next((block for block in ram.blocks if block.idstr == name), None)
    if block is None:
        raise StreamError(f"section '{section.name}': this machine has no such memory")
    payload = section.payload
    broken = StreamError(f"section '{section.name}' is damaged: its pages do not fit")
    if len(payload) < _COUNT.size:
        raise broken
    (number,) = _COUNT.unpack_from(payload)
    if _COUNT.size + number * _RUN.size > len(payload):
        raise broken
    at = range(_COUNT.size, _COUNT.size + number * _RUN.size, _RUN.size)
    found = [_RUN.unpack_from(payload, place) for place in at]
    size = sum(pages for _, pages, kind in found if kind == DATA) * PAGE_SIZE
    limit = block.size // PAGE_SIZE
    fit = all(first + pages <= limit and kind in (ZEROS, DATA) for first, pages, kind in found)
    if not fit or size != len(payload) - at.stop:
        raise broken
    return block, found


def apply(section: Section, ram: RamList) -> None:
    """Put a section's pages into memory. Raises `StreamError`, with nothing changed."""
    block, found = check(section, ram)
    data = memoryview(section.payload)
    at = _COUNT.size + len(found) * _RUN.size
    for first, pages, kind in found:
        start, size = first * PAGE_SIZE, pages * PAGE_SIZE
        if kind == DATA:
            _store(block, start, data[at : at + size])
            at += size
        else:
            _clear(block, start, size)


def _store(block: RAMBlock, start: int, data: memoryview) -> None:
    """Write pages; those that are equal already are left alone, so that code translated from them
    stays.
    """
    if bytes(block.view[start : start + len(data)]) == data:
        return
    for at in range(0, len(data), PAGE_SIZE):
        page = data[at : at + PAGE_SIZE]
        if bytes(block.view[start + at : start + at + PAGE_SIZE]) != page:
            block.write(start + at, page)


def _clear(block: RAMBlock, start: int, size: int) -> None:
    """Make a range read as zeros; pages that do already are left alone, lest the host gives them
    memory of their own.
    """
    for at in range(start, start + size, len(_ZERO_CHUNK)):
        length = min(len(_ZERO_CHUNK), start + size - at)
        zeros = _ZERO_CHUNK[:length]
        if bytes(block.view[at : at + length]) != zeros:
            block.write(at, zeros)
