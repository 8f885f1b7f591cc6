"""Tier 0: generated threaded code. Builds, once per instruction set and version, the object that
holds a handler per instruction, the decoder, the softmmu's slow path and the block table; and
lowers the ops that only handlers have.

Every handler has the signature (cpu, record, block, budget, tlb) in the `preserve_none` convention,
which passes all of them in registers and asks for nothing to be preserved, and ends in a `musttail`
call of the next record's handler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ratite.accel.jit import announce, control
from ratite.cpu import block, debug, hooks, machine, tlb
from ratite.cpu.block import (
    DISTANCE_OFFSET,
    EXIT_SIZE,
    LENGTH_OFFSET,
    OPERANDS_OFFSET,
    RECORD_SIZE,
    Record,
)
from ratite.cpu.hooks import DECODE_DIRECT, DECODE_ENDS, Target
from ratite.cpu.machine import Block
from ratite.cpu.space import ENTRY_SHIFT, TABLE_SIZE, TlbEntry
from ratite.isa.decoder import decode_functions, leaves
from ratite.isa.spec import Insn, Operand
from ratite.isa.state import WRITE, CpuState, note_write
from ratite.native import ir
from ratite.native.frontend import Lifter, Program
from ratite.native.lower import Lowering, Policy, lower_module, native_signature
from ratite.native.optimize import optimize
from ratite.native.types import i64
from ratite.native.values import Deferred, PcOffset, Ref, Val, ir_type

PARAMETERS = "ptr %cpu, ptr %rec, ptr %tb, i64 %budget, ptr %tlb"
TAKEN = RECORD_SIZE + EXIT_SIZE + 8
"""From a branch's record to the target address of its taken exit."""
SEEN = 2 * RECORD_SIZE + 8
"""From an indirect jump's record to the place in its (unused) first exit where it went last."""
ILLEGAL = "op.illegal"

_ENTRY = """
define dso_local void @ratite.run(ptr %cpu) nounwind {{
  call void @"{enter}"(ptr %cpu)
  %p = getelementptr inbounds i8, ptr %cpu, i64 {budget}
  %budget = load i64, ptr %p
  call preserve_nonecc void @"tier0.start"(ptr %cpu, ptr null, ptr null, i64 %budget, ptr null)
  call void @"{leave}"(ptr %cpu)
  ret void
}}
"""


