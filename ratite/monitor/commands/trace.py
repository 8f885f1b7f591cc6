"""Trace events.

Source: QEMU's QMP reference, "Tracing". No event here is one of a single vCPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from ratite.core.trace import is_pattern, matching
from ratite.monitor.command import command
from ratite.monitor.errors import QmpError
from ratite.monitor.vm import Vm, halted
from ratite.qom import Doc

Name = Annotated[str, Doc("an event's name, or a pattern with `*` for any text")]
VcpuIndex = Annotated[int | None, Doc("only events of this vCPU, of which there are none")]


class TraceEventState(Enum):
    """Whether an event is traced."""

    UNAVAILABLE = "unavailable"
    DISABLED = "disabled"
    ENABLED = "enabled"


@dataclass(frozen=True)
class TraceEventInfo:
    """One trace event."""

    name: str
    state: TraceEventState
    vcpu: Annotated[bool, Doc("whether it can be switched for single vCPUs")]


@command("trace-event-get-state")
def trace_event_get_state(vm: Vm, name: Name, vcpu: VcpuIndex = None) -> list[TraceEventInfo]:
    """Which trace events there are, and whether they are on."""
    return [
        TraceEventInfo(
            event,
            TraceEventState.ENABLED if vm.log.traces(event) else TraceEventState.DISABLED,
            False,
        )
        for event in _chosen(vm, name, vcpu)
    ]


@command("trace-event-set-state")
def trace_event_set_state(
    vm: Vm,
    name: Name,
    enable: Annotated[bool, Doc("whether to trace them")],
    ignore_unavailable: Annotated[
        bool, Doc("leave out those that this build cannot trace, of which there are none")
    ] = False,
    vcpu: VcpuIndex = None,
) -> None:
    """Switch trace events on or off."""
    if _chosen(vm, name, vcpu):
        with halted(vm):
            vm.log.switch_events(name, enable)


def _chosen(vm: Vm, name: str, vcpu: int | None) -> list[str]:
    if vcpu is not None and not 0 <= vcpu < len(vm.machine.vcpus):
        raise QmpError(f"invalid vCPU index {vcpu}")
    found = matching(name)
    if is_pattern(name):
        return found if vcpu is None else []
    if not found:
        raise QmpError(f'unknown event "{name}"')
    if vcpu is not None:
        raise QmpError(f'event "{name}" is not vCPU-specific')
    return found
