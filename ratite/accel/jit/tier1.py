"""Tier 1: regions as LLVM functions.

Each guest instruction's IR, the same that tier 0's handler is made of, is instantiated with its
operands as constants (`ratite.accel.jit.instance`); registers live in LLVM values for the whole
region. At the end of each guest block the registers that it wrote go to the vCPU's state, so that
exits between blocks have none to save and their code stays small; pc and the instruction budget are
written at exits.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ratite.accel.jit.accesses import STATE, Access, AccessText, Item, Lines
from ratite.accel.jit.instance import InstructionText
from ratite.accel.jit.region import PLACE, Region, RegionBlock
from ratite.accel.jit.registers import MASK64, Registers
from ratite.cpu.machine import Block
from ratite.cpu.space import (
    ENTRY_SHIFT,
    SIDE_OFFSET,
    SIDE_TABLE_SIZE,
    TABLE_SIZE,
    TlbEntry,
    TlbSide,
)
from ratite.isa.state import WENT, CpuState
from ratite.native import ir
from ratite.native.lower import CANONICAL_NAN, FLOAT, Lowering, constant

PAGE_MASK = MASK64 & ~0xFFF
BOX = 0xFFFF_FFFF
"""The upper half of a register that holds a single number."""


PARAMETERS = "ptr noalias %cpu, ptr %rec, ptr %tb, i64 %budget, ptr %tlb"
METADATA = """
!0 = !{!"branch_weights", i32 2000, i32 1}
!1 = !{!"branch_weights", i32 1, i32 2000}
!10 = distinct !{!10, !"ratite"}
!13 = distinct !{!13, !10, !"state"}
!14 = distinct !{!14, !10, !"guest"}
!11 = !{!13}
!12 = !{!14}
!15 = !{}
"""


@dataclass(frozen=True, slots=True)
class Promoted:
    """State that a region keeps in LLVM values: an array of words, or one field."""

    offset: int
    size: int  # of one element
    count: int
    zero: int | None = None  # element that always reads as zero
    sink: int | None = None  # element that swallows writes
    floats: str = ""  # kind of the operands that name an element, if they are floating-point

    @property
    def end(self) -> int:
        """The first offset after it."""
        return self.offset + self.size * self.count


@dataclass(slots=True)
class Templates:
    """What regions are made of: the handlers' IR by instruction, and where the state is."""

    handlers: Mapping[str, ir.Function]
    functions: Mapping[str, ir.Function]
    promoted: tuple[Promoted, ...]
    guarded: tuple[int, ...]
    """Offsets of words of 32 bits that a region takes for what they are when it is compiled. It is
    left at its entry where they are not."""
    parameter_types: Mapping[str, tuple[str, ...]]
    exact_budget: bool = False

    def promoted_at(self, offset: int) -> Promoted | None:
        """The promoted state that holds a byte offset."""
        for part in self.promoted:
            if part.offset <= offset < part.end:
                return part
        return None


def unboxed_registers(state: CpuState, templates: Templates) -> set[int]:
    """Floating-point registers that hold no single number, by their offset in the state."""
    words = [
        offset
        for part in templates.promoted
        if part.floats
        for offset in range(part.offset, part.end, part.size)
    ]
    return {
        offset
        for offset in words
        if ctypes.c_uint32.from_address(state.address + offset + 4).value != BOX
    }


Mark = tuple[int, int, int, dict[int, str], Registers, set[int]]


def _flat(lines: Lines) -> Iterator[str]:
    for line in lines:
        if isinstance(line, str):
            yield line
        else:
            yield from _flat(line.lines)