class HandlerPolicy(Policy):
    """Lowers what ends an instruction and how it reaches guest memory: the softmmu TLB, then the
    slow path.
    """

    def __init__(self, ends_block: frozenset[str] = frozenset()) -> None:
        self.ends_block = ends_block

    def signature(self, function: ir.Function) -> str:
        """The head of a handler."""
        return f'dso_local preserve_nonecc void @"{function.name}"({PARAMETERS})'

    def prologue(self, out: Lowering) -> None:
        """Bind the parameters to the names that IR uses, and clear the flag that a store may
        set.
        """
        for value, name in zip(out.function.params, ("cpu", "rec", "tb", "budget"), strict=True):
            if value.type == "ptr":
                out.line(f"  %v{value.number} = getelementptr i8, ptr %{name}, i64 0")
            else:
                out.line(f"  %v{value.number} = add i64 %{name}, 0")
        out.line("  %tlbs = alloca ptr")
        out.line("  store ptr %tlb, ptr %tlbs")
        if self._stores(out.function):
            out.line("  %resync = alloca i1")
            out.line("  store i1 false, ptr %resync")

    def _stores(self, function: ir.Function) -> bool:
        return any(op.name in ("guest_st", "guest_ptr") for op in function.values())

    def lower(self, out: Lowering, op: ir.Op) -> None:
        """Lower one op."""
        getattr(self, f"_{op.name}")(out, op)

    # -- leaving

    def tail_call(
        self,
        out: Lowering,
        target: str,
        record: str = "%rec",
        block: str = "%tb",
        budget: str = "%budget",
        tlb: str = "",
    ) -> None:
        """Go to another handler for good."""
        if not tlb:
            tlb = out.fresh("tlb")
            out.line(f"  {tlb} = load ptr, ptr %tlbs")
        arguments = f"ptr %cpu, ptr {record}, ptr {block}, i64 {budget}, ptr {tlb}"
        out.line(f"  musttail call preserve_nonecc void {target}({arguments})")
        out.line("  ret void")

    def follow(self, out: Lowering, record: str, **registers: str) -> None:
        """Go to a record's handler."""
        handler = out.fresh("h")
        out.line(f"  {handler} = load ptr, ptr {record}")
        self.tail_call(out, handler, record=record, **registers)

    def offset(self, out: Lowering, pointer: str, distance: int) -> str:
        """A pointer `distance` bytes on."""
        moved = out.fresh("p")
        out.line(f"  {moved} = getelementptr inbounds i8, ptr {pointer}, i64 {distance}")
        return moved

    def _next(self, out: Lowering, op: ir.Op) -> None:
        if self._stores(out.function):
            flag, again, on = out.fresh("f"), out.label("resync"), out.label("on")
            out.line(f"  {flag} = load i1, ptr %resync")
            out.line(f"  br i1 {flag}, label %{again}, label %{on}, !prof !1")
            out.line(f"{again}:")
            self.tail_call(out, '@"tier0.resync"')
            out.line(f"{on}:")
        if out.function.name in self.ends_block:
            self._store_pc(out, self._next_pc(out))
            self.tail_call(out, '@"tier0.lookup"')
        else:
            self.follow(out, self.offset(out, "%rec", RECORD_SIZE))

    def _goto_tb(self, out: Lowering, op: ir.Op) -> None:
        target = out.fresh("t")
        out.line(f"  {target} = load ptr, ptr {self.offset(out, '%rec', TAKEN)}")
        self.follow(out, target)

    def _lookup_tb(self, out: Lowering, op: ir.Op) -> None:
        if out.function.name not in self.ends_block:  # where it went: tier 1 asks
            target = out.fresh("pc")
            place = self.offset(out, "%cpu", CpuState.pc.offset)
            out.line(f"  {target} = load i64, ptr {place}")
            out.line(f"  store i64 {target}, ptr {self.offset(out, '%rec', SEEN)}")
        self.tail_call(out, '@"tier0.lookup"')

    def _exit_tb(self, out: Lowering, op: ir.Op) -> None:
        if op.attributes["what"] == "exception":
            self.tail_call(out, '@"tier0.raised"')
            return
        place = self.offset(out, "%cpu", CpuState.exit_reason.offset)
        out.line(f"  store i32 {out.operand(op.args[0], 'i32')}, ptr {place}")
        self.tail_call(out, '@"tier0.leave"')

    # -- the instruction's own address

    def _host(self, out: Lowering, op: ir.Op) -> None:
        what = op.attributes["what"]
        if what == "sync":
            self.synchronize(out)
        elif what == "pc":
            out.line(f"  {out.result(op)} = add i64 {self._pc(out)}, 0")
        else:
            assert what == "next_pc", what
            out.line(f"  {out.result(op)} = add i64 {self._next_pc(out)}, 0")

    def _pc(self, out: Lowering) -> str:
        base, distance, wide, scaled, pc = (out.fresh("pc") for _ in range(5))
        out.line(f"  {base} = load i64, ptr {self.offset(out, '%tb', Block.pc.offset)}")
        out.line(f"  {distance} = load i8, ptr {self.offset(out, '%rec', DISTANCE_OFFSET)}")
        out.line(f"  {wide} = zext i8 {distance} to i64")
        out.line(f"  {scaled} = mul i64 {wide}, {control.UNITS}")
        out.line(f"  {pc} = add i64 {base}, {scaled}")
        return pc

    def _next_pc(self, out: Lowering) -> str:
        pc = self._pc(out)
        length, wide, following = (out.fresh("pc") for _ in range(3))
        out.line(f"  {length} = load i8, ptr {self.offset(out, '%rec', LENGTH_OFFSET)}")
        out.line(f"  {wide} = zext i8 {length} to i64")
        out.line(f"  {following} = add i64 {pc}, {wide}")
        return following

    def _store_pc(self, out: Lowering, pc: str) -> None:
        out.line(f"  store i64 {pc}, ptr {self.offset(out, '%cpu', CpuState.pc.offset)}")

    def synchronize(self, out: Lowering) -> None:
        """Make `pc` and `budget` in the state exact."""
        out.line('  call void @"accel.jit.control.sync"(ptr %cpu, ptr %rec, ptr %tb, i64 %budget)')

    # -- guest memory

    def _tag(self, out: Lowering, address: str, size: int, tag_offset: int) -> tuple[str, str]:
        """The TLB entry of an address, and whether its tag answers for all bytes of the access."""
        table, page, mask, masked, entry = (out.fresh("tlb") for _ in range(5))
        tag, last, last_page, hit = (out.fresh("tlb") for _ in range(4))
        out.line(f"  {table} = load ptr, ptr %tlbs")
        out.line(f"  {page} = lshr i64 {address}, {ENTRY_SHIFT}")
        out.line(f"  {mask} = load i64, ptr {self.offset(out, '%cpu', CpuState.tlb_mask.offset)}")
        out.line(f"  {masked} = and i64 {page}, {mask}")
        out.line(f"  {entry} = getelementptr inbounds i8, ptr {table}, i64 {masked}")
        out.line(f"  {tag} = load i64, ptr {self.offset(out, entry, tag_offset)}")
        out.line(f"  {last} = add i64 {address}, {size - 1}")
        out.line(f"  {last_page} = and i64 {last}, -4096")
        out.line(f"  {hit} = icmp eq i64 {tag}, {last_page}")
        return entry, hit

    def _host_pointer(self, out: Lowering, entry: str, address: str) -> str:
        addend, total, pointer = (out.fresh("host") for _ in range(3))
        out.line(f"  {addend} = load i64, ptr {self.offset(out, entry, TlbEntry.addend.offset)}")
        out.line(f"  {total} = add i64 {addend}, {address}")
        out.line(f"  {pointer} = inttoptr i64 {total} to ptr")
        return pointer

    def data_table(self, out: Lowering) -> str:
        """The softmmu TLB of data accesses, from the state."""
        base, index, wide, scaled, table = (out.fresh("tlb") for _ in range(5))
        out.line(f"  {base} = load ptr, ptr {self.offset(out, '%cpu', CpuState.tlb_base.offset)}")
        out.line(f"  {index} = load i32, ptr {self.offset(out, '%cpu', CpuState.mmu_index.offset)}")
        out.line(f"  {wide} = zext i32 {index} to i64")
        out.line(f"  {scaled} = mul i64 {wide}, {TABLE_SIZE}")
        out.line(f"  {table} = getelementptr inbounds i8, ptr {base}, i64 {scaled}")
        return table

    def _check_pending(self, out: Lowering, done: str) -> None:
        """After a slow path: go to the trap, or to `done`. The table's address is computed anew
        rather than kept.
        """
        out.line(f"  store ptr {self.data_table(out)}, ptr %tlbs")
        pending, bad, trap = out.fresh("x"), out.fresh("x"), out.label("trap")
        place = self.offset(out, "%cpu", CpuState.exception_pending.offset)
        out.line(f"  {pending} = load i32, ptr {place}")
        out.line(f"  {bad} = icmp ne i32 {pending}, 0")
        out.line(f"  br i1 {bad}, label %{trap}, label %{done}, !prof !1")
        out.line(f"{trap}:")
        self.tail_call(out, '@"tier0.raised"')

    def _note_resync(self, out: Lowering) -> None:
        place, flag = self.offset(out, "%cpu", CpuState.resync.offset), out.fresh("x")
        value = out.fresh("x")
        out.line(f"  {value} = load i32, ptr {place}")
        out.line(f"  {flag} = icmp ne i32 {value}, 0")
        out.line(f"  store i1 {flag}, ptr %resync")

    def _guest_ld(self, out: Lowering, op: ir.Op) -> None:
        size = ir.WIDTH[op.type] // 8
        address = out.operand(op.args[0], "i64")
        entry, hit = self._tag(out, address, size, TlbEntry.read.offset)
        fast, slow, after, done = (out.label(hint) for hint in ("hit", "miss", "filled", "loaded"))
        out.line(f"  br i1 {hit}, label %{fast}, label %{slow}, !prof !0")
        out.line(f"{fast}:")
        quick = out.fresh("ld")
        out.line(
            f"  {quick} = load {op.type}, ptr {self._host_pointer(out, entry, address)}, align 1"
        )
        out.line(f"  br label %{done}")
        out.line(f"{slow}:")
        self.synchronize(out)
        wide, value = out.fresh("ld"), out.fresh("ld")
        out.line(f'  {wide} = call i64 @"cpu.tlb.load_slow"(ptr %cpu, i64 {address}, i32 {size})')
        if op.type == "i64":
            value = wide
        else:
            out.line(f"  {value} = trunc i64 {wide} to {op.type}")
        self._check_pending(out, after)
        out.line(f"{after}:")
        out.line(f"  br label %{done}")
        out.line(f"{done}:")
        out.line(f"  {out.result(op)} = phi {op.type} [ {quick}, %{fast} ], [ {value}, %{after} ]")

    def _guest_st(self, out: Lowering, op: ir.Op) -> None:
        size = ir.WIDTH[op.type] // 8
        address, value = out.operand(op.args[0], "i64"), out.operand(op.args[1], op.type)
        entry, hit = self._tag(out, address, size, TlbEntry.write.offset)
        fast, slow, after, done = (out.label(hint) for hint in ("hit", "miss", "filled", "stored"))
        out.line(f"  br i1 {hit}, label %{fast}, label %{slow}, !prof !0")
        out.line(f"{fast}:")
        out.line(
            f"  store {op.type} {value}, ptr {self._host_pointer(out, entry, address)}, align 1"
        )
        out.line(f"  br label %{done}")
        out.line(f"{slow}:")
        self.synchronize(out)
        wide = value
        if op.type != "i64":
            wide = out.fresh("st")
            out.line(f"  {wide} = zext {op.type} {value} to i64")
        out.line(
            f'  call void @"cpu.tlb.store_slow"(ptr %cpu, i64 {address}, i64 {wide}, i32 {size})'
        )
        self._check_pending(out, after)
        out.line(f"{after}:")
        self._note_resync(out)
        out.line(f"  br label %{done}")
        out.line(f"{done}:")

    def _guest_ptr(self, out: Lowering, op: ir.Op) -> None:
        size, access = int(op.attributes["size"]), int(op.attributes["access"])
        address = out.operand(op.args[0], "i64")
        tag_offset = TlbEntry.write.offset if access & WRITE else TlbEntry.read.offset
        entry, hit = self._tag(out, address, size, tag_offset)
        if (
            access == 3
        ):  # a page that may be written but not read is never entered with a write tag alone
            readable, both, tag, page = (out.fresh("tlb") for _ in range(4))
            out.line(f"  {tag} = load i64, ptr {self.offset(out, entry, TlbEntry.read.offset)}")
            out.line(f"  {page} = and i64 {address}, -4096")
            out.line(f"  {readable} = icmp eq i64 {tag}, {page}")
            out.line(f"  {both} = and i1 {hit}, {readable}")
            hit = both
        fast, slow, after, done = (out.label(hint) for hint in ("hit", "miss", "filled", "found"))
        out.line(f"  br i1 {hit}, label %{fast}, label %{slow}, !prof !0")
        out.line(f"{fast}:")
        quick, found = out.fresh("at"), out.fresh("at")
        out.line(f"  {quick} = ptrtoint ptr {self._host_pointer(out, entry, address)} to i64")
        out.line(f"  br label %{done}")
        out.line(f"{slow}:")
        self.synchronize(out)
        arguments = f"ptr %cpu, i64 {address}, i32 {size}, i32 {access}"
        out.line(f'  {found} = call i64 @"cpu.tlb.pointer_slow"({arguments})')
        self._check_pending(out, after)
        out.line(f"{after}:")
        self._note_resync(out)
        out.line(f"  br label %{done}")
        out.line(f"{done}:")
        out.line(f"  {out.result(op)} = phi i64 [ {quick}, %{fast} ], [ {found}, %{after} ]")


