"""What a device needs to describe itself in a device tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

FdtValue = int | str | bytes | Sequence[int] | Sequence[str] | None
"""One 32-bit cell, a string, raw bytes, cells, strings, or a property without a value."""


class FdtNode(Protocol):
    """A node that is being built."""

    def set(self, name: str, value: FdtValue, /) -> None:
        """Give the node a property."""
