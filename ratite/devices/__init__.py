"""The device model. The devices themselves are imported from their own modules."""

from ratite.devices.bus import Bus, SystemBus, find_bus, find_free_bus
from ratite.devices.device import Device
from ratite.devices.fdt import FdtNode, FdtValue
from ratite.devices.register import Register, State
from ratite.devices.wire import Input, Pin, Wire, WireOutput

__all__ = [
    "Bus",
    "SystemBus",
    "find_bus",
    "find_free_bus",
    "Device",
    "FdtNode",
    "FdtValue",
    "Register",
    "State",
    "Input",
    "Pin",
    "Wire",
    "WireOutput",
]
