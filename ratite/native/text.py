"""The IR's text form: `show` writes it, `parse` reads it back to an equal function.

    native @"isa.zb.rotate"(%0: i64, %1: i64) -> i64 {
    var 0: i64
    entry1:
      %2 = shl i64 %0, %1
      setvar i64 %2 {"var": 0}
      br void -> end2
    end2:
      %3 = getvar i64 {"var": 0}
      ret void %3
    }

One op a line: result, opcode, type, arguments, labels after `->`, attributes as JSON. The type is
that of the result, or of what is stored or compared; a comparison's result is i1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from ratite.native.ir import COMPARES, OPCODES, Block, Function, IrError, Op, Operand, Value

_HEAD = re.compile(
    r'(?P<kind>\w+) @"(?P<name>[^"]*)"\((?P<params>[^)]*)\)(?: -> (?P<returns>\w+(?:, \w+)*))?'
    r"(?P<raises> raises)?(?P<exported> exported)? \{"
)
_OP = re.compile(
    r"(?:%(?P<result>\d+) = )?(?P<name>\w+) (?P<type>\w+)(?: (?P<args>[^-{]*(?:-\d[^-{]*)*))?"
    r"(?:-> (?P<targets>[\w., ]+?))? ?(?P<attributes>\{.*\})?$"
)


def show(function: Function) -> str:
    """A function's text."""
    params = ", ".join(f"{value!r}: {value.type}" for value in function.params)
    returns = f" -> {', '.join(function.returns)}" if function.returns else ""
    flags = (" raises" if function.raises else "") + (" exported" if function.exported else "")
    lines = [f'{function.kind} @"{function.name}"({params}){returns}{flags} {{']
    lines += [f"var {number}: {type_}" for number, type_ in function.variables.items()]
    for block in function.blocks:
        lines.append(f"{block.label}:")
        lines += [f"  {show_op(op)}" for op in block.ops]
    return "\n".join([*lines, "}"]) + "\n"


def show_op(op: Op) -> str:
    """One op's text."""
    parts = [f"{op.result!r} ="] if op.result is not None else []
    parts += [op.name, op.type]
    if op.args:
        parts.append(", ".join(repr(argument) for argument in op.args))
    if op.targets:
        parts.append(f"-> {', '.join(op.targets)}")
    if op.attributes:
        parts.append(json.dumps(op.attributes))
    return " ".join(parts)


def parse(text: str) -> Function:
    """The function of one text. Raises `IrError` with the line that it does not understand."""
    functions = list(parse_all(text))
    if len(functions) != 1:
        raise IrError(f"one function is wanted, {len(functions)} are there")
    return functions[0]


def parse_all(text: str) -> Iterator[Function]:
    """The functions of a text, one after another."""
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if line.strip():
            yield _parse_function(number, line, lines)


def _parse_function(number: int, head: str, lines: Iterator[tuple[int, str]]) -> Function:
    match = _HEAD.fullmatch(head.strip())
    if match is None:
        raise IrError(f"line {number}: not the head of a function: {head}")
    values: dict[int, Value] = {}
    params = []
    for part in filter(None, match["params"].split(", ")):
        name, _, type_ = part.partition(": ")
        value = values[int(name[1:])] = Value(type_, int(name[1:]))
        params.append(value)
    returns = tuple(match["returns"].split(", ")) if match["returns"] else ()
    function = Function(match["name"], params, returns, match["kind"])
    function.raises = match["raises"] is not None
    function.exported = match["exported"] is not None
    body = _body(number, lines)
    for place, line in body:
        _define(values, place, line)
    for place, line in body:
        _parse_line(function, values, place, line)
    return function


def _body(number: int, lines: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for place, line in lines:
        if line.strip() == "}":
            return found
        if line.strip():
            found.append((place, line.strip()))
    raise IrError(f"line {number}: the function does not end")


def _define(values: dict[int, Value], number: int, line: str) -> None:
    """Note the value that a line defines, which earlier lines may use."""
    match = _OP.fullmatch(line)
    if match is not None and match["result"] is not None:
        kind = "i1" if match["name"] in COMPARES else match["type"]
        values[int(match["result"])] = Value(kind, int(match["result"]))


def _parse_line(function: Function, values: dict[int, Value], number: int, line: str) -> None:
    if line.startswith("var "):
        name, _, type_ = line[4:].partition(": ")
        function.variables[int(name)] = type_
    elif line.endswith(":"):
        function.blocks.append(Block(line[:-1]))
    else:
        match = _OP.fullmatch(line)
        if match is None or match["name"] not in OPCODES or not function.blocks:
            raise IrError(f"line {number}: not an op: {line}")
        function.blocks[-1].ops.append(_parse_op(values, number, match))


def _parse_op(values: dict[int, Value], number: int, match: re.Match[str]) -> Op:
    def operand(text: str) -> Operand:
        if not text.startswith("%"):
            return int(text)
        found = values.get(int(text[1:]))
        if found is None:
            raise IrError(f"line {number}: {text} is not defined")
        return found

    arguments = (match["args"] or "").strip()
    args = tuple(operand(part.strip()) for part in arguments.split(",")) if arguments else ()
    targets = tuple(match["targets"].split(", ")) if match["targets"] else ()
    attributes = json.loads(match["attributes"]) if match["attributes"] else {}
    result = values[int(match["result"])] if match["result"] is not None else None
    return Op(match["name"], match["type"], args, result, targets, **attributes)
