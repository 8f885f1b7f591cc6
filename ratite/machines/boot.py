"""Putting kernels, firmware and disks for RAM into guest memory.

Source: Linux Documentation/arch/riscv/boot-image-header.rst (Image header); ELF; OpenSBI's
fw_dynamic convention (firmware/fw_dynamic.h describes the structure).
"""

from __future__ import annotations

import gzip
import io
import mmap
import os
import select
import stat
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ratite.core.errors import ConfigError, HostError
from ratite.core.signals import interruptible
from ratite.core.size import GiB, KiB, MiB, format_size
from ratite.core.symbols import Symbol
from ratite.machines.elf import MAGIC as ELF_MAGIC
from ratite.machines.elf import Content, ElfError, ForeignElfError, read_elf, read_functions

IMAGE_MAGIC = b"RSC\x05"  # at offset 56
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
EFI_ZBOOT_MAGIC = b"zimg"
CPIO_MAGICS = (b"070701", b"070702")
FW_DYNAMIC_MAGIC = 0x4942_534F  # "OSBI"
FOREIGN = (  # offset, what is there, and what that is
    (0x38, b"ARM\x64", "a kernel for Arm"),
    (0x202, b"HdrS", "a kernel for x86"),
    (0, b"070701", "a cpio archive (-initrd takes those)"),
    (0, b"!<arch>\n", "an archive"),
    (0, b"QFI\xfb", "a qcow2 disk image"),
    (0, b"\xd0\x0d\xfe\xed", "a device tree (-dtb takes those)"),
    (0, b"\x27\x05\x19\x56", "a U-Boot image"),
    (0, b"\x7fELF", "an ELF file"),
)
TEXT = frozenset(b"\t\n\f\r") | frozenset(range(0x20, 0x7F))
HTIF_SYMBOLS = ("tohost", "fromhost")
STREAM_LIMIT = GiB  # of what is unpacked, or comes from a pipe or a device: nobody knows its size
_PIECE = MiB
_PACKED_PIECE = 4 * KiB  # unpacks to 128 MiB at most


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that go to guest-physical `address`, and zeros behind them, again at every reset. The
    first `preamble` bytes are of no use to a guest: they go where there is memory for them.
    """

    name: str
    address: int
    data: bytes
    zeros: int = 0
    preamble: int = 0

    @property
    def size(self) -> int:
        """How much memory it fills, in bytes."""
        return len(self.data) + self.zeros

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + self.size

    @property
    def span(self) -> str:
        """Its addresses, for people."""
        return f"{self.address:#x} to {self.end - 1:#x}"

    def without(self, count: int) -> Blob:
        """The rest after the first `count` bytes of the preamble."""
        return replace(
            self,
            address=self.address + count,
            data=self.data[count:],
            preamble=self.preamble - count,
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded and where it starts."""

    entry: int
    blobs: tuple[Blob, ...]
    symbols: dict[str, int]
    functions: Callable[[], Sequence[Symbol]] = tuple
    """Reads the functions that it names."""

    @property
    def start(self) -> int:
        """Its lowest address, but for preambles."""
        return min(blob.address + blob.preamble for blob in self.blobs)

    @property
    def end(self) -> int:
        """The first address after it."""
        return max(blob.end for blob in self.blobs)


def read_file(path: Path, option: str, limit: int) -> bytes:
    """A file's content, of at most `limit` bytes. A pipe is read to its end, and may be waited for
    until a signal comes. Raises `HostError` or `ConfigError` naming the option.
    """
    content = _read(path, option, limit, map_elf=False)
    assert isinstance(content, bytes)
    return content


