"""I/O ports, for people who know them from other machines. RISC-V has none: nothing answers."""

from __future__ import annotations

from ratite.monitor.hmp.command import Number, Shell, Slash, hmp
from ratite.monitor.hmp.commands_memory import settle

_PORTS = {2: ("w", 0xFFFF), 4: ("l", 0xFFFF_FFFF)}
_BYTE_PORT = ("b", 0xFF)


@hmp("i", "I/O port read")
def read_port(shell: Shell, fmt: Slash, addr: Number) -> str:
    """Read a port. There are none: all bits are 1."""
    size = settle(shell, fmt).size
    letter, value = _PORTS.get(size, _BYTE_PORT)
    return f"port{letter}[0x{addr & 0xFFFF:04x}] = 0x{value:0{2 * size}x}\n"


@hmp("o", "I/O port write")
def write_port(shell: Shell, fmt: Slash, addr: Number, value: Number) -> None:
    """Write a port. There are none: the value is lost."""
    settle(shell, fmt)
