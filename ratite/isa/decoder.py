"""From encoding rows to decoders: one as IR, for the native translator; one in Python, for the
reference executor and the disassembler. Both try rows by the bits that they fix, the most specific
first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ratite.isa.pattern import Pattern
from ratite.isa.spec import Assembly, Insn, InstructionSet, Operand, Short
from ratite.native import ir

OPERANDS_OFFSET = 8


@dataclass(frozen=True, slots=True)
class Leaf:
    """What one row decodes to."""

    pattern: Pattern
    insn: Insn
    short: Short | None

    @property
    def extensions(self) -> tuple[str, ...]:
        """What must be enabled for the row to exist."""
        if self.short is None:
            return (self.insn.extension,)
        return (self.short.extension, self.insn.extension)

    @property
    def rank(self) -> tuple[int, int]:
        """Order of trial: most fixed bits first, then rows with further conditions."""
        conditions = len(self.short.nonzero) if self.short else 0
        return -self.pattern.mask.bit_count(), -conditions


def leaves(instructions: InstructionSet) -> list[Leaf]:
    """Every row of an instruction set, in order of trial."""
    found = [Leaf(insn.pattern, insn, None) for insn in instructions.insns.values()]
    for short in instructions.shorts:
        found.append(Leaf(short.pattern, instructions.insns[short.base], short))
    return sorted(found, key=lambda leaf: leaf.rank)


class Decoder:
    """Decodes in Python. `enabled` says whether an extension is on."""

    def __init__(self, instructions: InstructionSet) -> None:
        self._by_opcode: dict[tuple[int, int], list[Leaf]] = {}
        self._leaves = leaves(instructions)

    def _candidates(self, encoding: int, width: int) -> list[Leaf]:
        low = encoding & (0x7F if width == 32 else 0x3)
        key = (width, low)
        found = self._by_opcode.get(key)
        if found is None:
            bits = 0x7F if width == 32 else 0x3
            found = self._by_opcode[key] = [
                leaf
                for leaf in self._leaves
                if leaf.pattern.width == width
                and not (leaf.pattern.value ^ low) & leaf.pattern.mask & bits
            ]
        return found

    def find(self, encoding: int, width: int, enabled: Callable[[str], bool]) -> Leaf | None:
        """The row of an encoding of `width` bits, or None if it is illegal."""
        for leaf in self._candidates(encoding, width):
            if encoding & leaf.pattern.mask != leaf.pattern.value:
                continue
            if leaf.short is not None and not leaf.short.matches(encoding):
                continue
            if all(enabled(extension) for extension in leaf.extensions):
                return leaf
        return None

    def operands(self, leaf: Leaf, encoding: int) -> dict[str, int]:
        """Operand values as a record holds them."""
        if leaf.short is None:
            return leaf.insn.decode(encoding)
        values = leaf.short.expand(encoding)
        return {
            operand.name: operand.stored(values[operand.name]) for operand in leaf.insn.operands
        }

    def disassemble(
        self, encoding: int, width: int, enabled: Callable[[str], bool], pc: int
    ) -> Assembly:
        """The instruction at `pc` as text; a short form as what it stands for."""
        leaf = self.find(encoding, width, enabled)
        if leaf is None:
            return Assembly("illegal")
        values = leaf.short.expand(encoding) if leaf.short else leaf.insn.values(encoding)
        return leaf.insn.as_text(values, pc)


class DecoderBuilder:
    """Builds the IR of `decode` for one width: a function of (enabled, record, encoding) that fills
    the record and returns (length and flags, displacement)."""

    def __init__(
        self,
        name: str,
        rows: Iterable[Leaf],
        width: int,
        *,
        extension_bit: dict[str, int],
        handler: Callable[[Insn], str],
        flags: Callable[[Insn], int],
        illegal: str,
        illegal_flags: int,
    ) -> None:
        self.type = f"i{width}"
        self.width = width
        self.extension_bit = extension_bit
        self.handler = handler
        self.flags = flags
        self.illegal = illegal
        self.illegal_flags = illegal_flags
        enabled, record, encoding = ir.Value("i64", 0), ir.Value("i64", 1), ir.Value(self.type, 2)
        self.function = ir.Function(name, [enabled, record, encoding], ("i32", "i64"))
        self.builder = ir.Builder(self.function)
        self.enabled, self.encoding = enabled, encoding
        self.record = self.builder.emit("inttoptr", "ptr", record)
        self._miss = self.builder.new_block("illegal")
        self._tree([row for row in rows if row.pattern.width == width], 0, self._miss)
        self.builder.place(self._miss)
        self._finish(self.illegal, width // 8 | illegal_flags, 0)

    def _tree(self, rows: list[Leaf], known: int, miss: ir.Block) -> None:
        """Emit, in the current block, the decision among `rows`, of whose bits `known` are
        decided.
        """
        common = (1 << self.width) - 1 & ~known
        for row in rows:
            common &= row.pattern.mask
        if len(rows) > 1 and common:
            self._switch(rows, common, known, miss)
            return
        for row in rows:
            following = self.builder.new_block("try")
            self._attempt(row, known, following)
            self.builder.place(following)
        self.builder.branch(miss)

    def _switch(self, rows: list[Leaf], common: int, known: int, miss: ir.Block) -> None:
        groups: dict[int, list[Leaf]] = {}
        for row in rows:
            groups.setdefault(row.pattern.value & common, []).append(row)
        blocks = [self.builder.new_block("case") for _ in groups]
        selected = self.builder.emit("and", self.type, self.encoding, common)
        targets = (miss.label, *(block.label for block in blocks))
        cases = ",".join(str(value) for value in groups)
        self.builder.emit("switch", self.type, selected, targets=targets, cases=cases)
        for block, group in zip(blocks, groups.values(), strict=True):
            self.builder.place(block)
            self._tree(group, known | common, miss)

    def _attempt(self, row: Leaf, known: int, otherwise: ir.Block) -> None:
        """Decode as `row` if it matches in full and is enabled, else go to `otherwise`."""
        rest = row.pattern.mask & ~known
        if rest:
            bits = self.builder.emit("and", self.type, self.encoding, rest)
            self._require(
                self.builder.emit("eq", self.type, bits, row.pattern.value & rest), otherwise
            )
        for name in sorted(row.short.nonzero) if row.short else ():
            mask = row.pattern.insert(name, -1)
            bits = self.builder.emit("and", self.type, self.encoding, mask)
            self._require(self.builder.emit("ne", self.type, bits, 0), otherwise)
        wanted = 0
        for extension in row.extensions:
            wanted |= 1 << self.extension_bit[extension]
        have = self.builder.emit("and", "i64", self.enabled, wanted)
        self._require(self.builder.emit("eq", "i64", have, wanted), otherwise)
        displacement: ir.Operand = 0
        for operand in row.insn.operands:
            value = self._operand(row, operand)
            if operand.kind.pc_relative:
                displacement = self._extend(value, "i64", signed=True)
            self._store(operand, value)
        flags = self.width // 8 | self.flags(row.insn)
        self._finish(self.handler(row.insn), flags, displacement)

    def _require(self, condition: ir.Operand, otherwise: ir.Block) -> None:
        following = self.builder.new_block("match")
        self.builder.branch_if(condition, following, otherwise)
        self.builder.place(following)

    def _operand(self, row: Leaf, operand: Operand) -> ir.Operand:
        """The operand's value as i32, or a constant."""
        if row.short is None:
            return self._extract(row.pattern, operand.name, signed=operand.kind.signed)
        source = row.short.operands[operand.name]
        if isinstance(source, int):
            return source
        name, add = source if isinstance(source, tuple) else (source, 0)
        value = self._extract(row.pattern, name, signed=name in row.short.signed)
        return self.builder.emit("add", "i32", value, add) if add else value

    def _extract(self, pattern: Pattern, name: str, *, signed: bool) -> ir.Value:
        emit = self.builder.emit
        wide: ir.Operand = self.encoding if self.width == 32 else emit("zext", "i32", self.encoding)
        total: ir.Value | None = None
        top = pattern.top(name)
        for part in pattern.fields[name]:
            bits: ir.Operand = wide
            if part.position:
                bits = emit("lshr", "i32", bits, part.position)
            piece = emit("and", "i32", bits, (1 << part.width) - 1)
            if part.target:
                piece = emit("shl", "i32", piece, part.target)
            total = piece if total is None else emit("or", "i32", total, piece)
        assert total is not None
        if signed and top < 32:
            total = emit("ashr", "i32", emit("shl", "i32", total, 32 - top), 32 - top)
        return total

    def _extend(self, value: ir.Operand, type_: str, *, signed: bool) -> ir.Operand:
        if isinstance(value, int):
            return value
        return self.builder.emit("sext" if signed else "zext", type_, value)

    def _store(self, operand: Operand, value: ir.Operand) -> None:
        emit = self.builder.emit
        sink = operand.kind.sink if operand.written else None
        if sink is not None:
            if isinstance(value, int):
                value = sink if value == 0 else value
            else:
                value = emit("select", "i32", emit("eq", "i32", value, 0), sink, value)
        type_ = f"i{operand.kind.size * 8}"
        if isinstance(value, ir.Value) and type_ != "i32":
            value = emit("trunc", type_, value)
        emit("st", type_, self.record, value, offset=OPERANDS_OFFSET + operand.offset, scale=0)

    def _finish(self, handler: str, flags: int, displacement: ir.Operand) -> None:
        address = self.builder.emit("symbol", "i64", name=handler)
        self.builder.emit("st", "i64", self.record, address, offset=0, scale=0)
        self.builder.emit("ret", "void", flags, displacement)


def decode_functions(
    rows: Iterable[Leaf], widths: Iterable[int], **options: Any
) -> list[ir.Function]:
    """The decoders of all `widths`, named `decode.WIDTH`."""
    rows = list(rows)
    return [DecoderBuilder(f"decode.{width}", rows, width, **options).function for width in widths]
