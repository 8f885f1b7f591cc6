"""The full level: regions in which the guest spends much of its time, compiled with more care.

Registers are saved only where the region is left. A load remembers the page that it went to last,
and compares with that before it looks into the TLB; what the TLB does not answer leaves the
region to tier 0, so that no call in a loop has LLVM keep values in memory. LLVM's code generation
does all it can.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from ratite.accel.jit.accesses import STATE, Access, AccessText, Moment
from ratite.accel.jit.region import Region
from ratite.accel.jit.tier1 import Lines, RegionText, Templates
from ratite.isa.state import READ, CpuState

MAX_SITES = 16
"""Loads of a region that remember a page each; all take host registers or stack."""
NOWHERE = 0x800
"""Not the page of any address, with its low bits left in for the alignment."""
EXITS = ("lookup", "kicked", "step")


class Form(Enum):
    """How a region keeps a floating-point register."""

    WHOLE = "as one double"
    BOXED = "as a float, and the half above it"


def _forms(region: Region, templates: Templates) -> dict[int, Form]:
    """The form of each floating-point register, by its offset in the state. Either form can hold
    any bits; a register is split if all that the region writes to it are single numbers.
    """
    parts = {part.floats: part for part in templates.promoted if part.floats}
    written: dict[int, bool] = {}  # whether only single numbers are
    read: dict[int, bool] = {}
    for block in region.blocks:
        for decoded in block.instructions:
            fmt = decoded.insn.constants.get("fmt")
            single = fmt is not None and fmt.width == 32
            for operand in decoded.insn.operands:
                part = parts.get(operand.kind.name)
                if part is not None:
                    offset = part.offset + decoded.operands[operand.name] * part.size
                    seen = written if operand.written else read
                    seen[offset] = single and seen.get(offset, True)
    boxed = {**read, **written}
    return {
        offset: Form.BOXED if boxed.get(offset, False) else Form.WHOLE
        for part in parts.values()
        for offset in range(part.offset, part.end, part.size)
    }


class FullRegionText(RegionText):
    """Writes one region's LLVM text."""

    def __init__(self, region: Region, templates: Templates, name: str, cpu: CpuState) -> None:
        super().__init__(region, templates, name, cpu)
        self.access_text = FullAccessText(self)
        self._written: dict[int, str] = {}  # state offset -> type
        self._form = _forms(region, templates)

    def settle(self) -> None:
        """Bring slots up to date with the values that registers have."""
        self.save(self.registers.unsaved())
        self.registers.settled()

    def save(self, unsaved: Iterable[tuple[int, str, str]]) -> None:
        """Store values to the slots, from which an exit takes them."""
        for offset, type_, value in unsaved:
            self.write_slot(offset, type_, value)
            self._written[offset] = type_

    def write(self, offset: int, type_: str, value: str) -> None:
        """Write a register on one of several paths."""
        self.save([(offset, type_, value)])

    # -- slots of floating-point registers have floating-point types, so that LLVM keeps values in
    # the host's registers of that kind from one operation to the next

    def _parts(self, offset: int, slot: str) -> list[tuple[str, str, int]]:
        """Type, alloca and place of each part of a slot."""
        match self._form.get(offset):
            case None:
                return [(self._slot_type(offset), slot, 0)]
            case Form.WHOLE:
                return [("double", slot, 0)]
            case Form.BOXED:
                return [("float", slot, 0), ("i32", f"{slot}.box", 4)]

    def declare_slot(self, offset: int, slot: str) -> None:
        """Write the allocas of a promoted field."""
        for type_, part, _ in self._parts(offset, slot):
            self.line(f"  {part} = alloca {type_}")

    def fill_slot(self, offset: int, slot: str) -> None:
        """Copy the field from the vCPU's state."""
        for type_, part, distance in self._parts(offset, slot):
            value = self.emit(f"load {type_}, ptr {self.state(offset + distance)}, {STATE}")
            self.line(f"  store {type_} {value}, ptr {part}")

    def read_slot(self, offset: int, type_: str, result: str) -> None:
        """Define `result` as the field's value."""
        slot = self.slot(offset)
        match self._form.get(offset):
            case None:
                self.line(f"  {result} = load {type_}, ptr {slot}")
            case Form.WHOLE:
                value = self.emit(f"load double, ptr {slot}")
                self.line(f"  {result} = bitcast double {value} to i64")
            case Form.BOXED:
                value = self.emit(f"load float, ptr {slot}")
                low = self.emit(f"bitcast float {value} to i32")
                wide = self.emit(f"zext i32 {low} to i64")
                box = self.emit(f"load i32, ptr {slot}.box")
                box = self.emit(f"zext i32 {box} to i64")
                box = self.emit(f"shl i64 {box}, 32")
                self.line(f"  {result} = or i64 {box}, {wide}")

    def write_slot(self, offset: int, type_: str, value: str) -> None:
        """Store a value to the field's allocas."""
        slot = self.slot(offset)
        match self._form.get(offset):
            case None:
                self.line(f"  store {type_} {value}, ptr {slot}")
            case Form.WHOLE:
                whole = self.emit(f"bitcast i64 {value} to double")
                self.line(f"  store double {whole}, ptr {slot}")
            case Form.BOXED:
                low = self.emit(f"trunc i64 {value} to i32")
                single = self.emit(f"bitcast i32 {low} to float")
                self.line(f"  store float {single}, ptr {slot}")
                high = self.emit(f"lshr i64 {value}, 32")
                high = self.emit(f"trunc i64 {high} to i32")
                self.line(f"  store i32 {high}, ptr {slot}.box")

    def note_jump(self, pc: int, target: str) -> None:
        """No larger region will be made."""

    def _exits(self) -> None:
        """The ways out share the saving of registers."""
        self.allocas.append("  %var.exit = alloca i32")
        for number, kind in enumerate(EXITS):
            self.line(f"exit.{kind}:")
            self.line(f"  store i32 {number}, ptr %var.exit")
            self.line("  br label %exit")
        self.line("exit:")
        for offset in sorted(self._written):
            for type_, part, distance in self._parts(offset, self.slot(offset)):
                value = self.emit(f"load {type_}, ptr {part}")
                self.line(f"  store {type_} {value}, ptr {self.state(offset + distance)}")
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
        # Stores ask the TLB each time: meanwhile another vCPU may have translated code on the page.
        remembers = address.startswith("%") and tags == [self.tag_of(READ)]
        site = self._new_site() if remembers else None
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
