"""How each intrinsic is lifted to IR: one function per name given to `@intrinsic`."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ratite.native import ir
from ratite.native.types import Int, i64, u8, u32, u64
from ratite.native.values import PcOffset, Ref, Val, ir_type

if TYPE_CHECKING:
    from ratite.native.expressions import Expressions


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an intrinsic."""

    name: str
    node: ast.Call
    ref: Ref | None  # of a method
    arguments: list[Any]
    keywords: dict[str, Any]


Handler = Callable[["Expressions", Call], Any]
INTRINSICS: dict[str, Handler] = {}


def _lifts(*names: str) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        for name in names:
            INTRINSICS[name] = handler
        return handler

    return add


def _typed(lifter: Expressions, call: Call, index: int) -> Val:
    value = call.arguments[index]
    if isinstance(value, Val):
        return value
    if isinstance(value, Int):
        return Val(type(value), int(value))
    lifter.refuse(call.node, f"{value!r} has no type")


@_lifts("clz", "ctz", "popcount", "bswap")
def _bits(lifter: Expressions, call: Call) -> Any:
    value = _typed(lifter, call, 0)
    return Val(value.kind, lifter.builder.emit(call.name, ir_type(value.kind), value.operand))


@_lifts("quot", "rem")
def _signed_division(lifter: Expressions, call: Call) -> Any:
    a = _typed(lifter, call, 0)
    b = lifter.coerce(call.arguments[1], a.kind, call.node)
    op = {"quot": "sdiv", "rem": "srem"}[call.name]
    return Val(a.kind, lifter.builder.emit(op, ir_type(a.kind), a.operand, b.operand))


@_lifts("native_only")
def _native_only(lifter: Expressions, call: Call) -> Any:
    return True


@_lifts("likely", "unlikely")
def _expectation(lifter: Expressions, call: Call) -> Any:
    return call.arguments[0]


@_lifts("host_load")
def _host_load(lifter: Expressions, call: Call) -> Any:
    kind = call.arguments[0]
    pointer = _host_pointer(lifter, call, 1)
    return Val(kind, lifter.builder.emit("ld", ir_type(kind), pointer, offset=0, scale=0))


@_lifts("host_store")
def _host_store(lifter: Expressions, call: Call) -> Any:
    value = _typed(lifter, call, 1)
    pointer = _host_pointer(lifter, call, 0)
    lifter.builder.emit("st", ir_type(value.kind), pointer, value.operand, offset=0, scale=0)


@_lifts("host_fill")
def _host_fill(lifter: Expressions, call: Call) -> Any:
    address, byte, size = (
        lifter.coerce(argument, kind, call.node).operand
        for argument, kind in zip(call.arguments, (u64, u8, u64), strict=True)
    )
    lifter.builder.emit("host", "void", address, byte, size, what="fill")


def _host_pointer(lifter: Expressions, call: Call, index: int) -> ir.Operand:
    address = lifter.coerce(call.arguments[index], u64, call.node)
    return lifter.builder.emit("inttoptr", "ptr", address.operand)


@_lifts(
    "atomic_swap", "atomic_add", "atomic_and", "atomic_or", "atomic_xor", "atomic_min", "atomic_max"
)
def _atomic_update(lifter: Expressions, call: Call) -> Any:
    name = call.name.removeprefix("atomic_")
    value = _typed(lifter, call, 1)
    if name in ("min", "max"):
        name = name if value.kind.SIGNED else f"u{name}"
    pointer = _host_pointer(lifter, call, 0)
    op = {"swap": "xchg"}.get(name, name)
    return Val(
        value.kind,
        lifter.builder.emit("atomic_rmw", ir_type(value.kind), pointer, value.operand, rmw=op),
    )


@_lifts("atomic_cas")
def _atomic_cas(lifter: Expressions, call: Call) -> Any:
    value = _typed(lifter, call, 2)
    expected = lifter.coerce(call.arguments[1], value.kind, call.node)
    pointer = _host_pointer(lifter, call, 0)
    type_ = ir_type(value.kind)
    return Val(
        value.kind,
        lifter.builder.emit("atomic_cas", type_, pointer, expected.operand, value.operand),
    )


@_lifts("atomic_load")
def _atomic_load(lifter: Expressions, call: Call) -> Any:
    kind = call.arguments[0]
    return Val(
        kind, lifter.builder.emit("atomic_ld", ir_type(kind), _host_pointer(lifter, call, 1))
    )


