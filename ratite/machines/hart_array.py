"""The harts of a RISC-V board as one object of the tree, as QEMU has it."""

from __future__ import annotations

from typing import Annotated

from ratite.devices import Device
from ratite.qom import Doc, UInt32, UInt64


class HartArray(Device):
    """Parent of the harts."""

    type_name = "riscv.hart_array"

    def __init__(
        self,
        *,
        num_harts: Annotated[UInt32, Doc("how many")] = 1,
        hartid_base: Annotated[UInt32, Doc("number of the first")] = 0,
        cpu_type: Annotated[str, Doc("the type of each")] = "",
        resetvec: Annotated[UInt64, Doc("where each starts")] = 0x1000,
    ) -> None:
        self.num_harts = num_harts
        self.hartid_base = hartid_base
        self.cpu_type = cpu_type
        self.resetvec = resetvec
        super().__init__()
