"""What happens to a machine as a whole, in QEMU's words, and what is done about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ratite.core.trace import TraceEvent
from ratite.machines.config import PanicAction, RebootAction, ShutdownAction, WatchdogAction


class Cause(Enum):
    """Why a machine is reset or ends."""

    NONE = "none"
    HOST_ERROR = "host-error"
    HOST_QMP_QUIT = "host-qmp-quit"
    HOST_QMP_RESET = "host-qmp-system-reset"
    HOST_SIGNAL = "host-signal"
    HOST_UI = "host-ui"
    GUEST_SHUTDOWN = "guest-shutdown"
    GUEST_RESET = "guest-reset"
    GUEST_PANIC = "guest-panic"
    SUBSYSTEM_RESET = "subsystem-reset"
    SNAPSHOT_LOAD = "snapshot-load"

    @property
    def guest(self) -> bool:
        """Whether the guest brought it about."""
        return not (self is Cause.NONE or self.value.startswith("host-"))


class Change(Enum):
    """What happened. The values are the names of QMP's events."""

    STOP = "STOP"
    RESUME = "RESUME"
    RESET = "RESET"
    SHUTDOWN = "SHUTDOWN"
    POWERDOWN = "POWERDOWN"


@TraceEvent
def vm_state_notify(running: bool, reason: str) -> str:
    """The guest runs from now on, or no longer."""
    return f"running {running:d} reason {reason}"


@TraceEvent
def qemu_system_powerdown_request() -> str:
    """The power button is pressed."""
    return ""


@TraceEvent
def qemu_system_shutdown_request(reason: Cause) -> str:
    """Somebody wants the machine to end."""
    return f"reason={reason.value}"


@dataclass
class Actions:
    """What is done about what the guest does; monitors may change it at any time."""

    reboot: RebootAction = RebootAction.RESET
    shutdown: ShutdownAction = ShutdownAction.POWEROFF
    panic: PanicAction = PanicAction.SHUTDOWN
    watchdog: WatchdogAction = WatchdogAction.RESET
