"""vCPUs and the threads that run them.

A `Vcpu` is one virtual processor: its state, and the executor that runs it. A `Runner` drives the
vCPUs of a machine: `ThreadRunner` gives each a host thread, `IcountRunner` runs them in turn on one
thread, so that guest time is a function of the instructions executed.
"""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ratite.core.clock import VirtualClock
from ratite.core.lock import MachineLock
from ratite.core.threads import NamedThread
from ratite.cpu.exits import Exit
from ratite.cpu.throttle import Throttle
from ratite.isa.state import CpuState
from ratite.memory import AddressSpace, MemTxResult
from ratite.native import i64, u32

UNLIMITED = 1 << 62
SWITCH_INTERVAL_S = 0.0001
OK = MemTxResult.OK


def serve_access(cpu: Any, space: AddressSpace) -> None:
    """Make the device access that a vCPU left its executor for, and log what it gave for the
    instruction to find when it runs again. `cpu` is its state's `plain` view. Runs: per MMIO
    access.
    """
    value = 0
    if cpu.mmio_write:
        result = space.write(cpu.mmio_address, cpu.mmio_size, cpu.mmio_value)
    else:
        value, result = space.read(cpu.mmio_address, cpu.mmio_size)
    index = cpu.mmio_count
    cpu.mmio_log[index] = value
    if result is OK:
        cpu.mmio_failed &= ~(1 << index)
    else:
        cpu.mmio_failed |= 1 << index
    cpu.mmio_count = index + 1
    cpu.mmio_next = 0


class Executor(Protocol):
    """What an accelerator offers for one vCPU; see `ratite.accel.jit.engine.JitCpu`."""

    def run(self) -> int:
        """Enter the guest until it exits."""

    def kick(self, *, leave: bool) -> None:
        """From any thread: look at interrupts, or leave `run`."""

    def flush(self) -> None:
        """From any thread: drop cached translations."""

    def set_budget(self, instructions: int) -> None:
        """Instructions until `Exit.BUDGET`."""


class Vcpu(ABC):
    """One virtual processor. What depends on the instruction set is the subclass's."""

    state: CpuState

    def __init__(
        self,
        index: int,
        state: CpuState,
        executor: Executor,
        space: AddressSpace,
        lock: MachineLock,
    ) -> None:
        self.index = index
        self.state = state
        self.plain_state: Any = state.plain()
        self.started = True  # False: waits for another vCPU to start it
        self.executor = executor
        self.space = space
        self.lock = lock
        self.on_code_full: Callable[[], None] = lambda: None
        self.on_debug: Callable[[], None] = lambda: None
        self._wake = threading.Condition(threading.Lock())
        self._sleeping = False
        self._woken = False

    @abstractmethod
    def has_work(self) -> bool:
        """Whether a halted vCPU must go on."""

    @abstractmethod
    def handle(self, reason: int) -> None:
        """Deal with an exit of the instruction set's own."""

    @abstractmethod
    def loaded(self) -> None:
        """Follow state that was loaded: timers, translations."""

    @abstractmethod
    def refresh_mode(self) -> None:
        """Derive the state's `mode` anew, after `block_limit` changed."""

    @abstractmethod
    def debug_translate(self, gva: int) -> int | None:
        """Guest-physical address that a debugger finds at `gva`; None if it is not mapped."""

    @abstractmethod
    def service(self) -> None:
        """Follow what the guest changed that the machine must know, as a timer. Runs: per exit."""

    def kick(self, *, leave: bool = False) -> None:
        """From any thread: have it look at its interrupt lines, or leave generated code."""
        self.executor.kick(leave=leave)
        self._woken = True
        if self._sleeping:
            with self._wake:
                self._wake.notify()

    def sleep(self, keep_sleeping: Callable[[], bool]) -> None:
        """Wait for a kick, while halted."""
        with self._wake:
            self._sleeping = True
            while not self._woken and keep_sleeping() and not self.has_work():
                self._wake.wait()
            self._sleeping = False
            self._woken = False

    def step(self) -> int:
        """Run once and deal with the exit. Returns its reason."""
        reason = self.executor.run()
        if reason == Exit.MMIO:
            with self.lock:
                serve_access(self.plain_state, self.space)
        elif reason == Exit.CODE_FULL:
            self.on_code_full()
        elif reason == Exit.DEBUG:
            if not self.state.stepping:
                self.on_debug()
        elif reason > Exit.CODE_FULL:
            self.handle(reason)
        self.service()
        return reason


