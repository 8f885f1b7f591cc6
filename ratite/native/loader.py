"""Loads object code into this process: sections into executable memory, relocations applied.

LLVM's own JIT linkers spread an object's sections over the address space, and loading them costs
more than a region takes to run; an object from our compiler is one ELF file with a handful of
relocation kinds.

Source: System V ABI, ELF; AMD64 psABI 1.0, table 4.9 (relocation types).
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct
import threading
from collections.abc import Mapping
from ctypes import addressof, c_char
from types import MappingProxyType
from typing import NamedTuple

PAGE = mmap.PAGESIZE
ALLOC, EXECUTABLE, NOBITS, SYMTAB, RELA = 2, 4, 8, 2, 4
UNDEFINED, ABSOLUTE, COMMON = 0, 0xFFF1, 0xFFF2
FUNCTION = 2  # a symbol's type
R_64, R_PC32, R_PLT32, R_GOTPCREL, R_32, R_32S, R_PC64 = 1, 2, 4, 9, 10, 11, 24
R_GOTPCRELX, R_REX_GOTPCRELX = 41, 42
JUMP_THROUGH = b"\xff\x25\x02\x00\x00\x00\x66\x90"  # jmp *2(%rip); nop: then the address
SLOT = 16
_NOTHING: Mapping[str, int] = MappingProxyType({})
_NO_CONTENTS: Mapping[str, bytes] = MappingProxyType({})


class LoadError(Exception):
    """The object has something that the loader does not know: a bug of ours."""


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


class CodeArena:
    """Executable memory for objects, given out from one range and given back all at once."""

    def __init__(self, base: int, size: int) -> None:
        self.base = base
        self.size = size
        self.used = 0

    def take(self, size: int) -> int | None:
        """Address of `size` writable bytes, whole pages; None if the arena is full."""
        size = -(-size // PAGE) * PAGE
        if self.used + size > self.size:
            return None
        address = self.base + self.used
        self.used += size
        return address

    def reset(self) -> None:
        """Take everything back. Nothing of it may be executing."""
        _protect(self.base, self.used, mmap.PROT_READ | mmap.PROT_WRITE)
        self.used = 0


class CodeSpace:
    """One range of this process for all generated code, so that any of it reaches any other by a
    32-bit displacement. It is reserved, and committed as it is used.
    """

    SIZE = (1 << 31) - (1 << 20)

    def __init__(self) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        self._map = mmap.mmap(-1, self.SIZE, flags=flags, prot=protection)
        self._whole = CodeArena(addressof(c_char.from_buffer(self._map)), self.SIZE)
        self._free: list[CodeArena] = []
        self._lock = threading.Lock()

    def arena(self, size: int) -> CodeArena:
        """An arena of `size` bytes. Raises `MemoryError`."""
        with self._lock:
            for arena in self._free:
                if arena.size == size:
                    self._free.remove(arena)
                    return arena
            base = self._whole.take(size)
        if base is None:
            raise MemoryError("no address space left for generated code")
        return CodeArena(base, size)

    def give_back(self, arena: CodeArena) -> None:
        """Return an arena of which nothing is executing."""
        arena.reset()
        with self._lock:
            self._free.append(arena)


@functools.cache
def code_space() -> CodeSpace:
    """The process's."""
    return CodeSpace()


_libc = ctypes.CDLL(None, use_errno=True)
_mprotect = _libc.mprotect
_mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def _protect(address: int, size: int, protection: int) -> None:
    if size and _mprotect(address, size, protection):
        raise OSError(ctypes.get_errno(), "mprotect of generated code")


def external(name: str) -> int:
    """Address of a function of the C library. Raises `LoadError`."""
    for library in (None, "libm.so.6"):
        try:
            found = getattr(ctypes.CDLL(library), name)
        except (AttributeError, OSError):
            continue
        address = ctypes.cast(found, ctypes.c_void_p).value
        if address:
            return address
    raise LoadError(f"generated code refers to '{name}', which the host does not have")


