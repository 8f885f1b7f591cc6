"""The empty board: what management tools start to ask the program what it can do."""

from __future__ import annotations

from ratite.machines.config import MachineConfig
from ratite.machines.machine import Machine


class NoMachine(Machine):
    """Nothing."""

    type_name = "none-machine"
    name, isa = "none", "riscv64"
    description = "empty machine"
    ram_id = "ram"

    def build(self, config: MachineConfig) -> None:
        """Nothing to build."""

    def start_cpus(self) -> None:
        """There are none."""
