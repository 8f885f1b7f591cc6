"""Settings in one line: `first,key=value,flag`. `,,` stands for a comma in a value, a key alone
means `on`, and the first word may be the value of a key that is implied. A later setting of a key
replaces an earlier one.
"""

from __future__ import annotations

import re

from ratite.core.errors import ConfigError

_ITEM = re.compile(r"((?:[^,]|,,)*)(?:,|$)")


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
