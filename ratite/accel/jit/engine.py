"""The JIT as an accelerator: one `JitMachine` per machine, one `JitCpu` per vCPU."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratite.accel.jit.compiler import FULL, QUICK, RegionCompiler
from ratite.accel.jit.heat import COMPILE_HEAT, HOT
from ratite.accel.jit.object import load_templates, load_tier0
from ratite.accel.jit.perfmap import perf_map
from ratite.accel.jit.usage import Place, Usage
from ratite.core.log import QUIET, Log, LogCategory
from ratite.cpu.block import MAX_INSTRUCTIONS, NEVER_HOT, block_size
from ratite.cpu.debug import DebugTable, Watchpoint
from ratite.cpu.exits import Exit
from ratite.cpu.machine import MAX_CPUS, PAGE_SHIFT, Block, Shared
from ratite.cpu.physmap import PhysMapPublisher
from ratite.cpu.space import (
    NO_SPACE,
    SIDE_OFFSET,
    SIDE_TABLE_SIZE,
    SPACE_BYTES,
    SPACES,
    SPACIOUS,
    TABLE_SIZE,
    TLB_BYTES,
    TLB_INDEXES,
    Space,
    TlbEntry,
    TlbSide,
)
from ratite.isa.state import KICK_EXIT, KICK_INTERRUPT, CpuState
from ratite.memory import AddressSpace, RamList
from ratite.memory.ram import DirtyClient
from ratite.native import i64, u32, u64
from ratite.native.cache import LIMIT_BYTES, ObjectCache
from ratite.native.host import allocate

if TYPE_CHECKING:  # few runs keep a log of what is translated
    from ratite.accel.jit.log import JitLog

RAM_PAGES = 1 << (42 - PAGE_SHIFT)
HASH_BUCKETS = 1 << 16
MiB = 1 << 20
DEFAULT_BUFFER = 128 * MiB
OF_OTHERS = LogCategory.UNIMP | LogCategory.GUEST_ERRORS | LogCategory.CPU_RESET | LogCategory.FPU
"""What the log shows without the JIT's help."""

_Run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Find = ctypes.CFUNCTYPE(
    ctypes.c_uint64,
    ctypes.c_void_p,
    ctypes.c_uint64,
    ctypes.c_uint32,
    ctypes.c_uint32,
    ctypes.c_uint64,
)
_Install = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_uint64)
_RetireAt = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)
_Count = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)
_Written = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)


@dataclass(frozen=True, slots=True)
class JitOptions:
    """What `-accel tcg` can say."""

    buffer_size: int = 0  # bytes for translation blocks; 0: the default
    tier: int = 1  # 0: no regions
    cache: bool = True  # keep compiled regions on disk
    cache_size: int = 0  # bytes that they may take there; 0: the default
    verify: bool = False  # check every region's code at each step of its making
    exact_budget: bool = False  # never execute more instructions than the budget says
    one_instruction: bool = False  # one guest instruction per block
    background: bool = True  # compile what gets hot; else only what `compile_all` is asked for


