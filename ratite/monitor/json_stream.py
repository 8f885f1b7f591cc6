"""JSON values out of a stream of bytes that anybody may have sent.

Source: RFC 8259; QEMU's QMP specification, which adds strings in single quotes. A value ends where
its brackets are balanced, not at a newline. What cannot be a value is an error of its own, and
reading goes on after it, at the next line if need be. Memory is bounded by `MAX_BYTES`.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

MAX_BYTES = 4 << 20
"""Bytes that one value may have."""
MAX_NESTING = 256
"""Arrays and objects inside each other."""

_SPACE = re.compile(rb"[ \t\r\n\x00-\x1f]*")
_OUTSIDE = re.compile(rb"[^\"'{}\[\]]*")
_WORD = re.compile(rb"[^\"'{}\[\] \t\r\n,:]{1,256}|[,:]")
# Possessive, so that a long string takes no memory for ways back.
_IN_DOUBLE = re.compile(rb"(?:[^\"\\\x00-\x1f]++|\\[^\x00-\x1f])*+")
_IN_SINGLE = re.compile(rb"(?:[^'\\\x00-\x1f]++|\\[^\x00-\x1f])*+")
_STRINGS = re.compile(r'"(?:[^"\\]++|\\.)*+"|\'(?:[^\'\\]++|\\.)*+\'', re.DOTALL)
_LINE_END = re.compile(rb"[\r\n]")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONGEST_INTEGER = 20
_INTEGERS = range(-1 << 63, 1 << 64)
_KEYWORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in the stream that is no value."""

    text: str


class DuplicateKey(ValueError):
    """An object with two members of one name."""


class JsonStream:
    """Takes bytes in pieces of any size and gives values, or faults, in order."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._buffer = bytearray()
        self._scan = 0  # everything before has been looked at
        self._quote = 0  # the quote of the string that the scan is in
        self._braces = 0
        self._brackets = 0
        self._skipping = False  # up to the end of the line

    def feed(self, data: bytes) -> None:
        """Append to the stream."""
        self._buffer += data

    @property
    def pending(self) -> int:
        """Bytes kept."""
        return len(self._buffer)

    def next(self) -> object:
        """The next value (never None) or `Fault`; None if none is complete."""
        if self._skipping and not self._skip():
            return None
        end = self._find_end()
        if end is None:
            if len(self._buffer) <= MAX_BYTES:
                return None
            end = Fault("JSON token size limit exceeded")
        if isinstance(end, Fault):
            self._begin()
            self._skipping = True
            return end
        data = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._begin()
        value = parse(data)
        return Fault("QMP input must be a JSON object") if value is None else value

    def _begin(self) -> None:
        """Look at the buffer from its start."""
        self._scan = self._quote = self._braces = self._brackets = 0

    def _skip(self) -> bool:
        """Drop the rest of a line that was given up."""
        found = _LINE_END.search(self._buffer)
        if found is None:
            self._buffer.clear()
            return False
        del self._buffer[: found.end()]
        self._skipping = False
        return True

    def _find_end(self) -> int | Fault | None:
        """Where the first value ends; None if it is incomplete."""
        buffer, at = self._buffer, self._scan
        if at == 0:
            match = _SPACE.match(buffer)
            assert match is not None
            del buffer[: match.end()]
        while at < len(buffer):
            if self._quote:
                at = self._string_end(at)
                if self._quote:
                    if self._is_stray(at):
                        return Fault("JSON parse error, control character in string")
                    break
            elif not self._braces and not self._brackets and buffer[at] not in b"\"'{}[]":
                word = _WORD.match(buffer, at)
                assert word is not None
                if word.end() == len(buffer) < 256 and buffer[at] not in b",:":
                    break  # there may be more of it
                return word.end()
            else:
                match = _OUTSIDE.match(buffer, at)
                assert match is not None
                at = match.end()
                if at == len(buffer):
                    break
                self._structure(buffer[at])
                at += 1
            if not self._quote and self._complete():
                return at
            if self._braces + self._brackets > MAX_NESTING:
                return Fault("JSON nesting depth limit exceeded")
        self._scan = at
        return None

    def _structure(self, byte: int) -> None:
        match byte:
            case 0x7B:
                self._braces += 1
            case 0x7D:
                self._braces -= 1
            case 0x5B:
                self._brackets += 1
            case 0x5D:
                self._brackets -= 1
            case _:
                self._quote = byte

    def _complete(self) -> bool:
        if self._braces < 0 or self._brackets < 0:
            return True
        return self._braces == 0 and self._brackets == 0

    def _string_end(self, at: int) -> int:
        """Go on inside a string; `_quote` is 0 afterwards if its end was found."""
        pattern = _IN_DOUBLE if self._quote == 0x22 else _IN_SINGLE
        match = pattern.match(self._buffer, at)
        assert match is not None
        at = match.end()
        if at < len(self._buffer) and self._buffer[at] == self._quote:
            self._quote = 0
            return at + 1
        return at  # at the end, at a backslash that is the last byte, or at what is stray

    def _is_stray(self, at: int) -> bool:
        """Whether a string, which goes on at `at`, has a byte there that none can have."""
        if self._buffer[at : at + 1] == b"\\":
            at += 1
        return at < len(self._buffer) and self._buffer[at] < 0x20


def parse(data: bytes) -> object:
    """The value of a complete text, or a `Fault`."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return Fault("JSON parse error, invalid UTF-8 sequence in string")
    if "'" in text:
        text = _STRINGS.sub(lambda match: _double_quoted(match[0]), text)
    try:
        value: object = json.loads(
            text,
            parse_constant=_refuse,
            parse_float=_float,
            parse_int=_integer,
            object_pairs_hook=_object,
        )
        _check_surrogates(text, value)
    except RecursionError:
        return Fault("JSON nesting depth limit exceeded")
    except DuplicateKey:
        return Fault("JSON parse error, duplicate key")
    except ValueError as error:
        return Fault(f"JSON parse error, {_reason(error, text)}")
    return value


