"""Letting a debugger in, tracing, and how code is translated."""

from __future__ import annotations

from typing import Annotated

from ratite.core.errors import ConfigError, HostError
from ratite.core.trace import event_names
from ratite.monitor.commands import trace
from ratite.monitor.commands.machines import StatsTarget, query_stats
from ratite.monitor.errors import QmpError
from ratite.monitor.hmp.command import Completed, Number, Refusal, Shell, hmp
from ratite.monitor.vm import halted

DEFAULT = "tcp::1234"


@hmp("gdbserver", "start gdbserver on given device (default 'tcp::1234'), stop with 'none'")
def gdbserver(
    shell: Shell, device: Annotated[str, Completed(lambda shell: (DEFAULT, "none"))] = DEFAULT
) -> str:
    """Serve gdb there from now on."""
    try:
        address = shell.vm.serve_gdb(device)
    except (ConfigError, HostError) as error:
        return f"Could not open gdbserver on device '{device}': {error}\n"
    return (
        f"Waiting for gdb connection on device '{device}'\n" if address else "Disabled gdbserver\n"
    )


EventName = Annotated[str, Completed(lambda shell: event_names())]


@hmp(
    "trace-event",
    "changes status of a specific trace event (vcpu: vCPU to set, default is all)",
)
def trace_event(shell: Shell, name: EventName, option: bool, vcpu: Number | None = None) -> None:
    """Switch trace events on or off."""
    try:
        trace.trace_event_set_state(shell.vm, name, option, ignore_unavailable=True, vcpu=vcpu)
    except QmpError as error:
        raise Refusal(str(error)) from None


@hmp(
    "info trace-events",
    "show available trace-events & their state (name: event name pattern; "
    "vcpu: vCPU to query, default is any)",
)
def trace_events(shell: Shell, name: EventName = "*", vcpu: Number | None = None) -> str:
    """Trace events, and whether they are on."""
    try:
        found = trace.trace_event_get_state(shell.vm, name, vcpu)
    except QmpError as error:
        raise Refusal(str(error)) from None
    on = trace.TraceEventState.ENABLED
    return "".join(f"{event.name} : state {int(event.state is on)}\n" for event in found)


@hmp("singlestep", "run emulation in singlestep mode or switch to normal mode")
def singlestep(shell: Shell, option: str = "on") -> str:
    """Translate code by single instructions from now on (`on`), or as usual (`off`)."""
    if option not in ("on", "off"):
        return f"unexpected option {option}\n"
    with halted(shell.vm):
        shell.vm.machine.engine.one_instruction = option == "on"
    return ""


@hmp(
    "info stats",
    "show statistics for the given target (vm or vcpu); optionally filter byname (comma-separated "
    "list, or * for all) and provider",
)
def stats(shell: Shell, target: str, names: str = "*", provider: str = "") -> str:
    """Statistics of the accelerator: it has none."""
    if target not in (entry.value for entry in StatsTarget):
        raise Refusal(f"invalid stats target {target}")
    if provider not in ("", "kvm"):
        raise Refusal(f"invalid stats provider {provider}")
    return "".join(f"{entry}\n" for entry in query_stats(StatsTarget(target)))