class JitMachine:
    """Translated code of one machine, shared by its vCPUs."""

    def __init__(
        self,
        target: str,
        ram: RamList,
        space: AddressSpace,
        options: JitOptions = JitOptions(),
        log: Log = QUIET,
    ) -> None:
        loaded = load_tier0(target)
        self._loaded = loaded
        self._run = _Run(loaded.address("ratite.run"))
        self._written = _Written(loaded.address("cpu.machine.code_written"))
        self._buffer = allocate(options.buffer_size or DEFAULT_BUFFER)
        self._hash = allocate(HASH_BUCKETS * 8)
        self._first_block = allocate(RAM_PAGES * 8)
        self.ram = ram
        self.options = options
        self.shared = Shared.allocate()
        self.cpus: list[JitCpu] = []
        shared = self.shared
        shared.buffer = shared.next = u64(self._buffer.address)
        shared.end = u64(self._buffer.address + self._buffer.size)
        shared.hash_table = u64(self._hash.address)
        shared.hash_mask = u64(HASH_BUCKETS - 1)
        shared.first_block = u64(self._first_block.address)
        shared.code_clean = u64(ram.dirty_address(DirtyClient.CODE))
        shared.migration = u64(ram.dirty_address(DirtyClient.MIGRATION))
        shared.display = u64(ram.dirty_address(DirtyClient.DISPLAY))
        self._find = _Find(loaded.address("cpu.block.find_translated"))
        self._install = _Install(loaded.address("cpu.machine.install_region"))
        self.compiler: RegionCompiler | None = None
        self._hot = NEVER_HOT
        self._one_instruction = options.one_instruction
        shared.max_instructions = u32(1 if options.one_instruction else MAX_INSTRUCTIONS)
        if options.tier > 0:
            module = importlib.import_module(f"ratite.accel.jit.targets.{target}")
            shared.compile_threshold = u32(COMPILE_HEAT)
            if options.background:
                self._hot = HOT
            self.compiler = RegionCompiler(
                self,
                module.reader(self),
                lambda: load_templates(target),
                loaded.helpers,
                ObjectCache(limit=options.cache_size or LIMIT_BYTES) if options.cache else None,
                exact_budget=options.exact_budget,
                verify=options.verify,
            )
        if log.perf_map:
            perf_map().add(loaded.object)
            if self.compiler is not None:
                self.compiler.perf_map = perf_map()
        # With an exact budget a kick must not come from outside: the run would not repeat.
        watched = options.background and not options.exact_budget
        self.usage = Usage(shared, self.cpus, self._place_of) if watched else None
        self._threaded = _Count(loaded.address("cpu.block.threaded_instructions"))
        self._threaded_before = 0  # the last flush
        self._retire_at = _RetireAt(loaded.address("cpu.debug.retire_at"))
        self._debug = DebugTable(shared)
        self._log = log
        self._target = target
        self._trap_event = f"{target}_trap"  # the target's trace event of that name
        self.log: JitLog | None = None  # until something is to be written
        log.watchers.append(self._follow_log)
        ram.add_code_listener(self.code_written)
        self.phys_map = PhysMapPublisher(space, self._publish)

    def _make_log(self) -> JitLog:
        """What writes of translated code, and of what happens in it."""
        from ratite.accel.jit.code_log import CodeLog
        from ratite.accel.jit.log import JitLog

        module = f"ratite.accel.jit.targets.{self._target}"
        target = importlib.import_module(f"{module}_log")
        code = CodeLog(
            self._log,
            self.shared,
            self.ram,
            importlib.import_module(module).reader(self),
            target,
            lambda: {address: name for name, address, _ in self._loaded.object.functions()},
        )
        if self.compiler is not None:
            self.compiler.show = code.write_region
        return JitLog(self._log, self._trap_event, self.cpus, target, code)

    def _follow_log(self) -> None:
        """The log wants other things from now on, or there is another vCPU. No vCPU executes."""
        wanted = self._log.enabled(~OF_OTHERS) or self._log.traces(self._trap_event)
        if self.log is None and wanted:
            self.log = self._make_log()
        logging = 0 if self.log is None else self.log.follow()
        # A region enters blocks that nobody is told of.
        cold = logging or self._one_instruction
        self.shared.hot_threshold = u32(NEVER_HOT if cold else self._hot)
        if int(self.shared.logging) != logging:
            self.shared.logging = u32(logging)
            self.flush_code()

    def _publish(self, address: int) -> None:
        for cpu in self.cpus:
            cpu.state.phys_map = u64(address)
            cpu.flush()

    def attach(self, state: CpuState) -> JitCpu:
        """Give a vCPU its TLB and caches. The machine is not running."""
        cpu = JitCpu(self, state, self._run)
        assert len(self.cpus) < MAX_CPUS
        state.phys_map = u64(self.phys_map.address)
        self.shared.cpus[len(self.cpus)] = state.pointer()
        self.cpus.append(cpu)
        self.shared.cpu_count = u32(len(self.cpus))
        self._follow_log()
        if self.compiler is not None and self.options.background:
            self.compiler.start()
        if self.usage is not None:
            self.usage.start()
        return cpu

    def find(self, cpu: int, pc: int, mode: int, fetch_index: int, near: int) -> int | None:
        """Host address of the block of a pc on the page of the block `near`, or as a vCPU's TLB
        maps it; None if it has none.
        """
        found: int = self._find(self.cpus[cpu].state.address, pc, mode, fetch_index, near)
        return found or None

    def install(self, region: int) -> bool:
        """Enter a region; see `install_region`."""
        return bool(self._install(self.shared.address, region))

    @property
    def one_instruction(self) -> bool:
        """Whether each block is one guest instruction. Switched while no vCPU executes."""
        return self._one_instruction

    @one_instruction.setter
    def one_instruction(self, wanted: bool) -> None:
        if wanted is self._one_instruction:
            return
        self._one_instruction = wanted
        self.shared.max_instructions = u32(1 if wanted else MAX_INSTRUCTIONS)
        self._follow_log()
        self.flush_code()

    def ask_for_flush(self) -> None:
        """Have the next new block find the buffer full, so that everything is forgotten."""
        self.shared.end = self.shared.next

    def report(self) -> str:
        """What `info jit` shows. Any thread."""
        from ratite.accel.jit.report import jit_report  # few ask

        threaded = self.threaded_instructions()
        return jit_report(self.shared, self.cpus, self.compiler, self.usage, threaded)

    def threaded_instructions(self) -> int:
        """Instructions that tier 0 has retired, nearly. Any thread."""
        return self._threaded_before + int(self._threaded(self.shared.address))

    def _place_of(self, handler: int) -> Place:
        """What the handler of a block is of."""
        level = 0 if self.compiler is None else self.compiler.level_of(handler)
        return {QUICK: Place.QUICK, FULL: Place.FULL}.get(level, Place.TIER_0)

    def close(self) -> None:
        """End the compiler and free its code. No vCPU executes any more."""
        if self.usage is not None:
            self.usage.stop()
        if self.compiler is not None:
            self.compiler.stop()
        self._log.watchers.remove(self._follow_log)
        if self.log is not None:
            self.log.stop()

    def code_written(self, ram_addr: int, size: int) -> None:
        """Retire translated code that a write by a device, loader or debugger changed. Any
        thread.
        """
        self._written(self.shared.address, ram_addr, size)

    def set_debug_points(
        self, breakpoints: Sequence[int], watchpoints: Sequence[Watchpoint]
    ) -> None:
        """Replace the guest-virtual addresses that end `run` with `Exit.DEBUG`, when reached or
        when touched. No vCPU may be inside `run`."""
        for pc in self._debug.set_breakpoints(breakpoints):
            self._retire_at(self.shared.address, pc)
        if self._debug.set_watchpoints(watchpoints):
            for cpu in self.cpus:
                cpu.flush()

    def blocks(self) -> Iterator[int]:
        """Host addresses of the blocks in the buffer, retired ones too. No vCPU executes."""
        address, end = int(self.shared.buffer), int(self.shared.next)
        while address < end:
            yield address
            address += block_size(int(Block(address).count))

    def compile_all(self, cpu: int = 0, level: int = QUICK) -> int:
        """Compile a region for every block there is, hot or not, with the vCPU's mappings: so that
        tests need not wait for heat. Returns how many were installed. No vCPU executes.
        """
        assert self.compiler is not None
        return sum(self.compiler.compile_now(address, cpu, level) for address in self.blocks())

    def flush_code(self) -> None:
        """Forget all translated code. No vCPU may be inside `run`."""
        if self.log is not None:
            self.log.write()  # what it has to say of blocks that are there still
        self._threaded_before = self.threaded_instructions()
        shared = self.shared
        shared.next = shared.buffer
        shared.end = u64(self._buffer.address + self._buffer.size)
        shared.blocks = shared.code_bytes = shared.largest = u64(0)
        shared.across = shared.direct = shared.branches = u64(0)
        shared.flushes += 1
        ctypes.memset(self._hash.address, 0, self._hash.size)
        clean = self.ram.dirty_map(DirtyClient.CODE)
        for block in self.ram.blocks:
            first, pages = block.offset >> PAGE_SHIFT, block.size >> PAGE_SHIFT
            clean[first : first + pages] = b"\1" * pages
            ctypes.memset(self._first_block.address + first * 8, 0, pages * 8)
        for cpu in self.cpus:
            cpu.flush()
        if self.compiler is not None:
            self.compiler.forget()


