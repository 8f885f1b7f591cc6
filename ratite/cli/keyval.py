"""The two ways to write an option's settings: `first,key=value,flag` and JSON.

In the first, `,,` stands for a comma in a value, a key alone means `on`, and the first word may be
the value of a key that the option implies. A later setting of a key replaces an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

from ratite.core import ConfigError, parse_size
from ratite.core.keyval import parse_keyval
from ratite.core.number import whole_number
from ratite.machines.config import PropertyValue

_E = TypeVar("_E", bound=Enum)
_T = TypeVar("_T")

_LISTED = 20  # more words than this are no help in an error
_SWITCH = {"on": True, "yes": True, "true": True, "y": True}
_SWITCH |= {"off": False, "no": False, "false": False, "n": False}


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` if a known word is close, else a list of the known ones if short."""
    import difflib

    choices = sorted(known)
    close = difflib.get_close_matches(word, choices, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(choices)}" if 0 < len(choices) <= _LISTED else ""


def is_json(text: str) -> bool:
    """Whether an option that has both forms is written in JSON."""
    return text.lstrip().startswith("{")


def parse_json(text: str) -> dict[str, PropertyValue]:
    """Read the JSON form: one object."""
    import msgspec

    try:
        decoded = msgspec.json.decode(text, type=dict[str, object])
    except msgspec.MsgspecError as error:
        raise ConfigError(f"not a JSON object: {error}") from None
    return {key: _property(value) for key, value in decoded.items()}


def _property(value: object) -> PropertyValue:
    if isinstance(value, dict):
        return {str(key): _property(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_property(item) for item in value]
    assert value is None or isinstance(value, str | int | float)  # all that JSON has
    return value


class Settings:
    """The settings of one option, taken one by one; `done` refuses what nobody took.

    Every method raises ConfigError naming the key. `None` from one without a default: not given.
    """

    def __init__(self, settings: dict[str, PropertyValue]) -> None:
        self._left = settings
        self._asked: list[str] = []

    @classmethod
    def read(cls, text: str, implied: str = "", *, json: bool = False) -> Settings:
        """From the command line; JSON only where the option has that form."""
        if json and is_json(text):
            return cls(parse_json(text))
        return cls(dict[str, PropertyValue](parse_keyval(text, implied)))

    @property
    def left(self) -> Mapping[str, PropertyValue]:
        """What nobody took."""
        return self._left

    def wants_help(self, key: str) -> bool:
        """Whether the value of `key`, or a bare word, asks for help."""
        return self._left.get(key) in ("help", "?") or "help" in self._left or "?" in self._left

    def _take(self, key: str, convert: Callable[[PropertyValue], _T]) -> _T | None:
        self._asked.append(key)
        if key not in self._left:
            return None
        try:
            return convert(self._left.pop(key))
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from None

    def text(self, key: str) -> str | None:
        """Any text."""
        return self._take(key, to_text)

    def required(self, key: str) -> str:
        """A text that must be there."""
        value = self.text(key)
        if not value:
            raise ConfigError(f"'{key}' is missing")
        return value

    def path(self, key: str) -> Path | None:
        """A path on the host."""
        value = self.text(key)
        if value == "":
            raise ConfigError(f"{key}: an empty file name")
        return None if value is None else Path(value)

    def switch(self, key: str, default: bool) -> bool:
        """`on` or `off`."""
        value = self._take(key, to_switch)
        return default if value is None else value

    def integer(self, key: str, minimum: int, maximum: int) -> int | None:
        """A whole number, both limits included."""
        return self._take(key, lambda value: to_integer(value, minimum, maximum))

    def size(self, key: str, default_suffix: str = "b") -> int | None:
        """A number of bytes."""
        return self._take(key, lambda value: to_size(value, default_suffix))

    def choice(self, key: str, default: _E) -> _E:
        """The value of one member of an Enum."""
        chosen = self._take(key, lambda value: to_choice(value, type(default)))
        return default if chosen is None else chosen

    def word(self, key: str, words: tuple[str, ...], default: str) -> str:
        """One of some words."""
        value = self.text(key)
        if value is None:
            return default
        if value not in words:
            raise ConfigError(f"{key}: '{value}' is not known{suggest(value, words)}")
        return value

    def below(self, key: str) -> dict[str, PropertyValue]:
        """All `key.x=` settings, by their whole names."""
        self._asked.append(key)
        found = {name: self._left[name] for name in self._left if name.startswith(f"{key}.")}
        for name in found:
            del self._left[name]
        return found

    def rest(self) -> dict[str, PropertyValue]:
        """All that was not taken: properties of a type that checks them itself."""
        left, self._left = self._left, {}
        return left

    def done(self) -> None:
        """Refuse a key that nobody asked for."""
        for key in self._left:
            raise ConfigError(f"'{key}' is not known{suggest(key, self._asked)}")


def to_text(value: PropertyValue) -> str:
    """A text; JSON's numbers and booleans as the `k=v` form writes them."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | int | float):
        return str(value)
    raise ConfigError("a text is needed")


def to_switch(value: PropertyValue) -> bool:
    """`on` or `off`, or JSON's true and false."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in _SWITCH:
        return _SWITCH[value]
    raise ConfigError(f"'{value}' is neither 'on' nor 'off'")


def to_integer(value: PropertyValue, minimum: int, maximum: int) -> int:
    """A whole number, decimal or 0x; both limits included."""
    try:
        number = whole_number(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool):
        raise ConfigError(f"'{value}' is not a whole number")
    if not minimum <= number <= maximum:
        raise ConfigError(f"{number} is out of range: {minimum} to {maximum}")
    return number


def to_size(value: PropertyValue, default_suffix: str = "b") -> int:
    """A number of bytes; text may have a suffix, and counts in `default_suffix` without one."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return parse_size(to_text(value), default_suffix=default_suffix)


def to_choice(value: PropertyValue, choices: type[_E]) -> _E:
    """The member of an Enum with this value."""
    for member in choices:
        if member.value == value:
            return member
    raise ConfigError(f"'{value}' is not known{suggest(str(value), [m.value for m in choices])}")
