"""Sizes in bytes, as command lines write them."""

from __future__ import annotations

import re
from decimal import Decimal

from ratite.core.errors import ConfigError

KiB = 1 << 10
MiB = 1 << 20
GiB = 1 << 30
TiB = 1 << 40

_SHIFTS = {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_SIZE = re.compile(r"\s*(?:(0x[0-9a-f]+)|(\d+(?:\.\d*)?|\.\d+)([bkmgtpe]?))\s*", re.IGNORECASE)


def parse_size(text: str, *, default_suffix: str = "b") -> int:
    """Read `512`, `64k`, `1.5G` or `0x1000` as a number of bytes below 2**64.

    Suffixes are powers of 1024: b k M G T P E, in either case. A number without one counts in
    `default_suffix`; a hexadecimal number takes none and counts bytes. A fraction that does not
    come to whole bytes is cut off. Raises `ConfigError`.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"'{text}' is not a size: use a number and one of the suffixes b, k, M, G, T, P, E"
        )
    hexadecimal, number, suffix = match.groups()
    if hexadecimal:
        size = int(hexadecimal, 16)
    else:
        size = int(Decimal(number) * (1 << _SHIFTS[(suffix or default_suffix).lower()]))
    if size >= 1 << 64:
        raise ConfigError(f"size '{text}' is too large: the limit is 2**64 - 1 bytes")
    return size


def format_size(size: int) -> str:
    """Write a number of bytes with the largest binary unit that leaves it whole: `512 MiB`, `3
    KiB`, `7 B`.
    """
    for shift, unit in (
        (60, "EiB"),
        (50, "PiB"),
        (40, "TiB"),
        (30, "GiB"),
        (20, "MiB"),
        (10, "KiB"),
    ):
        if size and size % (1 << shift) == 0:
            return f"{size >> shift} {unit}"
    return f"{size} B"


def human_size(size: int) -> str:
    """A size in its largest binary unit, to three digits."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    step = 0
    value = float(size)
    while value >= 1000 and step + 1 < len(units):
        value /= 1024
        step += 1
    return f"{value:.3g} {units[step]}"
