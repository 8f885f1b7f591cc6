"""Kernels and firmware as files, right and wrong."""

from __future__ import annotations

import struct
from dataclasses import dataclass

RAM = 0x8000_0000
CODE = bytes.fromhex("6f000000")  # j .
ELF_SIZE = 0x200


@dataclass(frozen=True)
class Load:
    """A program header."""

    address: int = RAM
    file_size: int = 4
    size: int = 4
    offset: int = 0x100
    kind: int = 1


def elf(
    *loads: Load,
    entry: int = RAM,
    machine: int = 243,
    kind: int = 2,
    symbol_type: int = 0,
    **symbols: int,
) -> bytes:
    """An executable whose segments start with `CODE`, with these symbols."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in symbols)
    table = bytes(24)
    for name, value in symbols.items():
        at = names.index(name.encode() + b"\0")
        table += struct.pack("<IBBHQQ", at, 0x10 | symbol_type, 0, 1, value, 8)
    names_at = ELF_SIZE
    table_at = names_at + len(names)
    sections_at = table_at + len(table)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        *(kind, machine, 1, entry, 64, sections_at, 0, 64, 56, len(loads), 64, 3, 0),
    )
    for load in loads:
        header += struct.pack(
            "<IIQQQQQQ",
            *(load.kind, 7, load.offset, load.address, load.address),
            *(load.file_size, load.size, 0x1000),
        )
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, table_at, len(table), 2, 0, 8, 24)
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    return header.ljust(0x100, b"\0") + CODE * ((ELF_SIZE - 0x100) // 4) + names + table + sections


def image(size: int, length: int = 4096) -> bytes:
    """A kernel as Image, `length` bytes long, whose header says that it fills `size`."""
    header = bytearray(CODE.ljust(64, b"\0"))
    header[16:24] = size.to_bytes(8, "little")
    header[56:60] = b"RSC\x05"
    return bytes(header).ljust(length, b"\0")
