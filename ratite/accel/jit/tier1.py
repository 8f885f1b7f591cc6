"""Tier 1: regions as LLVM functions.

Each guest instruction's IR, the same that tier 0's handler is made of, is instantiated with its
operands as constants: loads from the record become numbers, conditions on them are decided here,
and registers live in LLVM values for the whole region. Each write of a register also goes to the
vCPU's state, so that an exit has none to save and its code stays small; pc and the instruction
budget are written at exits.

An instruction that would raise an exception of its own (not a memory fault) is left to tier 0: the
region ends just before it, with nothing of it done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ratite.accel.jit.region import Decoded, Region, RegionBlock
from ratite.cpu.block import OPERANDS_OFFSET
from ratite.cpu.machine import TLB_ENTRIES, TlbEntry
from ratite.cpu.tlb import SIDE_OFFSET, TABLE_SIZE
from ratite.isa.state import WRITE, CpuState
from ratite.native import ir
from ratite.native.lower import Lowering, constant, declaration

MASK64 = 0xFFFF_FFFF_FFFF_FFFF
PAGE_MASK = MASK64 & ~0xFFF
PARAMETERS = "ptr noalias %cpu, ptr %rec, ptr %tb, i64 %budget, ptr %tlb"
_GUEST = "!alias.scope !12, !noalias !11"
_STATE = "!alias.scope !11, !noalias !12"
METADATA = """
!0 = !{!"branch_weights", i32 2000, i32 1}
!1 = !{!"branch_weights", i32 1, i32 2000}
!10 = distinct !{!10, !"ratite"}
!13 = distinct !{!13, !10, !"state"}
!14 = distinct !{!14, !10, !"guest"}
!11 = !{!13}
!12 = !{!14}
"""

Item = str | int
"""An LLVM operand: a name, or a number known now."""


@dataclass(frozen=True, slots=True)
class Promoted:
    """State that a region keeps in LLVM values: an array of words, or one field."""

    offset: int
    size: int  # of one element
    count: int
    zero: int | None = None  # element that always reads as zero
    sink: int | None = None  # element that swallows writes

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
    parameter_types: Mapping[str, tuple[str, ...]]
    exact_budget: bool = False

    def promoted_at(self, offset: int) -> Promoted | None:
        """The promoted state that holds a byte offset."""
        for part in self.promoted:
            if part.offset <= offset < part.end:
                return part
        return None


class RegionText:
    """Writes one region's LLVM text."""

    def __init__(self, region: Region, templates: Templates, name: str) -> None:
        self.region = region
        self.templates = templates
        self.name = name
        self.lines: list[str] = []
        self.slots: dict[int, str] = {}  # state offset -> alloca
        self.calls: set[str] = set()
        self.declarations: set[str] = set()
        self.allocas: list[str] = []
        self._fresh = 0
        self._order = {block.pc: index for index, block in enumerate(region.blocks)}

    # -- names and lines

    def number_of(self, block: RegionBlock) -> int:
        """The block's place in the region."""
        return self._order[block.pc]

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

    def emit(self, text: str) -> str:
        """Append an assignment and return its name."""
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        return name

    # -- the whole function

    def text(self) -> str:
        """The module."""
        for block in self.region.blocks:
            self._block(block)
        body = self.lines
        self.lines = []
        self._exits()
        exits = self.lines
        strict = " strictfp" if any("constrained" in text for text in self.declarations) else ""
        self.lines = [
            f'define preserve_nonecc void @"{self.name}"({PARAMETERS}) nounwind{strict} {{',
            "start:",
        ]
        self._prologue()
        function = "\n".join([*self.lines, *body, *exits, "}"])
        callees = self._callees()
        return "\n".join([*sorted(self.declarations), *callees, function, METADATA])

    def _callees(self) -> list[str]:
        """Small native functions that instructions call, to be inlined."""
        templates = self.templates
        texts = []
        for name in sorted(self.calls):
            lowering = Lowering(templates.functions[name], None, templates.parameter_types)
            texts.append(lowering.text(linkage="internal "))
            self.declarations |= lowering.uses
        return texts

    def _prologue(self) -> None:
        self.lines += self.allocas
        for name, type_ in (("budget", "i64"), ("exitpc", "i64")):
            self.line(f"  %var.{name} = alloca {type_}")
        self.line("  store i64 %budget, ptr %var.budget")
        for offset, slot in sorted(self.slots.items()):
            type_ = self._slot_type(offset)
            self.line(f"  {slot} = alloca {type_}")
            place = self.state(offset)
            value = self.emit(f"load {type_}, ptr {place}, {_STATE}")
            self.line(f"  store {type_} {value}, ptr {slot}")
        kick = self.emit(f"load i32, ptr {self.state(CpuState.kick.offset)}")
        kicked = self.emit(f"icmp ne i32 {kick}, 0")
        entry = self.region.entry.pc
        self.line(f"  store i64 {constant(entry, 'i64')}, ptr %var.exitpc")
        first = self._block_label(entry)
        self.line(f"  br i1 {kicked}, label %exit.kicked, label %{first}, !prof !1")

    def _slot_type(self, offset: int) -> str:
        part = self.templates.promoted_at(offset)
        assert part is not None
        return f"i{part.size * 8}"

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
            pc = self.emit("load i64, ptr %var.exitpc")
            self.line(f"  store i64 {pc}, ptr {self.state(CpuState.pc.offset)}")
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

    def _block(self, block: RegionBlock) -> None:
        self.line(f"{self._block_label(block.pc)}:")
        before = self.emit("load i64, ptr %var.budget")
        after = self.emit(f"sub i64 {before}, {block.count}")
        if self.templates.exact_budget:
            self._check_budget(block, after)
        self.line(f"  store i64 {after}, ptr %var.budget")
        for index, insn in enumerate(block.instructions):
            done = InstructionText(self, block, index, insn).lower()
            if done:
                return
        self.edge(block, block.end_pc)

    def _check_budget(self, block: RegionBlock, after: str) -> None:
        short = self.emit(f"icmp slt i64 {after}, 0")
        stop, go_on = self.label("spent"), self.label("paid")
        self.line(f"  br i1 {short}, label %{stop}, label %{go_on}, !prof !1")
        self.line(f"{stop}:")
        self.line(f"  store i64 {constant(block.pc, 'i64')}, ptr %var.exitpc")
        self.line("  br label %exit.kicked")
        self.line(f"{go_on}:")

    def edge(self, source: RegionBlock, pc: int) -> None:
        """Go on at a known address: within the region if it is there, else leave."""
        pc &= MASK64
        index = self._order.get(pc)
        if index is None:
            self.leave(pc)
            return
        target = self.region.blocks[index]
        if index <= self._order[source.pc]:
            self._poll(pc)
        if (target.pc ^ source.pc) & PAGE_MASK:
            self._guard_page(target)
        self.line(f"  br label %{self._block_label(pc)}")

    def leave(self, pc: Item, how: str = "lookup") -> None:
        """Leave the region at an address."""
        value = constant(pc, "i64") if isinstance(pc, int) else pc
        self.line(f"  store i64 {value}, ptr %var.exitpc")
        self.line(f"  br label %exit.{how}")

    def _poll(self, pc: int) -> None:
        """On an edge back: leave if anybody wants something, or the budget is spent."""
        kick = self.emit(f"load volatile i32, ptr {self.state(CpuState.kick.offset)}")
        wanted = self.emit(f"icmp ne i32 {kick}, 0")
        budget = self.emit("load i64, ptr %var.budget")
        spent = self.emit(f"icmp slt i64 {budget}, 0")
        either = self.emit(f"or i1 {wanted}, {spent}")
        stop, go_on = self.label("stop"), self.label("on")
        self.line(f"  br i1 {either}, label %{stop}, label %{go_on}, !prof !1")
        self.line(f"{stop}:")
        self.leave(pc, "kicked")
        self.line(f"{go_on}:")

    def _guard_page(self, target: RegionBlock) -> None:
        """Before an edge to another page: the page must be executable and where it was."""
        page = target.pc & PAGE_MASK
        slot = (page >> 12) & (TLB_ENTRIES - 1)
        index = self.region.fetch_index
        base = self.emit(f"load i64, ptr {self.state(CpuState.tlb_base.offset)}")
        tag_at = index * TABLE_SIZE + slot * TlbEntry.SIZE + TlbEntry.execute.offset
        ram_at = SIDE_OFFSET + (index * TLB_ENTRIES + slot) * 16 + 8
        checks = []
        for offset, wanted in ((tag_at, page), (ram_at, target.ram_pc & PAGE_MASK)):
            address = self.emit(f"add i64 {base}, {offset}")
            pointer = self.emit(f"inttoptr i64 {address} to ptr")
            found = self.emit(f"load i64, ptr {pointer}")
            checks.append(self.emit(f"icmp eq i64 {found}, {constant(wanted, 'i64')}"))
        both = self.emit(f"and i1 {checks[0]}, {checks[1]}")
        good, moved = self.label("mapped"), self.label("moved")
        self.line(f"  br i1 {both}, label %{good}, label %{moved}, !prof !0")
        self.line(f"{moved}:")
        self.leave(target.pc)
        self.line(f"{good}:")

    def dynamic_edge(self, source: RegionBlock, target: str) -> None:
        """Go on at a computed address: compare with those of the region's blocks that it was seen
        to be, else leave.
        """
        likely = [pc for pc in self._likely_targets(source) if pc in self._order]
        for pc in likely:
            hit = self.emit(f"icmp eq i64 {target}, {constant(pc, 'i64')}")
            yes, no = self.label("is"), self.label("isnot")
            self.line(f"  br i1 {hit}, label %{yes}, label %{no}")
            self.line(f"{yes}:")
            self.edge(source, pc)
            self.line(f"{no}:")
        self.leave(target)

    def _likely_targets(self, source: RegionBlock) -> list[int]:
        seen = list(source.successors)
        last = source.last
        if last.operands.get("rs1") == 1 and last.operands.get("rd") != 1:  # a return
            for block in self.region.blocks:
                if block.last.operands.get("rd") == 1 and block.end_pc not in seen:
                    seen.append(block.end_pc)
        return seen[:6]

    # -- registers

    def slot(self, offset: int) -> str:
        """The alloca of a promoted field."""
        name = self.slots.get(offset)
        if name is None:
            name = self.slots[offset] = f"%reg{offset}"
        return name


