"""From IR to LLVM IR text.

The text is written directly: no object graph in between. Guest memory and translation-block control
are lowered by a `Policy`, because how an access reaches memory and how control leaves an
instruction belong to the tier, not to the op.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from ratite.native import ir
from ratite.native.host import HOST_CALLS, PRELUDE

_PLAIN = {
    **{name: name for name in ("add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr")},
    **{name: name for name in ("udiv", "urem", "sdiv", "srem")},
}
CANONICAL_NAN = "0x7FF8000000000000"  # of either type, as LLVM writes it
FLOAT = {"i16": "half", "i32": "float", "i64": "double"}
_SUFFIX = {"i16": "f16", "i32": "f32", "i64": "f64"}
_STRICT = 'metadata !"fpexcept.strict"'
_IGNORED = 'metadata !"fpexcept.ignore"'
_DYNAMIC = f'metadata !"round.dynamic", {_STRICT}'
_FPU_OPS = frozenset(
    (
        "fadd",
        "fsub",
        "fmul",
        "fdiv",
        "fma",
        "fsqrt",
        "fcanon",
        "feq",
        "flt",
        "fle",
        "fcvt",
        "ftosi",
        "sitof",
        "uitof",
    )
)


class Policy(Protocol):
    """Lowers the ops that depend on the tier."""

    def lower(self, out: Lowering, op: ir.Op) -> None:
        """Write the LLVM text of a guest-memory or control op."""

    def prologue(self, out: Lowering) -> None:
        """Write what a function needs on entry."""

    def signature(self, function: ir.Function) -> str:
        """Return type, calling convention, name and parameters for a `define`."""


def constant(value: int, type: str) -> str:
    """A literal of `type`."""
    if type == "ptr":
        return "null" if value == 0 else f"inttoptr (i64 {value} to ptr)"
    width = ir.WIDTH[type]
    value &= (1 << width) - 1
    if width > 1 and value >> (width - 1):
        value -= 1 << width
    return str(value)


class Lowering:
    """Writes one function."""

    def __init__(
        self,
        function: ir.Function,
        policy: Policy | None,
        parameter_types: Mapping[str, tuple[str, ...]],
    ) -> None:
        self.function = function
        self.policy = policy
        self.parameter_types = parameter_types
        self.lines: list[str] = []
        self.uses: set[str] = set()
        self._fresh = 0

    def text(self, linkage: str | None = None, attributes: str = "") -> str:
        """The whole `define`; `linkage` replaces what `exported` says."""
        function = self.function
        strict = any(op.name in _FPU_OPS for op in function.values())
        head = (
            self.policy.signature(function) if self.policy else native_signature(function, linkage)
        )
        self.line(f"define {head} nounwind{attributes}{' strictfp' if strict else ''} {{")
        self.line("start:")
        for number, type_ in function.variables.items():
            self.line(f"  %var{number} = alloca {type_}")
        if self.policy:
            self.policy.prologue(self)
        self.line(f"  br label %{function.blocks[0].label}")
        for block in function.blocks:
            self.line(f"{block.label}:")
            for op in block.ops:
                self._op(op)
        self.line("}")
        return "\n".join(self.lines)

    def line(self, text: str) -> None:
        """Append a line."""
        self.lines.append(text)

    def fresh(self, hint: str = "t") -> str:
        """A new LLVM name."""
        self._fresh += 1
        return f"%{hint}.{self._fresh}"

    def label(self, hint: str) -> str:
        """A new block label, without the per cent sign."""
        self._fresh += 1
        return f"{hint}.{self._fresh}"

    def operand(self, operand: ir.Operand, type: str) -> str:
        """An operand without its type."""
        if isinstance(operand, ir.Value):
            return f"%v{operand.number}"
        return constant(operand, type)

    def result(self, op: ir.Op) -> str:
        """Name of the op's result."""
        assert op.result is not None
        return f"%v{op.result.number}"

    def _op(self, op: ir.Op) -> None:
        method = getattr(self, f"_op_{op.name}", None)
        if op.name in _PLAIN:
            a, b = (self.operand(argument, op.type) for argument in op.args)
            self.line(f"  {self.result(op)} = {_PLAIN[op.name]} {op.type} {a}, {b}")
        elif op.name in ir.COMPARES and not op.name.startswith("f"):
            a, b = (self.operand(argument, op.type) for argument in op.args)
            self.line(f"  {self.result(op)} = icmp {op.name} {op.type} {a}, {b}")
        elif method is not None:
            method(op)
        else:
            assert self.policy is not None, (
                f"{self.function.name}: {op.name} outside an instruction"
            )
            self.policy.lower(self, op)

    # -- moves and bits

    def _op_mov(self, op: ir.Op) -> None:
        source = self.operand(op.args[0], op.type)
        if op.type == "ptr":
            self.line(f"  {self.result(op)} = getelementptr i8, ptr {source}, i64 0")
        else:
            self.line(f"  {self.result(op)} = or {op.type} {source}, 0")

    def _op_getvar(self, op: ir.Op) -> None:
        self.line(f"  {self.result(op)} = load {op.type}, ptr %var{op.attributes['var']}")

    def _op_setvar(self, op: ir.Op) -> None:
        value = self.operand(op.args[0], op.type)
        self.line(f"  store {op.type} {value}, ptr %var{op.attributes['var']}")

    def _op_select(self, op: ir.Op) -> None:
        condition = self.operand(op.args[0], "i1")
        a, b = (self.operand(argument, op.type) for argument in op.args[1:])
        self.line(f"  {self.result(op)} = select i1 {condition}, {op.type} {a}, {op.type} {b}")

    def _convert(self, op: ir.Op) -> None:
        source = op.args[0]
        have = source.type if isinstance(source, ir.Value) else "i64"
        self.line(
            f"  {self.result(op)} = {op.name} {have} {self.operand(source, have)} to {op.type}"
        )

    _op_zext = _op_sext = _op_trunc = _op_ptrtoint = _op_inttoptr = _convert

    def _count(self, op: ir.Op) -> None:
        value = self.operand(op.args[0], op.type)
        name = {"clz": "ctlz", "ctz": "cttz", "popcount": "ctpop", "bswap": "bswap"}[op.name]
        poison = ", i1 false" if name in ("ctlz", "cttz") else ""
        call = f"@llvm.{name}.{op.type}"
        self.declare(f"{op.type} {call}({op.type}{', i1' if poison else ''})")
        self.line(f"  {self.result(op)} = call {op.type} {call}({op.type} {value}{poison})")

    _op_clz = _op_ctz = _op_popcount = _op_bswap = _count

    def declare(self, text: str) -> None:
        """Note an external function."""
        self.uses.add(f"declare {text}")

    # -- memory

    def address(self, base: ir.Operand, index: ir.Operand | None, op: ir.Op) -> str:
        """The pointer of a state access."""
        pointer = self.operand(base, "ptr")
        offset = int(op.attributes["offset"])
        if offset:
            shifted = self.fresh("p")
            self.line(f"  {shifted} = getelementptr inbounds i8, ptr {pointer}, i64 {offset}")
            pointer = shifted
        if index is not None:
            indexed = self.fresh("p")
            scale = f"[{op.attributes['scale']} x i8]"
            position = self.operand(index, "i64")
            self.line(f"  {indexed} = getelementptr {scale}, ptr {pointer}, i64 {position}")
            pointer = indexed
        return pointer

    def _op_ld(self, op: ir.Op) -> None:
        pointer = self.address(op.args[0], op.args[1] if len(op.args) > 1 else None, op)
        self.line(f"  {self.result(op)} = load {op.type}, ptr {pointer}, align 1")

    def _op_st(self, op: ir.Op) -> None:
        pointer = self.address(op.args[0], op.args[2] if len(op.args) > 2 else None, op)
        self.line(f"  store {op.type} {self.operand(op.args[1], op.type)}, ptr {pointer}, align 1")

    def _op_addr(self, op: ir.Op) -> None:
        pointer = self.address(op.args[0], op.args[1] if len(op.args) > 1 else None, op)
        self.line(f"  {self.result(op)} = getelementptr i8, ptr {pointer}, i64 0")

    def _op_atomic_rmw(self, op: ir.Op) -> None:
        pointer, value = self.operand(op.args[0], "ptr"), self.operand(op.args[1], op.type)
        rmw = op.attributes["rmw"]
        self.line(f"  {self.result(op)} = atomicrmw {rmw} ptr {pointer}, {op.type} {value} seq_cst")

    def _op_atomic_cas(self, op: ir.Op) -> None:
        pointer = self.operand(op.args[0], "ptr")
        old, new = (self.operand(argument, op.type) for argument in op.args[1:])
        pair = self.fresh("cas")
        self.line(
            f"  {pair} = cmpxchg ptr {pointer}, {op.type} {old}, {op.type} {new} seq_cst seq_cst"
        )
        self.line(f"  {self.result(op)} = extractvalue {{ {op.type}, i1 }} {pair}, 0")

    def _op_atomic_ld(self, op: ir.Op) -> None:
        align = ir.WIDTH[op.type] // 8
        pointer = self.operand(op.args[0], "ptr")
        self.line(
            f"  {self.result(op)} = load atomic {op.type}, ptr {pointer} acquire, align {align}"
        )

    def _op_atomic_st(self, op: ir.Op) -> None:
        align = ir.WIDTH[op.type] // 8
        pointer, value = self.operand(op.args[0], "ptr"), self.operand(op.args[1], op.type)
        self.line(f"  store atomic {op.type} {value}, ptr {pointer} release, align {align}")

    def _op_fence(self, op: ir.Op) -> None:
        self.line("  fence seq_cst")

    # -- host FPU: constrained intrinsics, so that LLVM neither folds nor moves what sets flags

    def _float(self, operand: ir.Operand, type_: str) -> str:
        name = self.fresh("f")
        self.line(f"  {name} = bitcast {type_} {self.operand(operand, type_)} to {FLOAT[type_]}")
        return f"{FLOAT[type_]} {name}"

    def _fpu_call(
        self, op: ir.Op, name: str, arguments: list[str], returns: str, metadata: str
    ) -> str:
        kinds = ", ".join(argument.split()[0] for argument in arguments)
        marks = ", ".join("metadata" for _ in range(metadata.count("metadata")))
        self.declare(f"{returns} @llvm.experimental.constrained.{name}({kinds}, {marks})")
        result = self.fresh("r")
        self.line(
            f"  {result} = call {returns} @llvm.experimental.constrained.{name}"
            f"({', '.join(arguments)}, {metadata}) strictfp"
        )
        return result

    def _from_float(self, op: ir.Op, number: str) -> None:
        """The op's result is the bits of a number."""
        self.line(f"  {self.result(op)} = bitcast {FLOAT[op.type]} {number} to {op.type}")

    def _fpu_arithmetic(self, op: ir.Op) -> None:
        name = {"fsqrt": "sqrt"}.get(op.name, op.name)
        arguments = [self._float(argument, op.type) for argument in op.args]
        returns = FLOAT[op.type]
        result = self._fpu_call(op, f"{name}.{_SUFFIX[op.type]}", arguments, returns, _DYNAMIC)
        self._from_float(op, result)

    _op_fadd = _op_fsub = _op_fmul = _op_fdiv = _op_fsqrt = _op_fma = _fpu_arithmetic

    def _fpu_compare(self, op: ir.Op) -> None:
        arguments = [self._float(argument, op.type) for argument in op.args]
        predicate = {"feq": "oeq", "flt": "olt", "fle": "ole", "funo": "uno"}[op.name]
        # Ordering comparisons signal on every NaN.
        name = "fcmps" if op.name in ("flt", "fle") else "fcmp"
        metadata = f'metadata !"{predicate}", {_IGNORED if op.name == "funo" else _STRICT}'
        result = self._fpu_call(op, f"{name}.{_SUFFIX[op.type]}", arguments, "i1", metadata)
        self.line(f"  {self.result(op)} = or i1 {result}, false")

    _op_feq = _op_flt = _op_fle = _op_funo = _fpu_compare

    def _op_fcanon(self, op: ir.Op) -> None:
        value = self._float(op.args[0], op.type)
        name = f"fcmp.{_SUFFIX[op.type]}"
        metadata = f'metadata !"uno", {_IGNORED}'
        here, nan, done = (self.label(hint) for hint in ("number", "nan", "canonical"))
        self.line(f"  br label %{here}")
        self.line(f"{here}:")
        unordered = self._fpu_call(op, name, [value, value], "i1", metadata)
        self.line(f"  br i1 {unordered}, label %{nan}, label %{done}, !prof !1")
        self.line(f"{nan}:")
        self.line(f"  br label %{done}")
        self.line(f"{done}:")
        kind, number = value.split()
        result = self.fresh("r")
        self.line(f"  {result} = phi {kind} [ {number}, %{here} ], [ {CANONICAL_NAN}, %{nan} ]")
        self._from_float(op, result)

    def _op_fcvt(self, op: ir.Op) -> None:
        source = str(op.attributes["source"])
        wider = ir.WIDTH[op.type] > ir.WIDTH[source]
        name = f"{'fpext' if wider else 'fptrunc'}.{_SUFFIX[op.type]}.{_SUFFIX[source]}"
        argument = self._float(op.args[0], source)
        returns = FLOAT[op.type]
        result = self._fpu_call(op, name, [argument], returns, _STRICT if wider else _DYNAMIC)
        self._from_float(op, result)

    def _op_ftosi(self, op: ir.Op) -> None:
        source = str(op.attributes["source"])
        argument = self._float(op.args[0], source)
        name = f"fptosi.{op.type}.{_SUFFIX[source]}"
        result = self._fpu_call(op, name, [argument], op.type, _STRICT)
        self.line(f"  {self.result(op)} = or {op.type} {result}, 0")

    def _from_int(self, op: ir.Op) -> None:
        source = str(op.attributes["source"])
        argument = f"{source} {self.operand(op.args[0], source)}"
        name = f"{'sitofp' if op.name == 'sitof' else 'uitofp'}.{_SUFFIX[op.type]}.{source}"
        returns = FLOAT[op.type]
        result = self._fpu_call(op, name, [argument], returns, _DYNAMIC)
        self._from_float(op, result)

    _op_sitof = _op_uitof = _from_int

    # -- calls and control

    def _op_call(self, op: ir.Op) -> None:
        callee = str(op.attributes["function"])
        results = str(op.attributes["results"])
        parts = results.split(",") if results else []
        returns = (
            "void" if not parts else parts[0] if len(parts) == 1 else f"{{ {', '.join(parts)} }}"
        )
        arguments = ", ".join(
            self._argument(argument, callee, index) for index, argument in enumerate(op.args)
        )
        target = "" if not parts else f"{self.result(op)} = "
        self.line(f'  {target}call {returns} @"{callee}"({arguments})')

    def _argument(self, argument: ir.Operand, callee: str, index: int) -> str:
        if isinstance(argument, ir.Value):
            return f"{argument.type} {self.operand(argument, argument.type)}"
        type_ = self.parameter_types[callee][index]
        return f"{type_} {constant(argument, type_)}"

    def _op_result(self, op: ir.Op) -> None:
        called = op.args[0]
        assert isinstance(called, ir.Value)
        aggregate = self.aggregates[called.number]
        number = op.attributes["index"]
        self.line(f"  {self.result(op)} = extractvalue {aggregate} %v{called.number}, {number}")

    @property
    def aggregates(self) -> dict[int, str]:
        """Types of the calls that return several values."""
        return {
            op.result.number: "{ " + str(op.attributes["results"]).replace(",", ", ") + " }"
            for op in self.function.values()
            if op.name == "call" and op.result is not None
        }

    def _op_symbol(self, op: ir.Op) -> None:
        self.line(f'  {self.result(op)} = ptrtoint ptr @"{op.attributes["name"]}" to i64')

    def _op_host(self, op: ir.Op) -> None:
        what = str(op.attributes["what"])
        if what not in HOST_CALLS:
            assert self.policy is not None, f"{self.function.name}: {what} outside an instruction"
            self.policy.lower(self, op)
            return
        callee, types = HOST_CALLS[what]
        arguments = ", ".join(
            f"{type_} {self.operand(argument, type_)}"
            for argument, type_ in zip(op.args, types, strict=True)
        )
        target = "" if op.result is None else f"{self.result(op)} = "
        self.line(f"  {target}call {op.type} @{callee}({arguments})")

    def _op_br(self, op: ir.Op) -> None:
        self.line(f"  br label %{op.targets[0]}")

    def _op_cbr(self, op: ir.Op) -> None:
        weights = {"yes": ", !prof !0", "no": ", !prof !1"}.get(
            str(op.attributes.get("likely", "")), ""
        )
        condition = self.operand(op.args[0], "i1")
        self.line(f"  br i1 {condition}, label %{op.targets[0]}, label %{op.targets[1]}{weights}")

    def _op_switch(self, op: ir.Op) -> None:
        values = str(op.attributes["cases"]).split(",") if op.attributes["cases"] else []
        cases = " ".join(
            f"{op.type} {constant(int(value), op.type)}, label %{target}"
            for value, target in zip(values, op.targets[1:], strict=True)
        )
        value = self.operand(op.args[0], op.type)
        self.line(f"  switch {op.type} {value}, label %{op.targets[0]} [{cases}]")

    def _op_ret(self, op: ir.Op) -> None:
        kinds = self.function.returns
        if not op.args:
            self.line("  ret void")
            return
        values = [
            f"{kind} {self.operand(arg, kind)}" for kind, arg in zip(kinds, op.args, strict=True)
        ]
        if len(values) == 1:
            self.line(f"  ret {values[0]}")
            return
        aggregate = f"{{ {', '.join(kinds)} }}"
        so_far = "undef"
        for index, value in enumerate(values):
            name = self.fresh("agg")
            self.line(f"  {name} = insertvalue {aggregate} {so_far}, {value}, {index}")
            so_far = name
        self.line(f"  ret {aggregate} {so_far}")

    def _op_unreachable(self, op: ir.Op) -> None:
        self.line("  unreachable")