class LoadedObject:
    """Object code in this process; its addresses stay valid as long as its arena is not reset."""

    def __init__(
        self,
        code: bytes,
        arena: CodeArena | None = None,
        known: Mapping[str, int] = _NOTHING,
        contents: Mapping[str, bytes] = _NO_CONTENTS,
    ) -> None:
        """`known` gives addresses of generated functions that the object refers to, `contents` what
        variables of it hold, by their names.
        """
        self._code = code
        self._known = known
        self._sections = self._read_sections()
        self._symbols: dict[str, int] = {}
        self._placed: dict[int, int] = {}
        self._externals: dict[str, int] = {}
        layout, size = self._layout()
        names = self._external_names()
        total = size + SLOT * 2 * len(names)
        arena = arena or code_space().arena(-(-total // PAGE) * PAGE)
        base = arena.take(total)
        if base is None:
            raise MemoryError("no room for generated code")
        self.size = total
        for index, offset in layout.items():
            self._placed[index] = base + offset
            section = self._sections[index]
            if section.kind != NOBITS:
                data = code[section.offset : section.offset + section.size]
                ctypes.memmove(base + offset, data, len(data))
        for number, name in enumerate(names):
            self._add_stub(base + size + number * 2 * SLOT, name)
        self._relocate()
        for name, data in contents.items():
            ctypes.memmove(self._symbols[name], data, len(data))
        _protect(base, -(-total // PAGE) * PAGE, mmap.PROT_READ | mmap.PROT_EXEC)

    def address(self, symbol: str) -> int:
        """Address of a symbol. Raises `KeyError`."""
        return self._symbols[symbol]

    def functions(self) -> list[tuple[str, int, int]]:
        """Name, address and size in bytes of every function in it."""
        return [
            (name, self._placed[section] + value, size)
            for name, section, value, kind, size in self._table
            if kind == FUNCTION and section in self._placed
        ]

    def _read_sections(self) -> list[_Section]:
        code = self._code
        if code[:5] != b"\x7fELF\x02":
            raise LoadError("generated object code is not ELF")
        (table,) = struct.unpack_from("<Q", code, 40)
        size, count = struct.unpack_from("<HH", code, 58)
        unpack = struct.Struct("<IIQQQQIIQQ").unpack_from
        return [_Section(*unpack(code, table + size * index)) for index in range(count)]

    def _layout(self) -> tuple[dict[int, int], int]:
        """Offsets of the sections to load, and the total size."""
        layout = {}
        offset = 0
        for index, section in enumerate(self._sections):
            if section.flags & ALLOC and section.size:
                alignment = max(section.alignment, 1)
                offset = -(-offset // alignment) * alignment
                layout[index] = offset
                offset += section.size
        return layout, -(-offset // SLOT) * SLOT

    def _symbol_table(self) -> list[tuple[str, int, int, int, int]]:
        """(name, section, value, type, size) of every symbol."""
        table = next(section for section in self._sections if section.kind == SYMTAB)
        strings = self._sections[table.link]
        names = self._code[strings.offset : strings.offset + strings.size]
        unpack = struct.Struct("<IBBHQQ").unpack_from
        found = []
        for position in range(table.offset, table.offset + table.size, 24):
            name, info, _, section, value, size = unpack(self._code, position)
            text = names[name : names.index(b"\0", name)].decode()
            found.append((text, section, value, info & 0xF, size))
        return found

    def _external_names(self) -> list[str]:
        self._table = self._symbol_table()
        return [
            name
            for name, section, *_ in self._table
            if section == UNDEFINED and name and name not in self._known
        ]

    def _add_stub(self, place: int, name: str) -> None:
        """A jump to an external function, and after it the word that holds its address."""
        address = external(name)
        word = address.to_bytes(8, "little")
        ctypes.memmove(place, JUMP_THROUGH + word + word, 24)
        self._externals[name] = place

    def _value(self, number: int) -> tuple[str, int, bool]:
        """Name and address of a symbol, and whether it is external."""
        name, section, value, *_ = self._table[number]
        if section == UNDEFINED:
            known = self._known.get(name)
            return (name, known, False) if known else (name, self._externals.get(name, 0), True)
        if section == ABSOLUTE:
            return name, value, False
        if section not in self._placed:
            return name, 0, False
        return name, self._placed[section] + value, False

    def _relocate(self) -> None:
        for number, (name, section, *_) in enumerate(self._table):
            if name and section in self._placed:
                self._symbols[name] = self._value(number)[1]
        for relocations in self._sections:
            if relocations.kind == RELA and relocations.info in self._placed:
                self._relocate_section(relocations)

    def _relocate_section(self, section: _Section) -> None:
        base = self._placed[section.info]
        end = section.offset + section.size
        data = self._code[section.offset : end]
        for offset, info, addend in struct.iter_unpack("<QQq", data):
            self._apply(base + offset, info & 0xFFFF_FFFF, info >> 32, addend)

    def _apply(self, place: int, kind: int, number: int, addend: int) -> None:
        name, value, outside = self._value(number)
        if kind in (R_GOTPCREL, R_GOTPCRELX, R_REX_GOTPCRELX):
            if not outside:
                raise LoadError(f"'{name}' is reached through a table without need")
            value += 16  # the stub's own copy of the address
            kind = R_PC32
        if kind in (R_PC32, R_PLT32):
            distance = value + addend - place
            if not -(1 << 31) <= distance < 1 << 31:
                raise LoadError(f"'{name}' is out of reach")
            ctypes.c_int32.from_address(place).value = distance
        elif kind == R_64:
            target = value if not outside else external(name)
            ctypes.c_uint64.from_address(place).value = target + addend & 0xFFFF_FFFF_FFFF_FFFF
        elif kind == R_PC64:
            ctypes.c_int64.from_address(place).value = value + addend - place
        else:
            raise LoadError(f"relocation {kind} against '{name}'")
