"""The accelerator for tests of devices: guest code never runs. What QEMU calls `qtest`."""

from __future__ import annotations

from collections.abc import Sequence

from ratite.cpu.debug import Watchpoint
from ratite.cpu.exits import Exit
from ratite.cpu.physmap import PhysMapPublisher
from ratite.isa.state import CpuState
from ratite.memory import AddressSpace, RamList
from ratite.native import i64, u64


class IdleCpu:
    """A vCPU that never executes anything."""

    def __init__(self, state: CpuState) -> None:
        self.state = state

    def run(self) -> int:
        """Nothing happens; not even a step."""
        return Exit.DEBUG if self.state.stepping else Exit.INTERRUPTED

    def kick(self, *, leave: bool) -> None:
        """There is nothing to leave."""

    def flush(self) -> None:
        """Nothing is cached."""

    def set_budget(self, instructions: int) -> None:
        """Keep the count; it stays as it is."""
        state = self.state
        state.instret_base = u64(int(state.instret_base) + instructions - int(state.budget))
        state.budget = i64(instructions)


class IdleEngine:
    """The vCPUs of one machine."""

    one_instruction = False  # there are no blocks

    def __init__(self, ram: RamList, space: AddressSpace) -> None:
        self._states: list[CpuState] = []
        self._phys_map = PhysMapPublisher(space, self._publish)

    def _publish(self, address: int) -> None:
        for state in self._states:
            state.phys_map = u64(address)

    def attach(self, state: CpuState) -> IdleCpu:
        """Give a vCPU an executor."""
        state.phys_map = u64(self._phys_map.address)
        self._states.append(state)
        return IdleCpu(state)

    def set_debug_points(
        self, breakpoints: Sequence[int], watchpoints: Sequence[Watchpoint]
    ) -> None:
        """They are never reached."""

    def report(self) -> str:
        """What `info jit` shows: nothing."""
        return ""

    def flush_code(self) -> None:
        """Nothing is translated."""

    def close(self) -> None:
        """There is nothing to end."""
