"""The full level: regions in which the guest spends much of its time, compiled with more care.

Registers are saved only where the region is left. An access remembers the page that it went to
last, and compares with that before it looks into the TLB; what the TLB does not answer leaves the
region to tier 0, so that no call in a loop has LLVM keep values in memory. LLVM's code generation
does all it can.
"""

from __future__ import annotations

from collections.abc import Iterable

from ratite.accel.jit.accesses import Access, AccessText, Moment
from ratite.accel.jit.region import Region
from ratite.accel.jit.tier1 import Lines, RegionText, Templates
from ratite.isa.state import CpuState

MAX_SITES = 16
"""Accesses of a region that remember a page each; all take host registers or stack."""
NOWHERE = 0x800
"""Not the page of any address, with its low bits left in for the alignment."""
EXITS = ("lookup", "kicked", "step")


class FullRegionText(RegionText):
    """Writes one region's LLVM text."""

    def __init__(self, region: Region, templates: Templates, name: str, cpu: CpuState) -> None:
        super().__init__(region, templates, name, cpu)
        self.access_text = FullAccessText(self)
        self._written: dict[int, str] = {}  # state offset -> type

    def settle(self) -> None:
        """Bring slots up to date with the values that registers have."""
        self.save(self.registers.unsaved())
        self.registers.settled()

    def save(self, unsaved: Iterable[tuple[int, str, str]]) -> None:
        """Store values to the slots, from which an exit takes them."""
        for offset, type_, value in unsaved:
            self.line(f"  store {type_} {value}, ptr {self.slot(offset)}")
            self._written[offset] = type_

    def write(self, offset: int, type_: str, value: str) -> None:
        """Write a register on one of several paths."""
        self.save([(offset, type_, value)])

    def _exits(self) -> None:
        """The ways out share the saving of registers."""
        self.allocas.append("  %var.exit = alloca i32")
        for number, kind in enumerate(EXITS):
            self.line(f"exit.{kind}:")
            self.line(f"  store i32 {number}, ptr %var.exit")
            self.line("  br label %exit")
        self.line("exit:")
        for offset in sorted(self._written):
            type_ = self._slot_type(offset)
            value = self.emit(f"load {type_}, ptr {self.slot(offset)}")
            self.line(f"  store {type_} {value}, ptr {self.state(offset)}")
        pc = self.emit("load i64, ptr %var.exitpc")
        self.line(f"  store i64 {pc}, ptr {self.state(CpuState.pc.offset)}")
        kind = self.emit("load i32, ptr %var.exit")
        cases = " ".join(f"i32 {number}, label %go.{name}" for number, name in enumerate(EXITS))
        self.line(f"  switch i32 {kind}, label %go.lookup [ {cases} ]")
        for name in EXITS:
            self.line(f"go.{name}:")
            self._tail_call(f"tier0.{name}")


class FullAccessText(AccessText):
    """Writes accesses into a region's text."""

    def __init__(self, region: FullRegionText) -> None:
        super().__init__(region)
        self._sites = 0

    def _new_site(self) -> tuple[str, str] | None:
        """Variables for the page that an access went to last, and for the distance from it to host
        memory.
        """
        if self._sites == MAX_SITES:
            return None
        page, distance = f"%site.page{self._sites}", f"%site.distance{self._sites}"
        self._sites += 1
        lines: Lines = [f"  {name} = alloca i64" for name in (page, distance)]
        lines += [f"  store i64 {NOWHERE}, ptr {page}", f"  store i64 0, ptr {distance}"]
        self._region.allocas += [str(line) for line in lines]
        return page, distance

    def one(self, access: Access) -> None:
        """Write an access with a comparison of its own."""
        host = self._host(access.address, access.size, [self.tag_of(access.kind)], access.moment)
        pointer = self._emit(f"inttoptr i64 {host} to ptr")
        self.touch(access, pointer)

    def pointer(self, result: str, address: str, size: int, access: int, moment: Moment) -> None:
        """Write the search for the host address of an atomic access."""
        host = self._host(address, size, self.tags_of(access), moment)
        self._line(f"  {result} = add i64 {host}, 0")

    def _host(self, address: str, size: int, tags: list[int], moment: Moment) -> str:
        """The host address of an access; leaves the region if the TLB does not know it."""
        site = self._new_site() if address.startswith("%") and len(tags) == 1 else None
        if site is None:
            host, hit = self._look_up(address, size, tags)
            self._leave_unless(hit, moment)
            return host
        page, distance = site
        known, probe = self._region.label("known"), self._region.label("probe")
        # The low bits stay, so that what is not aligned, and may lie on two pages, is looked up.
        aligned = self._emit(f"and i64 {address}, {-4096 | (size - 1)}")
        last = self._emit(f"load i64, ptr {page}")
        same = self._emit(f"icmp eq i64 {aligned}, {last}")
        self._line(f"  br i1 {same}, label %{known}, label %{probe}, !prof !0")
        with self._region.cold(probe):
            host, hit = self._look_up(address, size, tags)
            self._leave_unless(hit, moment)
            base = self._emit(f"and i64 {address}, -4096")
            self._line(f"  store i64 {base}, ptr {page}")
            away = self._emit(f"sub i64 {host}, {address}")
            self._line(f"  store i64 {away}, ptr {distance}")
            self._line(f"  br label %{known}")
        self._line(f"{known}:")
        away = self._emit(f"load i64, ptr {distance}")
        return self._emit(f"add i64 {address}, {away}")

    def _leave_unless(self, hit: str, moment: Moment) -> None:
        found, miss = self._region.label("hit"), self._region.label("miss")
        self._line(f"  br i1 {hit}, label %{found}, label %{miss}, !prof !0")
        with self._region.cold(miss):
            self.step_out(moment)
        self._line(f"{found}:")