class Runner(ABC):
    """Drives a machine's vCPUs. Made paused."""

    def __init__(self, vcpus: Sequence[Vcpu], lock: MachineLock, clock: VirtualClock) -> None:
        self.vcpus = vcpus
        self.lock = lock
        self.clock = clock
        self._gate = threading.Condition(threading.Lock())
        self._running = False
        self._emptying = False  # the block buffer: a vCPU does it, or waits to
        self._ends = False  # nothing lets it run any more
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._parked = 0
        self.throttle = Throttle(self._leave_all)
        self.held: frozenset[Vcpu] = frozenset()
        """vCPUs that a debugger keeps from running; changed while paused."""
        for vcpu in vcpus:
            vcpu.on_code_full = self._code_full
        self.flush_code: Callable[[], None] = lambda: None
        self.on_crash: Callable[[BaseException], None] = lambda error: None

    @property
    def running(self) -> bool:
        """Whether the vCPUs may run."""
        return self._running

    def prepare(self) -> None:
        """Create the threads; they wait for `resume`. Does nothing if they are there."""
        if not self._threads:
            self._start_threads()

    def thread_id(self, index: int) -> int:
        """The host's number of the thread that runs a vCPU; 0 before `prepare`."""
        threads = self._threads
        return (threads[min(index, len(threads) - 1)].native_id or 0) if threads else 0

    def resume(self) -> None:
        """Let the guest run. Starts the threads the first time. Does nothing once it is being
        closed: what the vCPUs would execute goes next.
        """
        if self._ends:
            return
        # A vCPU that leaves generated code for a device must not wait long for another thread's
        # Python.
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        self.clock.start()
        self._follow_clock()
        with self._gate:
            if self._ends:
                return
            self._running = True
            self._gate.notify_all()
        self.prepare()

    def pause(self) -> None:
        """Stop the guest, and return when no vCPU executes. Not to be called on a vCPU's thread;
        the machine lock is given up meanwhile."""
        with self._gate:
            self._running = False
        for vcpu in self.vcpus:
            vcpu.kick(leave=True)
        with self.lock.unlocked(), self._gate:
            while self._parked < len(self._threads) or self._emptying:
                self._gate.wait()
        self.clock.stop()
        self._follow_clock()

    def _leave_all(self) -> None:
        for vcpu in self.vcpus:
            vcpu.kick(leave=True)

    def forget_translations(self) -> None:
        """Have every vCPU drop its softmmu TLB, and return when none uses an old entry any more:
        what it stored by one is in memory. The machine may be running.
        """
        for vcpu in self.vcpus:
            vcpu.executor.flush()
        for vcpu in self.vcpus:
            # In generated code it sees the request soon; outside, before it enters again.
            while vcpu.state.flush_request and vcpu.state.exit_reason == Exit.NONE:
                if self._parked >= len(self._threads):
                    return
                time.sleep(0.0001)

    def set_time(self, now_ns: int) -> None:
        """Make this the guest's time, while paused."""
        self.clock.set_ns(now_ns)
        self._follow_clock()

    def halt(self) -> None:
        """From any thread, a vCPU's included: have every vCPU park soon. `pause` completes it."""
        with self._gate:
            self._running = False
        for vcpu in self.vcpus:
            vcpu.kick(leave=True)

    def stepped(self, vcpu: Vcpu, instructions: int) -> None:  # noqa: B027 - few care
        """Note that a debugger had a vCPU execute instructions while the machine was paused."""

    def close(self) -> None:
        """End the threads for good."""
        with self._gate:
            self._ends = True
        self.throttle.set(0)
        self.pause()
        with self._gate:
            self._closed = True
            self._gate.notify_all()
        with self.lock.unlocked():
            for thread in self._threads:
                thread.join()
        self._threads.clear()

    def on_vcpu_thread(self) -> bool:
        """Whether the caller is one of the vCPU threads."""
        return threading.current_thread() in self._threads

    def _code_full(self) -> None:
        """The block buffer is full: empty it while nobody executes. On a vCPU's thread. Of several
        that come at once one does it for all; none of it is to be seen from outside.
        """
        with self._gate:
            first, self._emptying = not self._emptying, True
        self._leave_all()
        with self._gate:
            self._parked += 1
            self._gate.notify_all()
            try:
                if first:
                    while self._parked < len(self._threads):
                        self._gate.wait()
                    self.flush_code()
                else:
                    while self._emptying:
                        self._gate.wait()
            finally:
                self._parked -= 1
                if first:
                    self._emptying = False
                self._gate.notify_all()

    def _wait_until_running(self, vcpu: Vcpu | None = None) -> bool:
        """Park while paused, or while this vCPU is held. False when the machine is closed."""
        if self._running and not self._emptying and not (self.held and vcpu in self.held):
            return True
        with self._gate:
            self._parked += 1
            self._gate.notify_all()
            while not self._closed and (not self._running or self._emptying or vcpu in self.held):
                self._gate.wait()
            self._parked -= 1
            return not self._closed

    def _guarded(self, body: Callable[[], None]) -> Callable[[], None]:
        """A thread's body whose failure ends the machine, not the process."""

        def run() -> None:
            try:
                body()
            except (
                BaseException
            ) as error:  # a bug of ours: reported by the machine, with its traceback
                with self._gate:
                    self._threads.remove(threading.current_thread())
                    self._gate.notify_all()
                self.on_crash(error)

        return run

    @abstractmethod
    def _start_threads(self) -> None:
        """Create and start them."""

    @abstractmethod
    def _follow_clock(self) -> None:
        """Tell the vCPUs' native clocks that guest time goes or stands."""