class ColdPolicy(Policy):
    """Lowers native functions that preserve their caller's registers."""

    def signature(self, function: ir.Function) -> str:
        """The head."""
        head = native_signature(function, "")
        return f"dso_local preserve_mostcc {head}"

    def prologue(self, out: Lowering) -> None:
        """Nothing."""

    def lower(self, out: Lowering, op: ir.Op) -> None:
        """Nothing of theirs depends on the tier."""
        raise AssertionError(op.name)


class ControlPolicy(HandlerPolicy):
    """Lowers the control handlers, for which `pc` and `budget` in the state are their own
    business.
    """

    def _exit_tb(self, out: Lowering, op: ir.Op) -> None:
        budget = out.fresh("b")
        out.line(f"  {budget} = load i64, ptr {self.offset(out, '%cpu', CpuState.budget.offset)}")
        self.tail_call(out, '@"tier0.fault"', budget=budget)

    def _next(self, out: Lowering, op: ir.Op) -> None:
        out.line("  ret void")

    def _dispatch(self, out: Lowering, op: ir.Op) -> None:
        if "handler" in op.attributes:
            self.tail_call(
                out, f'@"{op.attributes["handler"]}"', budget=out.operand(op.args[0], "i64")
            )
            return
        record, target = (out.operand(argument, "ptr") for argument in op.args[:2])
        table = "%tlb" if out.function.name in ("tier0.enter", "tier0.go") else self.data_table(out)
        self.follow(out, record, block=target, budget=out.operand(op.args[2], "i64"), tlb=table)


