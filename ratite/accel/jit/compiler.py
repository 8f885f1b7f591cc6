"""The background compiler: takes the blocks that vCPUs report as hot, compiles regions, installs
them. vCPUs never wait for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ratite.accel.jit.object import source_digest
from ratite.accel.jit.region import CodeReader, Region, grow
from ratite.accel.jit.tier1 import RegionText, Templates
from ratite.cpu.machine import HOT_RING, RETIRED_MODE, Block, RegionUse, Shared
from ratite.native.cache import ObjectCache, key_of
from ratite.native.identity import compiler_identity
from ratite.native.loader import CodeArena, LoadedObject
from ratite.native.host import allocate

IDLE_S, BUSY_S = 0.004, 0.0005
REGION = "region"
ARENA = 128 << 20


@dataclass(slots=True)
class RegionStats:
    """What `info jit` shows."""

    compiled: int = 0
    cached: int = 0
    refused: int = 0
    void: int = 0
    instructions: int = 0
    seconds: float = 0.0


class Guest(Protocol):
    """What the compiler needs of a machine's translated code."""

    shared: Shared

    def find(self, cpu: int, pc: int, mode: int, fetch_index: int) -> int | None:
        """Host address of a translated block."""

    def install(self, handler: int, uses: int, count: int) -> bool:
        """Enter a region through its first block."""


class RegionCompiler:
    """One thread that compiles for one machine."""

    def __init__(
        self,
        guest: Guest,
        reader: CodeReader,
        templates: Callable[[], Templates],
        cache: ObjectCache | None,
    ) -> None:
        self._guest = guest
        self._reader = reader
        self._make_templates = templates
        self._templates: Templates | None = None
        self._cache = cache
        self._seen = 0
        self._arena = CodeArena(ARENA)
        self._uses: list[Any] = []
        self._stop = threading.Event()
        self.failures: list[str] = []
        self.stats = RegionStats()
        self._thread = threading.Thread(target=self._loop, name="ratite compiler", daemon=True)
        self._started = False

    def start(self) -> None:
        """Begin to compile."""
        if not self._started:
            self._started = True
            self._thread.start()

    def stop(self) -> None:
        """End the thread; a compilation under way is finished first."""
        self._stop.set()
        if self._started:
            self._thread.join()

    def forget(self) -> None:
        """All blocks are gone, and no vCPU executes: free the regions' code."""
        self._arena.reset()
        self._uses.clear()
        self._seen = int(self._guest.shared.hot_head)

    # -- the thread

    def _loop(self) -> None:
        while not self._stop.is_set():
            hot = self._take()
            if hot is None:
                self._stop.wait(IDLE_S)
                continue
            try:
                self._compile(*hot)
            except Exception as error:  # a bug of ours: the guest goes on in tier 0
                self.failures.append(f"{type(error).__name__}: {error}")
                self.stats.refused += 1
            time.sleep(BUSY_S)

    def _take(self) -> tuple[int, int] | None:
        """The next reported block and the vCPU that reported it."""
        shared = self._guest.shared
        head = int(shared.hot_head)
        if self._seen == head:
            return None
        behind = (head - self._seen) & 0xFFFF_FFFF
        if behind > HOT_RING:
            self._seen = (head - HOT_RING) & 0xFFFF_FFFF
        place = self._seen % HOT_RING
        self._seen = (self._seen + 1) & 0xFFFF_FFFF
        return int(shared.hot_ring[place]), int(shared.hot_cpu[place])

    def _compile(self, address: int, cpu: int) -> None:
        header = Block(address)
        if int(header.mode) == RETIRED_MODE:
            return
        fetch_index = int(header.fetch_index)

        def find(pc: int, mode: int) -> int | None:
            return self._guest.find(cpu, pc, mode, fetch_index)

        region = grow(address, self._reader, find)
        if region is None:
            self.stats.refused += 1
            return
        began = time.perf_counter()
        loaded = LoadedObject(self._object(region), self._arena)
        self.stats.seconds += time.perf_counter() - began
        self._install(region, loaded)

    def _object(self, region: Region) -> bytes:
        key = self._key(region)
        if self._cache is not None:
            found = self._cache.get(key)
            if found is not None:
                self.stats.cached += 1
                return found
        if self._templates is None:
            self._templates = self._make_templates()
        from ratite.native.compile import compile_text  # LLVM: not needed for cached regions

        text = RegionText(region, self._templates, REGION).text()
        code = compile_text(text, level=2)
        self.stats.compiled += 1
        self.stats.instructions += region.instructions
        if self._cache is not None:
            self._cache.put(key, code)
        return code

    def _key(self, region: Region) -> str:
        parts: list[bytes | str] = ["region", source_digest(), compiler_identity()]
        parts.append(f"{region.mode}/{region.fetch_index}")
        for block in region.blocks:
            parts.append(f"{block.pc:x}/{block.ram_pc:x}/{block.successors}")
            parts.append(block.code)
        return key_of(parts)

    def _install(self, region: Region, loaded: LoadedObject) -> None:
        count = len(region.blocks)
        memory = allocate(count * RegionUse.SIZE)
        for index, block in enumerate(region.blocks):
            RegionUse(memory.address + index * RegionUse.SIZE).next = _u64(block.address)
        if self._guest.install(loaded.address(REGION), memory.address, count):
            self._uses.append(memory)
        else:
            self.stats.void += 1


def _u64(value: int) -> Any:
    return RegionUse.next.kind(value)


