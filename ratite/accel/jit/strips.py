"""Innermost loops, cut into strips.

The accesses of a loop often walk through memory by constant steps, or stay where they are. How
often the loop can go round before one of them reaches the end of its page is known beforehand. So
its blocks are written a second time, without the comparisons that such accesses have otherwise:
before that text is entered, the pages are looked up, and the rounds are counted down. When they are
up, or where a page is not there, the other text of the loop goes on, and comes back here at the end
of its round.

A store compares with its entry of the TLB all the same: another vCPU may translate code from its
page meanwhile. But where that entry is has been found out before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratite.accel.jit.accesses import STATE, Access
from ratite.accel.jit.region import PAGE_MASK, Region, RegionBlock
from ratite.accel.jit.registers import Registers
from ratite.cpu.space import TlbEntry
from ratite.isa.state import READ

if TYPE_CHECKING:
    from ratite.accel.jit.full import FullRegionText

PAGE = 4096
MOST_ROUNDS = 512
"""After which a strip looks whether anybody wants something."""
FIRST_ROUNDS = 15
"""Of a loop, before its second text is entered."""
LONGEST_STEP, WIDEST = 512, 1024
"""Bytes: with more, a strip would have too few rounds to be worth looking pages up before it."""
MOST_INSTRUCTIONS, MOST_WITH_FLOATS = 12, 8
"""Of a loop that is worth writing twice: most larger ones go round but a few times, and with more
text LLVM finds registers for less of it."""
LARGE_REGION = 200
"""Instructions of a region that is too large for second texts."""

Sum = tuple[int, int]
"""What a register holds: the value that another one, by its offset in the state, had when a block
or a round began, plus a number."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is known of a block that has been written."""

    accesses: tuple[Access, ...]
    origins: Mapping[str, int]  # registers, by the LLVM values they had when it began
    registers: Registers  # at its end
    wavering: frozenset[int]  # registers that it writes on one of several paths

    def ends_with(self, register: int) -> Sum | None:
        """What a register holds at the end; None if that is nothing simple."""
        if register in self.wavering:
            return None
        if register not in self.registers.touched:
            return register, 0
        value = self.registers.known(register, "i64")
        place = self.registers.place(value) if value is not None else None
        if place is None or place.base not in self.origins:
            return None
        return self.origins[place.base], place.displacement

    @property
    def touched(self) -> set[int]:
        """Registers that it reads or writes."""
        return {*self.registers.touched, *self.wavering}


@dataclass(frozen=True, slots=True)
class Stream:
    """The accesses of a loop by way of one register."""

    register: int  # its offset in the state
    low: int  # from its value at the start of a round: the first byte
    end: int  # and the one after the last
    kind: int  # READ, WRITE or both
    step: int  # what a round adds to it


@dataclass(frozen=True, slots=True)
class Found:
    """Where a stream's page is, as LLVM values."""

    page: str
    tag: str  # pointer to the tag of its entry in the TLB
    addend: str  # from guest to host addresses


Following = Callable[[RegionBlock], Iterable[RegionBlock]]
"""Names the blocks that control may go to from one."""


def find_loops(
    region: Region, head: RegionBlock, following: Following, most: int
) -> list[list[RegionBlock]]:
    """The innermost loops that begin at a block, the smallest first, and each with the next ones
    added, as long as they have no more than `most` instructions; each block after those that lead
    to it.
    """
    before: dict[int, list[RegionBlock]] = {}
    for block in region.blocks:
        for other in following(block):
            before.setdefault(other.pc, []).append(block)
    loops = [_blocks_between(head, tail, before) for tail in before.get(head.pc, ())]
    found = []
    members: dict[int, RegionBlock] = {}
    for loop in sorted(loops, key=len):
        if region.entry.pc in loop and region.entry is not head:
            continue  # there is a way to it that does not pass its head
        joined = {**members, **loop}
        order = _in_order(head, joined, following)
        if order and sum(block.count for block in order) <= most:
            members = joined
            found.append(order)
    return found


def _blocks_between(
    head: RegionBlock, tail: RegionBlock, before: Mapping[int, list[RegionBlock]]
) -> dict[int, RegionBlock]:
    """By pc: those on the ways from one block to another that leads back to it."""
    found = {head.pc: head}
    work = [tail]
    while work:
        block = work.pop()
        if block.pc not in found:
            found[block.pc] = block
            work += before.get(block.pc, ())
    return found


