"""Running and stopping a machine for a debugger.

Everything here is called on the main loop with the machine lock held, except for what a vCPU's
thread does when it reaches a breakpoint or touches a watchpoint.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ratite.cpu.stepping import single_step
from ratite.cpu.vcpu import Runner, Vcpu
from ratite.gdb.points import Engine, PointTable, PointType, watch_reason
from ratite.native import u32

SIGINT, SIGQUIT, SIGTRAP = 2, 3, 5
WINDOW_NS = 1_000_000
"""How long the other vCPUs run for each step of one, if they are to run at all."""
BATCH = 256
"""Steps through a range before the main loop sees to others."""
SOFT_STEPS = 24
"""Instructions, more than the longest atomic sequence, that may end at gdb's own breakpoint."""


class Host(Protocol):
    """The machine's owner."""

    @property
    def can_run(self) -> bool:
        """False once the guest has shut down or crashed."""

    def start(self) -> None:
        """Let the guest run."""

    def stop(self) -> None:
        """Pause it."""

    def debug_stop(self) -> None:
        """Pause it, or note that it is paused, because a debugger wants so."""

    def quit(self) -> None:
        """End the machine; returns at once."""


class Loop(Protocol):
    """The main loop."""

    def post(self, callback: Callable[[], object], /) -> None:
        """Run a callback there."""

    def post_after(self, delay_ns: int, callback: Callable[[], object], /) -> None:
        """Run a callback there after some host time."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why the machine stopped, as the client is told: signal, vCPU, and the reason's text."""

    signal: int
    vcpu: Vcpu
    reason: str = ""
    breakpoint: PointType | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Have a vCPU execute one instruction, or go on while its pc is in first..last."""

    first: int = 1
    last: int = 0


EVERYWHERE = Step(0, (1 << 64) - 1)


@dataclass(frozen=True, slots=True)
class Continue:
    """Let a vCPU run."""


Plan = Mapping[Vcpu, Step | Continue]
"""What the vCPUs do next; those that are not in it stand still."""


class RunControl:
    """Stops, steps and resumes the vCPUs of one machine."""

    def __init__(
        self, vcpus: Sequence[Vcpu], runner: Runner, engine: Engine, loop: Loop, host: Host
    ) -> None:
        self.vcpus = vcpus
        self.points = PointTable(engine)
        self.on_stop: Callable[[Stop], None] = lambda stop: None
        self.waiting = False  # the client awaits a stop
        self._runner = runner
        self._loop = loop
        self._host = host
        self._ours = False  # the machine would run if it were not for us
        self._own_change = False
        self._plan: Plan = {}
        self._round = object()  # of stepping
        self._untold: deque[Stop] = deque()
        self._before_access: dict[Vcpu, int] = {}
        """vCPUs that stand before an access to a watchpoint, with their pc: clients expect it so,
        and step over it before they go on."""

    # -- sessions

    def attach(self) -> None:
        """A client has come: pause the machine."""
        for vcpu in self.vcpus:
            vcpu.on_debug = partial(self._reached, vcpu)
        self.waiting = False
        self._ours = self._runner.running
        if self._ours:
            self._change(self._host.stop)

    def detach(self, *, resume: bool = False) -> None:
        """The client leaves, in whatever state: remove its points, and let the machine go on if it
        would but for the client, or if `resume` asks for it.
        """
        self.waiting = False
        self._round = object()
        self._untold.clear()
        self._before_access.clear()
        self.points.clear()
        was_running = self._runner.running
        self._runner.pause()
        self.points.commit()
        self._runner.held = frozenset()
        for vcpu in self.vcpus:
            vcpu.on_debug = _nothing
        if was_running:
            self._runner.resume()
        elif (self._ours or resume) and self._host.can_run:
            self._change(self._host.start)
        self._ours = False

    def end(self) -> None:
        """The client ends the machine."""
        self._host.quit()

    # -- going on

    def resume(self, plan: Plan) -> None:
        """Do as planned until something stops the machine; `on_stop` tells."""
        self.waiting = True
        self._plan = plan
        while self._untold:
            untold = self._untold.popleft()
            if untold.vcpu in plan:
                self._tell(untold)
                return
        if not self._host.can_run:
            self._tell(Stop(SIGQUIT, self.vcpus[0]))
        elif any(isinstance(action, Step) for action in plan.values()):
            self._round = object()
            self._advance(self._round)
        elif (stop := self._step_over(plan) or self._step_softly(plan)) is not None:
            self._stop(stop)
        else:
            self._ours = True
            self.points.commit()
            self._hold(plan)
            self._change(self._host.start)

    def interrupt(self) -> None:
        """The client pressed Ctrl-C, or wants attention."""
        if self.waiting or self._runner.running:
            self._ours = self._ours or self._runner.running
            self._stop(Stop(SIGINT, self._busiest()))

    def machine_stopped(self) -> None:
        """Somebody else paused the machine."""
        if self.waiting and not self._own_change and not self._runner.running:
            self._ours = False
            self._round = object()
            self._runner.held = frozenset()
            self._tell(Stop(SIGINT if self._host.can_run else SIGQUIT, self._busiest()))

    # -- stepping

    def _advance(self, current: object) -> None:
        """Some steps; then the others' turn."""
        if self._round is not current or not self.waiting:
            return
        if self._runner.running:  # somebody else let it run
            self._runner.pause()
        self.points.commit(stepping=True)
        stop = self._step_planned()
        others = [vcpu for vcpu, action in self._plan.items() if isinstance(action, Continue)]
        if not others:
            self._after_window(current, stop)
            return
        self.points.commit()
        self._hold({vcpu: Continue() for vcpu in others})
        self._runner.resume()
        self._loop.post_after(WINDOW_NS, lambda: self._after_window(current, stop))

    def _after_window(self, current: object, stop: Stop | None) -> None:
        if self._round is not current or not self.waiting:
            return
        self._runner.pause()
        self._runner.held = frozenset()
        if stop is not None:
            self._stop(stop)
        else:
            self._loop.post(lambda: self._advance(current))

    def _step_planned(self) -> Stop | None:
        """Step each vCPU that is to be stepped; returns how it ended, None if it has to go on."""
        stop: Stop | None = None
        for vcpu, action in self._plan.items():
            if isinstance(action, Step):
                ended = self._step(vcpu, action)
                stop = stop or ended
                if ended is None:
                    return None
        return stop

    def _step_over(self, plan: Plan) -> Stop | None:
        """Have accesses made that the client has been told of."""
        for vcpu in plan:
            if self._before_access.get(vcpu) == vcpu.state.pc:
                self.points.commit(stepping=True)
                if (stop := self._step(vcpu, EVERYWHERE, 1)) is not None:
                    return stop
        return None

    def _step_softly(self, plan: Plan) -> Stop | None:
        """gdb steps some vCPUs by a breakpoint at the next instruction and lets nothing else run:
        an interrupt taken there could wait for the others for ever. So what is continued alone
        executes its first instructions like steps."""
        if len(plan) != 1:
            return None
        (vcpu,) = plan
        if not vcpu.started or vcpu.state.halted or self._breakpoint_stop(vcpu) is not None:
            return None
        self.points.commit(stepping=True)
        return self._step(vcpu, EVERYWHERE, SOFT_STEPS)

    def _step(self, vcpu: Vcpu, step: Step, limit: int = BATCH) -> Stop | None:
        for _ in range(limit):
            if not vcpu.started:
                return Stop(SIGTRAP, vcpu)
            vcpu.state.watch_hit = u32(0)
            over = self._before_access.pop(vcpu, None) == vcpu.state.pc
            self._runner.stepped(vcpu, single_step(vcpu, over=over))
            pc = int(vcpu.state.pc)
            if vcpu.state.watch_hit and (stop := self._watch_stop(vcpu)):
                return stop
            if not step.first <= pc <= step.last:
                return Stop(SIGTRAP, vcpu)
            if (stop := self._breakpoint_stop(vcpu)) or vcpu.state.halted:
                return stop
        return None

    # -- stopping

    def _reached(self, vcpu: Vcpu) -> None:
        """On a vCPU's thread: it stands at a breakpoint, or before an access to a watchpoint."""
        self._runner.halt()
        self._loop.post(lambda: self._arrived(vcpu))

    def _arrived(self, vcpu: Vcpu) -> None:
        """What a vCPU reached is told, or kept until the client asks how things go. A breakpoint
        need not be kept: it will be reached again."""
        touched = vcpu.state.watch_hit != 0
        stop = self._watch_stop(vcpu) if touched else self._breakpoint_stop(vcpu)
        if stop is None:
            if self.waiting and not self._runner.running:
                self._go_on()
        elif self.waiting:
            self._stop(stop)
        else:
            self._ours = True
            self._change(self._host.debug_stop)
            if touched:
                self._untold.append(stop)

    def _go_on(self) -> None:
        """What stopped the machine has been removed meanwhile."""
        self._runner.pause()
        self._runner.resume()

    def _watch_stop(self, vcpu: Vcpu) -> Stop | None:
        number = int(vcpu.state.watch_hit) - 1
        vcpu.state.watch_hit = u32(0)
        self._before_access[vcpu] = int(vcpu.state.pc)
        point = self.points.watched(number)
        return None if point is None else Stop(SIGTRAP, vcpu, watch_reason(point))

    def _breakpoint_stop(self, vcpu: Vcpu) -> Stop | None:
        type_ = self.points.breakpoint_at(int(vcpu.state.pc))
        return None if type_ is None else Stop(SIGTRAP, vcpu, breakpoint=type_)

    def _stop(self, stop: Stop) -> None:
        self._round = object()
        self._change(self._host.debug_stop)
        self._runner.held = frozenset()
        self._tell(stop)

    def _tell(self, stop: Stop) -> None:
        if self.waiting:
            self.waiting = False
            self.on_stop(stop)

    def _hold(self, plan: Plan) -> None:
        self._runner.held = frozenset(vcpu for vcpu in self.vcpus if vcpu not in plan)

    def _change(self, change: Callable[[], None]) -> None:
        """Do something to the machine that is not to be reported as somebody else's doing."""
        self._own_change = True
        try:
            change()
        finally:
            self._own_change = False

    def _busiest(self) -> Vcpu:
        """The vCPU that a Ctrl-C is about: one that executes, if any."""
        executing = (vcpu for vcpu in self.vcpus if vcpu.started and not vcpu.state.halted)
        return next(executing, self.vcpus[0])


def _nothing() -> None:
    return


__all__ = ["Continue", "Host", "Loop", "Plan", "RunControl", "Step", "Stop"]
