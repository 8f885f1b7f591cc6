"""The intermediate representation: typed operations in basic blocks.

Shape: a `Function` is a list of `Block`s; a block is a list of `Op`s, the last of which is a
terminator. An op has an opcode (a row of `OPCODES`), a type (that of its result, or of the value it
stores or compares), arguments (`Value`s or plain integers, which are constants) and, for some
opcodes, symbolic attributes. Values are assigned once; what a function mutates lives in numbered
variables (`getvar`, `setvar`), which the optimiser and LLVM turn into registers.

Machine state is reached by `ld` and `st` at a constant byte offset from a pointer, with an optional
scaled index; guest memory by `guest_ld`, `guest_st` and `guest_ptr`, whose lowering is a policy
(softmmu, flat).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

INT_TYPES = ("i1", "i8", "i16", "i32", "i64", "i128")
TYPES = (*INT_TYPES, "ptr", "void")
WIDTH = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "i128": 128, "ptr": 64}


class Value:
    """The result of one op, or a parameter."""

    __slots__ = ("number", "type")

    def __init__(self, type: str, number: int) -> None:
        self.type = type
        self.number = number

    def __repr__(self) -> str:
        return f"%{self.number}"


Operand = Value | int


class OpInfo(NamedTuple):
    """What the verifier and the optimiser need to know of an opcode."""

    arguments: int  # count; -1: any
    result: bool
    pure: bool  # no effect but its result, and repeatable
    terminator: bool = False
    commutes: bool = False


_BINARY = OpInfo(2, True, True)
_COMMUTING = OpInfo(2, True, True, commutes=True)
_UNARY = OpInfo(1, True, True)
_END = OpInfo(-1, False, False, terminator=True)

OPCODES: dict[str, OpInfo] = {
    # move
    "mov": _UNARY,
    "getvar": OpInfo(0, True, False),
    "setvar": OpInfo(1, False, False),
    "select": OpInfo(3, True, True),
    # arithmetic and logic
    **dict.fromkeys(("add", "mul", "and", "or", "xor"), _COMMUTING),
    **dict.fromkeys(("sub", "shl", "lshr", "ashr"), _BINARY),
    **{name: OpInfo(2, True, False) for name in ("udiv", "urem", "sdiv", "srem")},
    **dict.fromkeys(("clz", "ctz", "popcount", "bswap"), _UNARY),
    # compare: the type is the operands', the result is i1
    **dict.fromkeys(("eq", "ne"), _COMMUTING),
    **dict.fromkeys(("ult", "ule", "slt", "sle"), _BINARY),
    # conversion: the type is the result's
    **dict.fromkeys(("zext", "sext", "trunc", "ptrtoint", "inttoptr"), _UNARY),
    # floating point on the host FPU under its current rounding mode: bit patterns in and out
    **{name: OpInfo(2, True, False) for name in ("fadd", "fsub", "fmul", "fdiv")},
    **{name: OpInfo(2, True, False) for name in ("feq", "flt", "fle", "funo")},
    "fma": OpInfo(3, True, False),
    **{
        name: OpInfo(1, True, False)
        for name in ("fsqrt", "fcanon", "fcvt", "ftosi", "ftoui", "sitof", "uitof")
    },
    # state: ld base [index]; st base value [index]; attributes offset, scale
    "ld": OpInfo(-1, True, False),
    "st": OpInfo(-1, False, False),
    "addr": OpInfo(-1, True, True),
    # guest memory
    "guest_ld": OpInfo(1, True, False),
    "guest_st": OpInfo(2, False, False),
    "guest_ptr": OpInfo(1, True, False),
    # shared memory
    "atomic_rmw": OpInfo(2, True, False),
    "atomic_cas": OpInfo(3, True, False),
    "atomic_ld": OpInfo(1, True, False),
    "atomic_st": OpInfo(2, False, False),
    "fence": OpInfo(0, False, False),
    # host
    "host": OpInfo(-1, True, False),
    "call": OpInfo(-1, True, False),
    "result": OpInfo(1, True, True),
    "symbol": OpInfo(0, True, True),
    # control
    "br": OpInfo(0, False, False, terminator=True),
    "cbr": OpInfo(1, False, False, terminator=True),
    "switch": OpInfo(1, False, False, terminator=True),
    "ret": _END,
    "raise": OpInfo(2, False, False, terminator=True),
    "next": OpInfo(0, False, False, terminator=True),
    "goto_tb": OpInfo(0, False, False, terminator=True),
    "lookup_tb": OpInfo(0, False, False, terminator=True),
    "exit_tb": OpInfo(1, False, False, terminator=True),
    "dispatch": OpInfo(-1, False, False, terminator=True),
    "unreachable": OpInfo(0, False, False, terminator=True),
}
COMPARES = frozenset(("eq", "ne", "ult", "ule", "slt", "sle", "feq", "flt", "fle", "funo"))


class Op:
    """One operation. `attributes` are integers or strings, in the order in which the text form
    prints them.
    """

    __slots__ = ("args", "attributes", "name", "result", "targets", "type")

    def __init__(
        self,
        name: str,
        type: str,
        args: tuple[Operand, ...] = (),
        result: Value | None = None,
        targets: tuple[str, ...] = (),
        /,
        **attributes: int | str,
    ) -> None:
        self.name = name
        self.type = type
        self.args = args
        self.result = result
        self.targets = targets
        self.attributes = attributes

    def replaced(self, args: tuple[Operand, ...]) -> Op:
        """The same op on other arguments."""
        return Op(self.name, self.type, args, self.result, self.targets, **self.attributes)


@dataclass(slots=True)
class Block:
    """A label and its ops."""

    label: str
    ops: list[Op] = field(default_factory=list)

    @property
    def terminated(self) -> bool:
        """Whether the last op ends the block."""
        return bool(self.ops) and OPCODES[self.ops[-1].name].terminator


@dataclass(slots=True)
class Function:
    """A function: C calling convention when `kind` is "native", a tail-calling record handler when
    "handler".
    """

    name: str
    params: list[Value]
    returns: tuple[str, ...]
    kind: str = "native"
    blocks: list[Block] = field(default_factory=list)
    variables: dict[int, str] = field(default_factory=dict)
    raises: bool = False
    exported: bool = False

    def values(self) -> Iterator[Op]:
        """Every op, in order."""
        for block in self.blocks:
            yield from block.ops


class IrError(Exception):
    """The IR breaks one of its rules; the message names function, block and op."""


class Builder:
    """Appends ops to a function."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self._next = len(function.params)
        self.block = self.new_block("entry")
        self.function.blocks.append(self.block)

    def new_block(self, hint: str) -> Block:
        """A block that is not yet placed; `place` appends it and makes it current."""
        self._labels = getattr(self, "_labels", 0) + 1
        return Block(f"{hint}{self._labels}")

    def place(self, block: Block) -> None:
        """Continue in `block`."""
        self.function.blocks.append(block)
        self.block = block

    def value(self, type: str) -> Value:
        """A fresh value."""
        value = Value(type, self._next)
        self._next += 1
        return value

    def variable(self, type: str) -> int:
        """A fresh mutable variable."""
        number = len(self.function.variables)
        self.function.variables[number] = type
        return number

    def emit(
        self,
        name: str,
        type: str,
        /,
        *args: Operand,
        targets: tuple[str, ...] = (),
        **attributes: int | str,
    ) -> Value:
        """Append an op; the result is meaningful only where the opcode has one."""
        if self.block.terminated:  # code after return, raise or jump
            self.place(self.new_block("dead"))
        info = OPCODES[name]
        kind = "i1" if name in COMPARES else type
        if name == "atomic_cas":
            kind = type
        result = self.value(kind) if info.result and kind != "void" else None
        self.block.ops.append(Op(name, type, args, result, targets, **attributes))
        return result if result is not None else _NOTHING

    def branch(self, target: Block) -> None:
        """Jump, unless the block has ended already."""
        if not self.block.terminated:
            self.emit("br", "void", targets=(target.label,))

    def branch_if(self, condition: Operand, yes: Block, no: Block, *, likely: str = "") -> None:
        """Two-way branch; `likely` is "yes", "no" or unknown."""
        self.emit("cbr", "void", condition, targets=(yes.label, no.label), likely=likely)


