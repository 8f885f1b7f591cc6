"""Commands for people: one function each. The signature says how its line is read.

    @hmp("gva2gpa", "print the guest physical address corresponding to a guest virtual address")
    def gva2gpa(shell: Shell, addr: Number) -> str: ...

`Number` is an integer expression, `str` a word, `Rest` the rest of the line, `Slash` a format after
a slash, `DeviceName` a drive, `Mebibytes` a size, an enum one of its words, `bool` on or off, and
`Annotated[bool, Flag("a")]` the flag `-a`; with `str | None` for `bool` a word follows the flag. A
parameter with a default may be left out. The function
returns what is printed. Help, completion and the reference manual follow from the same signature.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from ratite.core.errors import ConfigError
from ratite.core.size import parse_size
from ratite.monitor.errors import QmpError
from ratite.monitor.hmp.dump import Format, parse_format
from ratite.monitor.hmp.expression import Expression, ExpressionError
from ratite.monitor.later import Later
from ratite.monitor.session import Session
from ratite.monitor.types import unwrap
from ratite.monitor.vm import Vm
from ratite.qom import Named


@dataclass(frozen=True)
class Shell:
    """What a command works with."""

    vm: Vm
    session: Session

    def register(self, name: str) -> int | None:
        """The value of a register of the current CPU, for expressions."""
        from ratite.cpu.inspect import inspector
        from ratite.monitor.vm import halted

        vcpus = self.vm.machine.vcpus
        if not vcpus:
            return None
        with halted(self.vm):
            return inspector(vcpus[self.session.cpu_index]).register(name)


SWITCH_EXPECTED = "Expected 'on' or 'off'"


class Kind(enum.Enum):
    """How an argument is read."""

    NUMBER = enum.auto()
    WORD = enum.auto()
    FILE = enum.auto()
    DEVICE = enum.auto()
    SIZE = enum.auto()
    REST = enum.auto()
    SLASH = enum.auto()
    CHOICE = enum.auto()
    SWITCH = enum.auto()
    FLAG = enum.auto()


@dataclass(frozen=True)
class Flag:
    """Annotation: a flag of one letter."""

    letter: str


Complete = Callable[[Shell], Iterable[str]]


@dataclass(frozen=True)
class Completed:
    """Annotation: where the words come from that a word can be."""

    words: Complete


Number = Annotated[int, Kind.NUMBER]
File = Annotated[str, Kind.FILE]
DeviceName = Annotated[str, Kind.DEVICE]
Mebibytes = Annotated[int, Kind.SIZE]
Rest = Annotated[str, Kind.REST]
Slash = Annotated[Format, Kind.SLASH]


class UsageError(QmpError):
    """A line that does not fit the command."""


class Refusal(QmpError):
    """An answer that is not what was asked for; shown as it is."""


@dataclass(frozen=True)
class Argument:
    """One parameter."""

    attribute: str
    kind: Kind
    optional: bool
    choices: tuple[str, ...] = ()
    cls: type[enum.Enum] | None = None
    letter: str = ""
    words: Complete | None = None
    shown: str = ""  # in `help`, where it is not the attribute with dashes
    takes_word: bool = False  # of a flag: a word follows

    @property
    def usage(self) -> str:
        """As `help` shows it."""
        name = "|".join(self.choices) or self.shown or self.attribute.rstrip("_")
        match self.kind:
            case Kind.FLAG:
                return f"[-{self.letter}{f' {name}' if self.takes_word else ''}]"
            case Kind.SLASH:
                return "/fmt"
            case Kind.SWITCH:
                name = "on|off"
        return f"[{name}]" if self.optional else name

    def completions(self, shell: Shell) -> Iterable[str]:
        """Words that it can be."""
        if self.kind is Kind.SWITCH:
            return ("on", "off")
        return self.words(shell) if self.words is not None else self.choices


@dataclass(frozen=True, eq=False)
class HmpCommand:
    """One command. `names[0]` is the one it is listed by; for `info X` that is X."""

    names: tuple[str, ...]
    function: Callable[..., str | Later | None]
    arguments: tuple[Argument, ...]
    help: str
    info: bool
    preconfig: bool  # allowed before the machine is built, too

    def available(self, vm: Vm) -> bool:
        """Whether it can be done now."""
        return self.preconfig or vm.initialized

    @property
    def usage(self) -> str:
        """The line of `help`."""
        prefix = "info " if self.info else ""
        flags_first = sorted(self.arguments, key=lambda argument: argument.kind is not Kind.FLAG)
        words = " ".join(argument.usage for argument in flags_first)
        return f"{prefix}{'|'.join(self.names)} {words} -- {self.help}"

    def run(self, shell: Shell, line: str) -> str | Later:
        """Read the arguments and do it; the answer is what is to be printed. Raises `QmpError`,
        and what the function raises.
        """
        given = Reader(self, shell, line).read()
        return self.function(shell, **given) or ""


class Reader:
    """Reads one line's arguments."""

    def __init__(self, command: HmpCommand, shell: Shell, line: str) -> None:
        self._command = command
        self._shell = shell
        self._line = line
        self._at = 0

    def read(self) -> dict[str, Any]:
        """The arguments by parameter."""
        given: dict[str, Any] = {}
        flags = {a.letter: a for a in self._command.arguments if a.kind is Kind.FLAG}
        if flags:
            self._flags(flags, given)
        for argument in self._command.arguments:
            if argument.kind is not Kind.FLAG:
                self._one(argument, given)
                if flags and self._rest().split(None, 1)[:1] in [[f"-{c}"] for c in flags]:
                    self._flags(flags, given)
        if self._rest():
            name = "|".join(self._command.names)
            raise UsageError(f"{name}: extraneous characters at the end of line")
        return given

    def _rest(self) -> str:
        """What is left, without leading space."""
        while self._at < len(self._line) and self._line[self._at].isspace():
            self._at += 1
        return self._line[self._at :]

    def _flags(self, flags: dict[str, Argument], given: dict[str, Any]) -> None:
        while (rest := self._rest())[:1] == "-" and rest[1:2].isalpha():
            word = self._word()
            for letter in word[1:]:
                if letter not in flags:
                    raise UsageError(f"{self._command.names[0]}: unsupported option -{letter}")
                flag = flags[letter]
                if flag.takes_word and not self._rest():
                    raise UsageError(self._lacks(flag))
                given[flag.attribute] = self._word() if flag.takes_word else True

    def _one(self, argument: Argument, given: dict[str, Any]) -> None:
        rest = self._rest()
        if argument.kind is Kind.SLASH:
            given[argument.attribute] = self._slash(rest)
            return
        if not rest:
            if not argument.optional:
                raise UsageError(self._lacks(argument))
            return
        given[argument.attribute] = self._value(argument)

    def _lacks(self, argument: Argument) -> str:
        if argument.kind is Kind.NUMBER:
            return "unexpected end of expression"
        if argument.kind is Kind.SWITCH:
            return SWITCH_EXPECTED
        if argument.kind is Kind.SIZE:
            return "invalid size"
        names = {Kind.FILE: "filename", Kind.DEVICE: "block device name"}
        expected = names.get(argument.kind, "string")
        return f"{self._command.names[0]}: {expected} expected"

    def _value(self, argument: Argument) -> Any:
        match argument.kind:
            case Kind.NUMBER:
                reader = Expression(self._line, self._shell.register, self._at)
                try:
                    value = reader.read()
                except ExpressionError as error:
                    raise UsageError(str(error)) from None
                self._at = reader.at
                return value
            case Kind.SIZE:
                try:
                    return parse_size(self._word(), default_suffix="M")
                except ConfigError:
                    raise UsageError("invalid size") from None
            case Kind.REST:
                rest = self._rest()
                self._at = len(self._line)
                return rest
            case Kind.SWITCH:
                word = self._word()
                if word not in ("on", "off"):
                    raise UsageError(SWITCH_EXPECTED)
                return word == "on"
            case Kind.CHOICE:
                word = self._word()
                if word not in argument.choices or argument.cls is None:
                    raise QmpError(f"invalid parameter value: {word}")
                return argument.cls(word)
        return self._word()

    def _slash(self, rest: str) -> Format:
        if not rest.startswith("/"):
            return Format()
        word = self._word()
        try:
            return parse_format(word[1:])
        except QmpError as error:
            raise UsageError(str(error)) from None

    def _word(self) -> str:
        """A word, or a text in double quotes with backslash escapes."""
        rest = self._rest()
        if not rest.startswith('"'):
            word = rest.split(None, 1)[0]
            self._at += len(word)
            return word
        text = ""
        at = 1
        while at < len(rest) and rest[at] != '"':
            if rest[at] == "\\" and at + 1 < len(rest):
                at += 1
                text += {"n": "\n", "r": "\r"}.get(rest[at], rest[at])
            else:
                text += rest[at]
            at += 1
        if at >= len(rest):
            raise UsageError("unterminated string")
        self._at += at + 1
        return text


