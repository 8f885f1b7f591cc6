"""Guest memory accesses of a region.

An access finds its page in the vCPU's TLB by one comparison, or calls the slow path. Accesses of
one block that go to the same base with different displacements, as to a stack frame or a structure,
share one comparison for all the bytes between the first and the last: what the block will access is
known when its last instruction has been written, so that until then accesses are placeholders in
its text. Where a shared comparison fails (the page is not in the TLB, or not plain memory, or the
bytes lie on two pages) the region is left before the first of them, and tier 0 executes the rest of
the block.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ratite.cpu.space import ENTRY_SHIFT, TlbEntry
from ratite.isa.state import READ, WRITE
from ratite.native import ir
from ratite.native.lower import constant

if TYPE_CHECKING:
    from ratite.accel.jit.tier1 import RegionText

GUEST = "!alias.scope !12, !noalias !11"
STATE = "!alias.scope !11, !noalias !12"
"""Guest memory and the vCPU's own state do not overlap."""

PC = "pc"
"""In place of a base: the displacement is the address where the region was compiled for."""
SPAN = 256
"""Bytes that a shared comparison covers at most: the more, the more often they lie on two pages."""

Item = str | int
"""An LLVM operand: a name, or a number known now."""


@dataclass(frozen=True, slots=True)
class Place:
    """A guest address: a value and a displacement."""

    base: str  # an LLVM name; empty: the displacement is the address; PC: by that of the region
    displacement: int


@dataclass(frozen=True, slots=True)
class Moment:
    """What an exit at an instruction needs: where it is, and what the state lacks."""

    pc: int
    length: int
    left: int  # instructions of the block from this one on
    unsaved: tuple[tuple[int, str, str], ...]  # (state offset, type, value)
    raw: frozenset[int]  # registers whose slots hold results of the host's FPU as they are


@dataclass(slots=True)
class WayBack:
    """A branch back to where a loop begins, before it is known whether that has a second text."""

    lines: Lines


@dataclass(slots=True)
class Access:
    """One load or store of a block."""

    kind: int  # READ or WRITE
    type: str
    address: str
    place: Place
    moment: Moment
    result: str  # name that a load defines
    value: str  # what a store stores
    lines: Lines = field(default_factory=list)
    """The text that takes the placeholder's place."""

    @property
    def size(self) -> int:
        """Bytes."""
        return ir.WIDTH[self.type] // 8


Lines = list[str | WayBack | Access]
"""LLVM text; what is not written yet stands for the lines that it will have."""


