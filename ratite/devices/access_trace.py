"""Tracing of the guest's accesses to devices: of any device, and a device's own events."""

from __future__ import annotations

from ratite.core.trace import TraceEvent, Tracer
from ratite.memory import MemoryRegion
from ratite.memory.region import Observer


@TraceEvent
def memory_region_ops_read(addr: int, value: int, size: int, name: str) -> str:
    """The guest has read from a device."""
    return f"addr 0x{addr:x} value 0x{value:x} size {size} name '{name}'"


@TraceEvent
def memory_region_ops_write(addr: int, value: int, size: int, name: str) -> str:
    """The guest writes to a device."""
    return f"addr 0x{addr:x} value 0x{value:x} size {size} name '{name}'"


def trace_accesses(
    region: MemoryRegion,
    trace: Tracer | None,
    read_event: TraceEvent[...] | None,
    write_event: TraceEvent[...] | None,
) -> None:
    """Observe a device's region as far as events are on: those of every device's accesses, and the
    device's own.
    """
    region.observe(
        _observer(region, trace, memory_region_ops_read, read_event),
        _observer(region, trace, memory_region_ops_write, write_event),
    )


def _observer(
    region: MemoryRegion,
    trace: Tracer | None,
    general: TraceEvent[int, int, int, str],
    own: TraceEvent[...] | None,
) -> Observer | None:
    if trace is None or not any(
        event is not None and event.name in trace.on for event in (general, own)
    ):
        return None

    def observe(offset: int, value: int, size: int) -> None:
        trace(general, region.absolute_address + offset, value, size, region.region_name)
        if own is not None:
            trace(own, offset, value)

    return observe
