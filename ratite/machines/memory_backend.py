"""Memory backends: where the host takes the guest's memory from.

Source: QEMU's manual, `-object memory-backend-*`; names of types and properties are its.
Not modelled: huge pages, persistent and read-only memory, contexts of threads.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from ratite.core.errors import ConfigError, HostError
from ratite.memory import PAGE_SIZE, RAMBlock, RamList
from ratite.memory.host import MAX_NODES, HostMemory, NumaPolicy, open_backing, sealed_file
from ratite.qom import Doc, Named, Object, PropertyGroup, Range, Size, UInt32


class HostMemPolicy(Enum):
    """Which host nodes the memory comes from."""

    DEFAULT = "default"
    PREFERRED = "preferred"
    BIND = "bind"
    INTERLEAVE = "interleave"


Nodes = Annotated[tuple[int, ...], Range("uint16", 0, 0xFFFF)]


@dataclass(frozen=True)
class MemoryOptions(PropertyGroup):
    """What every memory backend takes."""

    size: Annotated[Size, Doc("Size of the memory region (ex: 500M)")]
    prealloc: Annotated[bool, Doc("Preallocate memory")] = False
    prealloc_threads: Annotated[UInt32, Doc("Number of CPU threads to use for prealloc")] = 1
    dump: Annotated[bool, Doc("Set to 'off' to exclude from core dump")] = True
    merge: Annotated[bool, Doc("Let the host keep equal pages once")] = True
    reserve: Annotated[bool, Doc("Have the host refuse memory that it could not keep")] = True
    host_nodes: Annotated[Nodes, Doc("Binds memory to the list of NUMA host nodes")] = ()
    policy: Annotated[HostMemPolicy, Doc("Set the NUMA policy")] = HostMemPolicy.DEFAULT
    canonical_path: Annotated[
        bool,
        Named("x-use-canonical-path-for-ramblock-id"),
        Doc("name the memory after the object's path"),
    ] = False


Share = Annotated[bool, Doc("Mark the memory as private or shared")]


class MemoryBackend(Object):
    """Base of the memory backends."""

    type_name = "memory-backend"
    abstract = True

    in_use = False
    """Whether a machine has the memory."""

    def __init__(self, *, memory: MemoryOptions, share: Share = False) -> None:
        self.memory = memory
        self.share = share
        self.host_memory: HostMemory | None = None
        super().__init__()

    @property
    def size(self) -> int:
        """Bytes."""
        return self.memory.size

    @property
    def frozen(self) -> bool:
        """Properties are fixed from the start."""
        return True

    def complete(self) -> None:
        """Get the memory. Raises `ConfigError` or `HostError`."""
        self._check()
        memory = self._open()
        options = self.memory
        if not options.dump:
            memory.leave_out_of_dumps()
        if options.merge:
            memory.let_merge()
        if options.policy is not HostMemPolicy.DEFAULT:
            try:
                memory.bind(NumaPolicy[options.policy.name], options.host_nodes)
            except OSError as error:
                raise _refused("cannot bind memory to host NUMA nodes", error) from error
        if options.prealloc:
            try:
                memory.populate(options.prealloc_threads)
            except OSError as error:
                raise _refused("preallocating memory failed", error) from error
        self.host_memory = memory

    def _check(self) -> None:
        options = self.memory
        if not options.size:
            raise ConfigError(f"property 'size' of {self.type_name} doesn't take value '0'")
        if not 0 < options.prealloc_threads <= MAX_THREADS:
            raise ConfigError(
                f"property 'prealloc-threads' of {self.type_name} doesn't take value "
                f"'{options.prealloc_threads}'",
                hint=f"1 to {MAX_THREADS}",
            )
        if options.prealloc and not options.reserve:
            raise ConfigError("'prealloc=on' and 'reserve=off' are incompatible")
        for node in options.host_nodes:
            if node >= MAX_NODES:
                raise ConfigError(f"Invalid host-nodes value: {node}")
        if options.policy is HostMemPolicy.DEFAULT and options.host_nodes:
            raise ConfigError(
                "host-nodes must be empty for policy default, or you should explicitly specify a "
                "policy other than default"
            )
        if options.policy is not HostMemPolicy.DEFAULT and not options.host_nodes:
            raise ConfigError(f"host-nodes must be set for policy {options.policy.value}")

    @abstractmethod
    def _open(self) -> HostMemory:
        """The memory. Raises `ConfigError` or `HostError`."""

    def _map(self, fd: int) -> HostMemory:
        """The memory of a file, which is closed."""
        reserve = self.memory.reserve
        try:
            return HostMemory(self.size, fd, share=self.share, reserve=reserve)
        except OSError as error:
            raise _refused("unable to map backing store for guest RAM", error) from error
        finally:
            os.close(fd)

    def allocate(self, ram: RamList) -> RAMBlock:
        """The memory, as a block of a machine. Raises `ConfigError`."""
        if self.in_use:
            raise ConfigError(f"memory backend '{self.id}' can't be used multiple times.")
        assert self.host_memory is not None
        name = f"/objects/{self.id}" if self.memory.canonical_path else self.id
        block = ram.alloc(name, self.size, memory=self.host_memory)
        self.in_use = True
        return block

    def close(self) -> None:
        """Give the memory back, unless a machine has it."""
        self.host_memory = None


MAX_THREADS = 256


def _refused(text: str, error: OSError) -> HostError:
    return HostError(f"{text}: {error.strerror}", error.errno or 0)


class MemoryBackendRam(MemoryBackend):
    """Anonymous memory."""

    type_name = "memory-backend-ram"

    def __init__(self, *, memory: MemoryOptions, share: Share = False) -> None:
        super().__init__(memory=memory, share=share)

    def _open(self) -> HostMemory:
        try:
            memory = HostMemory(self.size, share=self.share, reserve=self.memory.reserve)
            memory.prefer_huge_pages()
            return memory
        except OSError as error:
            raise _refused(f"cannot set up guest memory '{self.id}'", error) from error


class MemoryBackendFile(MemoryBackend):
    """A file, made if it is not there. With `share` the guest's writes reach it."""

    type_name = "memory-backend-file"

    def __init__(
        self,
        *,
        memory: MemoryOptions,
        mem_path: Annotated[str, Doc("the file, or a directory for one without a name")],
        share: Share = False,
        align: Annotated[Size, Doc("what the size is rounded up to, a multiple of pages")] = 0,
        discard_data: Annotated[
            bool, Doc("the file need not keep its content when the memory goes")
        ] = False,
    ) -> None:
        self.mem_path = mem_path
        self.align = align
        self.discard_data = discard_data
        super().__init__(memory=memory, share=share)

    def _open(self) -> HostMemory:
        if self.align % PAGE_SIZE:
            raise ConfigError(
                f"alignment {self.align:#x} must be multiples of page size {PAGE_SIZE:#x}"
            )
        try:
            fd, made = open_backing(self.mem_path)
        except OSError as error:
            text = f"can't open backing store {self.mem_path} for guest RAM"
            raise _refused(text, error) from error
        unit = self.align or PAGE_SIZE
        try:
            there = os.fstat(fd).st_size
            if 0 < there < self.size:
                raise ConfigError(
                    f"backing store size {there:#x} does not match 'size' option {self.size:#x}"
                )
            whole = -(-self.size // unit) * unit
            if there < whole:
                os.ftruncate(fd, whole)
        except (OSError, OverflowError) as error:
            self._drop(fd, made)
            cause = error if isinstance(error, OSError) else _NO_ROOM
            raise _refused("unable to map backing store for guest RAM", cause) from error
        except ConfigError:
            os.close(fd)
            raise
        return self._map(fd)

    def _drop(self, fd: int, made: bool) -> None:
        os.close(fd)
        if made and os.path.isfile(self.mem_path):
            os.unlink(self.mem_path)

    def close(self) -> None:
        """Give the memory back, and the file's content if nobody wants it."""
        if self.discard_data and self.host_memory is not None:
            self.host_memory.forget_content()
        super().close()


_NO_ROOM = OSError(12, os.strerror(12))  # ENOMEM


class MemoryBackendMemfd(MemoryBackend):
    """A file without a name, which can be handed to other processes."""

    type_name = "memory-backend-memfd"

    def __init__(
        self,
        *,
        memory: MemoryOptions,
        share: Share = True,
        seal: Annotated[bool, Doc("Seal growing & shrinking")] = True,
    ) -> None:
        self.seal = seal
        super().__init__(memory=memory, share=share)

    def _open(self) -> HostMemory:
        name = f"memory-backend-memfd {self.id}"
        try:
            fd = sealed_file(name, self.size, seal=self.seal)
        except (OSError, OverflowError) as error:
            cause = error if isinstance(error, OSError) else _NO_ROOM
            raise _refused(f"failed to resize memfd to {self.size}", cause) from error
        return self._map(fd)