@_lifts("atomic_store")
def _atomic_store(lifter: Expressions, call: Call) -> Any:
    value = _typed(lifter, call, 1)
    pointer = _host_pointer(lifter, call, 0)
    lifter.builder.emit("atomic_st", ir_type(value.kind), pointer, value.operand)


@_lifts("fence")
def _fence(lifter: Expressions, call: Call) -> Any:
    lifter.builder.emit("fence", "void")


@_lifts("pause")
def _pause(lifter: Expressions, call: Call) -> Any:
    lifter.builder.emit("host", "void", what="pause")


@_lifts("clock_ns")
def _clock(lifter: Expressions, call: Call) -> Any:
    return Val(u64, lifter.builder.emit("host", "i64", what="clock_ns"))


@_lifts("symbol_address")
def _symbol(lifter: Expressions, call: Call) -> Any:
    return Val(u64, lifter.builder.emit("symbol", "i64", name=call.arguments[0]))


@_lifts("switch_call")
def _switch_call(lifter: Expressions, call: Call) -> Any:
    """A switch over the table's keys, each case a call with its constants."""
    table, default, key, *arguments = call.arguments
    builder = lifter.builder
    end = builder.new_block("switched")
    blocks = [builder.new_block("case") for _ in range(len(table) + 1)]
    cases = ",".join(str(number) for number in table)
    operand = lifter.coerce(key, u32, call.node).operand
    targets = tuple(block.label for block in blocks)
    builder.emit("switch", "i32", operand, targets=targets, cases=cases)
    result: int | None = None
    kind: Any = None
    for block, bound in zip(blocks, (default, *table.values()), strict=True):
        builder.place(block)
        native = bound.function.__native__
        value = lifter.call(native, None, list(arguments), dict(bound.constants), call.node)
        if isinstance(value, Val):
            if result is None:
                kind, result = value.kind, builder.variable(ir_type(value.kind))
            builder.emit("setvar", ir_type(value.kind), value.operand, var=result)
        builder.branch(end)
    builder.place(end)
    return None if result is None else Val(kind, builder.emit("getvar", ir_type(kind), var=result))


# -- host FPU


@_lifts("fadd", "fsub", "fmul", "fdiv", "fsqrt", "fma", "fcanon")
def _fpu_arithmetic(lifter: Expressions, call: Call) -> Any:
    first = _typed(lifter, call, 0)
    operands = [
        lifter.coerce(argument, first.kind, call.node).operand for argument in call.arguments
    ]
    return Val(first.kind, lifter.builder.emit(call.name, ir_type(first.kind), *operands))


@_lifts("feq", "flt", "fle", "funo")
def _fpu_compare(lifter: Expressions, call: Call) -> Any:
    first = _typed(lifter, call, 0)
    second = lifter.coerce(call.arguments[1], first.kind, call.node)
    name = call.name
    return Val(bool, lifter.builder.emit(name, ir_type(first.kind), first.operand, second.operand))


@_lifts("fcvt", "ftosi", "sitof", "uitof")
def _fpu_convert(lifter: Expressions, call: Call) -> Any:
    kind = call.arguments[0]
    value = _typed(lifter, call, 1)
    name = call.name
    return Val(
        kind, lifter.builder.emit(name, ir_type(kind), value.operand, source=ir_type(value.kind))
    )


@_lifts("host_fp_flags")
def _fpu_flags(lifter: Expressions, call: Call) -> Any:
    return Val(u32, lifter.builder.emit("host", "i32", what="fp_flags"))


@_lifts("host_fp_set")
def _fpu_set(lifter: Expressions, call: Call) -> Any:
    rounding = lifter.coerce(call.arguments[0], u32, call.node)
    lifter.builder.emit("host", "void", rounding.operand, what="fp_set")


# -- the guest, within an instruction


@_lifts("guest_load")
def _guest_load(lifter: Expressions, call: Call) -> Any:
    kind, address = call.arguments
    operand = lifter.coerce(address, u64, call.node).operand
    return Val(kind, lifter.builder.emit("guest_ld", ir_type(kind), operand))


