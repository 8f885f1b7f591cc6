"""The option table as management tools ask for it.

Source: QEMU's QMP reference, `query-command-line-options`, for the names of options and types.
"""

from __future__ import annotations

import re

from ratite.cli.options import OPTIONS
from ratite.monitor import OptionInfo

_KEY = re.compile(r"([a-z][a-z0-9_.-]*)(?:=|\])(on\|off|N\b|SIZE\b)?")
_TYPES = {"on|off": "boolean", "N": "number", "SIZE": "size"}


def describe_options() -> list[OptionInfo]:
    """The options whose value has keys, with the keys that their `form` shows."""
    found = []
    for option in OPTIONS:
        name = option.names.split()[0]
        keys = {
            key: _TYPES.get(kind, "string")
            for key, kind in _KEY.findall(option.form)
            if f"{key}=" in option.form
        }
        if keys or name in ("device", "object", "chardev"):
            found.append(OptionInfo(option.section or name, tuple(keys.items())))
    return found
