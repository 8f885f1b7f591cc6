"""Why a vCPU's `run` returned: the contract that every accelerator keeps."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit reasons. Numbers from 16 on belong to the instruction set."""

    NONE = 0
    MMIO = 1
    """A guest access that memory does not answer; its result goes to the log, and the instruction
    is run again.
    """
    INTERRUPTED = 2
    """`kick` asked for it."""
    BUDGET = 3
    """The instruction budget is used up."""
    CODE_FULL = 4
    """No room for another translation block: flush and go on."""
    DEBUG = 5
    """A breakpoint, a watched access (neither instruction has been executed), or an exception's
    handler entered while stepping.
    """
    LOG = 6
    """The log is to be written before the guest goes on: a block is about to be entered, or the
    journal is filling. Nobody sees it but the log.
    """
    SBI = 16
    """RISC-V: an environment call for the built-in SBI."""
    HALT = 17
    """Waiting for an interrupt."""


PENDING_EXCEPTION, PENDING_EXIT = 1, 2
"""Values of `CpuState.exception_pending` while an instruction ends early: a guest exception, or a
return from run() that does not retire the instruction."""
