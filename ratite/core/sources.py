"""What modules declare, found in their sources without importing them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path


def declarations(root: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """What `pattern` finds in the sources of the package `root`, each with the module it is in."""
    for folder in importlib.import_module(root).__path__:
        for source in sorted(Path(folder).rglob("*.py")):
            parts = source.relative_to(folder).with_suffix("").parts
            module = ".".join((root, *parts))
            for name in pattern.findall(source.read_text(encoding="utf-8")):
                yield name, module