def handler_name(insn: Insn) -> str:
    """Symbol of an instruction's handler."""
    return f"op.{insn.name}"


def lift_handler(program: Program, insn: Insn, state: type[CpuState]) -> ir.Function:
    """An instruction's handler: its semantics with operands read from the record."""
    return lift_body(
        program, insn.function, handler_name(insn), dict(insn.constants), insn.operands, state
    )


def lift_body(
    program: Program,
    function: Callable[..., Any],
    name: str,
    constants: dict[str, Any],
    operands: Any,
    state: type[CpuState],
) -> ir.Function:
    """Lift a function of the instruction vocabulary into a handler."""
    params = [ir.Value(type_, number) for number, type_ in enumerate(("ptr", "ptr", "ptr", "i64"))]
    handler = ir.Function(name, params, (), kind="handler")
    lifter = Lifter(program, handler)
    native_function = function.__native__  # type: ignore[attr-defined]
    cpu_name = native_function.tree.args.args[0].arg
    names: dict[str, Any] = {cpu_name: Ref(state, params[0]), **constants}
    for operand in operands:
        names[operand.name] = _operand(params[1], operand)
    lifter.run(native_function, names, ())
    return program.add(handler)


def _operand(record: ir.Value, operand: Operand) -> PcOffset | Deferred:
    """An operand within a record, read where it is used."""
    if operand.kind.pc_relative:
        return PcOffset(1)
    kind = operand.kind
    stored = f"i{kind.size * 8}"
    offset = OPERANDS_OFFSET + operand.offset

    def read(builder: ir.Builder) -> Val:
        value = builder.emit("ld", stored, record, offset=offset, scale=0)
        if kind.kind.WIDTH != kind.size * 8:
            extend = "sext" if kind.signed else "zext"
            value = builder.emit(extend, ir_type(kind.kind), value)
        return Val(kind.kind, value)

    return Deferred(read)


