"""The background compiler: takes the blocks that vCPUs report as hot, compiles regions, installs
them. vCPUs never wait for it.
"""

from __future__ import annotations

import ctypes
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from ratite.accel.jit.heat import Heat
from ratite.accel.jit.perfmap import PerfMap
from ratite.accel.jit.region import (
    LARGE,
    PLACE,
    REGION,
    SMALL,
    BlockFinder,
    CodeReader,
    RawBlock,
    Region,
    grow,
    read_raw,
)
from ratite.accel.jit.region_cache import CachedRegion, RegionCache
from ratite.core.threads import NamedThread
from ratite.cpu.machine import Block, RegionInfo, RegionUse, Shared
from ratite.isa.state import CpuState
from ratite.native import u64
from ratite.native.cache import ObjectCache
from ratite.native.host import be_nice
from ratite.native.loader import LoadedObject, code_space

if TYPE_CHECKING:  # a guest that the cache serves entirely needs none of it
    from ratite.accel.jit.tier1 import Templates

IDLE_S = 0.004
"""How long the thread sleeps when nothing is hot."""
ARENA = 32 << 20
"""Bytes for the regions of one machine; when they are full, all translations are forgotten."""
QUICK, FULL = 1, 2
"""Levels of care for a region."""
SAMPLES, SAMPLES_PER_BLOCK = 4, 1.25
"""Times that a region is found running before it is worth the full level."""
HIT_PAUSE_S = 0.03
"""While the cache gives regions, it is likely to have the next one, too: nothing is compiled for as
long after each."""
WAITING = 50
"""Regions at most whose missing blocks are looked for at a time."""
MISFITS = 8
"""Times that a region is found left at once before another is made in its place."""
TARGETS = 32
"""Places that one indirect jump is known to go to."""


@dataclass(slots=True)
class RegionStats:
    """What `info jit` shows."""

    compiled: int = 0
    full: int = 0  # of those compiled: at the full level
    cached: int = 0
    refused: int = 0
    void: int = 0
    instructions: int = 0
    seconds: float = 0.0


class Executing(Protocol):
    """A vCPU, as the compiler sees it."""

    state: CpuState

    def kick(self, *, leave: bool) -> None:
        """From any thread: have it look at its interrupts."""


class Guest(Protocol):
    """What the compiler needs of a machine's translated code."""

    shared: Shared

    @property
    def cpus(self) -> Sequence[Executing]:
        """The vCPUs."""

    def find(self, cpu: int, pc: int, mode: int, fetch_index: int, near: int) -> int | None:
        """Host address of a translated block."""

    def install(self, region: int) -> bool:
        """Enter the region of a `RegionInfo`."""

    def ask_for_flush(self) -> None:
        """Have all translated code forgotten soon."""