def _in_order(
    head: RegionBlock, members: Mapping[int, RegionBlock], following: Following
) -> list[RegionBlock]:
    """Each after those that lead to it; empty if there is a loop within, or another page."""
    if any((pc ^ head.pc) & PAGE_MASK for pc in members):
        return []
    ways = {
        pc: {other.pc for other in following(block)} & members.keys() - {head.pc}
        for pc, block in members.items()
    }
    waiting = Counter(other for ways_on in ways.values() for other in ways_on)
    order, ready = [], [head]
    while ready:
        block = ready.pop()
        order.append(block)
        for pc in sorted(ways[block.pc]):
            waiting[pc] -= 1
            if not waiting[pc]:
                ready.append(members[pc])
    return order if len(order) == len(members) else []


def best_strip(
    region: FullRegionText, head: RegionBlock, contents: Mapping[int, Contents]
) -> Strip | None:
    """The largest of a block's loops that has the streams of the smaller ones; None if there is
    none with streams.
    """
    best: Strip | None = None
    if region.region.instructions > LARGE_REGION:
        return None
    most = MOST_WITH_FLOATS if region.has_floats else MOST_INSTRUCTIONS
    for blocks in find_loops(region.region, head, region.following, most):
        strip = Strip(region, blocks, contents)
        if best is None or {s.register for s in best.streams} <= {
            s.register for s in strip.streams
        }:
            best = strip
    return best if best is not None and best.streams else None