@_lifts("guest_store")
def _guest_store(lifter: Expressions, call: Call) -> Any:
    address = lifter.coerce(call.arguments[0], u64, call.node).operand
    value = _typed(lifter, call, 1)
    lifter.builder.emit("guest_st", ir_type(value.kind), address, value.operand)


@_lifts("guest_pointer")
def _guest_pointer(lifter: Expressions, call: Call) -> Any:
    """`pointer_to(address, size, access)`: host address of naturally aligned guest RAM, or a guest
    exception.
    """
    address = lifter.coerce(call.arguments[0], u64, call.node).operand
    pointer = lifter.builder.emit(
        "guest_ptr", "i64", address, size=call.arguments[1], access=call.arguments[2]
    )
    return Val(u64, pointer)


@_lifts("guest_raise")
def _guest_raise(lifter: Expressions, call: Call) -> Any:
    cause, value = (lifter.coerce(argument, u64, call.node).operand for argument in call.arguments)
    state = call.ref
    assert state is not None
    if not lifter.in_instruction:
        lifter.function.raises = True
    members = state.kind.MEMBERS
    for name, operand in (
        ("exception_cause", cause),
        ("exception_value", value),
        ("exception_pending", 1),
    ):
        member = members[name]
        kind = member.kind
        lifter.builder.emit(
            "st", ir_type(kind), state.base, operand, offset=state.offset + member.offset, scale=0
        )
    if lifter.in_instruction:
        lifter.builder.emit("exit_tb", "void", 0, what="exception")
    else:
        lifter.builder.emit("ret", "void", *(0 for _ in lifter.function.returns))


@_lifts("guest_jump")
def _guest_jump(lifter: Expressions, call: Call) -> Any:
    target = call.arguments[0]
    if not isinstance(target, PcOffset):
        lifter.refuse(
            call.node,
            "jump() takes the instruction's own displacement; use jump_to() for an address",
        )
    lifter.builder.emit("goto_tb", "void", slot=target.slot)


@_lifts("guest_jump_to")
def _guest_jump_to(lifter: Expressions, call: Call) -> Any:
    target = lifter.coerce(call.arguments[0], u64, call.node).operand
    _set_pc(lifter, call, target)
    lifter.builder.emit("lookup_tb", "void")


@_lifts("guest_leave")
def _guest_leave(lifter: Expressions, call: Call) -> Any:
    """The instruction retires and the vCPU returns to its caller with an exit reason."""
    reason = lifter.coerce(call.arguments[0], u32, call.node).operand
    _set_pc(lifter, call, lifter.builder.emit("host", "i64", what="next_pc"))
    lifter.builder.emit("exit_tb", "void", reason, what="leave")


@_lifts("guest_end_block")
def _guest_end_block(lifter: Expressions, call: Call) -> Any:
    """The instruction retires and its successor is looked up afresh: modes or mappings may have
    changed.
    """
    _set_pc(lifter, call, lifter.builder.emit("host", "i64", what="next_pc"))
    lifter.builder.emit("lookup_tb", "void")


@_lifts("guest_sync")
def _guest_sync(lifter: Expressions, call: Call) -> Any:
    """Make pc and the instruction count in the CPU state those of this instruction."""
    lifter.builder.emit("host", "void", what="sync")


def _set_pc(lifter: Expressions, call: Call, target: ir.Operand) -> None:
    assert call.ref is not None
    member = call.ref.kind.MEMBERS["pc"]
    lifter.builder.emit(
        "st", "i64", call.ref.base, target, offset=call.ref.offset + member.offset, scale=0
    )


# -- from handler to handler


@_lifts("dispatch")
def _dispatch(lifter: Expressions, call: Call) -> Any:
    record, block = (
        lifter.coerce(argument, u64, call.node).operand for argument in call.arguments[:2]
    )
    budget = lifter.coerce(call.arguments[2], i64, call.node).operand
    pointers = [lifter.builder.emit("inttoptr", "ptr", operand) for operand in (record, block)]
    lifter.builder.emit("dispatch", "void", *pointers, budget)


@_lifts("continue_with")
def _continue_with(lifter: Expressions, call: Call) -> Any:
    budget = lifter.coerce(call.arguments[1], i64, call.node).operand
    lifter.builder.emit("dispatch", "void", budget, handler=call.arguments[0])


@_lifts("return_to_python")
def _return_to_python(lifter: Expressions, call: Call) -> Any:
    lifter.builder.emit("ret", "void")
