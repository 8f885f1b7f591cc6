"""Cores of machines: guest memory and the registers of the vCPUs as an ELF file.

Source: System V ABI, ELF-64 object file format; Linux, core(5) and `struct elf_prstatus`. The notes
are those of a crash dump, by vCPU, so that gdb and crash show each as a thread.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ratite.core.errors import ConfigError
from ratite.cpu.inspect import Inspector
from ratite.memory import FlatView, Hva, RegionKind

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_NOTE = struct.Struct("<III")
_IDENT = b"\x7fELF\x02\x01\x01" + bytes(9)
_ET_CORE, _PT_LOAD, _PT_NOTE, _NT_PRSTATUS = 4, 1, 4, 1
_PN_XNUM = 0xFFFF  # the number of program headers is in section header 0
_FLAGS = {"r": 4, "w": 2, "x": 1}
_ALIGN = 0x1000
_MOST_SEGMENTS = 1 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Guest memory in a row."""

    gpa: int
    content: memoryview

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.gpa + len(self.content)


@dataclass(frozen=True, slots=True)
class Segment:
    """Where a reader of the file finds addresses: a part of a piece."""

    gva: int
    gpa: int
    size: int
    flags: int = 7


def guest_memory(view: FlatView, begin: int = 0, end: int = 1 << 64) -> list[Piece]:
    """RAM and ROM between two addresses, by address; not flash, which is a device."""
    pieces: list[Piece] = []
    last = Hva(0)
    for entry in view.ranges:
        block = entry.region.block
        start, stop = max(entry.start, begin), min(entry.end, end)
        if block is None or entry.region.kind is RegionKind.ROM_DEVICE or start >= stop:
            continue
        offset = entry.offset_in_region + start - entry.start
        size = stop - start
        host = Hva(block.host + offset)
        if pieces and pieces[-1].end == start and last == host:  # one block, in two regions
            before = pieces.pop()
            offset -= len(before.content)
            start, size = before.gpa, size + len(before.content)
        pieces.append(Piece(start, block.view[offset : offset + size]))
        last = Hva(host + stop - max(entry.start, begin))
    return pieces


def physical(pieces: Iterable[Piece]) -> list[Segment]:
    """Memory by its physical addresses."""
    return [Segment(piece.gpa, piece.gpa, len(piece.content)) for piece in pieces]


def mapped(cpus: Iterable[Inspector], pieces: Sequence[Piece]) -> list[Segment] | None:
    """Memory by the virtual addresses that any of the vCPUs has for it; None if none translates.
    Raises `ConfigError` if there is no end of it.
    """
    found: dict[Segment, None] = {}
    translated = False
    for cpu in cpus:
        mappings = cpu.mappings()
        if mappings is None:
            continue
        translated = True
        gva = gpa = size = flags = 0
        for entry in mappings:
            wanted = sum(_FLAGS[letter] for letter in set(entry.attributes) & set(_FLAGS))
            if entry.gva == gva + size and entry.gpa == gpa + size and wanted == flags:
                size += entry.size
                continue
            _add(found, pieces, Segment(gva, gpa, size, flags))
            gva, gpa, size, flags = entry.gva, entry.gpa, entry.size, wanted
        _add(found, pieces, Segment(gva, gpa, size, flags))
    return sorted(found, key=lambda segment: segment.gva) if translated else None


def _add(found: dict[Segment, None], pieces: Sequence[Piece], segment: Segment) -> None:
    """Enter those parts of a segment that are memory."""
    for piece in pieces:
        start = max(segment.gpa, piece.gpa)
        size = min(segment.gpa + segment.size, piece.end) - start
        if size > 0:
            gva = segment.gva + start - segment.gpa
            found[Segment(gva, start, size, segment.flags)] = None
    if len(found) > _MOST_SEGMENTS:
        raise ConfigError("dump: the guest maps its memory in more than 1048576 pieces")


def header(
    cpus: Sequence[Inspector], pieces: Sequence[Piece], segments: Sequence[Segment]
) -> list[tuple[str, bytes]]:
    """What stands before the memory, part by part with what each is. The content of all pieces
    follows, in order and without gaps.
    """
    notes = b"".join(_note(cpu.prstatus(index)) for index, cpu in enumerate(cpus, 1))
    count = len(segments) + 1
    extended = count >= _PN_XNUM
    sections = _SECTION.pack(0, 0, 0, 0, 0, 0, 0, count, 0, 0) if extended else b""
    table = _HEADER.size + len(sections)
    at = table + count * _PROGRAM.size
    memory = -(-(at + len(notes)) // _ALIGN) * _ALIGN
    elf_header = _HEADER.pack(
        _IDENT,
        _ET_CORE,
        cpus[0].elf_machine,
        1,  # version
        0,  # entry
        table,
        _HEADER.size if extended else 0,
        0,  # flags
        _HEADER.size,
        _PROGRAM.size,
        min(count, _PN_XNUM),
        _SECTION.size if extended else 0,
        int(extended),
        0,  # no names of sections
    )
    programs = [_PROGRAM.pack(_PT_NOTE, 0, at, 0, 0, len(notes), len(notes), 0)]
    programs += _loads(pieces, segments, memory)
    return [
        ("elf header", elf_header + sections),
        ("program headers", b"".join(programs)),
        ("notes", notes.ljust(memory - at, b"\0")),
    ]


def _loads(pieces: Sequence[Piece], segments: Iterable[Segment], memory: int) -> Iterator[bytes]:
    """The program headers; `memory` is where the pieces begin in the file."""
    places = []
    for piece in pieces:
        places.append((piece, memory))
        memory += len(piece.content)
    for segment in segments:
        piece, offset = next(place for place in places if segment.gpa < place[0].end)
        offset += segment.gpa - piece.gpa
        yield _PROGRAM.pack(
            _PT_LOAD,
            segment.flags,
            offset,
            segment.gva,
            segment.gpa,
            segment.size,
            segment.size,
            0,
        )


def _note(content: bytes) -> bytes:
    name = b"CORE\0"
    return _NOTE.pack(len(name), len(content), _NT_PRSTATUS) + name.ljust(8, b"\0") + content
