"""What an instruction is: an encoding row, operand kinds, and a short typed function that says what
it does.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ratite.isa.pattern import Pattern, PatternError, overlap, parse_pattern
from ratite.native import Int, Struct, native

F = TypeVar("F", bound=Callable[..., Any])

OPERAND_BYTES = 6
"""Room for decoded operands in a tier-0 record (`ratite.cpu.tb`)."""


@dataclass(frozen=True, slots=True)
class OperandKind:
    """How an operand is decoded, kept in a record, and printed.

    `kind` is its type in semantics; `size` the bytes it takes in a record; `signed` whether the
    encoding's top bit is a sign; `sink` what register number 0 becomes where the operand is written
    (the slot that swallows writes), if any; `pc_relative` marks the displacement of a direct jump;
    `show` makes its text for the disassembler, which `role` tells where it goes: "base" is a
    register that an address is built on, "displacement" what is added to it, "order" a bit that
    shows in the mnemonic, "mode" what stands before the others, "target" what is added to pc.
    """

    name: str
    kind: type[Int]
    size: int
    signed: bool = False
    sink: int | None = None
    pc_relative: bool = False
    show: Callable[[int], str] = str
    role: str = ""


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand of one instruction."""

    name: str
    kind: OperandKind
    offset: int  # within the record's operand bytes
    written: bool

    def stored(self, value: int) -> int:
        """The number that goes to the record."""
        if self.written and self.kind.sink is not None and value == 0:
            return self.kind.sink
        return value


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name of an instruction whose operands are as `fixed` says: each a number, or what
    another operand is. `shown` are the operands to show; what names none stands for itself.
    """

    name: str
    fixed: Mapping[str, int | str]
    shown: tuple[str, ...]

    def fits(self, values: Mapping[str, int]) -> bool:
        """Whether an instruction with these operands has this name."""
        return all(
            values[name] == (values[wanted] if isinstance(wanted, str) else wanted)
            for name, wanted in self.fixed.items()
        )


@dataclass(frozen=True, slots=True)
class Assembly:
    """An instruction as text. `target` is the address that is pc plus one of its operands."""

    mnemonic: str
    operands: str = ""
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One member of a family: its name, encoding, and the constants that make it differ."""

    name: str
    pattern: str
    constants: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Insn:
    """An instruction that has semantics of its own."""

    name: str
    pattern: Pattern
    function: Callable[..., Any]
    constants: Mapping[str, Any]
    extension: str
    spec: str
    ends_block: bool
    aliases: list[Alias] = field(default_factory=list)

    _operands: tuple[Operand, ...] | None = None

    @property
    def length(self) -> int:
        """Bytes of the encoding."""
        return self.pattern.width // 8

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The operands in record order."""
        if self._operands is None:
            self._operands = self._find_operands()
        return self._operands

    def _find_operands(self) -> tuple[Operand, ...]:
        hints = typing.get_type_hints(self.function, include_extras=True)
        written = _written_names(self.function)
        operands: list[Operand] = []
        offset = 0
        for name in list(hints)[:-1]:
            metadata = getattr(hints[name], "__metadata__", ())
            kind = next((item for item in metadata if isinstance(item, OperandKind)), None)
            if kind is None:
                continue  # the CPU, or a constant
            if name not in self.pattern.fields:
                raise PatternError(f"{self.name}: operand '{name}' is not in '{self.pattern.text}'")
            operands.append(Operand(name, kind, offset, name in written))
            offset += kind.size
        unknown = set(self.pattern.fields) - {operand.name for operand in operands}
        if unknown:
            raise PatternError(f"{self.name}: field '{unknown.pop()}' is not a parameter")
        if offset > OPERAND_BYTES:
            raise PatternError(
                f"{self.name}: operands take {offset} bytes, a record holds {OPERAND_BYTES}"
            )
        return tuple(operands)

    def decode(self, encoding: int) -> dict[str, int]:
        """Operand values as the record would hold them."""
        values = self.values(encoding)
        return {operand.name: operand.stored(values[operand.name]) for operand in self.operands}

    def values(self, encoding: int) -> dict[str, int]:
        """Operand values as they are encoded."""
        return {
            operand.name: self.pattern.extract(operand.name, encoding, signed=operand.kind.signed)
            for operand in self.operands
        }

    def as_text(self, values: Mapping[str, int], pc: int) -> Assembly:
        """Mnemonic and operands by the first alias that fits, else as the row has them."""
        name, shown = self.name, tuple(operand.name for operand in self.operands)
        for alias in self.aliases:
            if alias.fits(values):
                name, shown = alias.name, alias.shown
                break
        return self.in_notation(name, shown, values, pc)

    def in_notation(
        self, name: str, shown: Iterable[str], values: Mapping[str, int], pc: int
    ) -> Assembly:
        """A mnemonic and some of the operands, each in the place that its kind has."""
        kinds = {operand.name: operand.kind for operand in self.operands}
        texts: list[str] = []
        target = None
        base = displacement = ""
        for part in shown:
            kind = kinds.get(part)
            text = kind.show(values[part]) if kind else part
            match kind.role if kind else "":
                case "order":
                    name += f".{part}" if values[part] else ""
                    continue
                case "displacement":
                    displacement = text
                    continue
                case "mode":
                    texts.insert(0, text)
                    continue
                case "base":
                    base = f"({text})"
                    continue
                case "target":
                    target = pc + values[part] & 0xFFFF_FFFF_FFFF_FFFF
            texts.append(text)
        if base:
            texts.append(displacement + base)
        return Assembly(name, ",".join(texts), target)


def _written_names(function: Callable[..., Any]) -> frozenset[str]:
    """Operands that index the target of an assignment: registers that the instruction writes."""
    import ast

    native_function = function.__native__  # type: ignore[attr-defined]
    names = set()
    for node in ast.walk(native_function.tree):
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.slice, ast.Name)
        ):
            names.add(node.slice.id)
    return frozenset(names)


@dataclass(frozen=True, slots=True)
class Short:
    """An encoding that means another instruction: a compressed form. `operands` gives the base
    instruction's, each a field of this row, optionally plus a constant (`("rs1", 8)`), or a
    number."""

    name: str
    pattern: Pattern
    base: str
    operands: Mapping[str, str | int | tuple[str, int]]
    signed: frozenset[str]
    nonzero: frozenset[
        str
    ]  # fields that must not be zero; such encodings are other rows or reserved
    extension: str
    spec: str

    def expand(self, encoding: int) -> dict[str, int]:
        """Operand values of the base instruction, before sinks are applied."""
        values = {}
        for name, source in self.operands.items():
            if isinstance(source, int):
                values[name] = source
            else:
                part, add = source if isinstance(source, tuple) else (source, 0)
                values[name] = (
                    self.pattern.extract(part, encoding, signed=part in self.signed) + add
                )
        return values

    def matches(self, encoding: int) -> bool:
        """Whether the encoding is this row's."""
        return encoding & self.pattern.mask == self.pattern.value and all(
            self.pattern.extract(name, encoding, signed=False) != 0 for name in self.nonzero
        )


