"""Running, stopping, resetting and ending the machine.

Source: QEMU's QMP reference, "VM run state".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ratite.machines.config import PanicAction, RebootAction, ShutdownAction, WatchdogAction
from ratite.machines.lifecycle import Cause
from ratite.machines.machine import RunState
from ratite.monitor.command import command
from ratite.monitor.dump import BUSY
from ratite.monitor.errors import QmpError
from ratite.monitor.vm import Vm
from ratite.qom import Doc

UNSUPPORTED = "this feature or command is not currently supported"


@dataclass(frozen=True)
class StatusInfo:
    """Answer to `query-status`."""

    running: Annotated[bool, Doc("whether the guest runs")]
    singlestep: Annotated[bool, Doc("whether code is translated by single instructions")]
    status: RunState


@command("query-status", preconfig=True)
def query_status(vm: Vm) -> StatusInfo:
    """What the machine is doing."""
    running = vm.initialized and vm.runner.running
    single = vm.initialized and vm.machine.engine.one_instruction
    return StatusInfo(running, single, vm.machine.run_state)


@command("stop")
def stop(vm: Vm) -> None:
    """Pause the guest. Does nothing if it is paused."""
    vm.stop()


@command("cont")
def cont(vm: Vm) -> None:
    """Let the guest run. Does nothing if it runs."""
    if vm.machine.run_state in (RunState.SHUTDOWN, RunState.INTERNAL_ERROR):
        raise QmpError("Resetting the Virtual Machine is required")
    vm.start()


@command("x-exit-preconfig", features=("unstable",), preconfig=True)
def exit_preconfig(vm: Vm) -> None:
    """Build the machine, which -preconfig has put off, and let the guest run unless -S is given.
    The program ends if the machine cannot be built.
    """
    if vm.initialized:
        raise QmpError("The command is permitted only before machine initialization")
    vm.exit_preconfig()


@command("quit", preconfig=True)
def quit(vm: Vm) -> None:
    """End the program. The guest is not asked."""
    vm.quit(Cause.HOST_QMP_QUIT)


@command("system_reset")
def system_reset(vm: Vm) -> None:
    """Press the reset button."""
    if vm.hub.dump.active:
        raise QmpError(BUSY)
    vm.request_reset(Cause.HOST_QMP_RESET)


@command("system_powerdown")
def system_powerdown(vm: Vm) -> None:
    """Press the power button. What the guest does about it is its own affair."""
    vm.power_down()


@command("system_wakeup")
def system_wakeup(vm: Vm) -> None:
    """Wake the guest from suspend. No machine can be suspended yet, so that this fails."""
    raise QmpError("wake-up from suspend is not supported by this guest")


@command("inject-nmi")
def inject_nmi(vm: Vm) -> None:
    """Inject a non-maskable interrupt. RISC-V machines have none, so that this fails."""
    raise QmpError(UNSUPPORTED)


@command("set-action", preconfig=True)
def set_action(
    vm: Vm,
    reboot: Annotated[RebootAction | None, Doc("what the guest's reboot does")] = None,
    shutdown: Annotated[ShutdownAction | None, Doc("what its power-off does")] = None,
    panic: Annotated[PanicAction | None, Doc("what its panic does")] = None,
    watchdog: Annotated[WatchdogAction | None, Doc("what its watchdog does")] = None,
) -> None:
    """Change what is done about what the guest does."""
    actions = vm.actions
    actions.reboot = reboot or actions.reboot
    actions.shutdown = shutdown or actions.shutdown
    actions.panic = panic or actions.panic
    actions.watchdog = watchdog or actions.watchdog


@command("watchdog-set-action")
def watchdog_set_action(vm: Vm, action: WatchdogAction) -> None:
    """Change what is done when a watchdog expires."""
    vm.actions.watchdog = action


@dataclass(frozen=True)
class CurrentMachineParams:
    """Answer to `query-current-machine`."""

    wakeup_suspend_support: Annotated[bool, Doc("whether the guest can be suspended and woken")]


@command("query-current-machine")
def query_current_machine(vm: Vm) -> CurrentMachineParams:
    """What the running machine can do."""
    return CurrentMachineParams(False)