_FOLD: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda a, b, w: a + b,
    "sub": lambda a, b, w: a - b,
    "mul": lambda a, b, w: a * b,
    "and": lambda a, b, w: a & b,
    "or": lambda a, b, w: a | b,
    "xor": lambda a, b, w: a ^ b,
    "shl": lambda a, b, w: a << b,
    "lshr": lambda a, b, w: a >> b,
    "ashr": lambda a, b, w: _signed(a, w) >> b,
    "eq": lambda a, b, w: int(a == b),
    "ne": lambda a, b, w: int(a != b),
    "ult": lambda a, b, w: int(a < b),
    "ule": lambda a, b, w: int(a <= b),
    "slt": lambda a, b, w: int(_signed(a, w) < _signed(b, w)),
    "sle": lambda a, b, w: int(_signed(a, w) <= _signed(b, w)),
}


def _signed(value: int, width: int) -> int:
    return value - (1 << width) if value >> (width - 1) else value


class _Unfit(Exception):
    """The instruction cannot be part of a region; tier 0 executes it."""


class InstructionText(Lowering):
    """Instantiates one instruction's IR within a region.

    It is a `Lowering` of the handler's function, with constants folded and blocks that cannot be
    reached left out.
    """

    def __init__(self, region: RegionText, block: RegionBlock, index: int, insn: Decoded) -> None:
        handler = region.templates.handlers[insn.insn.name]
        super().__init__(handler, None, region.templates.parameter_types)
        self.region = region
        self.block = block
        self.index = index
        self.insn = insn
        self.lines = region.lines
        self._prefix = f"{region.number_of(block)}_{index}"
        self._values: dict[int, Item] = {}
        self._pending_pc: Item | None = None
        self._variables: dict[int, str] = {}
        self._after = ""
        self._ended = False
        self._record = handler.params[1].number
        self._cpu = handler.params[0].number
        self._values[self._cpu] = "%cpu"
        self._offsets = {
            OPERANDS_OFFSET + operand.offset: operand.name for operand in insn.insn.operands
        }

    # Names go through the region, so that they are unique in it.
    def fresh(self, hint: str = "t") -> str:
        """A new LLVM name."""
        return self.region.fresh()

    def label(self, hint: str) -> str:
        """A new label."""
        return self.region.label(hint)

    def lower(self) -> bool:
        """Write the instruction. True if control does not go on to the next one by itself."""
        start = len(self.lines)
        slots = dict(self.region.slots)
        try:
            return self._instantiate()
        except _Unfit:
            del self.lines[start:]
            self.region.slots = slots
            self._account()
            self.region.leave(self.insn.pc, "step")
            return True

    def _account(self) -> None:
        """Give back the budget of this instruction and what follows in the block."""
        self.line(f"  store i64 {self._left()}, ptr %var.budget")

    def _instantiate(self) -> bool:
        function = self.function
        by_label = {block.label: block for block in function.blocks}
        self._after = self.label("after")
        falls = False
        seen = {function.blocks[0].label}
        work = [function.blocks[0].label]
        self.line(f"  br label %{self._name(function.blocks[0].label)}")
        order = [block.label for block in function.blocks]
        while work:
            work.sort(key=order.index)
            block = by_label[work.pop(0)]
            self.line(f"{self._name(block.label)}:")
            self._ended = False
            for op in block.ops:
                self._lower_op(op)
                if self._ended:
                    break
            for target in self._targets:
                if target not in seen:
                    seen.add(target)
                    work.append(target)
            falls = falls or self._fell
        self.region.declarations |= {f"{text}" for text in self.uses}
        self.line(f"{self._after}:")
        if not falls:
            self.line("  unreachable")
        return not falls

    _targets: tuple[str, ...] = ()
    _fell = False

    def _name(self, label: str) -> str:
        return f"i.{self._prefix}.{label}"

    # -- folding

    def item(self, operand: ir.Operand, type_: str) -> Item:
        """An operand as a name or a number."""
        if isinstance(operand, int):
            return operand & ((1 << ir.WIDTH[type_]) - 1)
        return self._values.get(operand.number, f"%v{self._prefix}.{operand.number}")

    def operand(self, operand: ir.Operand, type: str) -> str:
        """An operand as LLVM text."""
        found = self.item(operand, type)
        if isinstance(found, int):
            return constant(found, type)
        return found

    def result(self, op: ir.Op) -> str:
        """The op's result."""
        assert op.result is not None
        return f"%v{self._prefix}.{op.result.number}"

    def _set(self, op: ir.Op, value: Item) -> None:
        assert op.result is not None
        self._values[op.result.number] = value

    def _lower_op(self, op: ir.Op) -> None:
        self._targets, self._fell = (), False
        name = op.name
        if name in _FOLD:
            a, b = (self.item(argument, op.type) for argument in op.args)
            if isinstance(a, int) and isinstance(b, int):
                width = ir.WIDTH[op.type]
                result_width = 1 if name in ir.COMPARES else width
                self._set(op, _FOLD[name](a, b, width) & ((1 << result_width) - 1))
                return
            if self._identity(op, a, b):
                return
        elif name in ("zext", "sext", "trunc") and self._fold_conversion(op):
            return
        elif name == "select":
            condition = self.item(op.args[0], "i1")
            if isinstance(condition, int):
                self._set(op, self.item(op.args[1 if condition else 2], op.type))
                return
        elif name == "mov":
            self._set(op, self.item(op.args[0], op.type))
            return
        special = getattr(self, f"_do_{name}", None)
        if special is not None:
            special(op)
        else:
            self._op(op)

    def _identity(self, op: ir.Op, a: Item, b: Item) -> bool:
        if op.name in ("add", "or", "xor", "sub", "shl", "lshr", "ashr") and b == 0:
            self._set(op, a)
            return True
        if op.name in ("add", "or", "xor") and a == 0:
            self._set(op, b)
            return True
        if op.name == "and" and 0 in (a, b):
            self._set(op, 0)
            return True
        return False

    def _fold_conversion(self, op: ir.Op) -> bool:
        source = op.args[0]
        have = source.type if isinstance(source, ir.Value) else "i64"
        value = self.item(source, have)
        if not isinstance(value, int):
            return False
        if op.name == "sext":
            value = _signed(value, ir.WIDTH[have])
        self._set(op, value & ((1 << ir.WIDTH[op.type]) - 1))
        return True

    # -- state

    def _do_ld(self, op: ir.Op) -> None:
        base = op.args[0]
        assert isinstance(base, ir.Value)
        if base.number == self._record:
            name = self._offsets[int(op.attributes["offset"])]
            self._set(op, self.insn.operands[name] & ((1 << ir.WIDTH[op.type]) - 1))
            return
        if base.number != self._cpu:
            self._op_ld(op)
            return
        offset = self._state_offset(op, op.args[1] if len(op.args) > 1 else None)
        part = self.region.templates.promoted_at(offset)
        if part is None:
            place = self.region.state(offset)
            self.line(f"  {self.result(op)} = load {op.type}, ptr {place}, {_STATE}")
            return
        if part.zero is not None and offset == part.offset + part.zero * part.size:
            self._set(op, 0)
            return
        slot = self.region.slot(offset)
        self.line(f"  {self.result(op)} = load {op.type}, ptr {slot}")

    def _do_st(self, op: ir.Op) -> None:
        base = op.args[0]
        assert isinstance(base, ir.Value)
        if base.number != self._cpu:
            self._op_st(op)
            return
        offset = self._state_offset(op, op.args[2] if len(op.args) > 2 else None)
        if offset == CpuState.pc.offset:
            self._pending_pc = self.item(op.args[1], "i64")
            return
        value = self.operand(op.args[1], op.type)
        part = self.region.templates.promoted_at(offset)
        if part is None:
            if CpuState.exception_pending.offset <= offset <= CpuState.exception_value.offset:
                return  # the instruction raises: tier 0 does it
            place = self.region.state(offset)
            self.line(f"  store {op.type} {value}, ptr {place}, {_STATE}")
            return
        if part.sink is not None and offset == part.offset + part.sink * part.size:
            return
        self.line(f"  store {op.type} {value}, ptr {self.region.slot(offset)}")
        self.line(f"  store {op.type} {value}, ptr {self.region.state(offset)}, {_STATE}")

    def _state_offset(self, op: ir.Op, index: ir.Operand | None) -> int:
        offset = int(op.attributes["offset"])
        if index is None:
            return offset
        position = self.item(index, "i64")
        if not isinstance(position, int):
            raise _Unfit
        return offset + position * int(op.attributes["scale"])

    def _do_addr(self, op: ir.Op) -> None:
        self._op_addr(op)

    def _do_getvar(self, op: ir.Op) -> None:
        slot = self._variable(op)
        self.line(f"  {self.result(op)} = load {op.type}, ptr {slot}")

    def _do_setvar(self, op: ir.Op) -> None:
        slot = self._variable(op)
        self.line(f"  store {op.type} {self.operand(op.args[0], op.type)}, ptr {slot}")

    def _variable(self, op: ir.Op) -> str:
        number = int(op.attributes["var"])
        name = self._variables.get(number)
        if name is None:
            name = self._variables[number] = f"%var{self._prefix}.{number}"
            self.region.allocas.append(f"  {name} = alloca {op.type}")
        return name

    # -- calls

    def _do_call(self, op: ir.Op) -> None:
        callee = str(op.attributes["function"])
        target = self.region.templates.functions[callee]
        first = op.args[0] if op.args else None
        whole_state = isinstance(first, ir.Value) and first.number == self._cpu
        if target.raises or whole_state:
            raise _Unfit  # it may touch promoted registers, or raise
        inlined = leaves_to_copy(callee, self.region.templates.functions)
        if inlined is None:
            self.region.declarations.add(declaration(target))
        else:
            self.region.calls |= inlined
        self._op_call(op)

    def _do_host(self, op: ir.Op) -> None:
        what = op.attributes["what"]
        if what == "pc":
            self._set(op, self.insn.pc)
        elif what == "next_pc":
            self._set(op, self.insn.next_pc & MASK64)
        elif what in ("sync", "fp_flags", "fp_set", "fill", "clock_ns"):
            raise _Unfit
        else:
            self._op_host(op)

    # -- guest memory

    def _left(self) -> str:
        """The budget with this instruction not retired."""
        left = self.block.count - self.index
        before = self.region.emit("load i64, ptr %var.budget")
        return self.region.emit(f"add i64 {before}, {left}")

    def _tag(self, address: str, size: int, tag_offset: int) -> tuple[str, str]:
        emit = self.region.emit
        shift = 12 - (TlbEntry.SIZE.bit_length() - 1)
        page = emit(f"lshr i64 {address}, {shift}")
        masked = emit(f"and i64 {page}, {(TLB_ENTRIES - 1) * TlbEntry.SIZE}")
        entry = emit(f"getelementptr inbounds i8, ptr %tlb, i64 {masked}")
        place = emit(f"getelementptr inbounds i8, ptr {entry}, i64 {tag_offset}")
        tag = emit(f"load i64, ptr {place}, {_STATE}")
        last = emit(f"add i64 {address}, {size - 1}")
        last_page = emit(f"and i64 {last}, -4096")
        return entry, emit(f"icmp eq i64 {tag}, {last_page}")

    def _host_pointer(self, entry: str, address: str) -> str:
        emit = self.region.emit
        place = emit(f"getelementptr inbounds i8, ptr {entry}, i64 {TlbEntry.addend.offset}")
        addend = emit(f"load i64, ptr {place}, {_STATE}")
        total = emit(f"add i64 {addend}, {address}")
        return emit(f"inttoptr i64 {total} to ptr")

    def _check_status(self, status: str, done: str) -> None:
        """After a slow path: 1 is good, 0 is seen to outside."""
        bad = self.region.emit(f"icmp eq i32 {status}, 0")
        self.line(f"  br i1 {bad}, label %exit.pending, label %{done}, !prof !1")

    def _do_guest_ld(self, op: ir.Op) -> None:
        size = ir.WIDTH[op.type] // 8
        address = self.operand(op.args[0], "i64")
        entry, hit = self._tag(address, size, TlbEntry.read.offset)
        fast, slow, done = (self.label(hint) for hint in ("hit", "miss", "loaded"))
        self.line(f"  br i1 {hit}, label %{fast}, label %{slow}, !prof !0")
        self.line(f"{fast}:")
        pointer = self._host_pointer(entry, address)
        quick = self.region.emit(f"load {op.type}, ptr {pointer}, align 1, {_GUEST}")
        self.line(f"  br label %{done}")
        self.line(f"{slow}:")
        wide, status = self._cold_value("load", f"i64 {address}, i32 {size}")
        value = wide if op.type == "i64" else self.region.emit(f"trunc i64 {wide} to {op.type}")
        self._check_status(status, done)
        self.line(f"{done}:")
        self.line(f"  {self.result(op)} = phi {op.type} [ {quick}, %{fast} ], [ {value}, %{slow} ]")

    def _do_guest_st(self, op: ir.Op) -> None:
        size = ir.WIDTH[op.type] // 8
        address, value = self.operand(op.args[0], "i64"), self.operand(op.args[1], op.type)
        entry, hit = self._tag(address, size, TlbEntry.write.offset)
        fast, slow, done = (self.label(hint) for hint in ("hit", "miss", "stored"))
        self.line(f"  br i1 {hit}, label %{fast}, label %{slow}, !prof !0")
        self.line(f"{fast}:")
        pointer = self._host_pointer(entry, address)
        self.line(f"  store {op.type} {value}, ptr {pointer}, align 1, {_GUEST}")
        self.line(f"  br label %{done}")
        self.line(f"{slow}:")
        wide = value if op.type == "i64" else self.region.emit(f"zext {op.type} {value} to i64")
        arguments = f"i64 {address}, i64 {wide}, i32 {size}, i32 {self.insn.length}"
        self._check_status(self._cold_call("store", arguments, "i32"), done)
        self.line(f"{done}:")

    def _do_guest_ptr(self, op: ir.Op) -> None:
        size, access = int(op.attributes["size"]), int(op.attributes["access"])
        address = self.operand(op.args[0], "i64")
        tag = TlbEntry.write.offset if access & WRITE else TlbEntry.read.offset
        entry, hit = self._tag(address, size, tag)
        if access == 3:
            _, readable = self._tag(address, size, TlbEntry.read.offset)
            hit = self.region.emit(f"and i1 {hit}, {readable}")
        fast, slow, done = (self.label(hint) for hint in ("hit", "miss", "found"))
        self.line(f"  br i1 {hit}, label %{fast}, label %{slow}, !prof !0")
        self.line(f"{fast}:")
        quick = self.region.emit(f"ptrtoint ptr {self._host_pointer(entry, address)} to i64")
        self.line(f"  br label %{done}")
        self.line(f"{slow}:")
        found, status = self._cold_value("pointer", f"i64 {address}, i32 {size}, i32 {access}")
        self._check_status(status, done)
        self.line(f"{done}:")
        self.line(f"  {self.result(op)} = phi i64 [ {quick}, %{fast} ], [ {found}, %{slow} ]")

    def _cold_value(self, name: str, arguments: str) -> tuple[str, str]:
        """Call a slow path that has a value; returns value and status."""
        pair = self._cold_call(name, arguments, "{ i64, i32 }")
        value = self.region.emit(f"extractvalue {{ i64, i32 }} {pair}, 0")
        return value, self.region.emit(f"extractvalue {{ i64, i32 }} {pair}, 1")

    def _cold_call(self, name: str, arguments: str, returns: str) -> str:
        callee = f'@"accel.jit.control.region_{name}"'
        pc = constant(self.insn.pc, "i64")
        kinds = ", ".join(part.split()[0] for part in arguments.split(", "))
        self.region.declarations.add(
            f"declare dso_local preserve_mostcc {returns} {callee}(ptr, {kinds}, i64, i64)"
        )
        return self.region.emit(
            f"call preserve_mostcc {returns} {callee}"
            f"(ptr %cpu, {arguments}, i64 {pc}, i64 {self._left()})"
        )

    # -- control

    def _do_br(self, op: ir.Op) -> None:
        self._jump(op.targets[0])

    def _jump(self, target: str) -> None:
        self._targets = (target,)
        self._ended = True
        self.line(f"  br label %{self._name(target)}")

    def _do_cbr(self, op: ir.Op) -> None:
        condition = self.item(op.args[0], "i1")
        if isinstance(condition, int):
            self._jump(op.targets[0 if condition else 1])
            return
        weights = {"yes": ", !prof !0", "no": ", !prof !1"}.get(
            str(op.attributes.get("likely", "")), ""
        )
        yes, no = (self._name(target) for target in op.targets)
        self.line(f"  br i1 {condition}, label %{yes}, label %{no}{weights}")
        self._targets = op.targets
        self._ended = True

    def _do_switch(self, op: ir.Op) -> None:
        raise _Unfit

    def _do_next(self, op: ir.Op) -> None:
        self._ended = True
        if self.insn.insn.ends_block:
            self.region.leave(self.insn.next_pc & MASK64)
            return
        self._fell = True
        self.line(f"  br label %{self._after}")

    def _do_goto_tb(self, op: ir.Op) -> None:
        self._ended = True
        displacement = self.insn.displacement
        assert displacement is not None
        self.region.edge(self.block, self.insn.pc + displacement)

    def _do_lookup_tb(self, op: ir.Op) -> None:
        self._ended = True
        assert self._pending_pc is not None
        if self.insn.insn.ends_block:
            self.region.leave(self._pending_pc)
        elif isinstance(self._pending_pc, int):
            self.region.edge(self.block, self._pending_pc)
        else:
            self.region.dynamic_edge(self.block, self._pending_pc)

    def _do_exit_tb(self, op: ir.Op) -> None:
        """The instruction raises, or leaves run(): tier 0 does it, from the start."""
        self._ended = True
        self._account()
        self.region.leave(self.insn.pc, "step")

    def _do_ret(self, op: ir.Op) -> None:
        raise _Unfit

    def _do_dispatch(self, op: ir.Op) -> None:
        raise _Unfit


SMALL = 60
"""Ops of a native function that a region takes a copy of."""


def leaves_to_copy(name: str, functions: Mapping[str, ir.Function]) -> set[str] | None:
    """The native functions to copy into a region that calls `name`: itself and what it calls, if
    all of them are small; else None.
    """
    wanted: set[str] = set()
    work = [name]
    while work:
        function = functions[work.pop()]
        ops = list(function.values())
        if len(ops) > SMALL or any(op.name in ("host", "symbol") for op in ops):
            return None
        wanted.add(function.name)
        work += [
            callee
            for op in ops
            if op.name == "call" and (callee := str(op.attributes["function"])) not in wanted
        ]
    return wanted