class Strip:
    """Writes what goes before the second text of a loop, and counts its rounds."""

    def __init__(
        self,
        region: FullRegionText,
        blocks: list[RegionBlock],
        contents: Mapping[int, Contents],
    ) -> None:
        self._region = region
        self._emit = region.emit
        self.blocks = blocks
        self._pcs = {block.pc for block in blocks}
        self._contents = contents
        self._starts: dict[int, dict[int, Sum | None]] = {self.head.pc: {}}
        """By block: what registers hold where it begins that is not their value at the start of the
        round."""
        self._rounds = region.fresh()
        self.streams = self._find_streams()
        self.found: dict[int, Found] = {}
        """By register."""

    @property
    def head(self) -> RegionBlock:
        """Where a round begins."""
        return self.blocks[0]

    def label(self, pc: int) -> str | None:
        """That of a block's second text; None if it is not of the loop."""
        return f"strip.{self.head.pc:x}.{pc:x}" if pc in self._pcs else None

    def _find_streams(self) -> list[Stream]:
        ends: list[dict[int, Sum | None]] = []
        streams: dict[int, Stream] = {}
        for block in self.blocks:
            end = self._after(block)
            for other in self._region.following(block):
                if other.pc == self.head.pc:
                    ends.append(end)
                elif other.pc in self._pcs:
                    before = self._starts.get(other.pc)
                    self._starts[other.pc] = dict(end) if before is None else _merged(before, end)
            contents = self._contents[block.pc]
            for access in contents.accesses:
                base = self._at_start(block, contents.origins.get(access.place.base))
                if base is not None:
                    register, distance = base
                    low = distance + access.place.displacement
                    found = Stream(register, low, low + access.size, access.kind, 0)
                    streams[register] = _joined(streams.get(register), found)
        return [
            Stream(stream.register, stream.low, stream.end, stream.kind, step)
            for stream in streams.values()
            if (step := _step(stream.register, ends)) is not None
            and abs(step) <= LONGEST_STEP
            and stream.end - stream.low <= WIDEST
        ]

    def _after(self, block: RegionBlock) -> dict[int, Sum | None]:
        start, contents = self._starts[block.pc], self._contents[block.pc]
        end = dict(start)
        for register in contents.touched:
            last = contents.ends_with(register)
            origin = start.get(last[0], (last[0], 0)) if last is not None else None
            end[register] = (
                (origin[0], origin[1] + last[1])
                if last is not None and origin is not None
                else None
            )
        return end

    def _at_start(self, block: RegionBlock, register: int | None) -> Sum | None:
        """What a register held when the block began, by what there was when the round did."""
        if register is None:
            return None
        return self._starts[block.pc].get(register, (register, 0))

    def stream_of(self, block: RegionBlock, register: int | None) -> Found | None:
        """Where the page is that accesses by a register go to, as it was when the block began."""
        base = self._at_start(block, register)
        return None if base is None else self.found.get(base[0])

    # -- text

    def look_up(self, more: str, otherwise: str) -> None:
        """Find the pages of all streams, and go to the second text, or elsewhere if one is not
        there. That is done after some rounds, since most loops have but few; a label `more` is for
        those that have had many.
        """
        emit = self._emit
        # In memory: a value that LLVM keeps would be carried along through all of the region.
        waiting = self._region.fresh()
        self._region.allocas += [
            f"  {self._rounds} = alloca i64",
            f"  {waiting} = alloca i64",
            f"  store volatile i64 {FIRST_ROUNDS}, ptr {waiting}",
        ]
        before = emit(f"load volatile i64, ptr {waiting}")
        ready, wait = emit(f"icmp eq i64 {before}, 0"), self._region.label("wait")
        self._region.line(f"  br i1 {ready}, label %{more}, label %{wait}")
        self._region.line(f"{wait}:")
        less = emit(f"sub i64 {before}, 1")
        self._region.line(f"  store volatile i64 {less}, ptr {waiting}")
        self._region.line(f"  br label %{otherwise}")
        self._region.line(f"{more}:")
        self._region.line(f"  store volatile i64 {FIRST_ROUNDS}, ptr {waiting}")
        good, rounds = "true", str(MOST_ROUNDS)
        for stream in self.streams:
            start = emit(f"load i64, ptr {self._region.slot(stream.register)}")
            address = emit(f"add i64 {start}, {stream.low}")
            page = emit(f"and i64 {address}, {-PAGE}")
            entry = self._region.access_text.entry(address)
            tag_at = self._region.access_text.tag_of(stream.kind)
            tag = emit(f"getelementptr inbounds i8, ptr {entry}, i64 {tag_at}")
            found = emit(f"load i64, ptr {tag}, {STATE}")
            hit = emit(f"icmp eq i64 {found}, {page}")
            place = emit(f"getelementptr inbounds i8, ptr {entry}, i64 {TlbEntry.addend.offset}")
            addend = emit(f"load i64, ptr {place}, {STATE}")
            behind = emit(f"and i64 {address}, {PAGE - 1}")
            room = emit(f"sub i64 {PAGE - (stream.end - stream.low)}, {behind}")
            fits = emit(f"icmp sge i64 {room}, 0")
            both = emit(f"and i1 {hit}, {fits}")
            good = emit(f"and i1 {good}, {both}")
            if stream.step:
                way = room if stream.step > 0 else behind
                steps = emit(f"udiv i64 {way}, {abs(stream.step)}")
                times = emit(f"add i64 {steps}, 1")
                fewer = emit(f"icmp ult i64 {times}, {rounds}")
                rounds = emit(f"select i1 {fewer}, i64 {times}, i64 {rounds}")
            self.found[stream.register] = Found(page, tag, addend)
        self._region.line(f"  store i64 {rounds}, ptr {self._rounds}")
        strip = self.label(self.head.pc)
        self._region.line(f"  br i1 {good}, label %{strip}, label %{otherwise}, !prof !0")

    def go_round(self, over: str) -> None:
        """At a round's end: the next one, unless it was the last."""
        left = self._emit(f"load i64, ptr {self._rounds}")
        less = self._emit(f"sub i64 {left}, 1")
        self._region.line(f"  store i64 {less}, ptr {self._rounds}")
        last = self._emit(f"icmp eq i64 {less}, 0")
        strip = self.label(self.head.pc)
        self._region.line(f"  br i1 {last}, label %{over}, label %{strip}, !prof !1")

    def is_as_found(self, found: Found) -> str:
        """Whether a page may still be written straight to."""
        now = self._emit(f"load volatile i64, ptr {found.tag}, {STATE}")
        return self._emit(f"icmp eq i64 {now}, {found.page}")


def writes(group: Iterable[Access]) -> bool:
    """Whether any of the accesses is a store."""
    return any(access.kind != READ for access in group)


def _joined(a: Stream | None, b: Stream) -> Stream:
    if a is None:
        return b
    return Stream(a.register, min(a.low, b.low), max(a.end, b.end), a.kind | b.kind, 0)


def _merged(a: dict[int, Sum | None], b: dict[int, Sum | None]) -> dict[int, Sum | None]:
    """What is true on both of two ways."""
    found: dict[int, Sum | None] = {}
    for register in {*a, *b}:
        same = (register, 0)
        one, other = a.get(register, same), b.get(register, same)
        found[register] = one if one == other else None
    return found


def _step(register: int, ends: Iterable[dict[int, Sum | None]]) -> int | None:
    """What every round adds to a register; None if that is not one number."""
    same = (register, 0)
    sums = {end.get(register, same) for end in ends}
    last = sums.pop() if len(sums) == 1 else None
    return last[1] if last is not None and last[0] == register else None
