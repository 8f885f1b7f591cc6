"""Expressions of the native subset: evaluated where they are known, emitted as ops where not."""

from __future__ import annotations

import ast
import builtins
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from ratite.native import ir
from ratite.native.intrinsics import ConstMarker
from ratite.native.lift_calls import INTRINSICS, Call
from ratite.native.struct import Array, Field, Nested, Struct
from ratite.native.subset import NativeFunction
from ratite.native.types import Int, u64
from ratite.native.values import ArrayRef, Deferred, Method, PcOffset, Ref, Val, ir_type


@dataclass(slots=True)
class Local:
    """A local name that is assigned more than once: a variable."""

    kind: type[Any]
    number: int


@dataclass(slots=True)
class Frame:
    """One function body being lifted: the outermost or one inlined into it."""

    native: NativeFunction
    names: dict[str, Any]
    assigned: dict[str, int]
    returns: tuple[type[Any], ...]
    result: tuple[int, ...] | None = None  # variables that take an inlined body's result
    end: ir.Block | None = None
    loops: list[tuple[ir.Block, ir.Block]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameter annotations, resolved."""

    parameters: dict[str, Any]  # name -> kind, or ConstMarker
    returns: tuple[type[Any], ...]


_signatures: dict[Callable[..., Any], Signature] = {}


def signature_of(native: NativeFunction) -> Signature:
    """Kinds of the parameters and results; `self` is the class that defines a method."""
    found = _signatures.get(native.function)
    if found is not None:
        return found
    function = native.function
    hints = typing.get_type_hints(function, include_extras=True)
    parameters: dict[str, Any] = {}
    for argument in native.tree.args.args + native.tree.args.kwonlyargs:
        hint = hints.get(argument.arg)
        if hint is None:
            if argument.arg != "self":
                native.refuse(argument, f"parameter '{argument.arg}' has no type")
            parameters["self"] = Struct
        elif ConstMarker in getattr(hint, "__metadata__", ()):
            parameters[argument.arg] = ConstMarker
        else:
            parameters[argument.arg] = hint
    returned = hints.get("return", type(None))
    if returned is type(None):
        returns: tuple[type[Any], ...] = ()
    elif typing.get_origin(returned) is tuple:
        returns = typing.get_args(returned)
    elif returned is NoReturn:
        returns = ()
    else:
        returns = (returned,)
    _signatures[function] = Signature(parameters, returns)
    return _signatures[function]


class Functions(Protocol):
    """Where other native functions come from."""

    def require(
        self,
        native: NativeFunction,
        constants: tuple[tuple[str, Any], ...],
        *,
        exported: bool = False,
        self_kind: type[Struct] | None = None,
    ) -> ir.Function:
        """The IR of a function, specialised for constants."""


_COMPARE = {
    ast.Lt: ("lt", False),
    ast.LtE: ("le", False),
    ast.Gt: ("lt", True),
    ast.GtE: ("le", True),
}
_BINARY = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
    ast.LShift: "shl",
    ast.RShift: "shr",
    ast.FloorDiv: "udiv",
    ast.Mod: "urem",
}
_PYTHON: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.BitAnd: lambda a, b: a & b,
    ast.BitOr: lambda a, b: a | b,
    ast.BitXor: lambda a, b: a ^ b,
    ast.LShift: lambda a, b: a << b,
    ast.RShift: lambda a, b: a >> b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
    ast.USub: lambda a: -a,
    ast.Invert: lambda a: ~a,
    ast.Not: lambda a: not a,
}
RUNTIME = (Val, Ref, ArrayRef, Method, PcOffset)
_STATIC_CALLS = (len, min, max, int, abs, range)


class Expressions(ABC):
    """Lifts the expressions of one function; `Lifter` adds the statements."""

    def __init__(self, program: Functions, function: ir.Function) -> None:
        self.program = program
        self.function = function
        self.builder = ir.Builder(function)
        self.frame: Frame = None  # type: ignore[assignment]  # set by run() before any use
        self.in_instruction = function.kind != "native"

    def refuse(self, node: ast.AST, reason: str) -> NoReturn:
        """Raise `NativeError` at `node` of the function being lifted."""
        self.frame.native.refuse(node, reason)
        raise AssertionError

    @abstractmethod
    def inline(self, native: NativeFunction, names: dict[str, Any], at: ast.AST) -> Any:
        """Lift a body in place and return its result."""

    @abstractmethod
    def store(self, target: ast.expr, value: Any) -> None:
        """Assign to a name, a member or an element."""

    def extend_index(self, index: Val) -> ir.Operand:
        """An index as 64 bits."""
        return self.cast(index, u64).operand

    # -- values

    def coerce(self, value: Any, kind: type[Any], node: ast.AST) -> Val:
        """`value` where a `kind` is wanted: the same kind, or a constant that fits."""
        if isinstance(value, Ref) and issubclass(kind, Struct):
            return Val(kind, self.pointer(value))
        if isinstance(value, Val):
            if value.kind is not kind:
                self.refuse(node, f"is {value.kind.__name__}, wants {kind.__name__}: cast it")
            return value
        if kind is bool and isinstance(value, bool):
            return Val(bool, int(value))
        if (isinstance(value, Int) and type(value) is kind) or (
            isinstance(value, int) and not isinstance(value, Int)
        ):
            return Val(kind, int(value))
        self.refuse(node, f"{value!r} where {kind.__name__} is wanted")

    def pointer(self, ref: Ref) -> ir.Operand:
        """The address of a struct as one operand."""
        if ref.offset == 0:
            return ref.base
        return self.builder.emit("addr", "ptr", ref.base, offset=ref.offset, scale=0)

    def value(self, node: ast.expr) -> Any:
        """Evaluate an expression to a known object or a runtime value."""
        result = getattr(self, f"_eval_{type(node).__name__.lower()}")(node)
        return result

    def _eval_constant(self, node: ast.Constant) -> Any:
        return node.value

    def _eval_tuple(self, node: ast.Tuple) -> Any:
        return tuple(self.value(part) for part in node.elts)

    def _eval_name(self, node: ast.Name) -> Any:
        names = self.frame.names
        if node.id in names:
            found = names[node.id]
            if isinstance(found, Local):
                return Val(
                    found.kind, self.builder.emit("getvar", ir_type(found.kind), var=found.number)
                )
            return found.read(self.builder) if isinstance(found, Deferred) else found
        scope = self.frame.native.function.__globals__
        if node.id in scope:
            return scope[node.id]
        if hasattr(builtins, node.id):
            return getattr(builtins, node.id)
        self.refuse(node, f"'{node.id}' is not defined here")

    def _eval_attribute(self, node: ast.Attribute) -> Any:
        owner = self.value(node.value)
        if isinstance(owner, Ref):
            return self._member(owner, node)
        if isinstance(owner, RUNTIME):
            self.refuse(node, f"a value has no attribute '{node.attr}'")
        try:
            return getattr(owner, node.attr)
        except AttributeError:
            self.refuse(node, f"{owner!r} has no attribute '{node.attr}'")

    def _member(self, ref: Ref, node: ast.Attribute) -> Any:
        special = self.special_member(ref, node.attr)
        if special is not None:
            return special
        member = ref.kind.MEMBERS.get(node.attr)
        if isinstance(member, Field):
            type_ = ir_type(member.kind)
            loaded = self.builder.emit(
                "ld", type_, ref.base, offset=ref.offset + member.offset, scale=0
            )
            return Val(member.kind, loaded)
        if isinstance(member, Array):
            return ArrayRef(member, ref.base, ref.offset + member.offset)
        if isinstance(member, Nested):
            return Ref(member.kind, ref.base, ref.offset + member.offset)
        function = getattr(ref.kind, node.attr, None)
        if callable(function):
            return Method(ref, function)
        if function is not None and isinstance(function, int):
            return function
        self.refuse(node, f"{ref.kind.__name__} has no member '{node.attr}'")

    def special_member(self, ref: Ref, name: str) -> Any:
        """In an instruction, the CPU's `pc` and `next_pc` are those of the instruction, not loads
        from the state.
        """
        if (
            self.function.kind == "handler"
            and name in ("pc", "next_pc")
            and "exception_pending" in ref.kind.MEMBERS
        ):
            return Val(u64, self.builder.emit("host", "i64", what=name))
        return None

    def _eval_subscript(self, node: ast.Subscript) -> Any:
        owner = self.value(node.value)
        index = self.value(node.slice)
        if not isinstance(owner, ArrayRef):
            if isinstance(owner, RUNTIME) or isinstance(index, RUNTIME):
                self.refuse(
                    node,
                    "indexing wants an array of a struct, or an index known at translation time",
                )
            return owner[index]
        kind = owner.member.kind
        if isinstance(index, Val):
            wide = self.extend_index(index)
            loaded = self.builder.emit(
                "ld", ir_type(kind), owner.base, wide, offset=owner.offset, scale=kind.WIDTH // 8
            )
        else:
            offset = owner.offset + int(index) * kind.WIDTH // 8
            loaded = self.builder.emit("ld", ir_type(kind), owner.base, offset=offset, scale=0)
        return Val(kind, loaded)

    def _eval_unaryop(self, node: ast.UnaryOp) -> Any:
        operand = self.value(node.operand)
        if not isinstance(operand, Val):
            return _PYTHON[type(node.op)](operand)
        if isinstance(node.op, ast.Not):
            condition = self.truth(operand, node)
            return Val(bool, self.builder.emit("xor", "i1", condition, 1))
        if operand.kind is bool:
            self.refuse(node, "arithmetic on a condition: cast it, as in u32(condition)")
        type_ = ir_type(operand.kind)
        if isinstance(node.op, ast.USub):
            return Val(operand.kind, self.builder.emit("sub", type_, 0, operand.operand))
        return Val(
            operand.kind, self.builder.emit("xor", type_, operand.operand, operand.kind.MASK)
        )

    def _eval_binop(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        if not isinstance(left, Val) and not isinstance(right, Val):
            try:
                return _PYTHON[type(node.op)](left, right)
            except TypeError as error:
                self.refuse(node, str(error))
        return self.binary(_BINARY[type(node.op)], left, right, node)

    def binary(self, name: str, left: Any, right: Any, node: ast.AST) -> Val:
        """Arithmetic, logic or a shift under the rules of `types`."""
        if name in ("shl", "shr"):
            return self._shift(name, left, right, node)
        kind = self._common(left, right, node)
        a, b = self._operand(left, kind), self._operand(right, kind)
        if name in ("udiv", "urem") and (_signed(left) or _signed(right)):
            self.refuse(node, "// and % are for unsigned values; use quot() and rem()")
        return Val(kind, self.builder.emit(name, ir_type(kind), a, b))

    def _shift(self, name: str, left: Any, right: Any, node: ast.AST) -> Val:
        if not isinstance(left, Val):
            if not isinstance(left, Int):
                self.refuse(node, f"the shifted constant {left!r} has no type")
            left = Val(type(left), int(left))
        kind = left.kind
        if isinstance(right, Val):
            count = self.cast(right, kind.UNSIGNED_TWIN).operand
            count = self.builder.emit("and", ir_type(kind), count, kind.WIDTH - 1)
        else:
            count = int(right) & (kind.WIDTH - 1)
        op = "shl" if name == "shl" else "ashr" if kind.SIGNED else "lshr"
        return Val(kind, self.builder.emit(op, ir_type(kind), left.operand, count))

    def _common(self, left: Any, right: Any, node: ast.AST) -> type[Any]:
        """The type of an operation on both: see `types`."""
        kinds = []
        for value in (left, right):
            if isinstance(value, Val):
                kinds.append(value.kind)
            elif isinstance(value, Int):
                kinds.append(type(value))
            elif not isinstance(value, int) or isinstance(value, bool):
                self.refuse(node, f"arithmetic on {value!r}")
        if bool in kinds:
            self.refuse(node, "arithmetic on a condition: cast it, as in u32(condition)")
        if len(kinds) == 1 or kinds[0] is kinds[1]:
            return kinds[0]
        if kinds[0].WIDTH != kinds[1].WIDTH:
            self.refuse(node, f"{kinds[0].__name__} with {kinds[1].__name__}: cast one of them")
        twin: type[Any] = kinds[0].UNSIGNED_TWIN
        return twin

    def _operand(self, value: Any, kind: type[Any]) -> ir.Operand:
        return value.operand if isinstance(value, Val) else int(value) & int(kind.MASK)

    def cast(self, value: Any, kind: type[Any]) -> Val:
        """What calling the type does."""
        if not isinstance(value, Val):
            return Val(kind, int(kind(value)))
        if value.kind is bool:
            return Val(kind, self.builder.emit("zext", ir_type(kind), value.operand))
        have, want = value.kind.WIDTH, kind.WIDTH
        if have == want:
            return Val(kind, value.operand)
        if isinstance(value.operand, int):
            return Val(kind, int(kind(value.kind(value.operand))))
        op = "trunc" if want < have else "sext" if value.kind.SIGNED else "zext"
        return Val(kind, self.builder.emit(op, ir_type(kind), value.operand))

    # -- conditions

    def truth(self, value: Any, node: ast.AST) -> ir.Operand:
        """A value as a condition."""
        if isinstance(value, Val):
            if value.kind is bool:
                return value.operand
            return self.builder.emit("ne", ir_type(value.kind), value.operand, 0)
        if isinstance(value, RUNTIME):
            self.refuse(node, "a pointer is not a condition")
        return int(bool(value))

    def _static_condition(self, node: ast.expr) -> bool | None:
        """The condition's value if it is known without generating anything."""
        if isinstance(node, ast.Constant):
            return bool(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self._static_condition(node.operand)
            return None if inner is None else not inner
        if isinstance(node, ast.BoolOp):
            parts = [self._static_condition(part) for part in node.values]
            deciding = isinstance(node.op, ast.Or)
            if parts and parts[0] is deciding:
                return deciding
            return None if None in parts else (any(parts) if deciding else all(parts))
        if not self._is_static(node):
            return None
        return bool(self.value(node))

    def _is_static(self, node: ast.expr) -> bool:
        """Whether every name in `node` is known, so that evaluating it emits nothing."""
        for part in ast.walk(node):
            if isinstance(part, ast.Name):
                if isinstance(self.frame.names.get(part.id), (*RUNTIME, Local, Deferred)):
                    return False
            elif isinstance(part, ast.Call):
                if not (
                    isinstance(part.func, ast.Name)
                    and part.func.id in ("native_only", "len", "isinstance")
                ):
                    return False
        return True

    def _branch(self, node: ast.expr, yes: ir.Block, no: ir.Block) -> None:
        """Jump to `yes` or `no` by the condition, evaluating and/or/not lazily."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self._branch(node.operand, no, yes)
        elif isinstance(node, ast.BoolOp):
            for part in node.values[:-1]:
                more = self.builder.new_block("and" if isinstance(node.op, ast.And) else "or")
                if isinstance(node.op, ast.And):
                    self._branch(part, more, no)
                else:
                    self._branch(part, yes, more)
                self.builder.place(more)
            self._branch(node.values[-1], yes, no)
        else:
            likely, test = _hint(node)
            known = self._static_condition(test)
            if known is not None:
                self.builder.branch(yes if known else no)
                return
            condition = self.truth(self.value(test), test)
            if isinstance(condition, int):
                self.builder.branch(yes if condition else no)
            else:
                self.builder.branch_if(condition, yes, no, likely=likely)

    def _eval_boolop(self, node: ast.BoolOp) -> Any:
        known = self._static_condition(node)
        if known is not None:
            return known
        number = self.builder.variable("i1")
        yes, no, end = (self.builder.new_block(hint) for hint in ("true", "false", "bool"))
        self._branch(node, yes, no)
        for block, outcome in ((yes, 1), (no, 0)):
            self.builder.place(block)
            self.builder.emit("setvar", "i1", outcome, var=number)
            self.builder.branch(end)
        self.builder.place(end)
        return Val(bool, self.builder.emit("getvar", "i1", var=number))

    def _eval_compare(self, node: ast.Compare) -> Any:
        operands = [self.value(part) for part in (node.left, *node.comparators)]
        result: Any = None
        for op, left, right in zip(node.ops, operands, operands[1:], strict=False):
            one = self._compare(op, left, right, node)
            if result is None:
                result = one
            else:
                both = self.builder.emit(
                    "and", "i1", self.truth(result, node), self.truth(one, node)
                )
                result = Val(bool, both)
        return result

    def _compare(self, op: ast.cmpop, left: Any, right: Any, node: ast.AST) -> Any:
        if not isinstance(left, Val) and not isinstance(right, Val):
            return _PYTHON[type(op)](left, right)
        kinds = {
            value.kind if isinstance(value, Val) else type(value)
            for value in (left, right)
            if isinstance(value, Val | Int)
        }
        if len(kinds) != 1:
            self.refuse(
                node, f"comparison of {' with '.join(sorted(kind.__name__ for kind in kinds))}"
            )
        kind = kinds.pop()
        if kind is bool:
            a, b = self.truth(left, node), self.truth(right, node)
            type_ = "i1"
        else:
            for value in (left, right):
                if not isinstance(value, Val) and not _fits(int(value), kind):
                    self.refuse(node, f"{value!r} does not fit {kind.__name__}")
            a, b = self._operand(left, kind), self._operand(right, kind)
            type_ = ir_type(kind)
        if isinstance(op, ast.Eq | ast.NotEq):
            return Val(
                bool, self.builder.emit("eq" if isinstance(op, ast.Eq) else "ne", type_, a, b)
            )
        name, swap = _COMPARE[type(op)]
        prefix = "s" if kind is not bool and kind.SIGNED else "u"
        if swap:
            a, b = b, a
        return Val(bool, self.builder.emit(prefix + name, type_, a, b))

    def _eval_ifexp(self, node: ast.IfExp) -> Any:
        known = self._static_condition(node.test)
        if known is not None:
            return self.value(node.body if known else node.orelse)
        yes, no, end = (self.builder.new_block(hint) for hint in ("then", "else", "endif"))
        self._branch(node.test, yes, no)
        results = []
        for block, part in ((yes, node.body), (no, node.orelse)):
            self.builder.place(block)
            results.append((self.value(part), self.builder.block))
        kind = _kind_of_either(results[0][0], results[1][0])
        if kind is None:
            self.refuse(node, "the two sides have no common type")
        number = self.builder.variable(ir_type(kind))
        for result, block in results:
            self.builder.block = block
            self.builder.emit(
                "setvar", ir_type(kind), self.coerce(result, kind, node).operand, var=number
            )
            self.builder.branch(end)
        self.builder.place(end)
        return Val(kind, self.builder.emit("getvar", ir_type(kind), var=number))

    # -- calls

    def _eval_call(self, node: ast.Call) -> Any:
        function = self.value(node.func)
        arguments = [self.value(argument) for argument in node.args]
        keywords = {keyword.arg or "": self.value(keyword.value) for keyword in node.keywords}
        ref = None
        if isinstance(function, Method):
            ref, function = function.ref, function.function
        known = getattr(function, "__intrinsic__", None)
        if known is not None:
            return INTRINSICS[known](self, Call(known, node, ref, arguments, keywords))
        if getattr(function, "__name__", "") == "pointer" and ref is not None:
            return Val(u64, self.builder.emit("ptrtoint", "i64", self.pointer(ref)))
        if getattr(function, "__func__", None) is Struct.at.__func__:  # type: ignore[attr-defined]
            address = self.coerce(arguments[0], u64, node).operand
            return Ref(function.__self__, self.builder.emit("inttoptr", "ptr", address))
        if isinstance(function, type) and issubclass(function, Int):
            return self._cast_call(function, arguments, node)
        if function is getattr and isinstance(arguments[0], Ref):
            name = ast.copy_location(ast.Attribute(node.args[0], arguments[1], ast.Load()), node)
            return self._member(arguments[0], name)
        if function is setattr and isinstance(arguments[0], Ref):
            place = ast.copy_location(ast.Attribute(node.args[0], arguments[1], ast.Store()), node)
            return self.store(place, arguments[2])
        if function is bool:
            return Val(bool, self.truth(arguments[0], node))
        native = getattr(function, "__native__", None)
        if native is not None:
            return self.call(native, ref, arguments, keywords, node)
        if any(function is allowed for allowed in _STATIC_CALLS) and not any(
            isinstance(argument, RUNTIME) for argument in arguments
        ):
            return function(*arguments, **keywords)
        self.refuse(node, f"{getattr(function, '__qualname__', function)} is not a native function")

    def _cast_call(self, kind: type[Int], arguments: list[Any], node: ast.Call) -> Any:
        if len(arguments) != 1:
            self.refuse(node, f"{kind.__name__}() takes one value")
        if isinstance(arguments[0], Val):
            return self.cast(arguments[0], kind)
        if isinstance(arguments[0], int):
            return kind(arguments[0])
        self.refuse(node, f"{arguments[0]!r} cannot be cast to {kind.__name__}")

    def call(
        self,
        native: NativeFunction,
        ref: Ref | None,
        arguments: list[Any],
        keywords: dict[str, Any],
        node: ast.AST,
    ) -> Any:
        """Call (or inline) another native function."""
        signature = signature_of(native)
        given = ([ref] if ref is not None else []) + arguments
        names = dict(zip(signature.parameters, given, strict=False)) | keywords
        if len(given) + len(keywords) != len(signature.parameters) or set(names) != set(
            signature.parameters
        ):
            self.refuse(node, f"{native.name} takes ({', '.join(signature.parameters)})")
        if native.inline:
            typed = {
                name: self._typed_argument(value, signature.parameters[name], node)
                for name, value in names.items()
            }
            return self.inline(native, typed, node)
        constants = []
        operands: list[ir.Operand] = []
        self_kind = None
        for name, kind in signature.parameters.items():
            value = names[name]
            if kind is ConstMarker:
                if isinstance(value, RUNTIME):
                    self.refuse(
                        node, f"'{name}' of {native.name} must be known at translation time"
                    )
                constants.append((name, value))
                continue
            if name == "self" and kind is Struct and isinstance(value, Ref):
                self_kind = _defining_class(value.kind, native.function)
                operands.append(self.pointer(value))
                continue
            if isinstance(value, Ref) and not issubclass(value.kind, kind):
                self.refuse(
                    node, f"'{name}' of {native.name} is {kind.__name__}, not {value.kind.__name__}"
                )
            operands.append(self.coerce(value, kind, node).operand)
        callee = self.program.require(native, tuple(constants), self_kind=self_kind)
        state = next(
            (
                v
                for v in names.values()
                if isinstance(v, Ref) and "exception_pending" in v.kind.MEMBERS
            ),
            None,
        )
        return self.emit_call(callee, operands, signature.returns, state)

    def _typed_argument(self, value: Any, kind: Any, node: ast.AST) -> Any:
        if kind is ConstMarker or isinstance(value, Ref | PcOffset):
            return value
        if isinstance(value, int) and not isinstance(value, Int | bool) and issubclass(kind, Int):
            return kind(value)
        return value

    def emit_call(
        self,
        callee: ir.Function,
        operands: list[ir.Operand],
        returns: tuple[type[Any], ...],
        state: Ref | None = None,
    ) -> Any:
        """Emit the call and what follows it if the callee may raise a guest exception."""
        type_ = "void" if not returns else callee.returns[0] if len(returns) == 1 else "i64"
        results = ",".join(callee.returns)
        called = self.builder.emit("call", type_, *operands, function=callee.name, results=results)
        if callee.raises:
            self.function.raises = True
            assert state is not None
            self._leave_if_pending(state)
        if not returns:
            return None
        if len(returns) == 1:
            kind = returns[0]
            return Ref(kind, called) if issubclass(kind, Struct) else Val(kind, called)
        return tuple(
            Val(kind, self.builder.emit("result", ir_type(kind), called, index=index))
            for index, kind in enumerate(returns)
        )

    def _leave_if_pending(self, state: Ref) -> None:
        """Leave this function if the callee left a guest exception pending."""
        fault, go_on = self.builder.new_block("raised"), self.builder.new_block("returned")
        offset = state.offset + state.kind.MEMBERS["exception_pending"].offset
        pending = self.builder.emit("ld", "i32", state.base, offset=offset, scale=0)
        self.builder.branch_if(
            self.builder.emit("ne", "i32", pending, 0), fault, go_on, likely="no"
        )
        self.builder.place(fault)
        if self.in_instruction:
            self.builder.emit("exit_tb", "void", 0, what="exception")
        else:
            self.builder.emit("ret", "void", *(0 for _ in self.function.returns))
        self.builder.place(go_on)


def _defining_class(kind: type[Struct], function: Callable[..., Any]) -> type[Struct]:
    """The class that a method belongs to, so that it is lifted once for all that inherit it."""
    return next(base for base in kind.__mro__ if function in base.__dict__.values())


def _hint(node: ast.expr) -> tuple[str, ast.expr]:
    """Split `likely(x)` and `unlikely(x)` into hint and condition."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "likely":
            return "yes", node.args[0]
        if node.func.id == "unlikely":
            return "no", node.args[0]
    return "", node


def _signed(value: Any) -> bool:
    kind = value.kind if isinstance(value, Val) else type(value)
    return bool(getattr(kind, "SIGNED", False))


def _fits(value: int, kind: type[Int]) -> bool:
    return int(kind(value)) == value


def _kind_of_either(a: Any, b: Any) -> type[Any] | None:
    for value in (a, b):
        if isinstance(value, Val):
            return value.kind
    for value in (a, b):
        if isinstance(value, Int | bool):
            return type(value)
    return None
