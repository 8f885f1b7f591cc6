"""Framing of the gdb remote protocol.

Source: "Debugging with GDB", appendix E.1 (overview: packets, acknowledgement, escapes).
Not modelled: run-length encoding, which a stub may use but need not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

PACKET_SIZE = 0x4000
"""Bytes of a packet's payload that a client may send, as `qSupported` tells it."""

_ESCAPE, _FLIP = ord("}"), 0x20
_SPECIAL = frozenset(b"#$}*")
_INTERRUPT = 3


class Signal(Enum):
    """What a client sends besides packets."""

    ACK = auto()
    NAK = auto()
    INTERRUPT = auto()  # Ctrl-C
    BAD = auto()  # a packet whose checksum is wrong, or that is too long


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet's payload, escapes resolved."""

    payload: bytes


class PacketReader:
    """Cuts a client's byte stream into packets and signals. Any bytes are accepted, and at most one
    packet is held in memory.
    """

    def __init__(self, limit: int = PACKET_SIZE) -> None:
        self._limit = limit * 2 + 64  # what escapes may make of it, and a command's own words
        self._payload: bytearray | None = None  # None: between packets
        self._checksum: bytearray | None = None
        self._too_long = False

    def feed(self, data: bytes) -> list[Packet | Signal]:
        """Take bytes; returns what they complete, in order."""
        found: list[Packet | Signal] = []
        for byte in data:
            item = self._take(byte)
            if item is not None:
                found.append(item)
        return found

    def _take(self, byte: int) -> Packet | Signal | None:
        if self._payload is None:
            return self._between(byte)
        if self._checksum is not None:
            self._checksum.append(byte)
            return self._finish() if len(self._checksum) == 2 else None
        if byte == ord("#"):
            self._checksum = bytearray()
        elif byte == ord("$"):  # the client has given up on the packet before
            self._start()
        elif len(self._payload) < self._limit:
            self._payload.append(byte)
        else:
            self._too_long = True
        return None

    def _between(self, byte: int) -> Signal | None:
        match byte:
            case 0x24:  # $
                self._start()
            case 0x2B:  # +
                return Signal.ACK
            case 0x2D:  # -
                return Signal.NAK
            case 0x03:
                return Signal.INTERRUPT
        return None

    def _start(self) -> None:
        self._payload = bytearray()
        self._checksum = None
        self._too_long = False

    def _finish(self) -> Packet | Signal:
        assert self._payload is not None and self._checksum is not None
        payload, checksum = bytes(self._payload), bytes(self._checksum)
        self._payload = self._checksum = None
        if self._too_long or checksum.lower() != b"%02x" % (sum(payload) & 0xFF):
            return Signal.BAD
        return Packet(unescape(payload))


def unescape(payload: bytes) -> bytes:
    """Resolve escapes."""
    if _ESCAPE not in payload:
        return payload
    plain = bytearray()
    flip = 0
    for byte in payload:
        if byte == _ESCAPE and not flip:
            flip = _FLIP
            continue
        plain.append(byte ^ flip)
        flip = 0
    return bytes(plain)


def escape(data: bytes) -> bytes:
    """Escape binary data for a packet."""
    if _SPECIAL.isdisjoint(data):
        return data
    return b"".join(
        bytes((_ESCAPE, byte ^ _FLIP)) if byte in _SPECIAL else bytes((byte,)) for byte in data
    )


def frame(payload: bytes) -> bytes:
    """A whole packet around an escaped payload."""
    return b"$%b#%02x" % (payload, sum(payload) & 0xFF)


__all__ = ["PACKET_SIZE", "Packet", "PacketReader", "Signal", "escape", "frame", "unescape"]
