"""QEMU firmware configuration device, memory-mapped.

Source: the public interface description "QEMU Firmware Configuration (fw_cfg) Device".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, Any

from ratite.core.errors import ConfigError
from ratite.core.size import MiB
from ratite.core.trace import TraceEvent
from ratite.devices.device import Device
from ratite.devices.fdt import FdtNode
from ratite.devices.register import State
from ratite.memory import AccessSizes, AddressSpace, Gpa, MemoryRegion, MemTxResult
from ratite.qom import Named, UInt16, UInt32


@TraceEvent
def fw_cfg_add_bytes(key: int, name: str, size: int) -> str:
    """The machine sets an item with a fixed selector."""
    return f"key 0x{key:04x} '{name}', {size} bytes"


@TraceEvent
def fw_cfg_add_file(index: int, name: str, size: int) -> str:
    """The machine adds a file; `index` counts the files in order of their names."""
    return f"#{index}: {name} ({size} bytes)"


@TraceEvent
def fw_cfg_select(key: int, name: str, found: bool) -> str:
    """The guest selects an item."""
    return f"key 0x{key:04x} '{name}', ret: {found:d}"


@TraceEvent
def fw_cfg_read(data: bytes) -> str:
    """The guest has read from the selected item."""
    return f"= 0x{data.hex()}"


class Key(IntEnum):
    """Items with a fixed selector."""

    SIGNATURE = 0x00
    ID = 0x01
    UUID = 0x02
    RAM_SIZE = 0x03
    NOGRAPHIC = 0x04
    NB_CPUS = 0x05
    MACHINE_ID = 0x06
    KERNEL_ADDR = 0x07
    KERNEL_SIZE = 0x08
    KERNEL_CMDLINE = 0x09
    INITRD_ADDR = 0x0A
    INITRD_SIZE = 0x0B
    BOOT_DEVICE = 0x0C
    NUMA = 0x0D
    BOOT_MENU = 0x0E
    MAX_CPUS = 0x0F
    KERNEL_ENTRY = 0x10
    KERNEL_DATA = 0x11
    INITRD_DATA = 0x12
    CMDLINE_ADDR = 0x13
    CMDLINE_SIZE = 0x14
    CMDLINE_DATA = 0x15
    SETUP_ADDR = 0x16
    SETUP_SIZE = 0x17
    SETUP_DATA = 0x18
    FILE_DIR = 0x19


class DmaControl(IntFlag):
    """Low half of the control word of a DMA descriptor; the high half is a selector."""

    ERROR = 0x01
    READ = 0x02
    SKIP = 0x04
    SELECT = 0x08
    WRITE = 0x10


FIRST_FILE = 0x20
_SIGNATURE = b"QEMU"
_DMA_SIGNATURE = int.from_bytes(b"QEMU CFG", "big")
_ID_TRADITIONAL, _ID_DMA = 0x01, 0x02
_NAME_SIZE = 56
_CHUNK = MiB  # of a DMA transfer that moves zeros
_SELECTOR_MASK = (
    0xBFFF  # bit 14 asks for write access, which there is not through the data register
)


@dataclass(slots=True)
class _Item:
    """One item. `writable` items take DMA writes and tell `on_write`, if they have one."""

    data: bytes | bytearray
    writable: bool = False
    on_write: Callable[[bytes], None] | None = None


class _Selector:
    """The selector register: 16 bits, big-endian, write-only."""

    def __init__(self, device: FwCfgMem) -> None:
        self.device = device

    def read(self, offset: int, size: int) -> int:
        self.device.guest_error("read of the selector")
        return 0

    def write(self, offset: int, value: int, size: int) -> None:
        self.device.select(value)


class _Data:
    """The data register: the bytes of the selected item one after another, in memory order."""

    def __init__(self, device: FwCfgMem) -> None:
        self.device = device

    def read(self, offset: int, size: int) -> int:
        return self.device.read(offset, size)

    def write(self, offset: int, value: int, size: int) -> None:
        self.device.guest_error("write to the data register")


class _Dma:
    """The DMA address register: 64 bits, big-endian; writing its low half starts the transfer."""

    def __init__(self, device: FwCfgMem) -> None:
        self.device = device

    def read(self, offset: int, size: int) -> int:
        return _DMA_SIGNATURE >> max(0, 8 * (8 - size - offset)) & ((1 << 8 * size) - 1)

    def write(self, offset: int, value: int, size: int) -> None:
        device = self.device
        if size == 8:
            device.start_dma(value)
        elif size == 4 and offset == 4:
            device.start_dma(device.dma_address & ~0xFFFF_FFFF | value)
        elif size == 4 and offset == 0:
            device.dma_address = value << 32
        else:
            device.guest_error(f"write of {size} bytes to the DMA address at {offset}")


class FwCfgMem(Device):
    """Hands items and named files to the guest's firmware: region 0 selects, 1 is the data, 2
    starts DMA.
    """

    type_name = "fw_cfg_mem"

    selected = State(int(Key.SIGNATURE))
    position = State(0)  # in the selected item
    dma_address = State(0)  # its high half, until the low one comes
    # Names and contents of the files that the guest may write; by `save`.
    written = State[list[tuple[str, bytes]]](factory=lambda _: [], element=("", b""))

    def __init__(
        self,
        memory: AddressSpace,
        *,
        data_width: Annotated[UInt32, Named("data_width")] = 8,
        dma_enabled: Annotated[bool, Named("dma_enabled")] = True,
        x_file_slots: UInt16 = 0x20,
        acpi_mr_restore: bool = True,
    ) -> None:
        self.memory = memory
        self.data_width = data_width
        self.dma_enabled = dma_enabled
        self.x_file_slots = x_file_slots
        self.acpi_mr_restore = acpi_mr_restore
        self._items: dict[int, _Item] = {}
        self._files: dict[str, _Item] = {}
        super().__init__()
        wide = AccessSizes(1, data_width)
        two, dma = AccessSizes(2, 2), AccessSizes(1, 8)
        self.add_region(
            MemoryRegion.io("fwcfg.ctl", 2, _Selector(self), endianness="big", valid=two, impl=two)
        )
        self.add_region(
            MemoryRegion.io(
                "fwcfg.data", data_width, _Data(self), endianness="big", valid=wide, impl=wide
            )
        )
        if dma_enabled:
            self.add_region(
                MemoryRegion.io("fwcfg.dma", 8, _Dma(self), endianness="big", valid=dma, impl=dma)
            )
        self.add_bytes(Key.SIGNATURE, _SIGNATURE)
        features = _ID_TRADITIONAL | (_ID_DMA if dma_enabled else 0)
        self.add_bytes(Key.ID, struct.pack("<I", features))

    # -- what the machine puts in

    def add_bytes(self, key: int, data: bytes) -> None:
        """Set the item of a fixed selector."""
        assert 0 <= key < FIRST_FILE or key & 0x8000
        self._items[key] = _Item(data)
        if trace := self.log.trace:
            trace(fw_cfg_add_bytes, key, self._item_name(key), len(data))

    def add_int(self, key: int, value: int, size: int) -> None:
        """Set the item of a fixed selector to a little-endian number of `size` bytes."""
        self.add_bytes(key, value.to_bytes(size, "little"))

    def add_string(self, key: int, text: str) -> None:
        """Set the item of a fixed selector to a text and its terminating zero."""
        self.add_bytes(key, text.encode() + b"\0")

    def add_file(
        self,
        name: str,
        data: bytes,
        *,
        writable: bool = False,
        on_write: Callable[[bytes], None] | None = None,
    ) -> None:
        """Add a named file, or replace its content. `on_write` gets the whole new content after a
        guest's write.

        Raises `ConfigError` if the name is too long or there are more files than `x-file-slots`.
        """
        if len(name.encode()) >= _NAME_SIZE:
            raise ConfigError(f"fw_cfg: the name '{name}' is longer than {_NAME_SIZE - 1} bytes")
        if name not in self._files and len(self._files) >= self.x_file_slots:
            raise ConfigError(
                f"fw_cfg: no slot left for '{name}': x-file-slots is {self.x_file_slots}"
            )
        content = bytearray(data) if writable else data
        self._files[name] = _Item(content, writable, on_write)
        if trace := self.log.trace:
            trace(fw_cfg_add_file, sorted(self._files).index(name), name, len(data))

    @property
    def files(self) -> dict[str, int]:
        """The selector of each file: in order of their names."""
        return {name: FIRST_FILE + index for index, name in enumerate(sorted(self._files))}

    # -- saved state

    def save(self) -> dict[str, Any]:
        """The state, contents of writable files included."""
        files = sorted(self._files.items())
        self.written = [(name, bytes(item.data)) for name, item in files if item.writable]
        return super().save()

    def check(self, saved: Mapping[str, Any]) -> None:
        """Raise `ConfigError` if `load` could not take this."""
        super().check(saved)
        for name, data in saved["written"]:
            item = self._files.get(name)
            if item is None or not item.writable or len(item.data) != len(data):
                raise ConfigError(f"fw_cfg has no file '{name}' of {len(data)} bytes")

    def loaded(self) -> None:
        """Put back what the guest had written, and tell who wants to know."""
        for name, data in self.written:
            item = self._files[name]
            changed = bytes(item.data) != data
            item.data = bytearray(data)
            if changed and item.on_write is not None:
                item.on_write(bytes(data))

    # -- what the guest does

    def select(self, key: int) -> None:
        """Start at the beginning of an item."""
        self.selected = key & _SELECTOR_MASK
        self.position = 0
        found = self._selected() is not None
        if not found:
            self.guest_error(f"no item {key:#x}")
        if trace := self.log.trace:
            trace(fw_cfg_select, self.selected, self._item_name(self.selected), found)

    def take(self, size: int) -> bytes:
        """The next bytes of the selected item; zeros behind its end."""
        item = self._selected()
        data = b"" if item is None else bytes(item.data[self.position : self.position + size])
        self.position += len(data)
        return data.ljust(size, b"\0")

    def start_dma(self, gpa: int) -> None:
        """Do what the descriptor at this address says, and write the outcome back into it."""
        self.dma_address = 0
        header, result = self.memory.read_bytes(Gpa(gpa), 16)
        if result is not MemTxResult.OK:
            self.guest_error(f"DMA descriptor at {gpa:#x} is not in memory")
            self.memory.write_bytes(Gpa(gpa), struct.pack(">I", DmaControl.ERROR))
            return
        control, length, address = struct.unpack(">IIQ", header)
        if control & DmaControl.SELECT:
            self.select(control >> 16)
        if control & DmaControl.READ:
            good = self._dma_read(address, length)
        elif control & DmaControl.WRITE:
            good = self._dma_write(address, length)
        else:
            good = True
            if control & DmaControl.SKIP:
                self._skip(length)
        if not good:
            self.guest_error(f"DMA of {length} bytes at {address:#x} failed")
        self.memory.write_bytes(Gpa(gpa), struct.pack(">I", 0 if good else DmaControl.ERROR))

    def read(self, offset: int, size: int = 1) -> int:
        """Read the data register."""
        data = self.take(size)
        if trace := self.log.trace:
            trace(fw_cfg_read, data)
        return int.from_bytes(data, "big")

    def write(self, offset: int, value: int, size: int = 2) -> None:
        """Write the selector."""
        self.select(value & 0xFFFF)

    def fdt(self, node: FdtNode) -> None:
        """Describe the device."""
        node.set("compatible", "qemu,fw-cfg-mmio")
        node.set("dma-coherent", None)

    def _selected(self) -> _Item | None:
        key = self.selected
        if key == Key.FILE_DIR:
            return _Item(self._directory())
        if FIRST_FILE <= key < FIRST_FILE + len(self._files):
            return self._files[sorted(self._files)[key - FIRST_FILE]]
        return self._items.get(key)

    def _item_name(self, key: int) -> str:
        """What an item is called in traces: its file's name, or that of its selector."""
        if 0 <= key - FIRST_FILE < len(self._files):
            return sorted(self._files)[key - FIRST_FILE]
        return next((item.name.lower() for item in Key if item == key), "unknown")

    def _directory(self) -> bytes:
        entries = [
            struct.pack(">IHH56s", len(self._files[name].data), key, 0, name.encode())
            for name, key in self.files.items()
        ]
        return struct.pack(">I", len(entries)) + b"".join(entries)

    def _skip(self, length: int) -> int:
        """Pass over bytes of the selected item; answer how many it still had."""
        item = self._selected()
        left = 0 if item is None else len(item.data) - self.position
        passed = max(0, min(length, left))
        self.position += passed
        return passed

    def _dma_read(self, address: int, length: int) -> bool:
        while length:
            size = min(length, _CHUNK)
            if self.memory.write_bytes(Gpa(address), self.take(size)) is not MemTxResult.OK:
                return False
            address += size
            length -= size
        return True

    def _dma_write(self, address: int, length: int) -> bool:
        item = self._selected()
        if item is None or not item.writable or not isinstance(item.data, bytearray):
            return False
        if length > len(item.data) - self.position:
            return False
        data, result = self.memory.read_bytes(Gpa(address), length)
        if result is not MemTxResult.OK:
            return False
        item.data[self.position : self.position + length] = data
        self.position += length
        if item.on_write is not None:
            item.on_write(bytes(item.data))
        return True
