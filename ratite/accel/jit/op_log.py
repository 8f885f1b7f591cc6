"""The IR of guest code as text (`-d op`, `-d op_opt`): for each instruction its handler's ops with
the operands in their places, as they are lifted, or after the optimiser.

Tier 0's handlers are these ops with the operands read from the record; a region is them with the
operands as numbers, one instruction after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ratite.accel.jit.region import Decoded
from ratite.cpu.block import OPERANDS_OFFSET
from ratite.isa.spec import Insn
from ratite.isa.state import CpuState
from ratite.native import Array, Field, ir
from ratite.native.optimize import optimize
from ratite.native.text import show_op

CPU, RECORD = 0, 1
"""Numbers of a handler's parameters."""
Lifted = Callable[[Insn], ir.Function]


def op_lines(
    instructions: Iterable[Decoded], lifted: Lifted, state: type[CpuState], *, optimized: bool
) -> Iterator[str]:
    """The ops of some instructions, in lines."""
    for insn in instructions:
        operands = " ".join(f"{name}={value}" for name, value in insn.operands.items())
        yield f" ---- {insn.pc:016x} {insn.insn.name} {operands}".rstrip()
        function = with_operands(lifted(insn.insn), insn)
        if optimized:
            optimize(function)
        for number, block in enumerate(function.blocks):
            if number:
                yield f" {block.label}:"
            for op in block.ops:
                place = _place(op, state)
                yield f"  {show_op(op)}{f'  ; {place}' if place else ''}"
        yield ""


def with_operands(handler: ir.Function, insn: Decoded) -> ir.Function:
    """A copy of an instruction's handler in which its operands and its address are constants."""
    offsets = {OPERANDS_OFFSET + operand.offset: operand.name for operand in insn.insn.operands}
    addresses = {"pc": insn.pc, "next_pc": insn.next_pc & 0xFFFF_FFFF_FFFF_FFFF}

    def constant(op: ir.Op) -> int | None:
        base = op.args[0] if op.args else None
        if op.name == "ld" and isinstance(base, ir.Value) and base.number == RECORD:
            return insn.operands[offsets[int(op.attributes["offset"])]]
        return addresses.get(str(op.attributes["what"])) if op.name == "host" else None

    def replaced(op: ir.Op) -> ir.Op:
        value = constant(op)
        if value is None:
            return op
        return ir.Op("mov", op.type, (value & (1 << ir.WIDTH[op.type]) - 1,), op.result)

    blocks = [ir.Block(block.label, [replaced(op) for op in block.ops]) for block in handler.blocks]
    copy = ir.Function(handler.name, handler.params, handler.returns, handler.kind, blocks)
    copy.variables = dict(handler.variables)
    return copy


def _place(op: ir.Op, state: type[CpuState]) -> str:
    """What of the CPU's state an op loads or stores, by name."""
    base = op.args[0] if op.args else None
    if op.name not in ("ld", "st") or not isinstance(base, ir.Value) or base.number != CPU:
        return ""
    offset = int(op.attributes["offset"])
    index = op.args[2 if op.name == "st" else 1 :]
    for name, member in state.MEMBERS.items():
        if not member.offset <= offset < member.offset + member.size:
            continue
        if isinstance(member, Field):
            return name
        if isinstance(member, Array):
            step = (offset - member.offset) // member.alignment
            return f"{name}[{index[0]!r}]" if index and not step else f"{name}[{step}]"
        return f"{name}+{offset - member.offset}"
    return ""
