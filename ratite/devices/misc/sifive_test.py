"""SiFive test finisher.

Source: the `sifive,test0` and `sifive,test1` device-tree bindings.
"""

from __future__ import annotations

from enum import IntEnum

from ratite.core.trace import TraceEvent
from ratite.devices.device import Device
from ratite.devices.fdt import FdtNode
from ratite.devices.power import PowerAction, PowerRequest
from ratite.devices.register import Register
from ratite.memory import AccessSizes


class Command(IntEnum):
    """What the low half of FINISHER can say."""

    FAIL = 0x3333
    PASS = 0x5555
    RESET = 0x7777


@TraceEvent
def sifive_test_write(addr: int, value: int) -> str:
    """The guest ends the run, or fails to."""
    return f"addr 0x{addr:02x} value 0x{value:08x}"


class SifiveTest(Device):
    """Ends the run when the guest writes a command to its only register."""

    type_name = "riscv.sifive.test"
    mmio_size = 0x1000
    mmio_valid = AccessSizes(2, 4)
    mmio_impl = AccessSizes(4, 4)
    write_event = sifive_test_write

    FINISHER = Register(0, "wo")  # command in the low half, exit code in the high half

    def __init__(self, request: PowerRequest) -> None:
        self.request = request
        super().__init__()

    @FINISHER.on_write
    def _finish(self, value: int) -> None:
        match value & 0xFFFF:
            case Command.PASS:
                self.request(PowerAction.SHUTDOWN, 0)
            case Command.FAIL:
                self.request(PowerAction.SHUTDOWN, value >> 16)
            case Command.RESET:
                self.request(PowerAction.RESET, 0)
            case command:
                self.guest_error(f"no command {command:#x}")

    def fdt(self, node: FdtNode) -> None:
        """Describe the device."""
        node.set("compatible", ["sifive,test1", "sifive,test0", "syscon"])