class RegionCompiler:
    """One thread that compiles for one machine."""

    def __init__(
        self,
        guest: Guest,
        reader: CodeReader,
        templates: Callable[[], Templates],
        helpers: Mapping[str, int],
        cache: ObjectCache | None,
        *,
        exact_budget: bool,
        verify: bool,
    ) -> None:
        self._verify = verify
        self._guest = guest
        self._reader = reader
        self._make_templates = templates
        self._helpers = helpers
        self._templates: Templates | None = None
        self._cache = RegionCache(cache, exact_budget=exact_budget) if cache else None
        self._exact = exact_budget
        self._waiting: dict[int, tuple[CachedRegion, int]] = {}
        """By entry block, with a vCPU: regions that the cache has, of which some block has not been
        executed yet."""
        self._last_hit = 0.0  # when it had one; monotonic seconds
        self._translated = 0  # blocks, when they were last looked for
        self._heat = Heat(guest.shared)
        self._arena = code_space().arena(ARENA)
        self._uses: list[Any] = []
        self._quick: set[int] = set()  # handlers of the regions at the quick level
        self._samples: Counter[int] = Counter()  # by the block that a region was entered at
        self._misfits: Counter[int] = Counter()
        """By entry block: times that a region was found left at once, not being made for what
        registers held."""
        self._unboxed: dict[int, set[int]] = {}
        """By entry block: floating-point registers, by their offset in the state, that it must not
        rely on to hold single numbers."""
        self._went: dict[int, dict[int, None]] = {}
        """Where indirect jumps went that left a region, by their pc."""
        self._stop = threading.Event()
        self._blocks = threading.RLock()
        """Held while blocks are read or entered: they are not forgotten meanwhile."""
        self._generation = 0  # of blocks: grows when all are forgotten
        self._full = -1  # the generation that has no room for more regions
        self._served = 0  # the generation that the tables here speak of
        self.failures: list[str] = []
        self.show: Callable[[Region, int, str, Callable[[], str]], None] = _show_nothing
        self.perf_map: PerfMap | None = None
        self.stats = RegionStats()
        self._thread = NamedThread("ratite compiler", self._loop)
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
        code_space().give_back(self._arena)

    def forget(self) -> None:
        """All blocks are gone, and no vCPU executes: free the regions' code."""
        with self._blocks:
            self._arena.reset()
            self._uses.clear()
            self._generation += 1
            for cpu in self._guest.cpus:
                cpu.state.misfit = cpu.state.sample = u64(0)

    def level_of(self, handler: int) -> int:
        """The level of the region whose code this is; 0 if it is none's."""
        if not 0 <= handler - self._arena.base < self._arena.used:
            return 0
        return QUICK if handler in self._quick else FULL

    def compile_now(self, address: int, cpu: int, level: int) -> bool:
        """Compile and install the region of a block, on the caller's thread."""
        before = self.stats.compiled - self.stats.void
        self._compile(address, cpu, self._generation, level, lambda block: True)
        return self.stats.compiled - self.stats.void > before

    def _finder(self, cpu: int, entry: RawBlock) -> BlockFinder:
        def find(pc: int, mode: int) -> int | None:
            return self._guest.find(cpu, pc, mode, entry.fetch_index, entry.address)

        return find

    # -- the thread

    def _loop(self) -> None:
        be_nice()
        if self._cache is not None and self._cache.prepare():
            self._last_hit = time.monotonic()
        while not self._stop.is_set():
            try:
                had_work = self._serve()
                if not self._exact:
                    self._sample()
                if not had_work:
                    self._stop.wait(IDLE_S)
            except Exception as error:  # a bug of ours: the guest goes on in tier 0
                self.failures.append(f"{type(error).__name__}: {error}")
                self.stats.refused += 1

    def _serve(self) -> bool:
        """Give hot blocks regions: all that the cache has, one that must be compiled. False if
        there was nothing to do.
        """
        with self._blocks:
            if self._served != self._generation:
                self._served = self._generation
                self._heat.forget()
                self._quick.clear()
                self._samples.clear()
                self._misfits.clear()
                self._unboxed.clear()
                self._went.clear()
                self._waiting.clear()
        self._heat.gather()
        for address, cpu in self._heat.fresh():
            self._try_cache(address, cpu)
        self._try_waiting()
        if time.monotonic() - self._last_hit < HIT_PAUSE_S:
            return False
        hottest = self._heat.hottest()
        if hottest is None:
            return False
        self._heat.finish(hottest[0])
        self._compile(*hottest, self._served, QUICK, self._heat.is_warm)
        return True

    def _try_cache(self, address: int, cpu: int) -> None:
        with self._blocks:
            entry = read_raw(address) if self._served == self._generation else None
            if entry is None:
                self._heat.finish(address)
            else:
                self._from_cache(entry, cpu)

    def _sample(self) -> None:
        """See which regions run, by having them look for interrupts, and compile those with care
        that are seen often.
        """
        shared = self._guest.shared
        first, end = int(shared.buffer), int(shared.next)
        for number, cpu in enumerate(self._guest.cpus):
            plain = cpu.state.plain()
            address, plain.sample = plain.sample, 0
            handler = Block(address).plain().handler if first <= address < end else 0
            if handler in self._quick:
                self._samples[address] += 1
                if self._samples[address] % SAMPLES == 0:
                    self._consider(address, number)
            if not plain.halted:
                self._note_jumps(plain)
                misfit, plain.misfit = plain.misfit, 0
                if first <= misfit < end and self.level_of(Block(misfit).plain().handler) == FULL:
                    self._note_misfit(misfit, number)
                cpu.kick(leave=False)

    def _consider(self, entry: int, cpu: int) -> None:
        """Compile with care what a region at the quick level may become from where it was entered,
        if that and the regions that it covers were found running often enough for its size.
        """
        region = self._grow(entry, cpu, self._served, FULL, self._heat.is_warm)
        if region is None:
            return
        members = [block.address for block in region.blocks]
        samples = sum(self._samples[address] for address in members)
        if samples >= SAMPLES + len(members) * SAMPLES_PER_BLOCK:
            for address in members:
                self._samples.pop(address, None)
            self._compile_region(region, cpu, self._served, FULL)

    def _note_misfit(self, entry: int, cpu: int) -> None:
        """A region is left at once: if that goes on, make one that relies on less."""
        self._misfits[entry] += 1
        if self._misfits[entry] % MISFITS == 0:
            from ratite.accel.jit.tier1 import unboxed_registers

            known = self._unboxed.get(entry)
            found = unboxed_registers(self._guest.cpus[cpu].state, self._prepare())
            if known is None or not found <= known:
                self._unboxed[entry] = found | (known or set())
                self._compile(entry, cpu, self._served, FULL, self._heat.is_warm)

    def _note_jumps(self, state: Any) -> None:
        """Take over what a vCPU remembers of indirect jumps."""
        for pc, target in zip(state.went_from, state.went_to, strict=True):
            if pc:
                targets = self._went.setdefault(pc, {})
                if len(targets) < TARGETS:
                    targets[target] = None

    def _prepare(self) -> Templates:
        """Load what compiling takes. A guest that the cache serves entirely never needs it."""
        if self._templates is None:
            import ratite.native.compile  # LLVM

            ratite.native.compile.host_cpu()
            self._templates = replace(self._make_templates(), exact_budget=self._exact)
        return self._templates

    def _compile(
        self, address: int, cpu: int, generation: int, level: int, is_warm: Callable[[int], bool]
    ) -> None:
        """Compile and install the region of a block."""
        region = self._grow(address, cpu, generation, level, is_warm)
        if region is not None:
            self._compile_region(region, cpu, generation, level)

    def _grow(
        self, address: int, cpu: int, generation: int, level: int, is_warm: Callable[[int], bool]
    ) -> Region | None:
        """The region that a block would have; None if there can be none."""
        with self._blocks:
            entry = read_raw(address) if generation == self._generation else None
            if entry is None or generation == self._full:
                return None
            limits = LARGE if level == FULL else SMALL
            find = self._finder(cpu, entry)
            region = grow(address, self._reader, find, is_warm, self._went, limits)
        if region is None:
            self.stats.refused += 1
        return region

    def _compile_region(self, region: Region, cpu: int, generation: int, level: int) -> None:
        """Compile and install it."""
        began = time.perf_counter()
        templates = self._prepare()
        from ratite.accel.jit.full import FullRegionText
        from ratite.accel.jit.tier1 import RegionText
        from ratite.native.compile import compile_region, region_assembly

        state = self._guest.cpus[cpu].state
        if level == FULL:
            unboxed = self._unboxed.get(region.entry.address)
            writer: RegionText = FullRegionText(region, templates, REGION, state, unboxed)
        else:
            writer = RegionText(region, templates, REGION, state)
        text, pages = writer.text(), list(writer.pages.values())
        self.show(region, level, text, lambda: region_assembly(text, quick=level == QUICK))
        code = compile_region(text, quick=level == QUICK, checked=self._verify)
        self.stats.compiled += 1
        self.stats.full += level == FULL
        self.stats.instructions += region.instructions
        self.stats.seconds += time.perf_counter() - began
        if self._cache is not None:
            self._cache.put(region, level, pages, code)
        members = [block.address for block in region.blocks]
        self._install(members, region.entries, pages, code, generation, level)

    # -- cache

    def _from_cache(self, entry: RawBlock, cpu: int) -> None:
        """Install what the cache has for a block, the better level if all its members are there."""
        if self._cache is None:
            return
        for level in (FULL, QUICK):
            cached = self._cache.get(entry, level)
            if cached is None:
                continue
            found = cached.find_members(self._finder(cpu, entry))
            if found:
                self._install_cached(cached)
                return
            if found is None:
                self._waiting[entry.address] = cached, cpu

    def _try_waiting(self) -> None:
        """Look again for what regions from the cache lack, a few at a time."""
        if not self._waiting:
            return
        with self._blocks:
            translated = int(self._guest.shared.translated)
            if self._served != self._generation or translated == self._translated:
                return
            self._translated = translated
            for address in list(self._waiting)[:WAITING]:
                cached, cpu = self._waiting.pop(address)
                found = cached.find_members(self._finder(cpu, cached.entry))
                if found is None:
                    self._waiting[address] = cached, cpu  # after the others
                elif found:
                    self._install_cached(cached)

    def _install_cached(self, cached: CachedRegion) -> None:
        self.stats.cached += 1
        self._last_hit = time.monotonic()
        self._install(
            cached.addresses,
            cached.entries,
            cached.pages,
            cached.code,
            self._generation,
            cached.level,
        )

    def _install(
        self,
        members: list[int],
        entries: list[int],
        pages: list[int],
        code: bytes,
        generation: int,
        level: int,
    ) -> None:
        with self._blocks:
            if generation != self._generation:
                self.stats.void += 1
                return
            try:
                loaded = LoadedObject(code, self._arena, self._helpers, _place(members, pages))
            except MemoryError:
                self.stats.void += 1
                self._full = generation
                self._guest.ask_for_flush()
                return
            if self.perf_map is not None:
                self.perf_map.add(loaded, f"region {int(Block(members[0]).pc):#x}, level {level}")
            memory = ctypes.create_string_buffer(RegionInfo.SIZE + len(members) * RegionUse.SIZE)
            place = ctypes.addressof(memory)
            info = RegionInfo(place).plain()
            info.handler = loaded.address(REGION)
            info.rank = level << 32 | len(members)
            info.count = len(members)
            for index, address in enumerate(members):
                use = RegionUse(place + RegionInfo.SIZE + index * RegionUse.SIZE).plain()
                use.block, use.is_entry = address, index in entries
            if self._guest.install(place):
                self._uses.append(memory)
                if level == QUICK:
                    self._quick.add(info.handler)
                self._heat.serve(members)
            else:
                self.stats.void += 1


def _place(members: list[int], pages: list[int]) -> dict[str, bytes]:
    """What a region learns of where it is: the address of its entry, and where pages are."""
    words = [int(Block(members[0]).pc)]
    words += [int(Block(members[number]).ram_pc) & ~0xFFF for number in pages]
    return {PLACE: struct.pack(f"<{len(words)}Q", *words)}


def _show_nothing(region: Region, level: int, llvm: str, assembly: Callable[[], str]) -> None:
    """What the log shows of a region until a log is there."""
