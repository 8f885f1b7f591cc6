"""What everything rests on and what knows nothing of machines: errors, the machine lock, clocks,
log, sizes.

The event loop is imported from `ratite.core.events`; that module says why.
"""

from ratite.core.clock import Clock, FakeClock, HostClock, Timer, VirtualClock
from ratite.core.errors import ConfigError, HostError, InternalError, RatiteError, blaming
from ratite.core.lock import MachineLock
from ratite.core.log import QUIET, Log, LogCategory
from ratite.core.size import GiB, KiB, MiB, TiB, format_size, parse_size
from ratite.core.trace import TraceEvent, Tracer

__all__ = [
    "Clock",
    "FakeClock",
    "HostClock",
    "Timer",
    "VirtualClock",
    "ConfigError",
    "HostError",
    "InternalError",
    "RatiteError",
    "blaming",
    "MachineLock",
    "QUIET",
    "Log",
    "LogCategory",
    "GiB",
    "KiB",
    "MiB",
    "TiB",
    "format_size",
    "parse_size",
    "TraceEvent",
    "Tracer",
]