class ThreadRunner(Runner):
    """A host thread per vCPU, truly parallel: generated code runs without the GIL."""

    def _start_threads(self) -> None:
        for vcpu in self.vcpus:
            vcpu.executor.set_budget(UNLIMITED)
            body = self._guarded(self._body(vcpu))
            self._threads.append(NamedThread(f"CPU {vcpu.index}/TCG", body))
        for thread in tuple(self._threads):
            thread.start()

    def _body(self, vcpu: Vcpu) -> Callable[[], None]:
        def loop() -> None:
            state = vcpu.plain_state
            state.host_thread = threading.get_native_id()
            naps = 0
            while self._wait_until_running(vcpu):
                if naps != self.throttle.round:
                    naps = self.throttle.round
                    self.throttle.nap(lambda: self._running)
                if state.halted and not vcpu.has_work():
                    vcpu.sleep(lambda: self._running)
                else:
                    state.halted = 0
                    if vcpu.step() == Exit.BUDGET:
                        vcpu.executor.set_budget(UNLIMITED)

        return loop

    def _follow_clock(self) -> None:
        for vcpu in self.vcpus:
            if self.clock.running:
                vcpu.state.time_base = i64(self.clock.base_ns)
                vcpu.state.time_stopped = i64(-1)
            else:
                vcpu.state.time_stopped = i64(self.clock.now_ns())


class IcountRunner(Runner):
    """All vCPUs in turn on one thread; guest nanoseconds are executed instructions << shift. A run
    from the same start with the same inputs repeats exactly."""

    SLICE = 100_000
    """Instructions that one vCPU runs before the next has its turn."""

    def __init__(
        self,
        vcpus: Sequence[Vcpu],
        lock: MachineLock,
        clock: VirtualClock,
        now: list[int],
        shift: int,
        *,
        sleep: bool,
    ) -> None:
        super().__init__(vcpus, lock, clock)
        self._now = now  # guest nanoseconds, read by the clock
        self._shift = shift
        self._sleep = sleep
        self._idle = threading.Condition(threading.Lock())

    def _start_threads(self) -> None:
        thread = NamedThread("CPU 0/TCG", self._guarded(self._loop))
        self._threads.append(thread)
        thread.start()

    def set_time(self, now_ns: int) -> None:
        """Instructions are counted from there on."""
        self._now[0] = now_ns
        super().set_time(now_ns)

    def _follow_clock(self) -> None:
        for vcpu in self.vcpus:
            retired = int(vcpu.state.retired())
            vcpu.state.icount_shift = i64(self._shift)
            vcpu.state.icount_bias = i64(self._now[0] - (retired << self._shift))

    def _loop(self) -> None:
        for vcpu in self.vcpus:
            vcpu.plain_state.host_thread = threading.get_native_id()
        turn = 0
        while self._wait_until_running():
            with self.lock:
                self.clock.run_due()
            for _ in self.vcpus:
                vcpu = self.vcpus[turn % len(self.vcpus)]
                turn += 1
                if vcpu in self.held:
                    continue
                if not vcpu.state.halted or vcpu.has_work():
                    self._run_slice(vcpu)
                    break
            else:
                self._warp()

    def stepped(self, vcpu: Vcpu, instructions: int) -> None:
        """They take guest time like any other."""
        self._now[0] += instructions << self._shift
        retired = int(vcpu.state.retired())
        vcpu.state.icount_bias = i64(self._now[0] - (retired << self._shift))

    def _run_slice(self, vcpu: Vcpu) -> None:
        state = vcpu.state
        state.halted = u32(0)
        vcpu.executor.set_budget(max(1, self._instructions_until_deadline()))
        before = int(state.retired())
        state.icount_bias = i64(self._now[0] - (before << self._shift))
        while self._running:
            left = int(state.budget)
            # A block that would overrun the budget is translated anew, short enough to stop
            # exactly.
            reason = vcpu.step()
            self._now[0] = (int(state.retired()) << self._shift) + int(state.icount_bias)
            if reason == Exit.BUDGET and 0 < int(state.budget) < left + 1:
                state.block_limit = u32(min(int(state.budget), 64))
                vcpu.refresh_mode()
                continue
            if reason != Exit.MMIO or int(state.budget) <= 0:
                break
            # The access may have set a timer that is to fire before the slice ends.
            left = self._instructions_until_deadline()
            if left <= 0:
                break
            if left < int(state.budget):
                vcpu.executor.set_budget(left)
        if state.block_limit:
            state.block_limit = u32(0)
            vcpu.refresh_mode()

    def _instructions_until_deadline(self) -> int:
        """How many may be executed before the next timer is due; `SLICE` at most."""
        deadline = self.clock.next_deadline_ns()
        if deadline is None:
            return self.SLICE
        return min(self.SLICE, -(-(deadline - self._now[0]) >> self._shift))

    def _warp(self) -> None:
        """Everybody waits: go on to the next deadline, at once or in real time."""
        deadline = self.clock.next_deadline_ns()
        with self._idle:
            if deadline is None:
                self._idle.wait(0.01)
                return
            left = deadline - self._now[0]
            if self._sleep and left > 0:
                self._idle.wait(left / 1e9)
        self._now[0] = max(self._now[0], deadline)