def lift_control(
    program: Program, function: Callable[..., Any], state: type[CpuState]
) -> ir.Function:
    """A control handler."""
    params = [ir.Value(type_, number) for number, type_ in enumerate(("ptr", "ptr", "ptr", "i64"))]
    name = f"tier0.{function.__name__}"
    handler = ir.Function(name, params, (), kind="control")
    lifter = Lifter(program, handler)
    names = {
        "cpu": Ref(state, params[0]),
        "record": Ref(Record, params[1]),
        "block": Ref(Block, params[2]),
        "budget": Val(i64, params[3]),
    }
    lifter.run(function.__native__, names, ())  # type: ignore[attr-defined]
    return program.add(handler)


def insn_flags(handlers: Mapping[str, ir.Function], insn: Insn) -> int:
    """DECODE_* flags of an instruction, from what its handler's IR does."""
    ops = {op.name for op in handlers[insn.name].values()}
    flags = 0
    if "goto_tb" in ops:
        flags |= DECODE_DIRECT
    elif insn.ends_block or "next" not in ops:
        flags |= DECODE_ENDS
    return flags


def build_program(
    target: Target,
    extension_bit: dict[str, int],
    illegal: Callable[..., Any],
    widths: tuple[int, ...],
    decoders: Mapping[Callable[..., Any], str],
) -> Program:
    """All functions of tier 0 for an instruction set."""
    instructions = target.instructions
    state: Any = instructions.state
    program = Program({**target.hooks, **decoders, note_write: tlb.note_table_write})
    handlers = {
        name: lift_handler(program, insn, state) for name, insn in instructions.insns.items()
    }
    lift_body(program, illegal, ILLEGAL, {}, (), state)
    rows = leaves(instructions)
    options: dict[str, Any] = {
        "extension_bit": extension_bit,
        "handler": handler_name,
        "flags": lambda insn: insn_flags(handlers, insn),
        "illegal": ILLEGAL,
        "illegal_flags": DECODE_ENDS,
    }
    for decoder in decode_functions(rows, widths, **options):
        program.add(decoder)
    for handler in (*control.CONTROL, *announce.CONTROL):
        lift_control(program, handler, state)
    required: tuple[Callable[..., Any], ...] = (
        control.sync,
        tlb.load_slow,
        tlb.store_slow,
        tlb.pointer_slow,
        hooks.enter_guest,
        hooks.leave_guest,
    )
    for function in required:
        program.require(function.__native__, (), exported=True)  # type: ignore[attr-defined]
    exported: tuple[Callable[..., Any], ...] = (
        machine.code_written,
        machine.install_region,
        debug.retire_at,
        block.find_block,
        block.find_translated,
        block.threaded_instructions,
        *target.exports,
    )
    for function in exported:
        program.require(function.__native__, (), exported=True)  # type: ignore[attr-defined]
    cold: tuple[Callable[..., Any], ...] = control.COLD
    for slow_path in cold:
        lifted = program.require(slow_path.__native__, (), exported=True)  # type: ignore[attr-defined]
        lifted.kind = "cold"
    _export_callees(program, handlers.values())
    for lifted in program.functions.values():
        optimize(lifted)
    return program


