"""A small assembler over the encoding rows, in the manual's syntax, for tests.

It shares the rows with the decoder, so it cannot vouch for them: `test_encoding.py` holds every
line of the `.cases` files against binutils.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence

from ratite.isa.pattern import Pattern
from ratite.isa.riscv import RISCV
from ratite.isa.riscv.csr import CSR_NUMBER
from ratite.isa.riscv.state import ABI_NAMES, FLOAT_NAMES, ROUNDING_NAMES

REGISTERS = {
    **{f"x{number}": number for number in range(32)},
    **{name: number for number, name in enumerate(ABI_NAMES)},
    "fp": 8,
}
FLOATS = {
    **{f"f{number}": number for number in range(32)},
    **{name: number for number, name in enumerate(FLOAT_NAMES)},
}
_SHORTS = {short.name: short for short in RISCV.shorts}
_MEMORY = re.compile(r"(?P<offset>.*)\((?P<base>\w+)\)")
_OPERATORS: dict[type[ast.AST], Callable[..., int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
    ast.Invert: operator.invert,
    ast.USub: operator.neg,
}


def number(text: str, names: Mapping[str, int] | None = None) -> int:
    """The value of an expression of integers, `names` and the operators of Python. Raises
    `ValueError`.
    """
    return _evaluate(ast.parse(text.strip(), mode="eval").body, names or {}, text)


def _evaluate(node: ast.expr, names: Mapping[str, int], text: str) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_evaluate(node.operand, names, text))
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left, names, text), _evaluate(node.right, names, text)
        return _OPERATORS[type(node.op)](left, right)
    raise ValueError(f"'{text}' is not an expression of integers")


def encode(name: str, fields: Mapping[str, int]) -> tuple[int, int]:
    """The encoding and its size in bytes of a row by name, from raw operand values."""
    pattern = _SHORTS[name].pattern if name in _SHORTS else RISCV.insns[name].pattern
    return insert(pattern, fields), pattern.width // 8


def insert(pattern: Pattern, fields: Mapping[str, int]) -> int:
    """The row's fixed bits with operand values filled in."""
    encoding = pattern.value
    for field, value in fields.items():
        encoding |= pattern.insert(field, value)
    return encoding


def assemble(line: str) -> bytes:
    """One instruction. Branch targets are displacements. Raises `ValueError`."""
    name, _, rest = line.strip().partition(" ")
    parts = [part.strip() for part in rest.split(",")] if rest.strip() else []
    if name.startswith(".half"):
        return number(parts[0]).to_bytes(2, "little")
    if name.startswith(".word"):
        return number(parts[0]).to_bytes(4, "little")
    if name == "fence" and not parts:
        return (0x0FF0_000F).to_bytes(4, "little")
    name, fields = _ordering(name)
    if name == "csrrs" and REGISTERS.get(parts[2]) == 0:
        name = "csrr"
        parts = parts[:2]
    if name not in _SHORTS and name not in RISCV.insns:
        raise ValueError(f"no instruction '{name}'")
    fields |= _short_fields(name, parts) if name in _SHORTS else _fields(name, parts)
    value, size = encode(name, fields)
    return value.to_bytes(size, "little")


def program(text: str) -> bytes:
    """Several instructions, one a line; text after `#` is ignored. `label:` names an address, and a
    branch or jump may name a label instead of a displacement.
    """
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    labels: dict[str, int] = {}
    for _ in range(2):  # the sizes do not depend on the labels
        code = b""
        for line in lines:
            if line.endswith(":"):
                labels[line[:-1]] = len(code)
            elif line:
                code += assemble(_displace(line, labels, len(code)))
    return code


def _displace(line: str, labels: Mapping[str, int], here: int) -> str:
    head, comma, last = line.rpartition(",") if "," in line else line.rpartition(" ")
    name = last.strip()
    if (
        name.isidentifier()
        and name not in REGISTERS
        and name not in FLOATS
        and line.split()[0] in _JUMPS
    ):
        return f"{head}{comma} {labels.get(name, here) - here}"
    return line


_JUMPS = frozenset("jal beq bne blt bge bltu bgeu c.j c.beqz c.bnez".split())


def _ordering(name: str) -> tuple[str, dict[str, int]]:
    """Split `.aq`, `.rl` and `.aqrl` off the name."""
    for suffix, bits in ((".aqrl", (1, 1)), (".aq", (1, 0)), (".rl", (0, 1))):
        if name.endswith(suffix):
            return name.removesuffix(suffix), {"aq": bits[0], "rl": bits[1]}
    return name, {}


def _operand(field: str, text: str) -> int:
    if text in REGISTERS:
        return REGISTERS[text]
    if text in FLOATS:
        return FLOATS[text]
    if field == "csr" and text in CSR_NUMBER:
        return CSR_NUMBER[text]
    if field == "rm" and text in ROUNDING_NAMES:
        return ROUNDING_NAMES.index(text)
    return number(text)


def _fields(name: str, parts: Sequence[str]) -> dict[str, int]:
    present = RISCV.insns[name].pattern.fields
    order = [
        field
        for field in ("rd", "csr", "rs1", "rs2", "rs3", "imm", "shamt", "uimm", "rm")
        if field in present
    ]
    memory = _MEMORY.fullmatch(parts[-1]) if parts else None
    fields: dict[str, int] = {}
    if memory is not None:
        fields["rs1"] = REGISTERS[memory["base"]]
        if "imm" in present:
            fields["imm"] = number(memory["offset"] or "0")
        order = [field for field in order if field not in ("rs1", "imm")]
        parts = parts[:-1]
    if "rm" in order and len(parts) == len(order) - 1:
        fields["rm"] = 0 if name in ("fcvt.d.s", "fcvt.d.w", "fcvt.d.wu") else 7
    if name in ("lui", "auipc"):
        return {"rd": _operand("rd", parts[0]), "imm": number(parts[1]) << 12}
    for field, part in zip(order, parts, strict=False):
        fields[field] = _operand(field, part)
    if name in ("fence", "fence.i", "pause") or not order:
        return fields
    if len(parts) < len(order) - ("rm" in order):
        raise ValueError(f"{name} wants {', '.join(order)}")
    return fields


def _short_fields(name: str, parts: Sequence[str]) -> dict[str, int]:
    short = _SHORTS[name]
    present = short.pattern.fields
    memory = _MEMORY.fullmatch(parts[-1]) if parts else None
    fields: dict[str, int] = {}
    if memory is not None:
        fields["imm"] = number(memory["offset"] or "0")
        if "rs1" in present:
            fields["rs1"] = REGISTERS[memory["base"]]
        parts = parts[:-1]
    elif name in ("c.addi4spn", "c.addi16sp"):
        parts = [*parts[: len(present) - 1], parts[-1]]
    order = [
        field
        for field in ("rd", "rs1", "rs2", "imm", "shamt")
        if field in present and field not in fields
    ]
    for operand, part in zip(order, parts, strict=True):
        value = _operand(operand, part)
        if operand == "imm" and name == "c.lui":
            value <<= 12
        fields[operand] = value
    for field, value in fields.items():
        three = present[field][0].width == 3 and len(present[field]) == 1 and field.startswith("r")
        fields[field] = value - 8 if three else value
    return fields
