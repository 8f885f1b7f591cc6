"""The form in which a machine's state travels: a header, then sections that describe themselves.

    header    8 bytes magic, u16 version, u16 flags, u32 CRC-32 of these
    section   u8 kind, u8 0, u16 length of the name, u32 length of the payload,
              name (UTF-8), payload, u32 CRC-32 of all that

All numbers are little-endian. The last section is END, whose payload is the number of sections
before it and a checksum over theirs. Payloads are msgpack, for RAM what `ratite.migration.pages`
says; nothing in a stream is ever executed. What comes in is believed only after its checksum, and
every length is bounded before memory is taken for it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

import msgspec

from ratite.core.errors import ConfigError

MAGIC = b"RATITE\x1a\n"
VERSION = 1
_HEADER = struct.Struct("<8sHH")
_SECTION = struct.Struct("<BBHI")
_CRC = struct.Struct("<I")
_END = struct.Struct("<QI")
MAX_NAME = 1 << 10
MAX_PAYLOAD = 16 << 20
_BIG_INT = 1
_INT64 = range(-(1 << 63), 1 << 64)


class StreamError(ConfigError):
    """A stream that is damaged, cut off, or not for this machine. The text names the section."""


class Flag(IntFlag):
    """Of a stream as a whole."""

    ANSWERS = 1
    """The sender reads answers from the same channel, and waits for them."""


NO_FLAGS = Flag(0)


class Kind(IntEnum):
    """What a section holds."""

    IDENTITY = 1
    RAM = 2
    STATE = 3
    END = 4
    ANSWER = 5
    GO = 6


@dataclass(frozen=True, slots=True)
class Section:
    """One section, checked."""

    kind: Kind
    name: str
    payload: bytes


def pack(value: Any) -> bytes:
    """Plain data as msgpack; integers of any size, enumerations as their numbers."""
    return msgspec.msgpack.encode(_packable(value))


def unpack(section: Section) -> Any:
    """The plain data of a section. Raises `StreamError`."""
    try:
        return msgspec.msgpack.decode(section.payload, ext_hook=_from_extension)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise StreamError(f"section '{section.name}' is damaged: it is not msgpack") from None


def _packable(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        number = int(value)
        if number in _INT64:
            return number
        size = number.bit_length() // 8 + 1
        return msgspec.msgpack.Ext(_BIG_INT, number.to_bytes(size, "little", signed=True))
    if isinstance(value, dict):
        return {key: _packable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_packable(item) for item in value]
    return value


def _from_extension(code: int, data: memoryview) -> int:
    if code != _BIG_INT or len(data) > 4096:
        raise ValueError("an extension that is not ours")
    return int.from_bytes(data, "little", signed=True)


class Writer:
    """Writes a stream through `write`, which takes bytes whole or raises."""

    def __init__(self, write: Callable[[bytes], object], flags: Flag = NO_FLAGS) -> None:
        self.written = 0
        self._write = write
        self._sections = 0
        self._total = 0
        header = _HEADER.pack(MAGIC, VERSION, flags)
        self._emit(header + _CRC.pack(zlib.crc32(header)))

    def redirect(self, write: Callable[[bytes], object]) -> None:
        """Write through this from now on."""
        self._write = write

    def section(self, kind: Kind, name: str, payload: bytes) -> None:
        """Write one section."""
        text = name.encode()
        assert len(text) <= MAX_NAME and len(payload) <= MAX_PAYLOAD
        head = _SECTION.pack(kind, 0, len(text), len(payload)) + text
        checksum = zlib.crc32(payload, zlib.crc32(head))
        self._sections += 1
        self._total = zlib.crc32(_CRC.pack(checksum), self._total)
        self._emit(b"".join((head, payload, _CRC.pack(checksum))))

    def end(self) -> None:
        """Write the section that says the stream is complete."""
        self.section(Kind.END, "end", _END.pack(self._sections, self._total))

    def _emit(self, data: bytes) -> None:
        self._write(data)
        self.written += len(data)


class Reader:
    """Reads a stream through `read`, which answers up to so many bytes, none at the end."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        """Raises `StreamError` if this is no stream of ours."""
        self._read = read
        self._sections = 0
        self._total = 0
        self._last = "header"
        magic = self._up_to(len(MAGIC))
        if not MAGIC.startswith(magic):
            raise StreamError("section 'header': this is not a saved ratite machine")
        rest = _HEADER.size + _CRC.size - len(magic)
        header = magic + self._exactly(rest, "section 'header'")
        _, version, flags = _HEADER.unpack_from(header)
        if _CRC.unpack_from(header, _HEADER.size)[0] != zlib.crc32(header[: _HEADER.size]):
            raise StreamError("section 'header' is damaged: checksum differs")
        if version > VERSION:
            raise StreamError(
                f"section 'header': the stream has version {version}; "
                f"this program reads up to {VERSION}"
            )
        self.flags = Flag(flags)

    def sections(self) -> Iterator[Section]:
        """The sections up to END, which is checked and not among them. Raises `StreamError`."""
        while True:
            before, total = self._sections, self._total
            section = self.section()
            if section.kind is Kind.END:
                if section.payload != _END.pack(before, total):
                    raise StreamError("section 'end' is damaged: sections before it are missing")
                return
            yield section

    def section(self) -> Section:
        """The next section. Raises `StreamError`."""
        place = f"the section after '{self._last}'"
        head = self._up_to(_SECTION.size)
        if not head:
            raise StreamError(
                f"section 'end' is missing: the stream ends after section '{self._last}'"
            )
        head += self._exactly(_SECTION.size - len(head), place)
        number, zero, name_size, payload_size = _SECTION.unpack(head)
        if name_size > MAX_NAME or payload_size > MAX_PAYLOAD or zero:
            raise StreamError(f"{place} is damaged: its lengths are impossible")
        raw = self._exactly(name_size, place)
        name = raw.decode("utf-8", "replace")
        shown = f"section '{name}'" if name.isprintable() else place
        payload = self._exactly(payload_size, shown)
        (checksum,) = _CRC.unpack(self._exactly(_CRC.size, shown))
        if checksum != zlib.crc32(payload, zlib.crc32(head + raw)):
            raise StreamError(f"{shown} is damaged: checksum differs")
        try:
            kind = Kind(number)
        except ValueError:
            raise StreamError(f"{shown} is of a kind that this program does not know") from None
        self._sections += 1
        self._last = name
        self._total = zlib.crc32(_CRC.pack(checksum), self._total)
        return Section(kind, name, payload)

    def _exactly(self, size: int, place: str) -> bytes:
        data = self._up_to(size)
        if len(data) < size:
            raise StreamError(f"{place} is cut off: the stream ends within it")
        return data

    def _up_to(self, size: int) -> bytes:
        """So many bytes, fewer only at the end of the stream."""
        parts: list[bytes] = []
        left = size
        while left and (data := self._read(left)):
            parts.append(data)
            left -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)