COMMANDS: dict[str, HmpCommand] = {}
INFO: dict[str, HmpCommand] = {}
"""All commands whose modules are imported, by each of their names; `load` imports the rest."""

Function = Callable[..., str | Later | None]


def hmp(names: str, help: str, *, preconfig: bool = False) -> Callable[[Function], Function]:
    """Enter a function as a command; several names are separated by `|`. `info X` is `X` of the
    command `info`. `preconfig`: it needs no machine but its root object.
    """

    def enter(function: Function) -> Function:
        info = names.startswith("info ")
        found = tuple(names.removeprefix("info ").split("|"))
        table = INFO if info else COMMANDS
        made = HmpCommand(found, function, _arguments(function), help, info, preconfig)
        for name in found:
            assert name not in table, f"two commands '{name}'"
            table[name] = made
        return function

    return enter


def _arguments(function: Function) -> tuple[Argument, ...]:
    hints = typing.get_type_hints(function, include_extras=True)
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if hints[parameter.name] is not Shell:
            optional = parameter.default is not parameter.empty
            found.append(_argument(parameter.name, hints[parameter.name], optional))
    return tuple(found)


def _argument(name: str, hint: Any, optional: bool) -> Argument:
    base, marks = unwrap(hint)
    kind, letter, words, shown = Kind.WORD, "", None, ""
    choices: tuple[str, ...] = ()
    cls = None
    if base is bool:
        kind = Kind.SWITCH
    elif isinstance(base, type) and issubclass(base, enum.Enum):
        kind, cls = Kind.CHOICE, base
        choices = tuple(str(entry.value) for entry in base)
    for mark in marks:
        match mark:
            case Kind():
                kind = mark
            case Flag(letter=given):
                kind, letter = Kind.FLAG, given
            case Completed(words=source):
                words = source
            case Named(name=given):
                shown = given
    takes_word = kind is Kind.FLAG and base is not bool
    return Argument(name, kind, optional, choices, cls, letter, words, shown, takes_word)


def load() -> dict[str, HmpCommand]:
    """All commands there are."""
    import ratite.monitor.hmp as package

    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("commands_"):
            importlib.import_module(f"{package.__name__}.{module.name}")
    return COMMANDS
