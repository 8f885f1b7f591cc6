"""What `-msg` says about a program's messages."""

from __future__ import annotations

from ratite.cli.process import Messages
from ratite.machines.config import MachineConfig


def messages_of(config: MachineConfig, program: str) -> Messages:
    """How the program speaks to the user of this machine."""
    wanted = config.messages
    guest = config.name if wanted.guest_name else None
    return Messages(program, timestamp=wanted.timestamp, guest=guest)
