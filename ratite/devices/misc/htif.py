"""RISC-V host-target interface: `tohost` and `fromhost`, two 64-bit words.

Source: riscv-isa-sim (Spike) and riscv-pk, as documented by their `htif` sources' interface; a
`tohost` word is device (8 bits), command (8), payload (48). Not modelled: system calls other than
write and exit; the block device.
"""

from __future__ import annotations

import struct
from typing import Annotated

from ratite.core.char import CharEvent
from ratite.devices.char.backend import CharBackend
from ratite.devices.device import Device
from ratite.devices.fdt import FdtNode
from ratite.devices.power import PowerAction, PowerRequest
from ratite.devices.register import State
from ratite.memory import AccessSizes, AddressSpace, Gpa, MemoryRegion, MemTxResult
from ratite.qom import Backend

DEVICE_SYSCALL, DEVICE_CONSOLE = 0, 1
CONSOLE_GETCHAR, CONSOLE_PUTCHAR = 0, 1
SYS_WRITE, SYS_EXIT = 64, 93
_ENOSYS, _EBADF, _EFAULT = 38, 9, 14
_MASK32 = 0xFFFF_FFFF
_MASK48 = 0xFFFF_FFFF_FFFF
_MASK64 = 0xFFFF_FFFF_FFFF_FFFF
_ANSWERED = 0x100  # a console answer says so above the character
_LONGEST_WRITE = 1 << 20


class _ToHost:
    """The `tohost` word."""

    def __init__(self, device: Htif) -> None:
        self.device = device

    def read(self, offset: int, size: int) -> int:
        return _part(self.device.tohost, offset, size)

    def write(self, offset: int, value: int, size: int) -> None:
        self.device.write_tohost(offset, value, size)


class _FromHost:
    """The `fromhost` word."""

    def __init__(self, device: Htif) -> None:
        self.device = device

    def read(self, offset: int, size: int) -> int:
        return _part(self.device.fromhost, offset, size)

    def write(self, offset: int, value: int, size: int) -> None:
        self.device.write_fromhost(offset, value, size)


