"""Letting a debugger in."""

from __future__ import annotations

from typing import Annotated

from ratite.core.errors import ConfigError, HostError
from ratite.monitor.hmp.command import Completed, Shell, hmp

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
