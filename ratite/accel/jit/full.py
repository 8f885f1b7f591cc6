"""The full level: regions in which the guest spends much of its time, compiled with more care.

Registers are saved only where the region is left. A load remembers the page that it went to last,
and compares with that before it looks into the TLB; what the TLB does not answer leaves the
region to tier 0, so that no call in a loop has LLVM keep values in memory. LLVM's code generation
does all it can.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ratite.accel.jit.accesses import STATE, Access, AccessText, Item, Lines, Moment, WayBack
from ratite.accel.jit.floats import Form, forms, raw_at_starts
from ratite.accel.jit.region import Region, RegionBlock
from ratite.accel.jit.registers import Halves
from ratite.accel.jit.strips import Contents, Found, Strip, best_strip, writes
from ratite.accel.jit.tier1 import BOX, RegionText, Templates
from ratite.isa.state import READ, CpuState
from ratite.native.lower import constant

MAX_SITES = 16
"""Loads of a region that remember a page each; all take host registers or stack."""
NOWHERE = 0x800
"""Not the page of any address, with its low bits left in for the alignment."""
_INFINITY_AND_NAN = {
    "i32": (0x7F80_0000, 0x7FC0_0000),
    "i64": (0x7FF0_0000_0000_0000, 0x7FF8_0000_0000_0000),
}
EXITS = ("lookup", "kicked", "step")


class FullRegionText(RegionText):
    """Writes one region's LLVM text."""

    is_optimized = True
    defers_nans = True

    def __init__(
        self,
        region: Region,
        templates: Templates,
        name: str,
        cpu: CpuState,
        unboxed: Collection[int] | None = None,
    ) -> None:
        """`unboxed`, if regions that began here did not fit: the offsets of registers that were
        found to hold no single number.
        """
        super().__init__(region, templates, name, cpu)
        self.access_text = FullAccessText(self)
        self._written: dict[int, str] = {}  # state offset -> type
        self._form = forms(region, templates, unboxed or ())
        wary = unboxed is not None
        self._starts = raw_at_starts(region, templates, self._form, self.following, wary=wary)
        self._never_other_nans = set() if wary else set().union(*self._starts)
        self._ever_raw: set[int] = set()  # registers that are raw where some way out begins
        self._ways_back: dict[int, list[WayBack]] = {}  # by where they go
        self._contents: dict[int, Contents] = {}  # of blocks, by their pc
        # Of the block that is being written: registers by the values they had when it began, and
        # those that it has written on one of several paths.
        self._origins: dict[str, int] = {}
        self._wavering: set[int] = set()
        self._block_now = region.entry
        self._strip: Strip | None = None  # while the second text of a loop is written

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
        self._wavering.add(offset)
        self.save([(offset, type_, value)])

    # -- slots of floating-point registers have floating-point types, so that LLVM keeps values in
    # the host's registers of that kind from one operation to the next

    def _float_type(self, offset: int) -> str | None:
        form = self._form.get(offset)
        return None if form is None else "double" if form is Form.WHOLE else "float"

    def _slot_type(self, offset: int) -> str:
        return self._float_type(offset) or super()._slot_type(offset)

    def fill_slot(self, offset: int, slot: str) -> None:
        """Copy the field from the vCPU's state."""
        type_ = self._slot_type(offset)
        value = self.emit(f"load {type_}, ptr {self.state(offset)}, {STATE}")
        self.line(f"  store {type_} {value}, ptr {slot}")

    def read_slot(self, offset: int, type_: str, result: str) -> None:
        """Define `result` as the field's value."""
        kind = self._float_type(offset)
        if kind is None:
            super().read_slot(offset, type_, result)
            if offset not in self._wavering:
                self._origins[result] = offset
            return
        value = self.emit(f"load {kind}, ptr {self.slot(offset)}")
        seen = self.canonical(kind, value) if offset in self.raw else value
        if kind == "double":
            bits = result
            self.line(f"  {result} = bitcast double {seen} to i64")
        else:
            bits = self.emit(f"bitcast float {seen} to i32")
            wide = self.emit(f"zext i32 {bits} to i64")
            self.line(f"  {result} = or i64 {wide}, {constant(BOX << 32, 'i64')}")
            self.registers.note_halves(wide, Halves(bits, 0, wide))
            self.registers.note_halves(result, Halves(bits, BOX, wide))
        self.registers.note_float(bits, value)
        if offset in self.raw:
            self.registers.note_raw(bits)

    def prepare_float(self, offset: int, value: str) -> None:
        """Here, so that all uses share one conversion."""
        bits = self._bits(offset, value)
        self.registers.note_float(bits, self._as_float(offset, bits))

    def _as_float(self, offset: int, bits: str) -> str:
        """The value that a floating-point register's slot holds for these bits."""
        if self._form[offset] is Form.WHOLE:
            return self.registers.float_of(bits) or self.emit(f"bitcast i64 {bits} to double")
        return self.registers.float_of(bits) or self.emit(f"bitcast i32 {bits} to float")

    def _bits(self, offset: int, value: str) -> str:
        """Those that the slot is for."""
        if self._form[offset] is Form.WHOLE:
            return value
        halves = self.registers.halves(value)
        return halves.low if halves is not None else self.emit(f"trunc i64 {value} to i32")

    def write_slot(self, offset: int, type_: str, value: str) -> None:
        """Store a value to the field's alloca."""
        kind = self._float_type(offset)
        if kind is not None:
            bits = self._bits(offset, value)
            (self.raw.add if self.registers.is_raw(bits) else self.raw.discard)(offset)
            type_, value = kind, self._as_float(offset, bits)
        self.line(f"  store {type_} {value}, ptr {self.slot(offset)}")

    # -- NaNs: registers hold them as the host's FPU makes them, from one operation to the next

    def see_nan(self, offset: int) -> None:
        """Have the canonical NaN in a register's slot where it holds any."""
        if offset in self.raw:
            kind, slot = self._slot_type(offset), self.slot(offset)
            value = self.canonical(kind, self.emit(f"load {kind}, ptr {slot}"))
            self.line(f"  store {kind} {value}, ptr {slot}")

    # -- blocks, and the second text of loops

    def body(self, block: RegionBlock) -> None:
        """Write what a block does."""
        self.raw = set(self._starts[self.number_of(block)])
        self._block_now = block
        self._origins, self._wavering = {}, set()
        super().body(block)
        if self._strip is None:
            self._contents[block.pc] = Contents(
                tuple(self.accesses), self._origins, self.registers, frozenset(self._wavering)
            )

    def blocks(self) -> None:
        """Write all blocks."""
        super().blocks()
        for pc in sorted(self._ways_back):
            self._second_text(self.region.blocks[self.order[pc]])

    def _second_text(self, head: RegionBlock) -> None:
        """Write the text of a loop for many rounds, if it can have one, and the way there."""
        strip = best_strip(self, head, self._contents)
        if strip is None:
            return
        again = f"again.{head.pc:x}"
        for way in self._ways_back[head.pc]:
            way.lines = [f"  br label %{again}"]
        self.line(f"{again}:")
        self._strip = strip
        strip.look_up(self._more_label(head.pc), self._block_label(head.pc))
        self.edition += 1
        for block in strip.blocks:
            self.line(f"{strip.label(block.pc)}:")
            self.body(block)
        self._strip = None

    @staticmethod
    def _more_label(pc: int) -> str:
        return f"more.{pc:x}"

    def found(self, base: str) -> Found | None:
        """In a second text: where the page is that accesses with this base go to, if it was looked
        up before.
        """
        if self._strip is None:
            return None
        return self._strip.stream_of(self._block_now, self._origins.get(base))

    def is_as_found(self, found: Found) -> str:
        """Whether a page may still be written straight to."""
        assert self._strip is not None
        return self._strip.is_as_found(found)

    def _poll(self, pc: Item) -> None:
        if self._strip is None or pc != self._strip.head.pc:  # else it is done after many rounds
            super()._poll(pc)

    def _enter(self, source: RegionBlock, pc: int) -> None:
        number = self.order[pc]
        for offset in sorted(self.raw - self._starts[number]):
            self.see_nan(offset)
        super()._enter(source, pc)

    def _go_to(self, source: RegionBlock, pc: int) -> None:
        strip = self._strip
        if strip is not None and strip.head.pc == pc:
            over = self.label("over")
            strip.go_round(over)
            self.line(f"{over}:")
            super()._poll(pc)
            self.line(f"  br label %{self._more_label(pc)}")
            return
        elif strip is not None and (second := strip.label(pc)) is not None:
            self.line(f"  br label %{second}")
            return
        if self.order[pc] > self.order[source.pc]:
            super()._go_to(source, pc)
            return
        way = WayBack([f"  br label %{self._block_label(pc)}"])
        self._ways_back.setdefault(pc, []).append(way)
        self.lines.append(way)

    # -- in and out

    def check_entry(self) -> None:
        """Registers must hold what the region relies on."""
        fits = "true"
        for offset in sorted(self.slots):
            form = self._form.get(offset)
            if form is Form.BOXED:
                box = self.emit(f"load i32, ptr {self.state(offset + 4)}, {STATE}")
                boxed = self.emit(f"icmp eq i32 {box}, {constant(BOX, 'i32')}")
                fits = self.emit(f"and i1 {fits}, {boxed}")
            if form is not None and offset in self._never_other_nans:
                bits, value = self._load_bits(offset)
                same = self.emit(f"icmp eq {bits} {self._canonical_bits(bits, value)}, {value}")
                fits = self.emit(f"and i1 {fits}, {same}")
        if fits == "true":
            return
        good, bad = self.label("fit"), self.label("misfit")
        self.line(f"  br i1 {fits}, label %{good}, label %{bad}, !prof !0")
        self.line(f"{bad}:")
        here = self.emit("ptrtoint ptr %rec to i64")
        self.line(f"  store i64 {here}, ptr {self.state(CpuState.misfit.offset)}, {STATE}")
        self.line("  br label %exit.step")
        self.line(f"{good}:")

    def _load_bits(self, offset: int) -> tuple[str, str]:
        """Type and value of a slot, as bits."""
        type_ = self._slot_type(offset)
        value = self.emit(f"load {type_}, ptr {self.slot(offset)}")
        bits = {"double": "i64", "float": "i32"}.get(type_)
        if bits is None:
            return type_, value
        return bits, self.emit(f"bitcast {type_} {value} to {bits}")

    def _canonical_bits(self, type_: str, value: str) -> str:
        """Bits with the canonical NaN in place of any; the value may be a signalling one, and
        leaves no flag.
        """
        infinity, nan = _INFINITY_AND_NAN[type_]
        magnitude = self.emit(f"shl {type_} {value}, 1")
        is_nan = self.emit(f"icmp ugt {type_} {magnitude}, {constant(infinity << 1, type_)}")
        return self.emit(f"select i1 {is_nan}, {type_} {nan}, {type_} {value}")

    def note_jump(self, pc: int, target: str) -> None:
        """No larger region will be made."""

    def go_out(self, pc: Item, how: str) -> None:
        """Leave where nothing is left to settle."""
        self._ever_raw |= self.raw
        self._store_pc(pc)
        self._leave_by(how, self.raw)

    def _leave_by(self, how: str, raw: Iterable[int]) -> None:
        """Which way out it is goes by memory: values that differ by the way would be prepared
        before the branch that leads there, which is seldom taken.
        """
        what = EXITS.index(how) | sum(1 << self._raw_bit(offset) for offset in raw)
        self.line(f"  store i64 {what}, ptr {self.state(CpuState.leaving.offset)}, {STATE}")
        self.line("  br label %exit")

    def _raw_bit(self, offset: int) -> int:
        """Of what is noted of a way out: whether a register is raw there."""
        part = self.templates.promoted_at(offset)
        assert part is not None
        return 2 + (offset - part.offset) // part.size

    def _exits(self) -> None:
        """The ways out share the saving of registers."""
        for how in EXITS:
            self.line(f"exit.{how}:")
            self._leave_by(how, ())
        self.line("exit:")
        what = self.emit(f"load i64, ptr {self.state(CpuState.leaving.offset)}, {STATE}")
        for offset in sorted(self._written):
            type_, value = self._load_bits(offset)
            if offset in self._ever_raw:
                seen = self._canonical_bits(type_, value)
                bit = self.emit(f"and i64 {what}, {1 << self._raw_bit(offset)}")
                raw = self.emit(f"icmp ne i64 {bit}, 0")
                value = self.emit(f"select i1 {raw}, {type_} {seen}, {type_} {value}")
            self.line(f"  store {type_} {value}, ptr {self.state(offset)}")
        kind = self.emit(f"and i64 {what}, 3")
        cases = " ".join(f"i64 {number}, label %go.{name}" for number, name in enumerate(EXITS))
        self.line(f"  switch i64 {kind}, label %go.lookup [ {cases} ]")
        for name in EXITS:
            self.line(f"go.{name}:")
            self._tail_call(f"tier0.{name}")