class Htif(Device):
    """Ends the run, prints and reads characters for bare programs.

    Region 0 is `tohost`, region 1 `fromhost`, 8 bytes each: the machine maps them side by side or
    wherever the program's ELF file has the symbols.
    """

    type_name = "riscv.htif"

    tohost = State(0)
    fromhost = State(0)
    wants_char = State(False)  # a getchar waits for input
    received = State[list[int]](factory=lambda htif: [], element=0)

    def __init__(
        self,
        memory: AddressSpace,
        request: PowerRequest,
        *,
        chardev: Annotated[CharBackend | None, Backend("chardev")] = None,
    ) -> None:
        self.memory = memory
        self.request = request
        self.chardev = chardev
        super().__init__()
        sizes = AccessSizes(4, 8)
        for name, ops in (("htif.tohost", _ToHost(self)), ("htif.fromhost", _FromHost(self))):
            self.add_region(MemoryRegion.io(name, 8, ops, valid=sizes, impl=sizes))

    def realize(self) -> None:
        """Attach to the backend."""
        if self.chardev is not None:
            self.chardev.attach(self)
        super().realize()

    def change_backend(self, chardev: CharBackend, /) -> None:
        """Go on with another backend."""
        self.chardev = chardev
        chardev.attach(self)

    def unrealize(self) -> None:
        """Detach from the backend."""
        if self.chardev is not None:
            self.chardev.attach(None)
        super().unrealize()

    def fdt(self, node: FdtNode) -> None:
        """Describe the device."""
        node.set("compatible", "ucb,htif0")

    # -- guest access

    def read(self, offset: int, size: int = 8) -> int:
        """Read as if the words lay side by side, `tohost` first."""
        word = self.fromhost if offset & 8 else self.tohost
        return _part(word, offset & 7, size)

    def write(self, offset: int, value: int, size: int = 8) -> None:
        """Write as if the words lay side by side, `tohost` first."""
        if offset & 8:
            self.write_fromhost(offset & 7, value, size)
        else:
            self.write_tohost(offset & 7, value, size)

    def write_tohost(self, offset: int, value: int, size: int) -> None:
        """Take a command, whole or half by half.

        A low half waits for its high half. A program that only ever writes the low half repeats it:
        that counts too.
        """
        if size == 8:
            self.tohost = value & _MASK64
        elif offset:
            self.tohost = self.tohost & _MASK32 | (value & _MASK32) << 32
        elif not self.tohost or self.tohost != value & _MASK32:
            self.tohost = value & _MASK32
            return
        if self.tohost:
            self._command(self.tohost)

    def write_fromhost(self, offset: int, value: int, size: int) -> None:
        """The program clears the word when it has taken the answer."""
        if size == 8:
            self.fromhost = value & _MASK64
        else:
            shift = 8 * (offset & 4)
            self.fromhost = self.fromhost & ~(_MASK32 << shift) | (value & _MASK32) << shift
        self._answer_getchar()

    def _command(self, word: int) -> None:
        device, command, payload = word >> 56, word >> 48 & 0xFF, word & _MASK48
        self.tohost = 0
        if device == DEVICE_SYSCALL and command == 0:
            if payload & 1:
                self.request(PowerAction.SHUTDOWN, payload >> 1)
            else:
                self._system_call(Gpa(payload))
        elif device == DEVICE_CONSOLE and command == CONSOLE_PUTCHAR:
            self._print(bytes((payload & 0xFF,)))
            self._answer(CONSOLE_PUTCHAR, _ANSWERED | payload & 0xFF)
        elif device == DEVICE_CONSOLE and command == CONSOLE_GETCHAR:
            self.wants_char = True
            if not self.received and self.chardev is not None:
                self.chardev.accept_input()  # after loading, nobody else asks for it
            self._answer_getchar()
        else:
            self.guest_error(f"no device {device} with a command {command}")

    def _answer(self, command: int, payload: int) -> None:
        self.fromhost = DEVICE_CONSOLE << 56 | command << 48 | payload

    def _answer_getchar(self) -> None:
        if self.wants_char and self.received and not self.fromhost:
            self.wants_char = False
            self._answer(CONSOLE_GETCHAR, _ANSWERED | self.received.pop(0))
            if self.chardev is not None:
                self.chardev.accept_input()

    def _print(self, data: bytes) -> None:
        if self.chardev is not None:
            self.chardev.write(data)

    def _system_call(self, block: Gpa) -> None:
        """Serve the call whose number and arguments are eight words in memory; the result replaces
        the number.
        """
        data, result = self.memory.read_bytes(block, 64)
        if result is not MemTxResult.OK:
            self.guest_error(f"system call block at {block:#x} is not in memory")
            return
        number, first, address, size = struct.unpack_from("<4Q", data)
        if number == SYS_EXIT:
            self.request(PowerAction.SHUTDOWN, first & 0xFF)
            return
        answer = self._sys_write(first, address, size) if number == SYS_WRITE else -_ENOSYS
        if answer == -_ENOSYS:
            self.unimplemented(f"system call {number}")
        self.memory.write_bytes(block, struct.pack("<q", answer))
        self.fromhost = 1

    def _sys_write(self, fd: int, address: int, size: int) -> int:
        if fd not in (1, 2):
            return -_EBADF
        size = min(size, _LONGEST_WRITE)
        data, result = self.memory.read_bytes(Gpa(address), size)
        if result is not MemTxResult.OK:
            return -_EFAULT
        self._print(data)
        return size

    # -- the backend's side

    def can_receive(self) -> int:
        """One character at a time."""
        return int(not self.received)

    def receive(self, data: bytes) -> None:
        """Take a character for the next getchar."""
        self.received += data
        self._answer_getchar()

    def event(self, event: CharEvent) -> None:
        """Nothing on the stream matters but its bytes."""


def _part(word: int, offset: int, size: int) -> int:
    return word >> 8 * offset & ((1 << 8 * size) - 1)
