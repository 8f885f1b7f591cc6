"""Ethernet frames and addresses, as both sides of a network card know them."""

from __future__ import annotations

import re

MAX_FRAME = 65536 + 4096
"""Bytes: no frame that comes or goes is longer."""
HEADER_SIZE = 14
"""Bytes: destination, source, type."""
BROADCAST = b"\xff" * 6
DEFAULT_PREFIX = bytes.fromhex("5254001234")
"""What the addresses begin with that network cards get of their own accord."""
FIRST_DEFAULT, LAST_DEFAULT = 0x56, 0xFE
"""How those end."""

_MAC = re.compile(r"[0-9a-fA-F]{1,2}(?:([:-])[0-9a-fA-F]{1,2})(?:\1[0-9a-fA-F]{1,2}){4}")


def parse_mac(text: str) -> bytes | None:
    """The six bytes of `52:54:00:12:34:56`; None for anything else."""
    if not _MAC.fullmatch(text):
        return None
    return bytes(int(part, 16) for part in re.split("[:-]", text))


def format_mac(mac: bytes) -> str:
    """Six bytes as people write them."""
    return mac.hex(":")
