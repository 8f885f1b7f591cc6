"""Displays, their servers, and pointers: no machine has any, and commands about them answer as
QEMU's do then.

Source: QEMU's QMP reference: "Display", "VNC", "Spice" and "Input".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, ClassVar

from ratite.devices import Device
from ratite.machines.machine import RunState
from ratite.monitor.command import command
from ratite.monitor.commands.keyboard import KeyValue
from ratite.monitor.errors import DeviceNotActive, DeviceNotFound, QmpError, unexpected
from ratite.monitor.vm import Vm
from ratite.qom import Doc, Tagged

NO_SPICE = "SPICE is not in use"


class DisplayType(Enum):
    """Kinds of windows on the host."""

    NONE = "none"


@dataclass(frozen=True)
class DisplayOptions:
    """Answer to `query-display-options`."""

    type: DisplayType


@command("query-display-options")
def query_display_options() -> DisplayOptions:
    """The window that shows the guest's display: there is none."""
    return DisplayOptions(DisplayType.NONE)


@command("query-mice")
def query_mice() -> list[Any]:
    """The guest's mice: none."""
    return []


@command("query-vnc-servers")
def query_vnc_servers() -> list[Any]:
    """The VNC servers: none."""
    return []


class SpiceQueryMouseMode(Enum):
    """Who draws the pointer."""

    CLIENT = "client"
    SERVER = "server"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class SpiceInfo:
    """Answer to `query-spice`."""

    enabled: bool
    migrated: bool
    mouse_mode: SpiceQueryMouseMode


@command("query-spice")
def query_spice() -> SpiceInfo:
    """The SPICE server: there is none."""
    return SpiceInfo(False, False, SpiceQueryMouseMode.CLIENT)


class DisplayProtocol(Enum):
    """Servers of displays."""

    VNC = "vnc"
    SPICE = "spice"


class SetPasswordAction(Enum):
    """What becomes of clients that are connected."""

    KEEP = "keep"
    FAIL = "fail"
    DISCONNECT = "disconnect"


def _check_protocol(protocol: DisplayProtocol, display: str | None) -> None:
    if protocol is DisplayProtocol.SPICE:
        raise unexpected("display") if display is not None else DeviceNotActive(NO_SPICE)


@command("set_password")
def set_password(
    protocol: DisplayProtocol,
    password: str,
    connected: SetPasswordAction | None = None,
    display: str | None = None,
) -> None:
    """Set a server's password. There is no server, so that this fails."""
    _check_protocol(protocol, display)
    if connected not in (None, SetPasswordAction.KEEP):
        raise QmpError("Invalid parameter 'connected'")
    raise QmpError("Could not set password")


@command("expire_password")
def expire_password(protocol: DisplayProtocol, time: str, display: str | None = None) -> None:
    """Say when a server's password expires. There is no server, so that this fails."""
    _check_protocol(protocol, display)
    raise QmpError("Could not set password expire time")


@command("change-vnc-password")
def change_vnc_password(password: str) -> None:
    """Set the VNC server's password. There is no server, so that this fails."""
    raise QmpError("Could not set password")


def _no_console(vm: Vm, device: str, head: int) -> QmpError:
    """What is wrong with a device that is to have a display."""
    for node in vm.root.walk():
        if isinstance(node, Device) and device in (node.id, node.path):
            return QmpError(f"Device {device} (head {head}) is not bound to a QemuConsole")
    return DeviceNotFound(f"Device '{device}' not found")


class ImageFormat(Enum):
    """Formats of pictures."""

    PPM = "ppm"
    PNG = "png"


@command("screendump")
def screendump(
    vm: Vm,
    filename: str,
    device: str | None = None,
    head: int | None = None,
    format: ImageFormat = ImageFormat.PPM,
) -> None:
    """Save what a display shows. No machine has a display, so that this fails."""
    if device is not None:
        raise _no_console(vm, device, head or 0)
    if head is not None:
        raise QmpError("'head' must be specified together with 'device'")
    raise QmpError("There is no console to take a screendump from")


class InputButton(Enum):
    """Buttons of a mouse."""

    LEFT = "left"
    MIDDLE = "middle"
    RIGHT = "right"
    WHEEL_UP = "wheel-up"
    WHEEL_DOWN = "wheel-down"
    SIDE = "side"
    EXTRA = "extra"
    WHEEL_LEFT = "wheel-left"
    WHEEL_RIGHT = "wheel-right"


class InputAxis(Enum):
    """Directions of a pointer."""

    X = "x"
    Y = "y"


@dataclass(frozen=True)
class InputKeyEvent:
    """A key was pressed or let go."""

    case: ClassVar[str] = "key"
    key: KeyValue
    down: bool


@dataclass(frozen=True)
class InputBtnEvent:
    """A button was pressed or let go."""

    case: ClassVar[str] = "btn"
    button: InputButton
    down: bool


@dataclass(frozen=True)
class InputRelEvent:
    """A pointer was moved."""

    case: ClassVar[str] = "rel"
    axis: InputAxis
    value: int


@dataclass(frozen=True)
class InputAbsEvent:
    """A pointer was put somewhere."""

    case: ClassVar[str] = "abs"
    axis: InputAxis
    value: Annotated[int, Doc("0 to 0x7fff")]


InputEvent = Annotated[
    InputKeyEvent | InputBtnEvent | InputRelEvent | InputAbsEvent,
    Tagged("type", "InputEvent", "data"),
]


@command("input-send-event")
def input_send_event(
    vm: Vm, events: list[InputEvent], device: str | None = None, head: int | None = None
) -> None:
    """Have the guest's keyboards and pointers report something. There are none, so that this fails
    for any event."""
    if device is not None:
        raise _no_console(vm, device, head or 0)
    if vm.machine.run_state is not RunState.RUNNING:
        raise QmpError("VM not running")
    if events:
        raise QmpError(f"Input handler not found for event type {events[0].case}")