def _read(path: Path, option: str, limit: int, *, map_elf: bool) -> Content:
    """As `read_file`; with `map_elf`, a regular ELF file is mapped instead if it is longer: most of
    it may be for debuggers.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(handle)
            if stat.S_ISREG(found.st_mode) and found.st_size > limit:
                if map_elf and os.pread(handle, len(ELF_MAGIC), 0) == ELF_MAGIC:
                    return mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
                size = format_size(found.st_size)
                raise ConfigError(
                    f"{option}: {path} ({size}) is larger than guest memory ({format_size(limit)})"
                )
            if stat.S_ISREG(found.st_mode):
                return _read_to_end(handle, path, option, limit)
            return _read_to_end(handle, path, option, min(limit, STREAM_LIMIT), patient=True)
        finally:
            os.close(handle)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise HostError(f"{option}: cannot read '{path}': {reason}", error.errno or 0) from error


def _read_to_end(
    handle: int, path: Path, option: str, limit: int, *, patient: bool = False
) -> bytes:
    data = bytearray()
    while True:
        if patient:
            _await_input(handle)
        try:
            piece = os.read(handle, _PIECE)
        except BlockingIOError:
            continue
        if not piece:
            return bytes(data)
        data += piece
        if len(data) > limit:
            raise ConfigError(f"{option}: {path} does not end after {format_size(limit)}")


def _await_input(handle: int) -> None:
    """Wait until there is something to read, or the end: a pipe's writer may never come."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    with interruptible():
        poll.poll()


def load_kernel(path: Path, address: int, limit: int) -> Loaded:
    """A kernel as ELF, as Image, either compressed with gzip or zstd; anything else is taken as a
    flat binary at `address`. No more than `limit` bytes are read or unpacked. Raises `HostError` or
    `ConfigError`.
    """
    content = _read(path, "-kernel", limit, map_elf=True)
    if content[:4] == ELF_MAGIC:
        return load_elf(content, path, "-kernel", address, limit)
    data = decompress(bytes(content), path, limit)
    if data[:4] == ELF_MAGIC:
        return load_elf(data, path, "-kernel", address, limit)
    _check_flat(data, path, "-kernel")
    size = len(data)
    if len(data) >= 64 and data[56:60] == IMAGE_MAGIC:
        size = max(size, int.from_bytes(data[16:24], "little"))
    return Loaded(address, (Blob("kernel", address, data, size - len(data)),), {})


def _check_flat(data: bytes, path: Path, option: str) -> None:
    """Refuse a flat binary that is plainly something else. Raises `ConfigError`."""
    if not data:
        raise ConfigError(f"{option}: {path} is empty")
    for offset, magic, what in FOREIGN:
        if data[offset : offset + len(magic)] == magic:
            raise ConfigError(f"{option}: {path} is {what}, not code for this machine")
    if all(byte in TEXT for byte in data[:256]):
        raise ConfigError(f"{option}: {path} is text, neither ELF nor Image nor a flat binary")


def decompress(data: bytes, path: Path, limit: int) -> bytes:
    """The content of a gzip or zstd file, or of an EFI zboot kernel; other data as it is. Raises
    `ConfigError` if it is damaged, or longer than `limit`.
    """
    limit = min(limit, STREAM_LIMIT)
    if data[4:8] == EFI_ZBOOT_MAGIC and len(data) >= 16:
        offset, size = struct.unpack_from("<II", data, 8)
        if offset + size > len(data):
            raise ConfigError(f"-kernel: {path}: damaged EFI zboot image: it ends too early")
        data = data[offset : offset + size]
    try:
        if data[:2] == GZIP_MAGIC:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                unpacked = file.read(limit + 1)
        elif data[:4] == ZSTD_MAGIC:
            unpacked = _decompress_zstd(data, path, limit)
        else:
            return data
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"-kernel: {path}: damaged compressed data: {error}") from None
    if len(unpacked) > limit:
        raise ConfigError(
            f"-kernel: {path} unpacks to more than there is room for ({format_size(limit)})"
        )
    return unpacked


def _decompress_zstd(data: bytes, path: Path, limit: int) -> bytes:
    """What a zstd file unpacks to, or more than `limit` bytes of it."""
    import zstandard

    reader = zstandard.ZstdDecompressor().decompressobj()
    unpacked = bytearray()
    try:
        for at in range(0, len(data), _PACKED_PIECE):
            unpacked += reader.decompress(data[at : at + _PACKED_PIECE])
            if reader.eof or len(unpacked) > limit:
                return bytes(unpacked)
    except (zstandard.ZstdError, MemoryError) as error:  # it may announce a window that is absurd
        raise ConfigError(f"-kernel: {path}: damaged compressed data: {error}") from None
    raise ConfigError(f"-kernel: {path}: damaged compressed data: it ends too early")


