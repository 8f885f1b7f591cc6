"""Memory backends: where the host takes the guest's memory from.

Source: QEMU's manual, `-object memory-backend-*`; names of types and properties are its.
Not modelled: NUMA policies, huge pages, merging of equal pages.
"""

from __future__ import annotations

import os
from typing import Annotated

from ratite.core.errors import ConfigError
from ratite.memory import RAMBlock, RamList
from ratite.qom import Doc, Object, Size

SizeText = Annotated[Size, Doc("Size of the memory region (ex: 500M)")]
ShareFlag = Annotated[bool, Doc("Mark the memory as private or shared")]
PreallocFlag = Annotated[bool, Doc("Preallocate memory")]
DumpFlag = Annotated[bool, Doc("accepted, without effect")]


class MemoryBackend(Object):
    """Base of the memory backends."""

    type_name = "memory-backend"
    abstract = True

    size: int
    share: bool
    prealloc: bool
    used = False

    @property
    def frozen(self) -> bool:
        """Properties are fixed from the start."""
        return True

    def complete(self) -> None:
        """Check the properties. Raises `ConfigError`."""
        if self.size == 0:
            raise ConfigError("can't create backend with size 0")

    def allocate(self, ram: RamList) -> RAMBlock:
        """The memory, as a block of a machine. Raises `ConfigError` or `HostError`."""
        if self.used:
            raise ConfigError(f"memory backend '{self.id}' can't be used multiple times.")
        block = self._allocate(ram)
        self.used = True
        if self.prealloc:
            for offset in range(0, block.size, block.page_size):
                block.view[offset] = block.view[offset]
        return block

    def _allocate(self, ram: RamList) -> RAMBlock:
        return ram.alloc(self.id, self.size)


class MemoryBackendRam(MemoryBackend):
    """Anonymous memory."""

    type_name = "memory-backend-ram"

    def __init__(
        self,
        *,
        size: SizeText = 0,
        share: ShareFlag = False,
        prealloc: PreallocFlag = False,
        dump: DumpFlag = True,
        merge: DumpFlag = True,
        reserve: DumpFlag = True,
    ) -> None:
        self.size, self.share, self.prealloc = size, share, prealloc
        self.dump, self.merge, self.reserve = dump, merge, reserve
        super().__init__()


class MemoryBackendFile(MemoryBackend):
    """A file, made or grown as needed. With `share` the guest's writes reach it."""

    type_name = "memory-backend-file"

    def __init__(
        self,
        *,
        mem_path: Annotated[str, Doc("the file")],
        size: SizeText = 0,
        share: ShareFlag = False,
        prealloc: PreallocFlag = False,
        discard_data: DumpFlag = False,
        dump: DumpFlag = True,
        merge: DumpFlag = True,
        reserve: DumpFlag = True,
    ) -> None:
        self.mem_path = mem_path
        self.size, self.share, self.prealloc = size, share, prealloc
        self.discard_data = discard_data
        self.dump, self.merge, self.reserve = dump, merge, reserve
        super().__init__()

    def _allocate(self, ram: RamList) -> RAMBlock:
        return ram.alloc(self.id, self.size, path=self.mem_path, share=self.share)


class MemoryBackendMemfd(MemoryBackend):
    """A file without a name, which can be handed to other processes."""

    type_name = "memory-backend-memfd"

    def __init__(
        self,
        *,
        size: SizeText = 0,
        share: ShareFlag = True,
        prealloc: PreallocFlag = False,
        seal: DumpFlag = True,
        dump: DumpFlag = True,
        merge: DumpFlag = True,
        reserve: DumpFlag = True,
    ) -> None:
        self.size, self.share, self.prealloc = size, share, prealloc
        self.seal, self.dump, self.merge, self.reserve = seal, dump, merge, reserve
        super().__init__()

    def _allocate(self, ram: RamList) -> RAMBlock:
        fd = os.memfd_create(f"memory-backend {self.id}", os.MFD_CLOEXEC)
        try:
            return ram.alloc(self.id, self.size, path=f"/proc/self/fd/{fd}", share=self.share)
        finally:
            os.close(fd)
