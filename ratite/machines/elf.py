"""Executables: where their segments go, where they start, and where their symbols are.

Source: Tool Interface Standard, Executable and Linking Format; its 64-bit form as in the System V
ABI, edition 4.1. Not modelled: other classes and byte orders, relocation.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ratite.core.symbols import Symbol

MAGIC = b"\x7fELF"
CLASS_64, LITTLE_ENDIAN, EM_RISCV = 2, 1, 243
ET_DYN, PT_LOAD, SHT_SYMTAB, SHT_NOTE, SHF_ALLOC, SHN_UNDEF, STT_FUNC = 3, 1, 2, 7, 2, 0, 2
MACHINES = {
    2: "EM_SPARC",
    3: "EM_386",
    8: "EM_MIPS",
    20: "EM_PPC",
    21: "EM_PPC64",
    22: "EM_S390",
    40: "EM_ARM",
    43: "EM_SPARCV9",
    62: "EM_X86_64",
    183: "EM_AARCH64",
    EM_RISCV: "EM_RISCV",
    258: "EM_LOONGARCH",
}
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_MOST_SYMBOLS = 1 << 24
_LONGEST_NAME = 512

Content = bytes | mmap.mmap
"""A file's content, read or mapped."""


class ElfError(Exception):
    """The text says what is wrong with the file."""


class ForeignElfError(ElfError):
    """It is for another machine; the text names it."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes of the file from `offset` on, and the memory that they and zeros behind them fill. The
    first `preamble` bytes only tell of the file: its headers, which linkers put into a segment that
    begins where they are, and notes.
    """

    offset: int
    file_size: int
    virtual: int
    physical: int
    size: int
    preamble: int = 0


@dataclass(frozen=True, slots=True)
class Elf:
    """What a loader wants to know."""

    entry: int
    movable: bool  # position independent
    segments: tuple[Segment, ...]  # those to load, none of them empty
    symbols: dict[str, int]

    @property
    def physical_entry(self) -> int:
        """The entry point, moved from virtual to physical as its segment is."""
        for segment in self.segments:
            if segment.virtual <= self.entry < segment.virtual + segment.size:
                return self.entry - segment.virtual + segment.physical
        return self.entry


def read_elf(content: Content, wanted: Iterable[str] = ()) -> Elf:
    """Read an executable's headers, and find the `wanted` symbols among its own. The segments of
    what is answered lie inside the file and inside 64 bits of addresses. Raises `ElfError`.
    """
    header = _unpack(_HEADER, content, 0, "the header")
    ident, kind, machine, _, entry, ph_at, sh_at, _, _, ph_size, ph_count, sh_size, sh_count, _ = (
        header
    )
    if machine != EM_RISCV or ident[4] != CLASS_64 or ident[5] != LITTLE_ENDIAN:
        raise ForeignElfError(MACHINES.get(machine, f"machine {machine}"))
    if ph_count and ph_size < _PROGRAM.size:
        raise ElfError(f"program headers of {ph_size} bytes")
    if sh_count and sh_size < _SECTION.size:
        raise ElfError(f"section headers of {sh_size} bytes")
    sections = _sections(content, sh_at, sh_size, sh_count)
    headers_end = max(_HEADER.size, ph_at + ph_size * ph_count)
    segments = tuple(
        replace(segment, preamble=_preamble(segment, headers_end, sections))
        for segment in _segments(content, ph_at, ph_size, ph_count)
    )
    symbols = _symbols(content, sections, frozenset(wanted))
    return Elf(entry, kind == ET_DYN, segments, symbols)