def load_elf(content: Content, path: Path, option: str, address: int, limit: int) -> Loaded:
    """A 64-bit little-endian RISC-V executable, at its physical addresses; one that is position
    independent and linked at 0, at `address`. Raises `ConfigError` if it is damaged, for another
    machine, or loads more than `limit` bytes.
    """
    try:
        elf = read_elf(content, HTIF_SYMBOLS)
    except ForeignElfError as error:
        raise ConfigError(
            f"{option}: {path} is an ELF file for another machine ({error})"
        ) from None
    except ElfError as error:
        raise ConfigError(f"{option}: {path}: damaged ELF file: {error}") from None
    if not elf.segments:
        raise ConfigError(f"{option}: {path} has nothing to load")
    total = sum(segment.file_size for segment in elf.segments)
    if total > limit:
        raise ConfigError(
            f"{option}: {path} has {format_size(total)} to load, more than guest memory "
            f"({format_size(limit)})"
        )
    lowest = min(segment.physical for segment in elf.segments)
    bias = address if elf.movable and lowest == 0 else 0
    blobs = tuple(
        Blob(
            f"{path.name}.{number}",
            segment.physical + bias,
            bytes(content[segment.offset : segment.offset + segment.file_size]),
            segment.size - segment.file_size,
            segment.preamble,
        )
        for number, segment in enumerate(elf.segments)
    )
    symbols = {name: value + bias for name, value in elf.symbols.items()}
    functions = partial(_functions, path.absolute(), limit, bias)
    return Loaded(elf.physical_entry + bias, blobs, symbols, functions)


def _functions(path: Path, limit: int, bias: int) -> list[Symbol]:
    """What a loaded executable names, read once more: few runs want to know. Nothing if the file
    has gone or changed.
    """
    try:
        if not path.is_file():
            return []
        content = _read(path, "-kernel", limit, map_elf=True)
        if content[:4] != ELF_MAGIC:
            content = decompress(bytes(content), path, limit)
        return [replace(symbol, start=symbol.start + bias) for symbol in read_functions(content)]
    except (ConfigError, HostError, ElfError):
        return []


def is_elf(path: Path) -> bool:
    """Whether this is a regular file that starts as ELF does."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(ELF_MAGIC)) == ELF_MAGIC
    except OSError:
        return False


def load_firmware(path: Path, address: int, limit: int) -> Loaded:
    """Firmware as ELF, or as a flat binary at `address`, of at most `limit` bytes. Raises
    `HostError` or `ConfigError`.
    """
    content = _read(path, "-bios", limit, map_elf=True)
    if content[:4] == ELF_MAGIC:
        return load_elf(content, path, "-bios", address, limit)
    data = bytes(content)
    _check_flat(data, path, "-bios")
    return Loaded(address, (Blob(str(path), address, data),), {})


def fw_dynamic_info(next_address: int, next_mode: int) -> bytes:
    """The structure that OpenSBI's fw_dynamic reads at a2: version 2, where to go and in which
    mode.
    """
    return struct.pack("<QQQQQQ", FW_DYNAMIC_MAGIC, 2, next_address, next_mode, 0, 0)


def check_cpio(data: bytes, path: Path) -> None:
    """Raise `ConfigError` unless a kernel could take this as an initial RAM disk: a cpio archive,
    or compressed.
    """
    compressed = (
        GZIP_MAGIC,
        ZSTD_MAGIC,
        b"\xfd7zXZ",
        b"BZh",
        b"\x5d\0\0",
        b"\x02!L\x18",
        b"\x89LZO",
        b'\x04"M\x18',
    )
    filesystems = (b"\x1f\x8b", b"hsqs")
    if (
        not data.startswith((*CPIO_MAGICS, *compressed, *filesystems))
        and data[1080:1082] != b"\x53\xef"
    ):
        raise ConfigError(
            f"-initrd: {path} is neither a cpio archive nor compressed data nor a file system image"
        )