_NOTHING = Value("void", -1)


def successors(block: Block) -> tuple[str, ...]:
    """Labels that control may reach from the end of `block`."""
    return block.ops[-1].targets if block.ops else ()


def verify(function: Function) -> None:
    """Raise `IrError` unless every rule of the IR holds: shapes, types, single assignment,
    dominance by block order within a block and reachability of definitions across blocks, known
    labels and variables."""
    labels = [block.label for block in function.blocks]
    if len(set(labels)) != len(labels):
        raise IrError(f"{function.name}: a label is defined twice")
    defined: dict[int, str] = {value.number: value.type for value in function.params}
    for block in function.blocks:
        if not block.terminated:
            raise IrError(f"{function.name}.{block.label}: does not end in a terminator")
        for op in block.ops:
            if op.result is not None:
                if op.result.number in defined:
                    raise IrError(f"{function.name}.{block.label}: {op.result} assigned twice")
                defined[op.result.number] = op.result.type
    for block in function.blocks:
        for index, op in enumerate(block.ops):
            _verify_op(function, block, index, op, defined, labels)
    _verify_dominance(function)


def _verify_op(
    function: Function, block: Block, index: int, op: Op, defined: dict[int, str], labels: list[str]
) -> None:
    where = f"{function.name}.{block.label}: {op.name}"
    info = OPCODES.get(op.name)
    if info is None:
        raise IrError(f"{where}: unknown opcode")
    if op.type not in TYPES:
        raise IrError(f"{where}: unknown type {op.type}")
    if info.terminator != (index == len(block.ops) - 1):
        raise IrError(f"{where}: terminator out of place")
    if info.arguments >= 0 and len(op.args) != info.arguments:
        raise IrError(f"{where}: wants {info.arguments} arguments, has {len(op.args)}")
    for argument in op.args:
        if isinstance(argument, Value):
            if defined.get(argument.number) != argument.type:
                raise IrError(f"{where}: {argument} is not defined as {argument.type}")
    for target in op.targets:
        if target not in labels:
            raise IrError(f"{where}: unknown label {target}")
    if op.name in ("getvar", "setvar"):
        if function.variables.get(int(op.attributes["var"])) != op.type:
            raise IrError(f"{where}: variable {op.attributes['var']} is not {op.type}")
    same_type = op.name in (
        "add",
        "sub",
        "mul",
        "and",
        "or",
        "xor",
        "shl",
        "lshr",
        "ashr",
        "setvar",
        "mov",
    )
    if same_type or (op.name in COMPARES and not op.name.startswith("f")):
        for argument in op.args:
            if isinstance(argument, Value) and argument.type != op.type:
                raise IrError(f"{where}: {argument} is {argument.type}, op is {op.type}")


def _verify_dominance(function: Function) -> None:
    """Every use must be reached by its definition on every path: forward data flow over available
    values.
    """
    by_label = {block.label: block for block in function.blocks}
    parameters = frozenset(value.number for value in function.params)
    available: dict[str, frozenset[int] | None] = {block.label: None for block in function.blocks}
    available[function.blocks[0].label] = parameters
    work = [function.blocks[0].label]
    while work:
        label = work.pop()
        block = by_label[label]
        at_entry = available[label]
        assert at_entry is not None
        at_end = at_entry | {op.result.number for op in block.ops if op.result is not None}
        for target in successors(block):
            before = available[target]
            after = at_end if before is None else before & at_end
            if after != before:
                available[target] = after
                work.append(target)
    for block in function.blocks:
        entry = available[block.label]
        if entry is None:  # unreachable
            continue
        known = set(entry)
        for op in block.ops:
            for argument in op.args:
                if isinstance(argument, Value) and argument.number not in known:
                    raise IrError(
                        f"{function.name}.{block.label}: {op.name} uses {argument} before it is set"
                    )
            if op.result is not None:
                known.add(op.result.number)
