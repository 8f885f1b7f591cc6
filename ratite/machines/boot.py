"""Putting kernels, firmware and disks for RAM into guest memory.

Source: Linux Documentation/arch/riscv/boot-image-header.rst (Image header); ELF; OpenSBI's
fw_dynamic convention (firmware/fw_dynamic.h describes the structure).
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from ratite.core.errors import ConfigError, HostError
from ratite.core.signals import interruptible

IMAGE_MAGIC = b"RSC\x05"  # at offset 56
ELF_MAGIC, GZIP_MAGIC, ZSTD_MAGIC = b"\x7fELF", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
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


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that go to guest-physical `address`, again at every reset."""

    name: str
    address: int
    data: bytes

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + len(self.data)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded and where it starts."""

    entry: int
    blobs: tuple[Blob, ...]
    symbols: dict[str, int]

    @property
    def start(self) -> int:
        """Its lowest address."""
        return min(blob.address for blob in self.blobs)

    @property
    def end(self) -> int:
        """The first address after it."""
        return max(blob.end for blob in self.blobs)


def read_file(path: Path, option: str) -> bytes:
    """A file's content. Raises `HostError` naming the option."""
    try:
        with interruptible():  # a pipe's writer may never come
            return path.read_bytes()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise HostError(f"{option}: cannot read '{path}': {reason}", error.errno or 0) from error


def load_kernel(path: Path, address: int) -> Loaded:
    """A kernel as ELF, as Image, either compressed with gzip or zstd; anything else is taken as a
    flat binary at `address`."""
    data = decompress(read_file(path, "-kernel"), path)
    if data[:4] == ELF_MAGIC:
        return load_elf(data, path, "-kernel", address)
    _check_flat(data, path, "-kernel")
    size = len(data)
    if len(data) >= 64 and data[56:60] == IMAGE_MAGIC:
        size = max(size, int.from_bytes(data[16:24], "little"))
    padded = Blob("kernel", address, data)
    tail = Blob("kernel.bss", address + len(data), bytes(size - len(data)))
    return Loaded(address, (padded, tail) if size > len(data) else (padded,), {})


def _check_flat(data: bytes, path: Path, option: str) -> None:
    """Refuse a flat binary that is plainly something else. Raises `ConfigError`."""
    if not data:
        raise ConfigError(f"{option}: {path} is empty")
    for offset, magic, what in FOREIGN:
        if data[offset : offset + len(magic)] == magic:
            raise ConfigError(f"{option}: {path} is {what}, not code for this machine")
    if all(byte in TEXT for byte in data[:256]):
        raise ConfigError(f"{option}: {path} is text, neither ELF nor Image nor a flat binary")


def decompress(data: bytes, path: Path) -> bytes:
    """The content of a gzip or zstd file, or of an EFI zboot kernel; other data as it is."""
    if data[4:8] == EFI_ZBOOT_MAGIC:
        offset, size = struct.unpack_from("<II", data, 8)
        data = data[offset : offset + size]
    try:
        if data[:2] == GZIP_MAGIC:
            return gzip.decompress(data)
        if data[:4] == ZSTD_MAGIC:
            import zstandard

            reader = zstandard.ZstdDecompressor().decompressobj()
            unpacked = bytes(reader.decompress(data))
            if not reader.eof:
                raise ConfigError(f"-kernel: {path}: damaged compressed data: it ends too early")
            return unpacked
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"-kernel: {path}: damaged compressed data: {error}") from None
    except Exception as error:  # zstandard's own error type is imported with it
        if type(error).__module__.startswith("zstandard"):
            raise ConfigError(f"-kernel: {path}: damaged compressed data: {error}") from None
        raise
    return data


def load_elf(data: bytes, path: Path, option: str, address: int) -> Loaded:
    """A 64-bit little-endian RISC-V executable, at its physical addresses; one that is position
    independent and linked at 0, at `address`.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    try:
        elf = ELFFile(io.BytesIO(data))
        if elf["e_machine"] != "EM_RISCV" or elf.elfclass != 64 or not elf.little_endian:
            raise ConfigError(
                f"{option}: {path} is an ELF file for another machine ({elf['e_machine']})"
            )
        blobs: list[Blob] = []
        base = min((segment["p_paddr"] for segment in elf.iter_segments("PT_LOAD")), default=0)
        bias = address if elf["e_type"] == "ET_DYN" and base == 0 else 0
        for number, segment in enumerate(elf.iter_segments("PT_LOAD")):
            if segment["p_memsz"]:
                content = segment.data()
                place = segment["p_paddr"] + bias
                blobs.append(Blob(f"{path.name}.{number}", place, content))
                rest = segment["p_memsz"] - len(content)
                if rest > 0:
                    blobs.append(Blob(f"{path.name}.{number}.bss", blobs[-1].end, bytes(rest)))
        if not blobs:
            raise ConfigError(f"{option}: {path} has nothing to load")
        entry = _physical_entry(elf) + bias
        table = elf.get_section_by_name(".symtab")
        wanted = ("tohost", "fromhost")
        symbols = {}
        if isinstance(table, SymbolTableSection):
            for name in wanted:
                found = table.get_symbol_by_name(name)
                if found:
                    symbols[name] = int(found[0]["st_value"]) + bias
    except (ELFError, struct.error, ValueError) as error:
        raise ConfigError(f"{option}: {path}: damaged ELF file: {error}") from None
    return Loaded(entry, tuple(blobs), symbols)


def _physical_entry(elf: object) -> int:
    """The entry point, moved from virtual to physical as its segment is."""
    entry = int(elf["e_entry"])  # type: ignore[index]
    for segment in elf.iter_segments("PT_LOAD"):  # type: ignore[attr-defined]
        if segment["p_vaddr"] <= entry < segment["p_vaddr"] + segment["p_memsz"]:
            return int(entry - segment["p_vaddr"] + segment["p_paddr"])
    return entry


def load_firmware(path: Path, address: int) -> Loaded:
    """Firmware as ELF, or as a flat binary at `address`."""
    data = read_file(path, "-bios")
    if data[:4] == ELF_MAGIC:
        return load_elf(data, path, "-bios", address)
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
