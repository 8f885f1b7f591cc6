"""Executing one instruction at a time, for a debugger."""

from __future__ import annotations

from ratite.cpu.exits import Exit
from ratite.cpu.vcpu import Vcpu
from ratite.isa.state import LIMIT_STEP
from ratite.native import u32


def single_step(vcpu: Vcpu) -> int:
    """Execute one instruction, or enter the handler of the exception that it causes. Interrupts
    wait, breakpoints do not count, and a touched watchpoint is only noted in `watch_hit`. Returns
    how many instructions retired: 0 or 1.

    Called on any thread while no other runs the vCPU; device accesses take the machine lock.
    """
    state = vcpu.state
    before = int(state.retired())
    state.halted = u32(0)
    _set_limit(vcpu, stepping=True)
    try:
        vcpu.executor.set_budget(1)
        while int(state.budget) > 0 and vcpu.step() != Exit.DEBUG:
            continue
    finally:
        _set_limit(vcpu, stepping=False)
    return int(state.retired()) - before


def _set_limit(vcpu: Vcpu, *, stepping: bool) -> None:
    state = vcpu.state
    state.stepping = u32(stepping)
    state.block_limit = u32(LIMIT_STEP | 1 if stepping else 0)
    state.set_mode()
