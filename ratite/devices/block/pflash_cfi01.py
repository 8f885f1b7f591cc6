"""Parallel NOR flash with Intel's command set, as CFI describes it.

Source: JEDEC JESD68.01 (CFI); Intel StrataFlash Memory (J3) data sheet, "Device Operations" and
"Command Definitions". Not modelled: the time that programming and erasing take; suspend (nothing is
ever left to suspend); the protection register. Flash without a drive reads as zeros at first, not
as erased: so it takes no host memory until it is used.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated, Literal

from ratite.core.disk import DEFAULT_TERMS
from ratite.core.errors import ConfigError, HostError
from ratite.core.size import KiB
from ratite.core.trace import TraceEvent
from ratite.devices.block.backend import BlockBackend
from ratite.devices.device import Device
from ratite.devices.fdt import FdtNode
from ratite.devices.register import State
from ratite.memory import AccessSizes, MemoryRegion, RamList
from ratite.qom import Backend, Doc, Named, UInt8, UInt16, UInt32, UInt64


@TraceEvent
def pflash_io_read(name: str, offset: int, size: int, value: int, mode: str, step: str) -> str:
    """The guest has read from a flash that does not show its array."""
    return f"{name}: offset:0x{offset:04x} size:{size} value:0x{value:04x} mode:{mode} step:{step}"


@TraceEvent
def pflash_io_write(name: str, offset: int, size: int, value: int, step: str) -> str:
    """The guest writes to a flash."""
    return f"{name}: offset:0x{offset:04x} size:{size} value:0x{value:04x} step:{step}"


@TraceEvent
def pflash_mode_read_array(name: str) -> str:
    """A flash shows its array again."""
    return f"{name}: read array mode"


@TraceEvent
def pflash_reset(name: str) -> str:
    """A flash is reset."""
    return f"{name}: reset"


@TraceEvent
def pflash_write(name: str, command: str) -> str:
    """The guest begins a command."""
    return f"{name}: {command}"


@TraceEvent
def pflash_write_invalid_command(name: str, command: int) -> str:
    """The guest writes what is no command."""
    return f"{name}: invalid command 0x{command:02x}"


class Command(IntEnum):
    """First bytes of command sequences, and the bytes that confirm them."""

    LOCK = 0x01
    PROGRAM_ALTERNATE = 0x10
    ERASE = 0x20
    PROGRAM = 0x40
    CLEAR_STATUS = 0x50
    LOCK_SETUP = 0x60
    READ_STATUS = 0x70
    READ_ID = 0x90
    READ_QUERY = 0x98
    SUSPEND = 0xB0
    CONFIRM = 0xD0
    BUFFERED_PROGRAM = 0xE8
    READ_ARRAY = 0xFF


class Status(IntFlag):
    """The status register."""

    LOCKED = 0x02
    PROGRAM_ERROR = 0x10
    ERASE_ERROR = 0x20
    SEQUENCE_ERROR = 0x30
    READY = 0x80


class Mode(IntEnum):
    """What reads show."""

    ARRAY = 0
    STATUS = 1
    ID = 2
    QUERY = 3


class Step(IntEnum):
    """What the next write is, in a sequence of several."""

    COMMAND = 0
    PROGRAM = 1
    ERASE = 2
    LOCK = 3
    COUNT = 4
    DATA = 5
    CONFIRM = 6


_COMMANDS = {int(command): command.name.lower().replace("_", " ") for command in Command}
_BUFFER_BITS = 11  # each chip buffers 2 KiB
_SECTOR = 512
_EXTENDED_QUERY = 0x31
_PRIMARY_SET = 0x0001  # Intel standard and extended commands


def query_table(blocks: int, block_size: int) -> bytes:
    """What one chip with this many erase blocks of `block_size` bytes answers to a query, from word
    0 on.
    """
    table = bytearray(_EXTENDED_QUERY + 15)
    table[0x10:0x13] = b"QRY"
    table[0x13:0x15] = _PRIMARY_SET.to_bytes(2, "little")
    table[0x15:0x17] = _EXTENDED_QUERY.to_bytes(2, "little")
    table[0x1B:0x1F] = bytes((0x27, 0x36, 0, 0))  # 2.7 to 3.6 V, no programming voltage
    table[0x1F:0x23] = bytes((7, 7, 10, 0))  # typical: 2**7 us a word or buffer, 2**10 ms a block
    table[0x23:0x27] = bytes((4, 4, 4, 0))  # at most 2**4 times as long
    table[0x27] = (blocks * block_size).bit_length() - 1
    table[0x28:0x2A] = bytes((2, 0))  # x8/x16, asynchronous
    table[0x2A:0x2C] = bytes((_BUFFER_BITS, 0))
    table[0x2C] = 1  # one region of blocks, all alike
    table[0x2D:0x2F] = (blocks - 1 & 0xFFFF).to_bytes(2, "little")
    table[0x2F:0x31] = (block_size // 256 & 0xFFFF).to_bytes(2, "little")
    table[0x31:0x36] = b"PRI11"
    table[0x36] = 0x08  # lock and unlock, nothing else of the options
    table[0x3B] = 0x01  # block status: the lock bit
    table[0x3D] = 0x33  # 3.3 V
    return bytes(table)


class PflashCfi01(Device):
    """A bank of flash chips side by side on a bus of `width` bytes, each chip `device-width` wide.

    Commands and status go to and come from all chips at once. Content is kept on `drive`, if there
    is one.
    """

    type_name = "cfi.pflash01"
    mmio_valid = AccessSizes(1, 8)
    mmio_impl = AccessSizes(1, 8)

    mode = State(int(Mode.ARRAY))
    step = State(int(Step.COMMAND))
    status = State(int(Status.READY))
    locks = State(0)  # bit n: block n is locked
    left = State(0)  # words still to come into the buffer
    # (offset, bytes)
    buffer = State[list[tuple[int, bytes]]](factory=lambda flash: [], element=(0, b""))

    def __init__(
        self,
        ram_list: RamList,
        *,
        drive: Annotated[
            BlockBackend | None,
            Backend("drive"),
            Doc("Node name or ID of a block device to use as a backend"),
        ] = None,
        num_blocks: UInt32 = 128,
        sector_length: UInt64 = 256 * KiB,
        width: UInt8 = 4,
        device_width: UInt8 = 2,
        max_device_width: UInt8 = 2,
        big_endian: bool = False,
        secure: bool = False,
        id0: UInt16 = 0x89,
        id1: UInt16 = 0x18,
        id2: UInt16 = 0,
        id3: UInt16 = 0,
        flash_name: Annotated[str, Named("name")] = "pflash",
        old_multiple_chip_handling: bool = False,
    ) -> None:
        self.drive = drive
        self.num_blocks = num_blocks
        self.sector_length = sector_length
        self.width = width
        self.device_width = device_width
        self.max_device_width = max_device_width
        self.big_endian = big_endian
        self.secure = secure
        self.id0 = id0
        self.id1 = id1
        self.id2 = id2
        self.id3 = id3
        self.flash_name = flash_name
        self.old_multiple_chip_handling = old_multiple_chip_handling
        self._order: Literal["little", "big"] = "big" if big_endian else "little"
        super().__init__()
        self._ram_list = ram_list
        self._chip_width = device_width or width or 1
        self._chips = max(1, width // self._chip_width)
        self._word_shift = 0
        self._query = b""

    @property
    def size(self) -> int:
        """Bytes in the whole bank."""
        return self.num_blocks * self.sector_length

    def realize(self) -> None:
        """Check the geometry, allocate the memory and load it from the drive."""
        self._check()
        widest = self.max_device_width or self._chip_width
        self._word_shift = (self.width * widest // self._chip_width).bit_length() - 1
        if self.old_multiple_chip_handling:
            blocks, block_size = self.num_blocks // self._chips, self.sector_length
        else:
            blocks, block_size = self.num_blocks, self.sector_length // self._chips
        self._query = query_table(blocks, block_size)
        self._buffer_size = (1 << _BUFFER_BITS) * self._chips
        self._block = self._ram_list.alloc(self.flash_name, self.size)
        if self.drive is not None:
            self.drive.attach(self, DEFAULT_TERMS)
            self._load(self.drive)
        self.add_region(
            MemoryRegion.rom_device(
                self.flash_name,
                self._block,
                self,
                endianness=self._order,
                valid=self.mmio_valid,
                impl=self.mmio_impl,
            )
        )
        super().realize()

    def unrealize(self) -> None:
        """Bring the drive up to date and give the memory back."""
        if self.drive is not None:
            self.drive.flush(lambda error: None)
            self.drive.drain()
            self.drive.detach()
        self._ram_list.free(self._block)
        self.regions.pop().unparent()
        super().unrealize()

    def fdt(self, node: FdtNode) -> None:
        """Describe the device."""
        node.set("compatible", "cfi-flash")
        node.set("bank-width", self.width)

    def reset_enter(self) -> None:
        """Show the array; content and locks stay."""
        if trace := self.log.trace:
            trace(pflash_reset, self.flash_name)
        locks = self.locks
        super().reset_enter()
        self.locks = locks

    def reset_exit(self) -> None:
        """Show the array."""
        super().reset_exit()
        self._follow_mode()

    def loaded(self) -> None:
        """Show what the state says."""
        self._follow_mode()

    # -- guest access

    def read(self, offset: int, size: int = 4) -> int:
        """Read the array, or what the last command asked for."""
        if self.mode == Mode.ARRAY and self.step == Step.COMMAND:
            return int.from_bytes(self._block.read(offset, size), self._order)
        data = bytes(self._shown(offset + index) for index in range(size))
        value = int.from_bytes(data, self._order)
        if trace := self.log.trace:
            mode, step = Mode(self.mode).name.lower(), Step(self.step).name.lower()
            trace(pflash_io_read, self.flash_name, offset, size, value, mode, step)
        return value

    def write(self, offset: int, value: int, size: int = 4) -> None:
        """Take one write of a command sequence."""
        if offset + size > self.size:
            self.guest_error(f"write at {offset:#x}, behind the end")
            return
        value &= (1 << 8 * size) - 1
        if trace := self.log.trace:
            step = Step(self.step).name.lower()
            trace(pflash_io_write, self.flash_name, offset, size, value, step)
        match self.step:
            case Step.COMMAND:
                self._command(value & 0xFF)
            case Step.PROGRAM:
                self._end(self._program([(offset, value.to_bytes(size, self._order))]))
            case Step.ERASE:
                self._end(self._erase(offset) if value & 0xFF == Command.CONFIRM else None)
            case Step.LOCK:
                self._end(self._lock(offset, value & 0xFF))
            case Step.COUNT:
                self._begin_buffer(value & ((1 << 8 * self._chip_width) - 1))
            case Step.DATA:
                self._fill_buffer(offset, value.to_bytes(size, self._order))
            case Step.CONFIRM:
                good = value & 0xFF == Command.CONFIRM and self._buffer_fits()
                self._end(self._program(self.buffer) if good else None)
        self._follow_mode()

    def _command(self, command: int) -> None:
        trace = self.log.trace
        if trace and command in _COMMANDS:
            trace(pflash_write, self.flash_name, _COMMANDS[command])
        match command:
            case (
                Command.READ_ARRAY | 0x00 | 0xF0
            ):  # 0xF0 is a reset in the other common command set
                self.mode = Mode.ARRAY
            case Command.READ_STATUS | Command.SUSPEND | Command.CONFIRM:
                self.mode = Mode.STATUS
            case Command.READ_ID:
                self.mode = Mode.ID
            case Command.READ_QUERY:
                self.mode = Mode.QUERY
            case Command.CLEAR_STATUS:
                self.status = Status.READY
            case Command.PROGRAM | Command.PROGRAM_ALTERNATE:
                self.step = Step.PROGRAM
            case Command.ERASE:
                self.step = Step.ERASE
            case Command.LOCK_SETUP:
                self.step = Step.LOCK
            case Command.BUFFERED_PROGRAM:
                self.step = Step.COUNT
            case _:
                self.guest_error(f"no command {command:#x}")
                if trace:
                    trace(pflash_write_invalid_command, self.flash_name, command)
                self.mode = Mode.ARRAY
        if trace and self.mode == Mode.ARRAY and self.step == Step.COMMAND:
            trace(pflash_mode_read_array, self.flash_name)

    def _end(self, outcome: Status | None) -> None:
        """Finish a sequence: with these error bits, or (None) as a wrong sequence. Reads show the
        status.
        """
        if outcome is None:
            self.guest_error("wrong command sequence")
            outcome = Status.SEQUENCE_ERROR
        self.status |= outcome
        self.step = Step.COMMAND
        self.mode = Mode.STATUS
        self.buffer.clear()

    def _begin_buffer(self, count: int) -> None:
        if (count + 1) * self.width > self._buffer_size:
            self._end(None)
            return
        self.left = count + 1
        self.buffer.clear()
        self.step = Step.DATA

    def _fill_buffer(self, offset: int, data: bytes) -> None:
        self.buffer.append((offset, data))
        self.left -= 1
        if not self.left:
            self.step = Step.CONFIRM

    def _buffer_fits(self) -> bool:
        """True if all that was buffered lies in one page of the buffer's size."""
        return len({offset // self._buffer_size for offset, _ in self.buffer}) == 1

    def _locked(self, offset: int) -> bool:
        read_only = self.drive is not None and self.drive.read_only
        return read_only or bool(self.locks >> offset // self.sector_length & 1)

    def _program(self, pieces: list[tuple[int, bytes]]) -> Status:
        """Clear bits: programming cannot set any."""
        low = min(offset for offset, _ in pieces)
        high = max(offset + len(data) for offset, data in pieces)
        if self._locked(low) or self._locked(high - 1):
            return Status.PROGRAM_ERROR | Status.LOCKED
        for offset, data in pieces:
            old = self._block.read(offset, len(data))
            self._block.write(offset, bytes(a & b for a, b in zip(old, data, strict=True)))
        self._keep(low, high, Status.PROGRAM_ERROR)
        return Status(0)

    def _erase(self, offset: int) -> Status:
        if self._locked(offset):
            return Status.ERASE_ERROR | Status.LOCKED
        start = offset // self.sector_length * self.sector_length
        self._block.write(start, b"\xff" * self.sector_length)
        self._keep(start, start + self.sector_length, Status.ERASE_ERROR)
        return Status(0)

    def _lock(self, offset: int, confirm: int) -> Status | None:
        match confirm:
            case Command.LOCK:
                self.locks |= 1 << offset // self.sector_length
            case Command.CONFIRM:
                self.locks = 0  # this family clears the lock bits of all blocks together
            case _:
                return None
        return Status(0)

    def _shown(self, offset: int) -> int:
        """The byte that a read finds at an offset, outside of array mode."""
        place = offset % self._chip_width
        if self.big_endian:
            place = self._chip_width - 1 - place
        if self.step != Step.COMMAND or self.mode == Mode.STATUS:
            word = self.status
        elif self.mode == Mode.ID:
            word = self._id_word(offset)
        else:
            index = offset >> self._word_shift
            word = self._query[index] if index < len(self._query) else 0
        return word >> 8 * place & 0xFF

    def _id_word(self, offset: int) -> int:
        index = offset % self.sector_length >> self._word_shift
        if index == 2:
            return self.locks >> offset // self.sector_length & 1
        if index > 1:
            return 0
        if self.device_width:
            return self.id1 if index else self.id0
        high, low = (self.id2, self.id3) if index else (self.id0, self.id1)
        return high << 8 | low

    def _follow_mode(self) -> None:
        if self.regions:
            self.mmio.set_romd(self.mode == Mode.ARRAY and self.step == Step.COMMAND)

    # -- the drive

    def resized(self) -> None:
        """Nothing: the drive was asked not to change its size."""

    def retry(self) -> None:
        """Nothing: requests that fail are not kept."""

    def _check(self) -> None:
        if not self.flash_name:
            raise ConfigError(f"{self.type_name}: 'name' must be set")
        if self.secure:
            raise ConfigError(f"{self.type_name}: secure=on needs a CPU with a secure mode")
        if not self.num_blocks or not self.sector_length:
            raise ConfigError(f"{self.flash_name}: num-blocks and sector-length must be set")
        if self.width not in (1, 2, 4) or self.width % self._chip_width:
            raise ConfigError(f"{self.flash_name}: width must be 1, 2 or 4 and hold whole chips")
        if self.sector_length % (_SECTOR * self._chips) or self.sector_length % self.width:
            raise ConfigError(f"{self.flash_name}: sector-length must be a multiple of {_SECTOR}")
        if self.drive is not None and self.drive.size != self.size:
            raise ConfigError(
                f"device requires {self.size} bytes, block backend provides {self.drive.size} bytes"
            )

    def _load(self, drive: BlockBackend) -> None:
        errors: list[int] = []
        drive.readv(0, [self._block.view[: self.size]], errors.append)
        drive.drain()
        if any(errors):
            drive.detach()
            self._ram_list.free(self._block)
            raise HostError.from_os("read the flash image", OSError(errors[0], ""), drive.id)

    def _keep(self, low: int, high: int, failure: Status) -> None:
        """Write changed content to the drive. A write that fails shows in the status register."""
        if self.drive is None:
            return
        low = low // _SECTOR * _SECTOR
        high = -(-high // _SECTOR) * _SECTOR

        def done(error: int) -> None:
            if error:
                self.status |= failure

        self.drive.writev(low, [memoryview(self._block.read(low, high - low))], done)
