"""One guest instruction within a region: its handler's IR with the operands as constants.

Loads from the record become numbers, conditions on them are decided here, registers live in the
region's values. An instruction that would raise an exception of its own (not a memory fault) is
left to tier 0: the region ends just before it, with nothing of it done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ratite.accel.jit.accesses import PC, STATE, Access, Item, Moment
from ratite.accel.jit.floats import float_registers
from ratite.accel.jit.region import Decoded, RegionBlock
from ratite.accel.jit.registers import MASK64, Halves, Shift
from ratite.cpu.block import OPERANDS_OFFSET
from ratite.isa.state import READ, WRITE, CpuState
from ratite.native import ir
from ratite.native.lower import FLOAT, Lowering, constant, declaration
from ratite.native.optimize import FOLDS, fold

if TYPE_CHECKING:
    from ratite.accel.jit.tier1 import RegionText


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
        self._prefix = f"{region.number_of(block)}_{index}_{region.edition}"
        self._values: dict[int, Item] = {}
        self._pending_pc: Item | None = None
        self._variables: dict[int, str] = {}
        self._unlabelled: set[str] = set()
        self._known: dict[int, tuple[ir.Op, Item]] = {}  # variables, before control forks
        self._after = ""
        self._ended = False
        self._forked = False  # what follows is executed on one of several paths
        self._record = handler.params[1].number
        self._cpu = handler.params[0].number
        self._values[self._cpu] = "%cpu"
        self._offsets = {
            OPERANDS_OFFSET + operand.offset: operand.name for operand in insn.insn.operands
        }

    # Lines and names go through the region, so that they are unique in it.
    def line(self, text: str) -> None:
        """Append a line."""
        self.region.line(text)

    def fresh(self, hint: str = "t") -> str:
        """A new LLVM name."""
        return self.region.fresh()

    def label(self, hint: str) -> str:
        """A new label."""
        return self.region.label(hint)

    def lower(self) -> bool:
        """Write the instruction. True if control does not go on to the next one by itself."""
        before = self.region.mark()
        try:
            return self._instantiate()
        except _Unfit:
            self.region.take_back(before)
            self._step_out()
            return True

    def _step_out(self) -> None:
        """Leave before this instruction; what is left of the block is not paid for."""
        self.region.settle()
        self.region.access_text.step_out(self._moment())

    def _instantiate(self) -> bool:
        """Until control forks, blocks of the IR follow each other without labels."""
        function = self.function
        by_label = {block.label: block for block in function.blocks}
        order = [block.label for block in function.blocks]
        falls = False
        work = [order[0]]
        seen = {order[0]}
        while work:
            work.sort(key=order.index)
            block = by_label[work.pop(0)]
            if self._forked:
                self.line(f"{self._name(block.label)}:")
            else:
                self._unlabelled.add(block.label)
            self._ended = False
            for op in block.ops:
                self._lower_op(op)
                if self._ended:
                    break
            for target in self._targets:
                if target in self._unlabelled:
                    raise _Unfit  # a loop within the instruction
                if target not in seen:
                    seen.add(target)
                    work.append(target)
            falls = falls or self._fell
        self.region.declarations |= self.uses
        if self._forked and falls:
            self.line(f"{self._after}:")
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
        if name in FOLDS:
            a, b = (self.item(argument, op.type) for argument in op.args)
            if isinstance(a, int) and isinstance(b, int):
                folded = fold(name, op.type, (a, b))
                assert folded is not None
                self._set(op, folded)
                return
            if self._identity(op, a, b) or self._half(op, a, b) or self._logic(op, a, b):
                return
            if name in ("shl", "lshr") and isinstance(a, str) and isinstance(b, int):
                self.region.registers.note_shift(self.result(op), Shift(name, a, b))
            if name in ("add", "sub") and op.type == "i64" and isinstance(b, int):
                self.region.registers.note_sum(self.result(op), a, b if name == "add" else -b)
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
        if op.name == "and" and isinstance(b, int) and b | 0xFFF == MASK64:
            # A region may be executed elsewhere, but at the same place of a page.
            place = self.region.registers.place(a)
            if place.base == PC and not place.displacement & ~b & 0xFFF:
                self._set(op, a)
                return True
        return False

    def _half(self, op: ir.Op, a: Item, b: Item) -> bool:
        """Take values apart that were put together of halves, as boxed single numbers are."""
        registers = self.region.registers
        halves = registers.halves(a)
        if halves is None or not isinstance(b, int):
            return False
        match op.name, b:
            case "lshr", 32:
                self._set(op, halves.high)
                return True
            case "and", 0xFFFF_FFFF:
                self._set(op, halves.wide)
                return True
            case "or", _ if not b & 0xFFFF_FFFF:
                whole = Halves(halves.low, halves.high | b >> 32, halves.wide)
                registers.note_halves(self.result(op), whole)
        return False

    def _logic(self, op: ir.Op, a: Item, b: Item) -> bool:
        """Bitwise operations: rotations that are written as two shifts, and the low halves alone of
        values that have nothing but their sign above them. LLVM would find them where no part has
        another use, but the way out of the region is one.
        """
        if op.name not in ("and", "or", "xor") or not self.region.is_optimized:
            return False
        registers = self.region.registers
        if op.type == "i64":
            low_a, low_b = registers.word(a), registers.word(b)
            if low_a is not None and low_b is not None:
                low = self._rotation(op.name, "i32", low_a, low_b)
                low = low or self.region.emit(f"{op.name} i32 {low_a}, {low_b}")
                self.line(f"  {self.result(op)} = sext i32 {low} to i64")
                registers.note_word(self.result(op), low)
                return True
        rotated = self._rotation(op.name, op.type, a, b)
        if rotated is not None:
            self._set(op, rotated)
        return rotated is not None

    def _rotation(self, name: str, type_: str, a: Item, b: Item) -> str | None:
        """The name of a rotated value, if it is one."""
        found = self.region.registers.rotation(a, b, ir.WIDTH[type_]) if name != "and" else None
        if found is None:
            return None
        source, left = found
        self.region.declarations.add(
            f"declare {type_} @llvm.fshl.{type_}({type_}, {type_}, {type_})"
        )
        given = f"{type_} {source}, {type_} {source}, {type_} {left}"
        return self.region.emit(f"call {type_} @llvm.fshl.{type_}({given})")

    def _fold_conversion(self, op: ir.Op) -> bool:
        source = op.args[0]
        have = source.type if isinstance(source, ir.Value) else "i64"
        value = self.item(source, have)
        if isinstance(value, str) and {have, op.type} == {"i32", "i64"}:
            registers = self.region.registers
            halves = registers.halves(value)
            if op.name == "zext":
                registers.note_halves(self.result(op), Halves(value, 0, self.result(op)))
            elif op.name == "sext":
                registers.note_word(self.result(op), value)
            else:
                low = halves.low if halves is not None else registers.low(value)
                if low is not None:
                    self._set(op, low)
                    return True
                if not self._forked:
                    registers.note_low(value, self.result(op))
        folded = fold(op.name, op.type, (value,), have) if isinstance(value, int) else None
        if folded is None:
            return False
        self._set(op, folded)
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
        guarded = self.region.guarded(offset) if op.type == "i32" else None
        if guarded is not None:
            self._set(op, guarded)
            return
        part = self.region.templates.promoted_at(offset)
        if part is None:
            place = self.region.state(offset)
            self.line(f"  {self.result(op)} = load {op.type}, ptr {place}, {STATE}")
            return
        if part.zero is not None and offset == part.offset + part.zero * part.size:
            self._set(op, 0)
            return
        registers = self.region.registers
        known = registers.known(offset, op.type)
        if known is not None:
            self._set(op, known)
            return
        self.region.settle_one(offset)  # it is known as another type
        self.region.read_slot(offset, op.type, self.result(op))
        if not self._forked:
            registers.read(offset, op.type, self.result(op))

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
            self.line(f"  store {op.type} {value}, ptr {place}, {STATE}")
            return
        if part.sink is not None and offset == part.offset + part.sink * part.size:
            return
        if part.floats and not self._forked:
            self.region.prepare_float(offset, value)
        if self._forked:
            self.region.write(offset, op.type, value)
            self.region.registers.forget(offset)
        else:
            self.region.registers.written(offset, op.type, self.item(op.args[1], op.type))

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
        known = self._known.get(int(op.attributes["var"]))
        if known is not None:
            self._set(op, known[1])
            return
        slot = self._variable(op)
        self.line(f"  {self.result(op)} = load {op.type}, ptr {slot}")

    def _do_setvar(self, op: ir.Op) -> None:
        if not self._forked:
            self._known[int(op.attributes["var"])] = (op, self.item(op.args[0], op.type))
            return
        slot = self._variable(op)
        self.line(f"  store {op.type} {self.operand(op.args[0], op.type)}, ptr {slot}")

    def _variable(self, op: ir.Op) -> str:
        number = int(op.attributes["var"])
        name = self._variables.get(number)
        if name is None:
            name = self._variables[number] = f"%var{self._prefix}.{number}"
            self.region.allocas.append(f"  {name} = alloca {op.type}")
        return name

    # -- floating point: values keep their type from one operation to the next

    def _float(self, operand: ir.Operand, type_: str) -> str:
        registers = self.region.registers
        value = self.item(operand, type_)
        number = registers.float_of(value)
        if number is not None:
            return f"{FLOAT[type_]} {number}"
        text = super()._float(operand, type_)
        if isinstance(value, str) and not self._forked:
            registers.note_float(value, text.split()[1])
        return text

    def _from_float(self, op: ir.Op, number: str) -> None:
        super()._from_float(op, number)
        self.region.registers.note_float(self.result(op), number)

    def _do_fcanon(self, op: ir.Op) -> None:
        """Of a NaN, only what sees it as such finds the canonical one."""
        if self._forked or not self.region.defers_nans:
            self._op(op)
            return
        kind, number = self._float(op.args[0], op.type).split()
        super()._from_float(op, self.region.canonical(kind, number))
        self.region.registers.note_float(self.result(op), number)
        self.region.registers.note_raw(self.result(op))

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
        if what in ("pc", "next_pc"):
            pc = (self.insn.pc if what == "pc" else self.insn.next_pc) & MASK64
            name = self.region.guest_pc(pc)
            self.region.registers.note_pc(name, pc)
            self._set(op, name)
        elif what in ("sync", "fp_flags", "fp_set", "fill", "clock_ns"):
            raise _Unfit
        else:
            self._op_host(op)

    # -- guest memory

    def _moment(self) -> Moment:
        return Moment(
            self.insn.pc,
            self.insn.length,
            self.block.count - self.index,
            self.region.registers.unsaved(),
            frozenset(self.region.raw),
        )

    def _access(self, kind: int, op: ir.Op, value: str) -> None:
        address = self.item(op.args[0], "i64")
        place = self.region.registers.place(address)
        text = constant(address, "i64") if isinstance(address, int) else address
        result = self.result(op) if kind == READ else ""
        access = Access(kind, op.type, text, place, self._moment(), result, value)
        if self._forked:
            self.region.access_text.one(access)
        else:
            self.region.place_access(access)

    def _do_guest_ld(self, op: ir.Op) -> None:
        self._access(READ, op, "")

    def _do_guest_st(self, op: ir.Op) -> None:
        registers = self.region.registers
        value = self.item(op.args[1], op.type)
        number = registers.float_of(value) if isinstance(value, str) else None
        if number is not None and registers.is_raw(str(value)):
            self._access(WRITE, op, self.region.seldom_nan(op.type, number))
        else:
            self._access(WRITE, op, self.operand(op.args[1], op.type))

    def _do_guest_ptr(self, op: ir.Op) -> None:
        size, access = int(op.attributes["size"]), int(op.attributes["access"])
        address = self.operand(op.args[0], "i64")
        self.region.access_text.pointer(self.result(op), address, size, access, self._moment())

    # -- control

    def _do_br(self, op: ir.Op) -> None:
        self._jump(op.targets[0])

    def _jump(self, target: str) -> None:
        self._targets = (target,)
        self._ended = True
        if self._forked:
            self.line(f"  br label %{self._name(target)}")

    def _do_cbr(self, op: ir.Op) -> None:
        condition = self.item(op.args[0], "i1")
        if isinstance(condition, int):
            self._jump(op.targets[0 if condition else 1])
            return
        weights = {"yes": ", !prof !0", "no": ", !prof !1"}.get(
            str(op.attributes.get("likely", "")), ""
        )
        if not self._forked:
            self._forked = True
            self._after = self.label("after")
            self.region.settle()
            for operand, offset in float_registers(self.insn, self.region.templates):
                if operand.written:  # on one of several paths
                    self.region.see_nan(offset)
                    self.region.raw.discard(offset)
            for assignment, value in self._known.values():
                text = constant(value, assignment.type) if isinstance(value, int) else value
                self.line(f"  store {assignment.type} {text}, ptr {self._variable(assignment)}")
            self._known.clear()
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
        if self._forked:
            self.line(f"  br label %{self._after}")

    def _do_goto_tb(self, op: ir.Op) -> None:
        self._ended = True
        displacement = self.insn.displacement
        assert displacement is not None
        self.region.edge(self.block, self.insn.pc + displacement)

    def _do_lookup_tb(self, op: ir.Op) -> None:
        self._ended = True
        target = self._pending_pc
        assert target is not None
        place = self.region.registers.place(target)
        text = constant(target, "i64") if isinstance(target, int) else target
        if self.insn.insn.ends_block:
            self.region.leave(text)
        elif place.base == PC:
            pc = place.displacement & MASK64
            if any(block.pc == pc for block in self.region.following(self.block)):
                self.region.edge(self.block, pc)
            else:  # control was never seen to go there
                self.region.leave(pc)
        else:
            self.region.dynamic_edge(self.block, text)

    def _do_exit_tb(self, op: ir.Op) -> None:
        """The instruction raises, or leaves run(): tier 0 does it, from the start."""
        self._ended = True
        self._step_out()

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
