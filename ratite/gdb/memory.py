"""Guest memory as a debugger sees it: by guest-virtual address through a vCPU's mapping, or by
guest-physical address. The machine lock is held, the machine paused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ratite.memory import AddressSpace, Gpa, MemTxResult

_PAGE = 0x1000
_ADDRESSES = 1 << 64


class Translator(Protocol):
    """A vCPU."""

    def debug_translate(self, gva: int) -> int | None:
        """Guest-physical address; None if it is not mapped."""


class DebugMemory:
    """Memory of a machine."""

    def __init__(self, space: AddressSpace) -> None:
        self._space = space

    def read(self, vcpu: Translator | None, address: int, size: int) -> bytes:
        """As many bytes from `address` on as can be read; device registers are read like by the
        guest. `vcpu` is None for guest-physical addresses."""
        data = b""
        for gpa, length in self._pieces(vcpu, address, size):
            part, result = self._space.read_bytes(Gpa(gpa), length)
            if result is not MemTxResult.OK:
                break
            data += part
        return data

    def write(self, vcpu: Translator | None, address: int, data: bytes) -> bool:
        """Write memory, ROM included; devices are left alone. False if not all of it could be
        written.
        """
        done = 0
        for gpa, length in self._pieces(vcpu, address, len(data)):
            part = data[done : done + length]
            if self._space.write_rom(Gpa(gpa), part) is not MemTxResult.OK:
                return False
            done += length
        return done == len(data)

    def _pieces(
        self, vcpu: Translator | None, address: int, size: int
    ) -> Iterator[tuple[int, int]]:
        """Guest-physical pieces of a range, each within a page, up to what is not mapped."""
        while size > 0 and address < _ADDRESSES:
            length = min(size, _PAGE - address % _PAGE)
            gpa = address if vcpu is None else vcpu.debug_translate(address)
            if gpa is None:
                return
            yield gpa, length
            address += length
            size -= length


__all__ = ["DebugMemory", "Translator"]
