"""Executing one instruction at a time, for a debugger."""

from __future__ import annotations

from ratite.cpu.exits import Exit
from ratite.cpu.vcpu import Vcpu
from ratite.isa.state import LIMIT_STEP, STEP, STEP_OVER
from ratite.native import u32


def single_step(vcpu: Vcpu, *, over: bool = False) -> int:
    """Execute one instruction, or enter the handler of the exception that it causes. Interrupts
    wait and breakpoints do not count. Before an access to a watchpoint nothing is done and
    `watch_hit` says so, unless it is to be stepped over. Returns how many instructions retired: 0
    or 1.

    Called on any thread while no other runs the vCPU; device accesses take the machine lock.
    """
    state = vcpu.state
    before = int(state.retired())
    state.halted = u32(0)
    _set_limit(vcpu, STEP_OVER if over else STEP)
    try:
        vcpu.executor.set_budget(1)
        while int(state.budget) > 0 and vcpu.step() != Exit.DEBUG:
            continue
    finally:
        _set_limit(vcpu, 0)
    return int(state.retired()) - before


def _set_limit(vcpu: Vcpu, stepping: int) -> None:
    state = vcpu.state
    state.stepping = u32(stepping)
    state.block_limit = u32(LIMIT_STEP | 1 if stepping else 0)
    state.set_mode()
