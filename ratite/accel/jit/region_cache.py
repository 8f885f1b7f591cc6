"""Regions that outlive the process.

An entry is found by the region's entry block and level; it says which other blocks the region was
compiled with, each by its distance from the entry and its content, so that code is used where all
of them are as they were, wherever in the guest's memory that is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from ratite.accel.jit.region import RawBlock, Region, RegionBlock, read_raw
from ratite.accel.jit.registers import MASK64
from ratite.native.cache import ObjectCache, key_of
from ratite.native.identity import compiler_identity, source_digest


@dataclass(slots=True)
class CachedRegion:
    """A region as the cache has it."""

    entry: RawBlock
    level: int
    members: list[list[int | str]]
    entries: list[int]
    pages: list[int]
    """Numbers of members, one on each page that must be where it is found now."""
    code: bytes
    addresses: list[int]
    """Host addresses of the members that were found so far, in order."""

    def find_members(self, find: Callable[[int, int], int | None]) -> bool | None:
        """Look for the members that are still missing. True if all are there, None if one has not
        been executed yet, False if one is not what it was.
        """
        for member in self.members[len(self.addresses) :]:
            address = find(self.entry.pc + int(member[0]) & MASK64, self.entry.mode)
            if address is None:
                return None
            block = read_raw(address)
            if block is None or _describe(block, self.entry) != member:
                return False
            self.addresses.append(address)
        return True


class RegionCache:
    """The regions of one machine in the cache of compiled code."""

    def __init__(self, objects: ObjectCache, *, exact_budget: bool) -> None:
        self._objects = objects
        self._exact = exact_budget
        self._index: set[str] | None = None

    def prepare(self) -> bool:
        """Do what takes a while before anything is asked for; whether there is anything."""
        source_digest()
        return bool(self._known())

    def put(self, region: Region, level: int, pages: list[int], code: bytes) -> None:
        """Keep a region."""
        key = self._key(region.entry, region.mode, region.fetch_index, level)
        members = [_describe(block, region.entry) for block in region.blocks]
        head = [members, region.entries, pages]
        self._known().add(key)
        self._objects.put(key, json.dumps(head).encode() + b"\0" + code)

    def get(self, entry: RawBlock, level: int) -> CachedRegion | None:
        """The region of an entry block, or None."""
        key = self._key(entry, entry.mode, entry.fetch_index, level)
        payload = self._objects.get(key) if key in self._known() else None
        if payload is None:
            return None
        text, _, code = payload.partition(b"\0")
        members, entries, pages = json.loads(text)
        return CachedRegion(entry, level, members, entries, pages, code, [])

    def _known(self) -> set[str]:
        """Keys of what the cache had when it was first asked for, and of what was added."""
        if self._index is None:
            self._index = self._objects.keys()
        return self._index

    def _key(self, entry: RawBlock | RegionBlock, mode: int, fetch_index: int, level: int) -> str:
        place = f"{self._exact:d}/{level}/{mode}/{fetch_index}/{entry.pc & 0xFFF:x}"
        return key_of(("region", source_digest(), compiler_identity(), place, entry.code))


def _describe(block: RawBlock | RegionBlock, entry: RawBlock | RegionBlock) -> list[int | str]:
    """A member as the cache knows it: place and content."""
    return [block.pc - entry.pc, hashlib.sha256(block.code).hexdigest()[:32]]
