"""What a region of the full level knows of floating-point registers before its text is written: how
it keeps each of them, and where a NaN in one may differ from the one that the guest would see.

The host's FPU has NaNs of its own; RISC-V's results have one, the canonical. Replacing each would
cost as much as computing, so that a result stays as it is (it is *raw*) while it goes from one
operation to the next, whatever blocks lie between, and is replaced where it is seen otherwise:
stored, moved, or in a register when the region is left. Values from memory keep every bit, so that
a register must not be raw where it may hold one of those.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum, IntEnum
from typing import TYPE_CHECKING

from ratite.accel.jit.region import Decoded, Region, RegionBlock
from ratite.isa.spec import Operand
from ratite.native import ir

if TYPE_CHECKING:
    from ratite.accel.jit.tier1 import Templates


class Form(Enum):
    """How a region keeps a floating-point register."""

    WHOLE = "as one double"
    BOXED = "as a float; the half above it is as it must be"


class Content(IntEnum):
    """What a register may hold; of two ways that meet, the greater holds for both."""

    NUMBER = 0
    RESULT = 1  # any NaN stands for the canonical one
    ANY = 2


def forms(region: Region, templates: Templates, unboxed: Collection[int]) -> dict[int, Form]:
    """The form of each floating-point register, by its offset in the state: boxed if all that the
    region writes to it are single numbers, and it may be taken to hold one at the entry.
    """
    written: dict[int, bool] = {}  # whether only single numbers are
    read: dict[int, bool] = {}
    for block in region.blocks:
        for decoded in block.instructions:
            constants = decoded.insn.constants
            for operand, offset in float_registers(decoded, templates):
                fmt = constants.get("fmt")
                if not operand.written:
                    fmt = constants.get("source", fmt)  # of a conversion
                single = fmt is not None and fmt.width == 32
                seen = written if operand.written else read
                seen[offset] = single and seen.get(offset, True)
    boxed = {**read, **written}
    return {
        offset: Form.BOXED if boxed.get(offset, False) and offset not in unboxed else Form.WHOLE
        for part in templates.promoted
        if part.floats
        for offset in range(part.offset, part.end, part.size)
    }


def raw_at_starts(
    region: Region,
    templates: Templates,
    form: Mapping[int, Form],
    following: Callable[[RegionBlock], Iterable[RegionBlock]],
    *,
    wary: bool,
) -> list[set[int]]:
    """By block: the registers, by their offset in the state, that may be raw where it begins. None
    of them may hold a NaN other than the canonical one where the region is entered; if `wary`, that
    is no matter. `following` names the blocks that control may go to from one, or more.
    """
    contents = {block.pc: _written(block, templates, form) for block in region.blocks}
    starts: dict[int, dict[int, Content]] = {block.pc: {} for block in region.blocks}
    if wary:
        registers = {offset for written in contents.values() for offset in written}
        starts[region.entry.pc] = dict.fromkeys(registers, Content.ANY)
    work = list(region.blocks)
    while work:
        block = work.pop()
        ends = {**starts[block.pc], **contents[block.pc]}
        for other in following(block):
            start = starts[other.pc]
            grown = {o: c for o, c in ends.items() if c > start.get(o, Content.NUMBER)}
            if grown:
                start |= grown
                work.append(other)
    return [
        {offset for offset, content in starts[block.pc].items() if content is Content.RESULT}
        for block in region.blocks
    ]


def float_registers(decoded: Decoded, templates: Templates) -> list[tuple[Operand, int]]:
    """Each floating-point operand, and its register's offset in the state."""
    parts = {part.floats: part for part in templates.promoted if part.floats}
    found = []
    for operand in decoded.insn.operands:
        part = parts.get(operand.kind.name)
        if part is not None:
            number = decoded.operands[operand.name]
            found.append((operand, part.offset + number * part.size))
    return found


def _written(
    block: RegionBlock, templates: Templates, form: Mapping[int, Form]
) -> dict[int, Content]:
    """What the block leaves in registers."""
    found: dict[int, Content] = {}
    for decoded in block.instructions:
        registers = float_registers(decoded, templates)
        for operand, offset in registers:
            if operand.written:
                handler = templates.handlers[decoded.insn.name]
                only_writes = len(registers) == 1
                found[offset] = _content(decoded, handler, only_writes=only_writes)
                fmt = decoded.insn.constants.get("fmt")
                if form[offset] is Form.WHOLE and (fmt is None or fmt.width != 64):
                    found[offset] = Content.ANY  # as a double, a boxed number is a NaN
    return found


def _content(decoded: Decoded, handler: ir.Function, *, only_writes: bool) -> Content:
    """What an instruction may write to its floating-point register."""
    ops = {op.name for op in handler.values()}
    if ops & {"fcanon", "funo"}:
        return Content.RESULT
    if "sitof" in ops:
        return Content.NUMBER
    sources = [operand for operand in decoded.insn.operands if not operand.written]
    zero = all(decoded.operands[operand.name] == 0 for operand in sources)
    if only_writes and zero and "guest_ld" not in ops:  # moved from the register that is zero
        return Content.NUMBER
    return Content.ANY