def read_functions(content: Content) -> list[Symbol]:
    """All functions that an executable names, at its own addresses. Raises `ElfError`."""
    header = _unpack(_HEADER, content, 0, "the header")
    found = []
    table = _symbol_table(content, _sections(content, header[6], header[11], header[12]))
    if table is not None:
        names = content[table.names : table.names_end]
        entries = content[table.offset : table.offset + table.count * _SYMBOL.size]
        for at, info, _, section, value, size in _SYMBOL.iter_unpack(entries):
            if info & 0xF == STT_FUNC and section != SHN_UNDEF and at < len(names):
                name, _, _ = names[at : at + _LONGEST_NAME].partition(b"\0")
                found.append(Symbol(value, size, name.decode("utf-8", "replace")))
    return found


def _sections(content: Content, at: int, step: int, count: int) -> list[tuple[Any, ...]]:
    return [
        _unpack(_SECTION, content, at + step * number, f"section header {number}")
        for number in range(count)
    ]


def _unpack(form: struct.Struct, content: Content, offset: int, what: str) -> tuple[Any, ...]:
    _check_inside(content, offset, form.size, what)
    return form.unpack_from(content, offset)


def _check_inside(content: Content, offset: int, size: int, what: str) -> None:
    if offset + size > len(content):
        raise ElfError(f"{what} lies beyond the file's end")


def _segments(content: Content, at: int, step: int, count: int) -> Iterator[Segment]:
    for number in range(count):
        what = f"program header {number}"
        kind, _, offset, virtual, physical, file_size, size, _ = _unpack(
            _PROGRAM, content, at + step * number, what
        )
        if kind != PT_LOAD or not size:
            continue
        _check_inside(content, offset, file_size, f"segment {number}")
        if file_size > size:
            raise ElfError(f"segment {number} has more bytes in the file than in memory")
        if max(physical, virtual) + size > 1 << 64:
            raise ElfError(f"segment {number} ends beyond 64 bits of addresses")
        yield Segment(offset, file_size, virtual, physical, size)


def _preamble(segment: Segment, headers_end: int, sections: list[tuple[Any, ...]]) -> int:
    if segment.offset != 0:
        return 0
    loaded = [section for section in sections if section[2] & SHF_ALLOC and section[5]]
    if not loaded:
        return min(headers_end, segment.file_size)
    contents: list[int] = [section[4] for section in loaded if section[1] != SHT_NOTE]
    return min([segment.file_size, *contents])


@dataclass(frozen=True, slots=True)
class _Table:
    """Where symbols are in the file, and their names."""

    offset: int
    count: int
    names: int
    names_end: int


def _symbol_table(content: Content, sections: list[tuple[Any, ...]]) -> _Table | None:
    table = next((section for section in sections if section[1] == SHT_SYMTAB), None)
    if table is None:
        return None
    _, _, _, _, offset, size, link, _, _, _ = table
    _check_inside(content, offset, size, "the symbol table")
    if link >= len(sections):
        raise ElfError(f"there is no section {link}, where the symbols' names should be")
    _, _, _, _, names, names_size, _, _, _, _ = sections[link]
    _check_inside(content, names, names_size, "the names of the symbols")
    count = min(size // _SYMBOL.size, _MOST_SYMBOLS)
    return _Table(offset, count, names, names + names_size)


def _symbols(
    content: Content, sections: list[tuple[Any, ...]], wanted: frozenset[str]
) -> dict[str, int]:
    table = _symbol_table(content, sections) if wanted else None
    if table is None:
        return {}
    # Few programs have any of them, and symbols are many.
    spelled = {name: name.encode() + b"\0" for name in wanted}
    spelled = {
        name: text
        for name, text in spelled.items()
        if content.find(text, table.names, table.names_end) >= 0
    }
    found: dict[str, int] = {}
    if not spelled:
        return found
    for number in range(table.count):
        at, _, _, section, value, _ = _SYMBOL.unpack_from(
            content, table.offset + _SYMBOL.size * number
        )
        if section == SHN_UNDEF or table.names + at >= table.names_end:
            continue
        for name, text in spelled.items():
            if content[table.names + at : table.names + at + len(text)] == text:
                found.setdefault(name, value)
    return found
