"""What a character backend tells its frontend besides the bytes.

It lives here because both sides name it: `ratite.chardev` sends these events, `ratite.devices`
and the monitors receive them, and neither may import the other.
"""

from __future__ import annotations

from enum import Enum


class CharEvent(Enum):
    """An event on a character stream."""

    OPENED = "opened"  # the other end is there: a client connected, a terminal attached
    CLOSED = "closed"  # the other end went away; writes are dropped until OPENED
    BREAK = "break"  # a serial break came in
    MUX_IN = "mux-in"  # this frontend of a mux has the input now
    MUX_OUT = "mux-out"  # another frontend of the mux has the input now
    WRITABLE = "writable"  # after a short write: there is room again