class InstructionSet:
    """A registry of instructions, filled by the decorators as the chapters' modules are
    imported.
    """

    def __init__(self, name: str, state: type[Struct]) -> None:
        self.name = name
        self.state = state
        self.insns: dict[str, Insn] = {}
        self.shorts: list[Short] = []

    def insn(
        self, pattern: str, *, spec: str, ext: str = "i", width: int = 32, ends_block: bool = False
    ) -> Callable[[F], F]:
        """Add an instruction; its name is the function's, with dots for underscores."""

        def add(function: F) -> F:
            name = function.__name__.rstrip("_").replace("_", ".")
            return self._add(
                function, (Row(name, pattern),), spec, ext, width, ends_block=ends_block
            )

        return add

    def family(
        self,
        rows: Iterable[Row],
        *,
        spec: str,
        ext: str = "i",
        width: int = 32,
        ends_block: bool = False,
    ) -> Callable[[F], F]:
        """Add like instructions that share one function; each row's constants are `Const`
        parameters of it.
        """

        def add(function: F) -> F:
            return self._add(function, rows, spec, ext, width, ends_block=ends_block)

        return add

    def _add(
        self, function: F, rows: Iterable[Row], spec: str, ext: str, width: int, *, ends_block: bool
    ) -> F:
        function = native(function)
        for row in rows:
            pattern = parse_pattern(row.pattern, width)
            extension = str(row.constants.get("ext", ext))
            constants = {name: value for name, value in row.constants.items() if name != "ext"}
            if row.name in self.insns:
                raise PatternError(f"{row.name} is defined twice")
            self.insns[row.name] = Insn(
                row.name, pattern, function, constants, extension, spec, ends_block
            )
        return function

    def short(
        self,
        name: str,
        pattern: str,
        base: str,
        operands: Mapping[str, str | int | tuple[str, int]],
        *,
        spec: str,
        ext: str = "c",
        signed: tuple[str, ...] = (),
        nonzero: tuple[str, ...] = (),
    ) -> None:
        """Add a 16-bit form of `base`."""
        parsed = parse_pattern(pattern, 16)
        self.shorts.append(
            Short(name, parsed, base, operands, frozenset(signed), frozenset(nonzero), ext, spec)
        )

    def alias(self, name: str, base: str, shown: str | None = None, **fixed: int | str) -> None:
        """Add a name for `base` where its operands are as `fixed` says, for the disassembler. The
        other operands are shown, or those that `shown` names.
        """
        insn = self.insns[base]
        names = [operand.name for operand in insn.operands]
        unknown = set(fixed) - set(names)
        if unknown:
            raise PatternError(f"{name}: '{unknown.pop()}' is no operand of {base}")
        rest = tuple(operand for operand in names if operand not in fixed)
        insn.aliases.append(Alias(name, fixed, tuple(shown.split()) if shown else rest))

    def check_overlaps(self) -> None:
        """Raise `PatternError` if two instructions claim one encoding. Rows that differ in what
        must not be zero, or of which one fixes strictly more bits (the manual's own special cases),
        may share bits."""
        rows = [(insn.name, insn.pattern) for insn in self.insns.values()]
        for index, (name, pattern) in enumerate(rows):
            for other_name, other in rows[index + 1 :]:
                nested = (
                    pattern.mask & other.mask in (pattern.mask, other.mask)
                    and pattern.mask != other.mask
                )
                if overlap(pattern, other) and not nested:
                    raise PatternError(f"{name} and {other_name} overlap")
