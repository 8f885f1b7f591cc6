"""Settings in one line: `first,key=value,flag`. `,,` stands for a comma in a value, a key alone
means `on`, and the first word may be the value of a key that is implied. A later setting of a key
replaces an earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ratite.core.errors import ConfigError

IDENTIFIER_RULE = "a letter first, then letters, digits, '-', '.', '_'"
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9\-._]*")
_ITEM = re.compile(r"((?:[^,]|,,)*)(?:,|$)")


def is_identifier(text: str) -> bool:
    """Whether a user may call something that: see `IDENTIFIER_RULE`."""
    return _IDENTIFIER.fullmatch(text) is not None


def split_items(text: str) -> list[str]:
    """Split at single commas; `,,` becomes a comma. An empty text has no items."""
    items = [match[1].replace(",,", ",") for match in _ITEM.finditer(text)]
    return items[:-1]  # the pattern matches once more, emptily, at the end


def parse_keyval(text: str, implied: str = "") -> dict[str, str]:
    """Read the `k=v` form. `implied` is the key of a first word that has none."""
    settings: dict[str, str] = {}
    for position, item in enumerate(split_items(text)):
        key, equals, value = item.partition("=")
        if not equals and position == 0 and implied:
            key, value = implied, item
        elif not equals:
            value = "on"
        if not key:
            raise ConfigError(f"'{item}' has no name before the value")
        settings[key] = value
    return settings


def nest(flat: Mapping[str, object]) -> dict[str, object]:
    """Settings with dotted names as a tree: `file.driver=x` is `driver` inside `file`. Raises
    `ConfigError` for a name that is a setting and the beginning of others.
    """
    tree: dict[str, object] = {}
    for name, value in flat.items():
        place = tree
        *above, last = name.split(".")
        for part in above:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"'{part}' is a setting and has settings: '{name}'")
            place = inner
        if isinstance(place.get(last), dict):
            raise ConfigError(f"'{last}' is a setting and has settings below it")
        place[last] = value
    return tree
