"""Regions: which blocks are compiled together.

A region grows from a hot block along the edges that tier 0 has really taken: exits that are linked,
direct calls and their returns, and the last target of each indirect jump. Blocks keep the addresses
they were translated for; where an edge crosses to another page, the compiled code checks that the
page is still mapped where it was.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from ratite.cpu.block import EXIT_SIZE, RECORD_SIZE
from ratite.cpu.machine import BLOCK_HEADER, NO_PAGE, RETIRED_MODE, Block
from ratite.isa.decoder import Leaf
from ratite.isa.spec import Insn

PAGE_MASK = ~0xFFF
REGION, PLACE = "region", "region.place"
"""Symbols of a compiled region: its code, and what it learns when it is installed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a region may grow."""

    blocks: int
    instructions: int
    entries: int


SMALL = Limits(blocks=32, instructions=160, entries=8)
NOTHING: Mapping[int, Iterable[int]] = MappingProxyType({})
LARGE = Limits(blocks=96, instructions=480, entries=1)
"""For regions in which much of the guest's time goes: they are worth the compiler's."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One guest instruction: what it is, its operands as a record holds them, its place."""

    insn: Insn
    operands: dict[str, int]
    pc: int
    length: int

    @property
    def next_pc(self) -> int:
        """The address after it."""
        return self.pc + self.length

    @property
    def displacement(self) -> int | None:
        """Of a direct jump: from its pc to its target."""
        for operand in self.insn.operands:
            if operand.kind.pc_relative:
                return self.operands[operand.name]
        return None


class CodeReader(Protocol):
    """Decodes guest code for a mode."""

    def decode(
        self, code: bytes, offset: int, mode: int
    ) -> tuple[Leaf, dict[str, int], int] | None:
        """Row, operands and length of the instruction at `offset`; None if it is none."""


@dataclass(slots=True)
class RegionBlock:
    """A member of a region."""

    address: int  # host address of its header
    pc: int
    ram_pc: int
    instructions: tuple[Decoded, ...]
    code: bytes
    successors: list[int] = field(default_factory=list)  # pcs that control was seen to go to

    @property
    def count(self) -> int:
        """Instructions."""
        return len(self.instructions)

    @property
    def last(self) -> Decoded:
        """The instruction that ends it."""
        return self.instructions[-1]

    @property
    def end_pc(self) -> int:
        """The address after it."""
        return self.last.next_pc

    @property
    def is_call(self) -> bool:
        """Whether it ends by writing the return address."""
        return self.last.operands.get("rd") == 1


@dataclass(slots=True)
class Region:
    """Blocks to be compiled as one function; the first is the entry."""

    mode: int
    fetch_index: int  # the softmmu TLB that its code is fetched through
    blocks: list[RegionBlock]
    limits: Limits

    @property
    def entry(self) -> RegionBlock:
        """Where it is entered."""
        return self.blocks[0]

    @property
    def entries(self) -> list[int]:
        """Numbers of the blocks that it may be entered at: the first, and those that loops go back
        to.
        """
        order = {block.pc: number for number, block in enumerate(self.blocks)}
        found = {0}
        for number, block in enumerate(self.blocks):
            found.update(order[pc] for pc in _edges(block) if order.get(pc, number + 1) <= number)
        return sorted(found)[: self.limits.entries]

    @property
    def instructions(self) -> int:
        """Guest instructions in it."""
        return sum(block.count for block in self.blocks)


@dataclass(frozen=True, slots=True)
class RawBlock:
    """A block as the cache knows it: place, mode and bytes."""

    address: int
    pc: int
    ram_pc: int
    mode: int
    fetch_index: int
    code: bytes


def read_raw(address: int) -> RawBlock | None:
    """A block's place and bytes. None if it was retired, lies on two pages, or is empty."""
    header = Block(address).plain()
    if header.mode == RETIRED_MODE or header.second_ram != NO_PAGE or not header.size:
        return None
    code = ctypes.string_at(header.code, header.size)
    return RawBlock(address, header.pc, header.ram_pc, header.mode, header.fetch_index, code)


def read_block(
    address: int, reader: CodeReader, seen: Mapping[int, Iterable[int]] = NOTHING
) -> RegionBlock | None:
    """Decode a block from guest memory. None if it was retired, lies on two pages, or is empty."""
    raw = read_raw(address)
    if raw is None:
        return None
    instructions = []
    offset = 0
    while offset < len(raw.code):
        found = reader.decode(raw.code, offset, raw.mode)
        if found is None:
            return None
        leaf, operands, length = found
        instructions.append(Decoded(leaf.insn, operands, raw.pc + offset, length))
        offset += length
    if len(instructions) != int(Block(address).count):
        return None
    block = RegionBlock(address, raw.pc, raw.ram_pc, tuple(instructions), raw.code)
    block.successors = _successors(address, block)
    if block.last.displacement is None:
        block.successors += [pc for pc in seen.get(block.last.pc, ()) if pc not in block.successors]
    return block


def _successors(address: int, block: RegionBlock) -> list[int]:
    """Guest addresses that the block's exits are linked to, or, for an indirect jump, last went
    to.
    """
    first = address + BLOCK_HEADER + block.count * RECORD_SIZE
    if block.last.insn.ends_block:
        return []
    if block.last.displacement is None:
        return [ctypes.c_uint64.from_address(first + RECORD_SIZE + 8).value]
    found = []
    for number in range(2):
        exit_record = first + number * EXIT_SIZE
        target = ctypes.c_uint64.from_address(exit_record + 8).value
        if target != exit_record + RECORD_SIZE:
            found.append(int(Block(target).pc))
    return found


def grow(
    entry: int,
    reader: CodeReader,
    find: BlockFinder,
    is_warm: Callable[[int], bool],
    seen: Mapping[int, Iterable[int]],
    limits: Limits,
) -> Region | None:
    """The region of a hot block: it, and what follows that is warm, too (`is_warm`, by a block's
    address). `seen` says where indirect jumps went, by their pc. None if it cannot be compiled.
    """
    first = read_block(entry, reader, seen)
    if first is None or not first.instructions:
        return None
    mode = int(Block(entry).mode)
    region = Region(mode, int(Block(entry).fetch_index), [first], limits)
    known = {first.pc}
    work = deque([first])
    total = first.count
    while work and len(region.blocks) < limits.blocks:
        block = work.popleft()
        for pc in _edges(block):
            if pc in known:
                continue
            address = find(pc, mode)
            if address is None or not is_warm(address):
                continue
            following = read_block(address, reader, seen)
            if following is None or total + following.count > limits.instructions:
                continue
            known.add(pc)
            region.blocks.append(following)
            work.append(following)
            total += following.count
            if len(region.blocks) >= limits.blocks:
                break
    return region


def _edges(block: RegionBlock) -> list[int]:
    """Where control may go that is worth compiling: seen successors first, then static ones."""
    last = block.last
    edges = list(block.successors)
    displacement = last.displacement
    if displacement is not None:
        target = last.pc + displacement & 0xFFFF_FFFF_FFFF_FFFF
        if target not in edges:
            edges.append(target)
        if block.is_call:  # its return comes back here
            edges.append(last.next_pc)
    if not last.insn.ends_block and block.end_pc not in edges and displacement is None:
        edges.append(block.end_pc)
    return edges


class BlockFinder(Protocol):
    """Finds translated blocks."""

    def __call__(self, pc: int, mode: int) -> int | None:
        """Host address of the current block of a pc in a mode; None if it was never executed."""
