"""A node whose bytes are those of the node below it, or a part of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ratite.block.node import SECTOR, BlockNode
from ratite.block.options import RawOptions
from ratite.block.permission import Permission
from ratite.core.errors import ConfigError


class RawNode(BlockNode):
    """The node `below` from `offset` on. Raises `ConfigError` if that part is not there."""

    driver = "raw"

    options: RawOptions

    def __init__(self, name: str, options: RawOptions, below: BlockNode) -> None:
        super().__init__(name, options)
        check_part(options, below)
        self.use("file", below)

    @property
    def below(self) -> BlockNode:
        """The node below."""
        return self.children["file"].node

    @property
    def is_part(self) -> bool:
        """True if it may be less than the node below."""
        return self.options.offset is not None or self.options.size is not None

    @property
    def offset(self) -> int:
        """Where in the node below it begins."""
        return self.options.offset or 0

    @property
    def size(self) -> int:
        """Bytes, a multiple of 512."""
        if self.options.size is not None:
            return self.options.size
        return max(0, self.below.size - self.offset) // SECTOR * SECTOR

    @property
    def plain_filename(self) -> str:
        """That of the host's file, if it is the whole of one."""
        if self.is_part or not self.below.is_protocol:
            return ""
        return self.below.plain_filename

    @property
    def file(self) -> int:
        """That of the node below, if it is the whole of it."""
        return -1 if self.is_part else self.below.file

    def describe_options(self) -> Mapping[str, object]:
        """The node below, and which part of it."""
        part = {"offset": self.options.offset, "size": self.options.size}
        given = {key: value for key, value in part.items() if value is not None}
        return {**super().describe_options(), **given}

    def needs_below(
        self, role: str, uses: Permission, shares: Permission
    ) -> tuple[Permission, Permission]:
        """A part cannot share that the whole changes its size."""
        return uses, shares & ~Permission.RESIZE if self.is_part else shares

    def resize(self, size: int) -> None:
        """Change the size of the node below. Raises `ConfigError` or `HostError`."""
        if self.options.size is not None:
            raise ConfigError("Cannot resize fixed-size raw disks")
        self.below.resize(size + self.offset)

    def read_cached(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Fill `buffers` if the node below can without waiting."""
        if not self.is_part:
            return self.below.read_cached(offset, buffers)
        if offset < 0 or offset + sum(map(len, buffers)) > self.size:
            return False
        return self.below.read_cached(offset + self.offset, buffers)

    def _readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        self.below.readv(offset + self.offset, buffers)

    def _writev(self, offset: int, buffers: Sequence[memoryview]) -> None:
        self.below.writev(offset + self.offset, buffers)

    def _flush(self) -> None:
        self.below.flush()

    def _discard(self, offset: int, size: int) -> None:
        self.below.discard(offset + self.offset, size)

    def _write_zeroes(self, offset: int, size: int, *, unmap: bool) -> None:
        self.below.write_zeroes(offset + self.offset, size, unmap=unmap)


def check_part(options: RawOptions, below: BlockNode) -> None:
    """Raise `ConfigError` if the node below does not have this part."""
    offset, size = options.offset or 0, options.size
    for name, value in (("offset", offset), ("size", size or 0)):
        if not 0 <= value < 1 << 64:
            raise ConfigError(f"Parameter '{name}' expects a non-negative number below 2^64")
    whole = below.size
    if offset > whole:
        raise ConfigError(
            f"Offset ({offset}) cannot be greater than size of the containing file ({whole})"
        )
    if size is None:
        return
    if whole - offset < size:
        raise ConfigError(
            f"The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the "
            f" actual size of the containing file ({whole})"
        )
    if size % SECTOR:
        raise ConfigError("Specified size is not multiple of 512")