class FullAccessText(AccessText):
    """Writes accesses into a region's text."""

    def __init__(self, region: FullRegionText) -> None:
        super().__init__(region)
        self._region: FullRegionText = region
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
        host = self._host(access.address, access.size, access.kind, access.moment)
        pointer = self._emit(f"inttoptr i64 {host} to ptr")
        self.touch(access, pointer)

    def group(self, group: list[Access]) -> None:
        """Write accesses to one base."""
        found = self._region.found(group[0].place.base)
        if found is None:
            super().group(group)
            return
        if writes(group):
            with self._region.into(group[0].lines):
                self._leave_unless(self._region.is_as_found(found), group[0].moment)
        for access in group:
            with self._region.into(access.lines):
                host = self._emit(f"add i64 {access.address}, {found.addend}")
                self.touch(access, self._emit(f"inttoptr i64 {host} to ptr"))

    def pointer(self, result: str, address: str, size: int, access: int, moment: Moment) -> None:
        """Write the search for the host address of an atomic access."""
        host = self._host(address, size, access, moment)
        self._line(f"  {result} = add i64 {host}, 0")

    def _host(self, address: str, size: int, access: int, moment: Moment) -> str:
        """The host address of an access; leaves the region if the TLB does not know it."""
        tag_at = self.tag_of(access)
        # Stores ask the TLB each time: meanwhile another vCPU may have translated code on the page.
        remembers = address.startswith("%") and access == READ
        site = self._new_site() if remembers else None
        if site is None:
            host, hit = self._look_up(address, size, tag_at)
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
            host, hit = self._look_up(address, size, tag_at)
            self._leave_unless(hit, moment)
            base = self._emit(f"and i64 {address}, -4096")
            self._line(f"  store i64 {base}, ptr {page}")
            away = self._emit(f"sub i64 {host}, {address}")
            self._line(f"  store i64 {away}, ptr {distance}")
            self._line(f"  br label %{known}")
        self._line(f"{known}:")
        away = self._emit(f"load i64, ptr {distance}")
        return self._emit(f"add i64 {address}, {away}")

    def step_out(self, moment: Moment) -> None:
        """Leave to tier 0, with nothing of the instruction done."""
        after, self._region.raw = self._region.raw, set(moment.raw)
        super().step_out(moment)
        self._region.raw = after

    def _leave_unless(self, hit: str, moment: Moment) -> None:
        found, miss = self._region.label("hit"), self._region.label("miss")
        self._line(f"  br i1 {hit}, label %{found}, label %{miss}, !prof !0")
        with self._region.cold(miss):
            self.step_out(moment)
        self._line(f"{found}:")