def native_signature(function: ir.Function, linkage: str | None = None) -> str:
    """The head of a function with the C calling convention."""
    kinds = function.returns
    returns = "void" if not kinds else kinds[0] if len(kinds) == 1 else f"{{ {', '.join(kinds)} }}"
    parameters = ", ".join(f"{value.type} %v{value.number}" for value in function.params)
    if linkage is None:
        linkage = "dso_local " if function.exported else "internal "
    return f'{linkage}{returns} @"{function.name}"({parameters})'


def parameter_types(functions: Iterable[ir.Function]) -> dict[str, tuple[str, ...]]:
    """What calls need to know of their callees."""
    return {function.name: tuple(value.type for value in function.params) for function in functions}


def declaration(function: ir.Function) -> str:
    """A `declare` of a native function of another object."""
    kinds = function.returns
    returns = "void" if not kinds else kinds[0] if len(kinds) == 1 else f"{{ {', '.join(kinds)} }}"
    parameters = ", ".join(value.type for value in function.params)
    return f'declare dso_local {returns} @"{function.name}"({parameters})'


def lower_module(
    functions: Iterable[ir.Function], policies: dict[str, Policy], extra: str = ""
) -> str:
    """LLVM text of a module. `policies` maps a function's kind to what lowers its guest ops."""
    functions = list(functions)
    types = parameter_types(functions)
    declarations: set[str] = set()
    bodies = []
    for function in functions:
        lowering = Lowering(function, policies.get(function.kind), types)
        bodies.append(lowering.text())
        declarations |= lowering.uses
    metadata = (
        '!0 = !{!"branch_weights", i32 2000, i32 1}\n!1 = !{!"branch_weights", i32 1, i32 2000}'
    )
    parts = [PRELUDE, *sorted(declarations), extra, *bodies, metadata]
    return "\n".join(part for part in parts if part) + "\n"
