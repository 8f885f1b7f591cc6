"""From typed Python to IR.

The `Lifter` walks a function's syntax tree as an interpreter would, with two kinds of value: what
is known now (any Python object) and what the generated code will know (a typed IR value). Whatever
depends only on the first kind is evaluated here: an `if` on it leaves one branch, a `for` over it
unrolls. The rest becomes ops. Statements are here, expressions in `expressions`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from ratite.native import ir
from ratite.native.expressions import RUNTIME, Expressions, Frame, Local, signature_of
from ratite.native.struct import Field, Struct
from ratite.native.subset import NativeError, NativeFunction
from ratite.native.types import Int
from ratite.native.values import ArrayRef, Ref, Val, ir_type

UNROLL_LIMIT = 256


class Program:
    """The native functions of one module, lifted on demand, with their specialisations."""

    def __init__(
        self, overrides: Mapping[Callable[..., Any], Callable[..., Any] | str] | None = None
    ) -> None:
        """`overrides` replaces native functions by others of the same signature, or by functions
        built as IR.
        """
        self.functions: dict[str, ir.Function] = {}
        self._overrides = dict(overrides or {})
        self._done: dict[Any, ir.Function] = {}
        self._active: set[Any] = set()

    def add(self, function: ir.Function) -> ir.Function:
        """Take in a function built elsewhere (a handler, a decoder)."""
        if function.name in self.functions:
            raise NativeError(f"native function {function.name} is defined twice")
        self.functions[function.name] = function
        return function

    def require(
        self,
        native: NativeFunction,
        constants: tuple[tuple[str, Any], ...],
        *,
        exported: bool = False,
        self_kind: type[Struct] | None = None,
    ) -> ir.Function:
        """The IR of `native` specialised for `constants`, lifted now if it has not been."""
        other = self._overrides.get(native.function)
        if isinstance(other, str):
            return self.functions[other]
        if other is not None:
            native = other.__native__  # type: ignore[attr-defined]
        key = (native.function, constants, self_kind)
        found = self._done.get(key)
        if found is not None:
            found.exported = found.exported or exported
            return found
        if key in self._active:
            raise NativeError(f"{native.path}: {native.name} is recursive")
        self._active.add(key)
        name = native.name + "".join(f".{getattr(value, 'name', value)}" for _, value in constants)
        lifted = _lift(self, native, name, dict(constants), self_kind)
        lifted.exported = exported
        self._done[key] = self.add(lifted)
        return lifted


def _lift(
    program: Program,
    native: NativeFunction,
    name: str,
    constants: dict[str, Any],
    self_kind: type[Struct] | None,
) -> ir.Function:
    signature = signature_of(native)
    params: list[ir.Value] = []
    names: dict[str, Any] = dict(constants)
    for parameter, kind in signature.parameters.items():
        if parameter in constants:
            continue
        if parameter == "self" and self_kind is not None:
            kind = self_kind
        value = ir.Value(ir_type(kind), len(params))
        params.append(value)
        names[parameter] = Ref(kind, value) if issubclass(kind, Struct) else Val(kind, value)
    function = ir.Function(name, params, tuple(ir_type(kind) for kind in signature.returns))
    lifter = Lifter(program, function)
    lifter.run(native, names, signature.returns)
    return function


def _assignments(tree: ast.FunctionDef) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        weight = 1
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
            weight = 2 if isinstance(node, ast.AugAssign) else 1
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    counts[part.id] = counts.get(part.id, 0) + weight
    return counts


class Lifter(Expressions):
    """Lifts one function. Handlers and regions are lifted by giving `kind` and further `names`."""

    # -- whole bodies

    def run(
        self, native: NativeFunction, names: dict[str, Any], returns: tuple[type[Any], ...]
    ) -> None:
        """Lift the outermost body."""
        self.frame = Frame(native, {}, _assignments(native.tree), returns)
        for name, value in names.items():
            self._bind(name, value, native.tree)
        self._body(native.tree.body)
        if not self.builder.block.terminated:
            if self.in_instruction:
                self.builder.emit("next", "void")
            elif returns:
                self.builder.emit("unreachable", "void")
            else:
                self.builder.emit("ret", "void")

    def inline(self, native: NativeFunction, names: dict[str, Any], at: ast.AST) -> Any:
        """Lift a body in place and return its result."""
        signature = signature_of(native)
        outer = self.frame
        result = tuple(self.builder.variable(ir_type(kind)) for kind in signature.returns)
        end = self.builder.new_block("inlined")
        self.frame = Frame(native, {}, _assignments(native.tree), signature.returns, result, end)
        for name, value in names.items():
            self._bind(name, value, at)
        self._body(native.tree.body)
        self.builder.branch(end)
        self.frame = outer
        self.builder.place(end)
        values = tuple(
            Val(kind, self.builder.emit("getvar", ir_type(kind), var=number))
            for kind, number in zip(signature.returns, result, strict=True)
        )
        return values[0] if len(values) == 1 else values or None

    def _body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if self.builder.block.terminated:
                return  # after return, break or an always-taken raise
            getattr(self, f"_do_{type(statement).__name__.lower()}")(statement)

    # -- statements

    def _do_pass(self, statement: ast.Pass) -> None:
        return

    def _do_expr(self, statement: ast.Expr) -> None:
        if isinstance(statement.value, ast.Constant):
            return  # docstring
        self.value(statement.value)

    def _do_assign(self, statement: ast.Assign) -> None:
        self.store(statement.targets[0], self.value(statement.value))

    def _do_annassign(self, statement: ast.AnnAssign) -> None:
        if statement.value is None:
            self.refuse(statement, "a declaration without a value")
        self.store(statement.target, self.value(statement.value))

    def _do_augassign(self, statement: ast.AugAssign) -> None:
        target = statement.target
        load = ast.copy_location(_as_load(target), target)
        combined = ast.copy_location(ast.BinOp(load, statement.op, statement.value), statement)
        self.store(target, self.value(combined))

    def _do_if(self, statement: ast.If) -> None:
        known = self._static_condition(statement.test)
        if known is not None:
            self._body(statement.body if known else statement.orelse)
            return
        yes, no, end = (self.builder.new_block(hint) for hint in ("then", "else", "endif"))
        self._branch(statement.test, yes, no if statement.orelse else end)
        self.builder.place(yes)
        self._body(statement.body)
        self.builder.branch(end)
        if statement.orelse:
            self.builder.place(no)
            self._body(statement.orelse)
            self.builder.branch(end)
        self.builder.place(end)
        self._close_if_unreachable(end)

    def _close_if_unreachable(self, end: ir.Block) -> None:
        """End a join that no path reaches, so that nothing is lifted into it."""
        if not any(end.label in ir.successors(block) for block in self.function.blocks):
            self.builder.emit("unreachable", "void")

    def _do_while(self, statement: ast.While) -> None:
        head, body, end = (self.builder.new_block(hint) for hint in ("while", "do", "done"))
        self.builder.branch(head)
        self.builder.place(head)
        known = self._static_condition(statement.test)
        if known is None:
            self._branch(statement.test, body, end)
        else:
            self.builder.branch(body if known else end)
        self.builder.place(body)
        self.frame.loops.append((head, end))
        self._body(statement.body)
        self.frame.loops.pop()
        self.builder.branch(head)
        self.builder.place(end)
        self._close_if_unreachable(end)

    def _do_for(self, statement: ast.For) -> None:
        if not isinstance(statement.target, ast.Name):
            self.refuse(statement, "'for' wants a plain name")
        values = self.value(statement.iter)
        if isinstance(values, RUNTIME):
            self.refuse(statement, "'for' wants a range known at translation time; use 'while'")
        values = list(values)
        if len(values) > UNROLL_LIMIT:
            self.refuse(statement, f"'for' would unroll {len(values)} times; use 'while'")
        if any(isinstance(node, ast.Break | ast.Continue) for node in ast.walk(statement)):
            self.refuse(statement, "'break' and 'continue' are for 'while' loops")
        for value in values:
            self.frame.names[statement.target.id] = value
            self._body(statement.body)

    def _do_break(self, statement: ast.Break) -> None:
        self.builder.branch(self.frame.loops[-1][1])

    def _do_continue(self, statement: ast.Continue) -> None:
        self.builder.branch(self.frame.loops[-1][0])

    def _do_return(self, statement: ast.Return) -> None:
        kinds = self.frame.returns
        values: tuple[Any, ...] = ()
        if statement.value is not None:
            result = self.value(statement.value)
            values = result if isinstance(result, tuple) else (result,)
            if result is None:
                values = ()
        if len(values) != len(kinds):
            self.refuse(statement, f"returns {len(values)} values, not {len(kinds)}")
        operands = [
            self.coerce(value, kind, statement).operand
            for value, kind in zip(values, kinds, strict=True)
        ]
        frame = self.frame
        if frame.end is not None:
            for operand, kind, number in zip(operands, kinds, frame.result or (), strict=True):
                self.builder.emit("setvar", ir_type(kind), operand, var=number)
            self.builder.branch(frame.end)
        elif self.in_instruction:
            self.builder.emit("next", "void")
        else:
            self.builder.emit("ret", "void", *operands)

    # -- names and places

    def _bind(self, name: str, value: Any, node: ast.AST) -> None:
        """Give a parameter its value; one that the body assigns becomes a variable."""
        if self.frame.assigned.get(name) and isinstance(value, Val):
            self.frame.assigned[name] += 1
            self._assign(name, value, node)
        else:
            self.frame.names[name] = value

    def store(self, target: ast.expr, value: Any) -> None:
        """Assign to a name, a member or an element."""
        if isinstance(target, ast.Name):
            self._assign(target.id, value, target)
        elif isinstance(target, ast.Tuple):
            if not isinstance(value, tuple) or len(value) != len(target.elts):
                self.refuse(target, "the tuples differ in length")
            for part, item in zip(target.elts, value, strict=True):
                self.store(part, item)
        elif isinstance(target, ast.Attribute):
            ref = self.value(target.value)
            if not isinstance(ref, Ref):
                self.refuse(target, "only members of structs can be assigned")
            member = ref.kind.MEMBERS.get(target.attr)
            if not isinstance(member, Field):
                self.refuse(target, f"{ref.kind.__name__} has no scalar member '{target.attr}'")
            operand = self.coerce(value, member.kind, target).operand
            self.builder.emit(
                "st",
                ir_type(member.kind),
                ref.base,
                operand,
                offset=ref.offset + member.offset,
                scale=0,
            )
        elif isinstance(target, ast.Subscript):
            self._store_element(target, value)
        else:
            self.refuse(target, f"cannot assign to {type(target).__name__}")

    def _store_element(self, target: ast.Subscript, value: Any) -> None:
        array = self.value(target.value)
        if not isinstance(array, ArrayRef):
            self.refuse(target, "only arrays of structs can be assigned by index")
        kind = array.member.kind
        operand = self.coerce(value, kind, target).operand
        index = self.value(target.slice)
        offset = array.offset
        if isinstance(index, Val):
            wide = self.extend_index(index)
            self.builder.emit(
                "st", ir_type(kind), array.base, operand, wide, offset=offset, scale=kind.WIDTH // 8
            )
        else:
            offset += int(index) * kind.WIDTH // 8
            self.builder.emit("st", ir_type(kind), array.base, operand, offset=offset, scale=0)

    def _assign(self, name: str, value: Any, node: ast.AST) -> None:
        frame = self.frame
        if frame.assigned.get(name, 0) <= 1:
            frame.names[name] = value
            return
        if not isinstance(value, Val):
            if isinstance(value, Int | bool):
                value = Val(type(value), int(value))
            elif isinstance(value, int) and isinstance(frame.names.get(name), Local):
                value = self.coerce(value, frame.names[name].kind, node)
            else:
                self.refuse(
                    node,
                    f"'{name}' is assigned more than once: give its values a type, "
                    f"as in u32({value!r})",
                )
        local = frame.names.get(name)
        if not isinstance(local, Local):
            local = frame.names[name] = Local(
                value.kind, self.builder.variable(ir_type(value.kind))
            )
        if local.kind is not value.kind:
            self.refuse(node, f"'{name}' is {local.kind.__name__}, not {value.kind.__name__}")
        self.builder.emit("setvar", ir_type(local.kind), value.operand, var=local.number)


def _as_load(target: ast.expr) -> ast.expr:
    """The same place, read."""
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    if isinstance(target, ast.Attribute):
        return ast.Attribute(target.value, target.attr, ast.Load())
    if isinstance(target, ast.Subscript):
        return ast.Subscript(target.value, target.slice, ast.Load())
    return target