class RegionText:
    """Writes one region's LLVM text."""

    is_optimized = False
    """Whether LLVM takes out what is not needed."""
    defers_nans = False
    """Whether registers may hold any NaN in place of the canonical one."""

    def __init__(self, region: Region, templates: Templates, name: str, cpu: CpuState) -> None:
        """`cpu` is one that will execute it."""
        self.region = region
        self._cpu = cpu
        self._guards: dict[int, int] = {}  # state offset -> value
        self.templates = templates
        self.name = name
        self.lines: Lines = []
        self.cold_lines: Lines = []  # what is seldom executed, after all the rest
        self.slots: dict[int, str] = {}  # state offset -> alloca
        self.calls: set[str] = set()
        self.declarations: set[str] = set()
        self.allocas: list[str] = []
        self.access_text: AccessText = AccessText(self)
        self.registers = Registers()
        self.raw: set[int] = set()
        """Registers, by their offset in the state, whose slots hold results of the host's FPU as
        they are, at this place of the text."""
        self.accesses: list[Access] = []
        """Of the block that is being written."""
        self.edition = 0
        """Grows where a block is written once more: part of its names."""
        self.pages: dict[int, int] = {}
        """Pages that must be where they are found when the region is installed, by the guest
        address that it is compiled for, each with the number of a block there."""
        self._fresh = 0
        self.order = {block.pc: index for index, block in enumerate(region.blocks)}

    # -- names and lines

    def number_of(self, block: RegionBlock) -> int:
        """The block's place in the region."""
        return self.order[block.pc]

    def line(self, text: str) -> None:
        """Append a line."""
        self.lines.append(text)

    def fresh(self) -> str:
        """A new LLVM name."""
        self._fresh += 1
        return f"%n{self._fresh}"

    def label(self, hint: str) -> str:
        """A new label."""
        self._fresh += 1
        return f"{hint}{self._fresh}"

    @contextmanager
    def cold(self, label: str) -> Iterator[None]:
        """Write a block that is seldom executed, out of the way of the others."""
        with self.into(self.cold_lines):
            self.line(f"{label}:")
            yield

    @contextmanager
    def into(self, lines: Lines) -> Iterator[None]:
        """Write there instead."""
        before, self.lines = self.lines, lines
        try:
            yield
        finally:
            self.lines = before

    def mark(self) -> Mark:
        """The state of the text, for `take_back`."""
        return (
            len(self.lines),
            len(self.cold_lines),
            len(self.accesses),
            dict(self.slots),
            self.registers.copy(),
            set(self.raw),
        )

    def take_back(self, mark: Mark) -> None:
        """Forget what was written since `mark`."""
        lines, cold, accesses, self.slots, self.registers, self.raw = mark
        del self.lines[lines:], self.cold_lines[cold:], self.accesses[accesses:]

    def place_access(self, access: Access) -> None:
        """Append the placeholder of an access."""
        self.accesses.append(access)
        self.lines.append(access)

    def emit(self, text: str) -> str:
        """Append an assignment and return its name."""
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        return name

    # -- the whole function

    def text(self) -> str:
        """The module."""
        self.blocks()
        self._exits()
        body = [*self.lines, *self.cold_lines]
        strict = " strictfp" if self.has_floats else ""
        self.lines = [
            f'define preserve_nonecc void @"{self.name}"({PARAMETERS}) nounwind{strict} {{',
            "start:",
        ]
        self._prologue()
        function = "\n".join([*_flat(self.lines), *_flat(body), "}"])
        callees = self._callees()
        place = f'@"{PLACE}" = dso_local global [{1 + len(self.pages)} x i64] zeroinitializer'
        return "\n".join([*sorted(self.declarations), place, *callees, function, METADATA])

    @property
    def has_floats(self) -> bool:
        """Whether the host's FPU computes in it."""
        return any("constrained" in text for text in self.declarations)

    def _callees(self) -> list[str]:
        """Small native functions that instructions call, to be inlined."""
        templates = self.templates
        texts = []
        for name in sorted(self.calls):
            lowering = Lowering(templates.functions[name], None, templates.parameter_types)
            texts.append(lowering.text(linkage="internal ", attributes=" alwaysinline"))
            self.declarations |= lowering.uses
        return texts

    def _prologue(self) -> None:
        self.lines += self.allocas
        self.line("  %var.budget = alloca i64")
        self.line("  store i64 %budget, ptr %var.budget")
        # What changes it is done between blocks, outside regions.
        mask = self.state(CpuState.tlb_mask.offset)
        self.line(f"  %tlb.mask = load i64, ptr {mask}, {STATE}")
        for offset, slot in sorted(self.slots.items()):
            self.declare_slot(offset, slot)
            self.fill_slot(offset, slot)
        kick = self.emit(f"load i32, ptr {self.state(CpuState.kick.offset)}")
        kicked = self.emit(f"icmp ne i32 {kick}, 0")
        # Entered like a record: %rec is the header of the block.
        place = self.emit(f"getelementptr inbounds i8, ptr %rec, i64 {Block.pc.offset}")
        pc = self.emit(f"load i64, ptr {place}")
        self.line(f"  store i64 {pc}, ptr {self.state(CpuState.pc.offset)}, {STATE}")
        self.line(f"  br i1 {kicked}, label %exit.kicked, label %entered, !prof !1")
        self.line("entered:")
        for offset, wanted in sorted(self._guards.items()):
            found = self.emit(f"load i32, ptr {self.state(offset)}")
            same, good = self.emit(f"icmp eq i32 {found}, {wanted}"), self.label("as")
            self.line(f"  br i1 {same}, label %{good}, label %exit.step, !prof !0")
            self.line(f"{good}:")
        self.check_entry()
        first, *others = (self.region.blocks[number].pc for number in self.region.entries)
        distance = self.emit(f"sub i64 {pc}, {self.guest_pc(first)}")
        cases = "".join(
            f" i64 {constant(other - first, 'i64')}, label %{self._block_label(other)}"
            for other in others
        )
        self.line(f"  switch i64 {distance}, label %{self._block_label(first)} [{cases} ]")

    # -- where the region is

    def guest_pc(self, pc: int) -> str:
        """An address in the region's code. The same code may be executed elsewhere, so that the
        address of its entry is known when it is installed.
        """
        base = self._placed(0)
        distance = pc - self.region.entry.pc & MASK64
        return self.emit(f"add i64 {base}, {constant(distance, 'i64')}") if distance else base

    def _placed(self, number: int) -> str:
        """A word of what is known then: the address of the entry, and `pages`, as ram_addr_t."""
        place = self.emit(f'getelementptr inbounds i64, ptr @"{PLACE}", i64 {number}')
        return self.emit(f"load i64, ptr {place}, !invariant.load !15")

    def check_entry(self) -> None:
        """Leave if the region was not made for the values that registers have."""

    def _slot_type(self, offset: int) -> str:
        part = self.templates.promoted_at(offset)
        assert part is not None
        return f"i{part.size * 8}"

    def guarded(self, offset: int) -> int | None:
        """The value of a guarded word; None if it is not one."""
        if offset not in self.templates.guarded:
            return None
        if offset not in self._guards:
            place = self._cpu.address + offset
            self._guards[offset] = ctypes.c_uint32.from_address(place).value
        return self._guards[offset]

    def state(self, offset: int) -> str:
        """Pointer to a field of the CPU state."""
        return self.emit(f"getelementptr inbounds i8, ptr %cpu, i64 {offset}")

    def _exits(self) -> None:
        """The shared ways out."""
        for kind, target in (
            ("lookup", "tier0.lookup"),
            ("kicked", "tier0.kicked"),
            ("step", "tier0.step"),
        ):
            self.line(f"exit.{kind}:")
            self._tail_call(target)
        self.line("exit.pending:")  # pc and budget are in the state already
        self._tail_call("tier0.pending")

    def _tail_call(self, target: str) -> None:
        self.declarations.add(
            f'declare dso_local preserve_nonecc void @"{target}"(ptr, ptr, ptr, i64, ptr)'
        )
        budget = self.emit("load i64, ptr %var.budget")
        self.line(
            f'  musttail call preserve_nonecc void @"{target}"'
            f"(ptr %cpu, ptr %rec, ptr %tb, i64 {budget}, ptr %tlb)"
        )
        self.line("  ret void")

    # -- blocks and edges

    def _block_label(self, pc: int) -> str:
        return f"block.{pc:x}"

    def blocks(self) -> None:
        """Write all blocks."""
        for block in self.region.blocks:
            self.line(f"{self._block_label(block.pc)}:")
            self.body(block)

    def body(self, block: RegionBlock) -> None:
        """Write what a block does."""
        self.registers = Registers()
        self.accesses = []
        before = self.emit("load i64, ptr %var.budget")
        after = self.emit(f"sub i64 {before}, {block.count}")
        if self.templates.exact_budget:
            self._check_budget(block, after)
        self.line(f"  store i64 {after}, ptr %var.budget")
        for index, insn in enumerate(block.instructions):
            if InstructionText(self, block, index, insn).lower():
                break
        else:
            self.edge(block, block.end_pc)
        self.access_text.resolve(self.accesses)

    def _check_budget(self, block: RegionBlock, after: str) -> None:
        short = self.emit(f"icmp slt i64 {after}, 0")
        stop, go_on = self.label("spent"), self.label("paid")
        self.line(f"  br i1 {short}, label %{stop}, label %{go_on}, !prof !1")
        with self.cold(stop):
            self.go_out(block.pc, "kicked")
        self.line(f"{go_on}:")

    def edge(self, source: RegionBlock, pc: int) -> None:
        """Go on at a known address: within the region if it is there, else leave."""
        self.settle()
        pc &= MASK64
        index = self.order.get(pc)
        if index is None:
            self.leave(pc)
            return
        if index <= self.order[source.pc]:
            self._poll(pc)
        self._enter(source, pc)

    def _enter(self, source: RegionBlock, pc: int) -> None:
        """Go on in a block of the region."""
        target = self.region.blocks[self.order[pc]]
        if (target.pc ^ source.pc) & PAGE_MASK:
            self._guard_page(target)
        self._go_to(source, pc)

    def _go_to(self, source: RegionBlock, pc: int) -> None:
        self.line(f"  br label %{self._block_label(pc)}")

    def leave(self, pc: Item, how: str = "lookup") -> None:
        """Leave the region at an address."""
        self.settle()
        self.go_out(pc, how)

    def go_out(self, pc: Item, how: str) -> None:
        """Do so where nothing is left to settle."""
        # Written here rather than where the ways out meet: values that differ by the way there
        # would be prepared before the branch that leads out, which is seldom taken.
        self._store_pc(pc)
        self.line(f"  br label %exit.{how}")

    def _store_pc(self, pc: Item) -> None:
        value = self.guest_pc(pc) if isinstance(pc, int) else pc
        self.line(f"  store i64 {value}, ptr {self.state(CpuState.pc.offset)}, {STATE}")

    def _poll(self, pc: Item) -> None:
        """On an edge back: leave if anybody wants something. The budget is no matter here: where it
        must be kept, each block looks at it.
        """
        kick = self.emit(f"load volatile i32, ptr {self.state(CpuState.kick.offset)}")
        wanted = self.emit(f"icmp ne i32 {kick}, 0")
        stop, go_on = self.label("stop"), self.label("on")
        self.line(f"  br i1 {wanted}, label %{stop}, label %{go_on}, !prof !1")
        with self.cold(stop):
            self.go_out(pc, "kicked")
        self.line(f"{go_on}:")

    def _guard_page(self, target: RegionBlock) -> None:
        """Before an edge to another page: the page must be executable and where it was."""
        page = target.pc & PAGE_MASK
        self.pages.setdefault(page, self.number_of(target))
        address, ram = self.guest_pc(page), self._placed(1 + list(self.pages).index(page))
        index = self.region.fetch_index
        base = self.emit(f"load i64, ptr {self.state(CpuState.tlb_base.offset)}")
        number = self.emit(f"lshr i64 {address}, {ENTRY_SHIFT}")
        entry = self.emit(f"and i64 %tlb.mask, {number}")
        side = self.emit(f"udiv exact i64 {entry}, {TlbEntry.SIZE // TlbSide.SIZE}")
        tag_at = index * TABLE_SIZE + TlbEntry.execute.offset
        ram_at = SIDE_OFFSET + index * SIDE_TABLE_SIZE + TlbSide.ram.offset
        checks = []
        for place, offset, wanted in (
            (entry, tag_at, address),
            (side, ram_at, ram),
        ):
            word = self.emit(f"add i64 {base}, {place}")
            word = self.emit(f"add i64 {word}, {offset}")
            pointer = self.emit(f"inttoptr i64 {word} to ptr")
            found = self.emit(f"load i64, ptr {pointer}")
            checks.append(self.emit(f"icmp eq i64 {found}, {wanted}"))
        both = self.emit(f"and i1 {checks[0]}, {checks[1]}")
        good, moved = self.label("mapped"), self.label("moved")
        self.line(f"  br i1 {both}, label %{good}, label %{moved}, !prof !0")
        with self.cold(moved):
            self.go_out(target.pc, "lookup")
        self.line(f"{good}:")

    def dynamic_edge(self, source: RegionBlock, target: str) -> None:
        """Go on at a computed address: at that of the region's blocks which it is, if control was
        seen to go there, else leave.
        """
        self.settle()
        likely = self.likely_targets(source)
        if any(self.order[pc] <= self.order[source.pc] for pc in likely):
            self._poll(target)
        elsewhere = self.label("elsewhere")
        arms = [(pc, self.label("to")) for pc in likely]
        distance = self.emit(f"sub i64 {target}, {self._placed(0)}")
        cases = " ".join(
            f"i64 {constant(pc - self.region.entry.pc, 'i64')}, label %{arm}" for pc, arm in arms
        )
        self.line(f"  switch i64 {distance}, label %{elsewhere} [ {cases} ]")
        for pc, arm in arms:
            self.line(f"{arm}:")
            self._enter(source, pc)
        self.line(f"{elsewhere}:")
        self.note_jump(source.last.pc, target)
        self.leave(target)

    def note_jump(self, pc: int, target: str) -> None:
        """Remember where an indirect jump went that leaves the region: a larger one may hold both
        ends.
        """
        here = self.guest_pc(pc)
        mixed = self.emit(f"xor i64 {target}, {here}")
        mixed = self.emit(f"lshr i64 {mixed}, 1")
        slot = self.emit(f"and i64 {mixed}, {WENT - 1}")
        for array, value in ((CpuState.went_from, here), (CpuState.went_to, target)):
            base = self.state(array.offset)
            place = self.emit(f"getelementptr inbounds i64, ptr {base}, i64 {slot}")
            self.line(f"  store i64 {value}, ptr {place}, {STATE}")

    def likely_targets(self, source: RegionBlock) -> list[int]:
        """Where in the region an indirect jump may lead."""
        found = dict.fromkeys(source.successors)
        last = source.last
        if last.operands.get("rs1") == 1 and not source.is_call:  # a return
            found |= dict.fromkeys(block.end_pc for block in self.region.blocks if block.is_call)
        return [pc for pc in found if pc in self.order]

    def following(self, block: RegionBlock) -> list[RegionBlock]:
        """Where control may go from a block within the region, and perhaps more."""
        pcs = {block.end_pc, *self.likely_targets(block), *block.successors}
        if block.last.displacement is not None:
            pcs.add(block.last.pc + block.last.displacement & MASK64)
        return [self.region.blocks[self.order[pc]] for pc in pcs if pc in self.order]

    # -- registers

    def declare_slot(self, offset: int, slot: str) -> None:
        """Write the alloca of a promoted field."""
        self.line(f"  {slot} = alloca {self._slot_type(offset)}")

    def fill_slot(self, offset: int, slot: str) -> None:
        """Copy the field from the vCPU's state."""
        type_ = self._slot_type(offset)
        value = self.emit(f"load {type_}, ptr {self.state(offset)}, {STATE}")
        self.line(f"  store {type_} {value}, ptr {slot}")

    def read_slot(self, offset: int, type_: str, result: str) -> None:
        """Define `result` as the field's value."""
        self.line(f"  {result} = load {type_}, ptr {self.slot(offset)}")

    def write_slot(self, offset: int, type_: str, value: str) -> None:
        """Store a value to the field's alloca."""
        self.line(f"  store {type_} {value}, ptr {self.slot(offset)}")

    def canonical(self, kind: str, number: str) -> str:
        """A result of the host's FPU with the canonical NaN in place of any. It is no signalling
        one, which would leave a flag here.
        """
        nan = self.emit(f"fcmp uno {kind} {number}, {number}")
        return self.emit(f"select i1 {nan}, {kind} {CANONICAL_NAN}, {kind} {number}")

    def seldom_nan(self, type_: str, number: str) -> str:
        """The bits of what `canonical` makes of a number, by a branch: where the result goes
        nowhere but to memory, nothing waits for it.
        """
        slot, kind = self.fresh(), FLOAT[type_]
        self.allocas.append(f"  {slot} = alloca {kind}")
        self.line(f"  store {kind} {number}, ptr {slot}")
        is_nan = self.emit(f"fcmp uno {kind} {number}, {number}")
        nan, stored = self.label("nan"), self.label("number")
        self.line(f"  br i1 {is_nan}, label %{nan}, label %{stored}, !prof !1")
        with self.cold(nan):
            self.line(f"  store {kind} {CANONICAL_NAN}, ptr {slot}")
            self.line(f"  br label %{stored}")
        self.line(f"{stored}:")
        seen = self.emit(f"load {kind}, ptr {slot}")
        return self.emit(f"bitcast {kind} {seen} to {type_}")

    def see_nan(self, offset: int) -> None:
        """Have the canonical NaN in a register's slot where it holds any."""

    def prepare_float(self, offset: int, value: str) -> None:
        """A floating-point register has this value from here on, on every path."""

    def settle(self) -> None:
        """Bring slots and state up to date with the values that registers have."""
        unsaved = self.registers.unsaved()
        for offset, type_, value in unsaved:
            self.write_slot(offset, type_, value)
        self.save(unsaved)
        self.registers.settled()

    def settle_one(self, offset: int) -> None:
        """Do so if one register is not up to date."""
        if self.registers.is_unsaved(offset):
            self.settle()

    def save(self, unsaved: Iterable[tuple[int, str, str]]) -> None:
        """Store values to the vCPU's state."""
        for offset, type_, value in unsaved:
            self.line(f"  store {type_} {value}, ptr {self.state(offset)}, {STATE}")

    def write(self, offset: int, type_: str, value: str) -> None:
        """Write a register on one of several paths."""
        self.write_slot(offset, type_, value)
        self.save([(offset, type_, value)])

    def slot(self, offset: int) -> str:
        """The alloca of a promoted field."""
        name = self.slots.get(offset)
        if name is None:
            name = self.slots[offset] = f"%reg{offset}"
        return name
