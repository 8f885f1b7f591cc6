"""What no machine here has, for people: answers are those of QEMU on a machine without."""

from __future__ import annotations

from typing import Annotated, Any

from ratite.monitor.commands import absent, displays
from ratite.monitor.commands.displays import DisplayProtocol, ImageFormat, SetPasswordAction
from ratite.monitor.errors import QmpError
from ratite.monitor.hmp.command import File, Flag, Number, Shell, hmp
from ratite.qom import Named


@hmp("info tpm", "show the TPM device")
def tpm(shell: Shell) -> str:
    """The TPM devices: none."""
    return "".join(f"{entry}\n" for entry in absent.query_tpm())


@hmp("info vm-generation-id", "Show Virtual Machine Generation ID")
def vm_generation_id(shell: Shell) -> str:
    """The identifier that changes with each copy of the guest: no board has it."""
    return f"{absent.query_vm_generation_id().guid}\n"


@hmp("info spice", "show the spice server status")
def spice(shell: Shell) -> str:
    """The SPICE server: there is none."""
    return "Server: enabled\n" if displays.query_spice().enabled else "Server: disabled\n"


@hmp("info capture", "show capture information")
def capture(shell: Shell) -> str:
    """Sound that is being recorded: none."""
    return ""


@hmp("info rocker", "Show rocker switch")
def rocker(shell: Shell, name: str) -> str:
    """A switch device: no board has one."""
    return f"{absent.query_rocker(name).name}\n"


@hmp("info rocker-ports", "Show rocker ports")
def rocker_ports(shell: Shell, name: str) -> str:
    """The ports of a switch device: no board has one."""
    return "".join(f"{entry}\n" for entry in absent.query_rocker_ports(name))


@hmp("info rocker-of-dpa-flows", "Show rocker OF-DPA flow tables")
def rocker_flows(shell: Shell, name: str, tbl_id: Number | None = None) -> str:
    """The flow tables of a switch device: no board has one."""
    return "".join(f"{e}\n" for e in absent.query_rocker_of_dpa_flows(name, tbl_id))


@hmp("info rocker-of-dpa-groups", "Show rocker OF-DPA groups")
def rocker_groups(shell: Shell, name: str, type: Number | None = None) -> str:
    """The groups of a switch device: no board has one."""
    return "".join(f"{e}\n" for e in absent.query_rocker_of_dpa_groups(name, type))


def _word(cls: Any, word: str) -> Any:
    try:
        return cls(word)
    except ValueError:
        raise QmpError(f"invalid parameter value: {word}") from None


@hmp("set_password", "set spice/vnc password")
def set_password(
    shell: Shell,
    protocol: str,
    password: str,
    display: Annotated[str | None, Flag("d")] = None,
    action: Annotated[str | None, Named("action-if-connected")] = None,
) -> None:
    """Set a server's password: there is no server."""
    displays.set_password(
        _word(DisplayProtocol, protocol),
        password,
        None if action is None else _word(SetPasswordAction, action),
        display,
    )


@hmp("expire_password", "set spice/vnc password expire-time")
def expire_password(
    shell: Shell,
    protocol: str,
    time: str,
    display: Annotated[str | None, Flag("d")] = None,
) -> None:
    """Say when a server's password expires: there is no server."""
    displays.expire_password(_word(DisplayProtocol, protocol), time, display)


@hmp(
    "screendump",
    "save screen from head 'head' of display device 'device'in specified format 'format' as image "
    "'filename'.Currently only 'png' and 'ppm' formats are supported.",
)
def screendump(
    shell: Shell,
    filename: File,
    format: Annotated[str | None, Flag("f")] = None,
    device: str | None = None,
    head: Number | None = None,
) -> None:
    """Save what a display shows: there is none."""
    chosen = ImageFormat.PPM if format is None else _word(ImageFormat, format)
    displays.screendump(shell.vm, filename, device, head, chosen)


@hmp("mouse_move", "send mouse move events")
def mouse_move(shell: Shell, dx: str, dy: str, dz: str | None = None) -> None:
    """Move the mouse. No machine has one, so that nothing comes of it."""


@hmp("mouse_button", "change mouse button state (1=L, 2=M, 4=R)")
def mouse_button(shell: Shell, state: Number) -> None:
    """Press or release buttons of the mouse. No machine has one, so that nothing comes of it."""


@hmp("mouse_set", "set which mouse device receives events")
def mouse_set(shell: Shell, index: Number) -> str:
    """Choose a mouse: there is none."""
    return f"Mouse at index '{index}' not found\n"


@hmp("boot_set", "define new values for the boot device list")
def boot_set(shell: Shell, bootdevice: str) -> str:
    """Choose what is booted from: no board has such a list."""
    return "no function defined to set boot device list for this architecture\n"
