"""Integer expressions, as the monitor's commands take them: `$pc+4*(1<<3)`, `0x10`, `'a'`.

Source: QEMU's manual, chapter "QEMU Monitor", "Integer expressions". Values wrap at 64 bits;
division is that of signed numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ratite.monitor.errors import QmpError

MASK = (1 << 64) - 1
MAX_DEPTH = 50
Register = Callable[[str], int | None]
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")
_REGISTER = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_LEVELS: tuple[tuple[str, ...], ...] = (("|", "^", "&"), ("<<", ">>"), ("+", "-"), ("*", "/", "%"))


_LONGEST = 100  # characters of a number, zeros in front included


class ExpressionError(QmpError):
    """Text that is no expression."""


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


class Expression:
    """A reader of expressions in `text`; `at` is where it stands."""

    def __init__(self, text: str, register: Register, at: int = 0) -> None:
        self.text = text
        self.at = at
        self._register = register
        self._depth = 0

    def read(self) -> int:
        """The value of the longest expression from here on, 0 to 2**64-1. Raises
        `ExpressionError`.
        """
        return self._level(0)

    def _level(self, level: int) -> int:
        if level == len(_LEVELS):
            return self._unary()
        value = self._level(level + 1)
        while (operator := self._operator(_LEVELS[level])) is not None:
            before = self.at
            self.at += len(operator)
            if operator == "/" and not self._operand_follows():
                self.at = before  # the beginning of a path: `memsave 0 16 /tmp/file`
                break
            value = self._apply(operator, value, self._level(level + 1)) & MASK
        return value

    def _operator(self, wanted: tuple[str, ...]) -> str | None:
        self._space()
        return next((op for op in wanted if self.text.startswith(op, self.at)), None)

    def _operand_follows(self) -> bool:
        at = self.at
        while at < len(self.text) and self.text[at] == " ":
            at += 1
        return at < len(self.text) and (self.text[at] in "$(~+-'" or self.text[at].isdecimal())

    def _apply(self, operator: str, left: int, right: int) -> int:
        match operator:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "&":
                return left & right
            case "|":
                return left | right
            case "^":
                return left ^ right
            case "<<":
                return left << min(right, 64)
            case ">>":
                return left >> min(right, 64)
        return self._divide(operator, _signed(left), _signed(right))

    @staticmethod
    def _divide(operator: str, left: int, right: int) -> int:
        """As C divides: towards zero, and the rest has the dividend's sign."""
        if right == 0:
            raise ExpressionError("division by zero")
        quotient = abs(left) // abs(right)
        if (left < 0) != (right < 0):
            quotient = -quotient
        return quotient if operator == "/" else left - quotient * right

    def _unary(self) -> int:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError("expression is nested too deeply")
        try:
            return self._operand()
        finally:
            self._depth -= 1

    def _operand(self) -> int:
        self._space()
        if self.at >= len(self.text):
            raise ExpressionError("unexpected end of expression")
        letter = self.text[self.at]
        if letter in "+-~":
            self.at += 1
            value = self._unary()
            return {"+": value, "-": -value, "~": ~value}[letter] & MASK
        if letter == "(":
            return self._parenthesis()
        if letter == "'":
            return self._character()
        if letter == "$":
            return self._register_value()
        match = _NUMBER.match(self.text, self.at)
        if match is None:
            raise ExpressionError(f"invalid char '{letter}' in expression")
        self.at = match.end()
        text = match[0]
        octal = len(text) > 1 and text[0] == "0" and text.isdecimal()
        if len(text) > _LONGEST:
            raise ExpressionError("number too large")
        try:
            value = int(text, 8 if octal else 0)
        except ValueError:
            raise ExpressionError(f"invalid number '{text}'") from None
        if value > MASK:
            raise ExpressionError("number too large")
        return value

    def _parenthesis(self) -> int:
        self.at += 1
        value = self._level(0)
        self._space()
        if not self.text.startswith(")", self.at):
            raise ExpressionError("')' expected")
        self.at += 1
        return value

    def _character(self) -> int:
        if self.at + 2 >= len(self.text) or self.text[self.at + 2] != "'":
            raise ExpressionError("missing terminating ' character")
        self.at += 3
        return ord(self.text[self.at - 2])

    def _register_value(self) -> int:
        match = _REGISTER.match(self.text, self.at)
        value = self._register(match[1]) if match is not None else None
        if match is None or value is None:
            raise ExpressionError("unknown register")
        self.at = match.end()
        return value & MASK

    def _space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