def _double_quoted(text: str) -> str:
    """A string in single quotes as JSON has it."""
    if text[0] == '"':
        return text
    inner = re.sub(r"\\(.)|\"", lambda m: _escape(m[0]), text[1:-1], flags=re.DOTALL)
    return f'"{inner}"'


def _escape(text: str) -> str:
    return {'"': '\\"', "\\'": "'"}.get(text, text)


def _refuse(word: str) -> object:
    raise ValueError(f"invalid keyword '{word}'")


def _integer(digits: str) -> int | float:
    """A whole number; one that 64 bits do not hold is only near, as in QEMU."""
    if len(digits) <= _LONGEST_INTEGER and (value := int(digits)) in _INTEGERS:
        return value
    return _float(digits)


def _float(digits: str) -> float:
    """Infinity, which QEMU makes of what is too large, could not be written in an answer."""
    value = float(digits)
    if math.isinf(value):
        raise ValueError("number out of range")
    return value


def _check_surrogates(text: str, value: object) -> None:
    """Refuse halves of characters that only an escape can bring in. Raises `ValueError`."""
    if not _SURROGATE.search(text):
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise ValueError(f"\\u{code:04x} is not a valid Unicode character") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise DuplicateKey
    return made


_REASONS = {
    "Extra data": "expecting value",
    "Expecting ':' delimiter": "missing : in object pair",
    "Invalid \\escape": "invalid escape sequence in string",
    "Invalid \\uXXXX escape": "invalid hex escape sequence in string",
}


def _reason(error: ValueError, text: str) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    rest = text if text.isalpha() else text[error.pos :]
    match error.msg.removesuffix(": "):
        case "Expecting value" | "Extra data" if keyword := _KEYWORD.match(rest):
            return f"invalid keyword '{keyword[0]}'"
        case "Expecting property name enclosed in double quotes" if rest[:1] not in "}:,]":
            return "key is not a string in object"
        case "Expecting ',' delimiter":
            return f"expected separator in {_place(text[: error.pos])}"
        case known:
            return _REASONS.get(known, "expecting value")


def _place(head: str) -> str:
    """What a text that has begun is in, list or dict."""
    open_ones: list[str] = []
    for bracket in re.findall(r"[{}\[\]]", _STRINGS.sub("", head)):
        if bracket in "{[":
            open_ones.append(bracket)
        elif open_ones:
            open_ones.pop()
    return "list" if open_ones[-1:] == ["["] else "dict"
