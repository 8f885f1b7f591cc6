"""Addresses, each kind its own type, and how an access can end."""

from __future__ import annotations

import enum
from typing import NewType

Gpa = NewType("Gpa", int)
"""A guest-physical address."""

Hva = NewType("Hva", int)
"""An address in the host process."""

RamAddr = NewType("RamAddr", int)
"""A position in one machine's RAM space, where all its RAM blocks lie one after the other."""

PAGE_BITS = 12
PAGE_SIZE = 1 << PAGE_BITS


class MemTxResult(enum.IntEnum):
    """How a memory transaction ended; the worst of its parts counts."""

    OK = 0
    ERROR = 1
    """A device answered with an error."""
    DECODE_ERROR = 2
    """Nothing answers at that address, or not to accesses like this one."""


class BusError(Exception):
    """Raised by an I/O region's `read` or `write` to answer `MemTxResult.ERROR`."""
