"""Whole numbers as users write them."""

from __future__ import annotations

_LONGEST = 80
"""Characters: 64 bits have fewer in any notation, and what is longer takes time that nobody
limits.
"""


def whole_number(text: str) -> int:
    """A number in decimal, or after 0x, 0o, 0b. Raises `ValueError`, also for one that is far too
    large for anything.
    """
    if len(text) > _LONGEST:
        raise ValueError("number too large")
    return int(text, 0)