class JitCpu:
    """One vCPU on the JIT."""

    def __init__(self, machine: JitMachine, state: CpuState, run: Callable[[int], None]) -> None:
        self.machine = machine
        self.state = state
        self._tables = allocate(SPACES * SPACE_BYTES)
        self._spaces = allocate(SPACES * Space.SIZE)
        for number in range(SPACES):
            space = Space(self._spaces.address + number * Space.SIZE)
            space.key = u64(NO_SPACE)
            space.tlb = u64(self._tables.address + number * SPACE_BYTES)
            space.jumps = u64(int(space.tlb) + TLB_BYTES)
        state.spaces = state.space = u64(self._spaces.address)
        state.tlb_base = u64(self._tables.address)
        for index in range(TLB_INDEXES):  # of one entry each, until it runs
            ctypes.memset(self._tables.address + index * TABLE_SIZE, 0xFF, TlbEntry.SIZE)
        state.machine = machine.shared.pointer()
        state.flush_request = u32(1)  # to begin with both are empty
        kick = state.address + CpuState.kick.offset
        self._kick_interrupt = ctypes.c_uint8.from_address(kick)
        self._kick_exit = ctypes.c_uint8.from_address(kick + 1)
        self._reason = ctypes.c_uint32.from_address(state.address + CpuState.exit_reason.offset)
        self._slack = ctypes.c_uint32.from_address(state.address + CpuState.slack.offset)
        self._native_run = run
        self._run: Callable[[int], None] = run

    def run(self) -> int:
        """Enter the guest until it exits; returns the reason (an `Exit`, or a number of the
        instruction set's). The GIL is not held meanwhile. A device access is completed by
        `serve_access` before the next `run`."""
        self._reason.value = Exit.NONE
        self._run(self.state.address)
        if self._slack.value:
            self._give_back()
        return self._reason.value

    def _give_back(self) -> None:
        """Return host memory that the tables no longer use."""
        self._slack.value = 0
        for number in range(SPACES):
            space = Space(self._spaces.address + number * Space.SIZE).plain()
            if space.touched >= SPACIOUS:
                begin = space.tlb - self._tables.address
                used = space.touched = space.mask + TlbEntry.SIZE if space.mask else 0
                for index in range(TLB_INDEXES):
                    table = begin + index * TABLE_SIZE
                    self._tables.discard(table + used, table + TABLE_SIZE)
                    side = begin + SIDE_OFFSET + index * SIDE_TABLE_SIZE
                    used_side = used // TlbEntry.SIZE * TlbSide.SIZE
                    self._tables.discard(side + used_side, side + SIDE_TABLE_SIZE)

    def answer_log(self, answer: Callable[[], None] | None) -> None:
        """What `run` does itself whenever it leaves the guest with `Exit.LOG`; None: it never does.
        The vCPU does not execute.
        """
        if answer is None:
            self._run = self._native_run
            return

        def run(address: int) -> None:
            self._native_run(address)
            while self._reason.value == Exit.LOG:
                answer()
                self._reason.value = Exit.NONE
                self._native_run(address)

        self._run = run

    def kick(self, *, leave: bool) -> None:
        """From any thread: have the guest look at its interrupts, or leave `run` soon."""
        if leave:
            self._kick_exit.value = KICK_EXIT >> 8
        else:
            self._kick_interrupt.value = KICK_INTERRUPT

    def flush(self) -> None:
        """From any thread: drop cached translations before the next instruction after the kick is
        seen.
        """
        self.state.flush_request = u32(1)
        self.kick(leave=False)

    def set_budget(self, instructions: int) -> None:
        """Instructions that `run` may execute before it returns `Exit.BUDGET`."""
        state = self.state
        state.instret_base = u64(int(state.instret_base) + instructions - int(state.budget))
        state.budget = i64(instructions)