def lower_program(program: Program, target: Target) -> str:
    """The module's LLVM text."""
    insns = target.instructions.insns.values()
    ends = frozenset(handler_name(insn) for insn in insns if insn.ends_block)
    enter, leave = (
        program.require(function.__native__, ()).name  # type: ignore[attr-defined]
        for function in (hooks.enter_guest, hooks.leave_guest)
    )
    entry = _ENTRY.format(enter=enter, leave=leave, budget=CpuState.budget.offset)
    policies: dict[str, Policy] = {
        "handler": HandlerPolicy(ends),
        "control": ControlPolicy(),
        "cold": ColdPolicy(),
    }
    return lower_module(program.functions.values(), policies, entry)


def _export_callees(program: Program, handlers: Iterable[ir.Function]) -> None:
    """What instructions call, regions call too, by name."""
    work = list(handlers)
    while work:
        for op in work.pop().values():
            if op.name == "call":
                callee = program.functions[str(op.attributes["function"])]
                if not callee.exported:
                    callee.exported = True
                    work.append(callee)


def helper_names(program: Program) -> list[str]:
    """Functions of tier 0 that compiled regions call."""
    handlers = [f"tier0.{name}" for name in ("lookup", "kicked", "step", "pending")]
    return handlers + sorted(
        name
        for name, function in program.functions.items()
        if function.exported and function.kind in ("native", "cold")
    )