class AccessText:
    """Writes accesses into a region's text."""

    def __init__(self, region: RegionText) -> None:
        self._region = region
        self._emit = region.emit

    def _line(self, text: str) -> None:
        self._region.line(text)

    # -- one access

    def one(self, access: Access) -> None:
        """Write an access with a comparison of its own."""
        host, hit = self._look_up(access.address, access.size, self.tag_of(access.kind))
        fast, slow, done = (self._region.label(hint) for hint in ("hit", "miss", "done"))
        self._line(f"  br i1 {hit}, label %{fast}, label %{slow}, !prof !0")
        self._line(f"{fast}:")
        pointer = self._emit(f"inttoptr i64 {host} to ptr")
        wide = access.type == "i64"
        if access.kind == READ:
            quick = self._emit(f"load {access.type}, ptr {pointer}, align 1, {GUEST}")
        else:
            self._line(f"  store {access.type} {access.value}, ptr {pointer}, align 1, {GUEST}")
        self._line(f"  br label %{done}")
        with self._region.cold(slow):
            if access.kind == READ:
                found, status = self._slow_value(
                    "load", f"i64 {access.address}, i32 {access.size}", access.moment
                )
                late = found if wide else self._emit(f"trunc i64 {found} to {access.type}")
            else:
                value = access.value
                if not wide:
                    value = self._emit(f"zext {access.type} {value} to i64")
                given = (
                    f"i64 {access.address}, i64 {value}, i32 {access.size}, "
                    f"i32 {access.moment.length}"
                )
                status = self._slow_path("store", given, "i32", access.moment)
            self._check_status(status, done)
        self._line(f"{done}:")
        if access.kind == READ:
            self._line(
                f"  {access.result} = phi {access.type} [ {quick}, %{fast} ], [ {late}, %{slow} ]"
            )

    def pointer(self, result: str, address: str, size: int, access: int, moment: Moment) -> None:
        """Write the search for the host address of an atomic access."""
        quick, hit = self._look_up(address, size, self.tag_of(access))
        fast, slow, done = (self._region.label(hint) for hint in ("hit", "miss", "found"))
        self._line(f"  br i1 {hit}, label %{fast}, label %{slow}, !prof !0")
        self._line(f"{fast}:")
        self._line(f"  br label %{done}")
        with self._region.cold(slow):
            given = f"i64 {address}, i32 {size}, i32 {access}"
            found, status = self._slow_value("pointer", given, moment)
            self._check_status(status, done)
        self._line(f"{done}:")
        self._line(f"  {result} = phi i64 [ {quick}, %{fast} ], [ {found}, %{slow} ]")

    # -- a block's

    def resolve(self, accesses: Iterable[Access]) -> None:
        """Write all accesses of a block, in order, in place of their placeholders."""
        for group in _groups(accesses):
            self.group(group)

    def group(self, group: list[Access]) -> None:
        """Write accesses to one base."""
        if len(group) == 1:
            with self._region.into(group[0].lines):
                self.one(group[0])
        else:
            self._shared(group)

    def _shared(self, group: list[Access]) -> None:
        """Accesses with one comparison."""
        first = group[0]
        low = min(access.place.displacement for access in group)
        end = max(access.place.displacement + access.size for access in group)
        tag_at = self.tag_of(max(access.kind for access in group))
        with self._region.into(first.lines):
            start = self._at(first.place.base, low)
            host, hit = self._look_up(start, end - low, tag_at)
            fast, miss = self._region.label("hit"), self._region.label("miss")
            self._line(f"  br i1 {hit}, label %{fast}, label %{miss}, !prof !0")
            with self._region.cold(miss):
                self.step_out(first.moment)
            self._line(f"{fast}:")
        for access in group:
            with self._region.into(access.lines):
                pointer = self._emit(f"inttoptr i64 {host} to ptr")
                inside = access.place.displacement - low
                place = self._emit(f"getelementptr i8, ptr {pointer}, i64 {inside}")
                self.touch(access, place)

    def touch(self, access: Access, pointer: str) -> None:
        """Load or store at a host address."""
        if access.kind == READ:
            text = f"{access.result} = load {access.type}, ptr {pointer}"
        else:
            text = f"store {access.type} {access.value}, ptr {pointer}"
        self._line(f"  {text}, align 1, {GUEST}")

    def step_out(self, moment: Moment) -> None:
        """Leave to tier 0, with nothing of the instruction done."""
        self._region.save(moment.unsaved)
        self._line(f"  store i64 {self._left(moment)}, ptr %var.budget")
        self._region.go_out(moment.pc, "step")

    @staticmethod
    def tag_of(access: int) -> int:
        """Offset in a TLB entry of the tag for READ, WRITE or both: that for stores answers for no
        more than that for loads.
        """
        return TlbEntry.write.offset if access & WRITE else TlbEntry.read.offset

    def _at(self, base: str, displacement: int) -> str:
        if not base:
            return constant(displacement, "i64")
        if base == PC:
            return self._region.guest_pc(displacement)
        return self._emit(f"add i64 {base}, {constant(displacement, 'i64')}")

    # -- parts

    def entry(self, address: str) -> str:
        """Pointer to the TLB's entry for an address."""
        page = self._emit(f"lshr i64 {address}, {ENTRY_SHIFT}")
        masked = self._emit(f"and i64 {page}, %tlb.mask")
        return self._emit(f"getelementptr inbounds i8, ptr %tlb, i64 {masked}")

    def _look_up(self, address: str, size: int, tag_at: int) -> tuple[str, str]:
        """The host address of an access, and whether the TLB's tag answers for all of its bytes, so
        that it is one.
        """
        emit = self._emit
        entry = self.entry(address)
        last = emit(f"add i64 {address}, {size - 1}") if size > 1 else address
        last_page = emit(f"and i64 {last}, -4096")
        place = emit(f"getelementptr inbounds i8, ptr {entry}, i64 {tag_at}")
        tag = emit(f"load i64, ptr {place}, {STATE}")
        hit = emit(f"icmp eq i64 {tag}, {last_page}")
        # In the same block as the tag's, this load needs no address of its own.
        place = emit(f"getelementptr inbounds i8, ptr {entry}, i64 {TlbEntry.addend.offset}")
        addend = emit(f"load i64, ptr {place}, {STATE}")
        return emit(f"add i64 {addend}, {address}"), hit

    def _left(self, moment: Moment) -> str:
        """The budget with the instruction not retired."""
        before = self._emit("load i64, ptr %var.budget")
        return self._emit(f"add i64 {before}, {moment.left}")

    def _check_status(self, status: str, done: str) -> None:
        """After a slow path: 1 is good, 0 is seen to outside."""
        bad = self._emit(f"icmp eq i32 {status}, 0")
        self._line(f"  br i1 {bad}, label %exit.pending, label %{done}, !prof !1")

    def _slow_value(self, name: str, given: str, moment: Moment) -> tuple[str, str]:
        """Call a slow path that has a value; returns value and status."""
        pair = self._slow_path(name, given, "{ i64, i32 }", moment)
        value = self._emit(f"extractvalue {{ i64, i32 }} {pair}, 0")
        return value, self._emit(f"extractvalue {{ i64, i32 }} {pair}, 1")

    def _slow_path(self, name: str, given: str, returns: str, moment: Moment) -> str:
        self._region.save(moment.unsaved)
        callee = f'@"accel.jit.control.region_{name}"'
        kinds = ", ".join(part.split()[0] for part in given.split(", "))
        self._region.declarations.add(
            f"declare dso_local preserve_mostcc {returns} {callee}(ptr, {kinds}, i64, i64)"
        )
        return self._emit(
            f"call preserve_mostcc {returns} {callee}"
            f"(ptr %cpu, {given}, i64 {self._region.guest_pc(moment.pc)}, i64 {self._left(moment)})"
        )


def _groups(accesses: Iterable[Access]) -> list[list[Access]]:
    """Accesses that share a comparison, each group in order."""
    groups: list[list[Access]] = []
    open_groups: dict[str, list[Access]] = {}
    for access in accesses:
        group = open_groups.get(access.place.base)
        if group is None or not _fits(group, access):
            group = open_groups[access.place.base] = []
            groups.append(group)
        group.append(access)
    return groups


def _fits(group: list[Access], access: Access) -> bool:
    low = min(other.place.displacement for other in (*group, access))
    end = max(other.place.displacement + other.size for other in (*group, access))
    if access.place.base in ("", PC) and (low ^ (end - 1)) >> 12:
        return False  # known to be on two pages
    return end - low <= SPAN
