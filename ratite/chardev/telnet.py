"""The telnet protocol, as far as a character-at-a-time server needs it.

Source: RFC 854 (protocol), RFC 856 (binary), RFC 857 (echo), RFC 858 (suppress go ahead).
Not modelled: negotiation beyond the opening offers; what a client asks is not answered.
"""

from __future__ import annotations

from enum import Enum, auto

from ratite.chardev.chardev import Bytes

SE, BREAK, SB, WILL, WONT, DO, DONT, IAC = 240, 243, 250, 251, 252, 253, 254, 255
BINARY, ECHO, SUPPRESS_GO_AHEAD = 0, 1, 3

GREETING = bytes(
    (IAC, WILL, ECHO, IAC, WILL, SUPPRESS_GO_AHEAD, IAC, WILL, BINARY, IAC, DO, BINARY)
)


class _State(Enum):
    DATA = auto()
    COMMAND = auto()  # after IAC
    OPTION = auto()  # after WILL, WONT, DO, DONT
    SUBNEGOTIATION = auto()
    SUBNEGOTIATION_COMMAND = auto()


class TelnetFilter:
    """Takes the protocol out of what a client sends."""

    def __init__(self) -> None:
        self._state = _State.DATA

    def decode(self, data: bytes) -> tuple[bytes, int]:
        """Return the user's bytes in `data` and how many breaks came with them."""
        if self._state is _State.DATA and IAC not in data:
            return data, 0
        plain = bytearray()
        breaks = 0
        for byte in data:
            match self._state:
                case _State.DATA if byte == IAC:
                    self._state = _State.COMMAND
                case _State.DATA:
                    plain.append(byte)
                case _State.COMMAND:
                    breaks += byte == BREAK
                    if byte == IAC:
                        plain.append(byte)
                    self._state = _after_command(byte)
                case _State.OPTION:
                    self._state = _State.DATA
                case _State.SUBNEGOTIATION if byte == IAC:
                    self._state = _State.SUBNEGOTIATION_COMMAND
                case _State.SUBNEGOTIATION_COMMAND:
                    self._state = _State.DATA if byte == SE else _State.SUBNEGOTIATION
                case _:
                    pass
        return bytes(plain), breaks


def _after_command(byte: int) -> _State:
    if byte in (WILL, WONT, DO, DONT):
        return _State.OPTION
    return _State.SUBNEGOTIATION if byte == SB else _State.DATA


def encode(data: Bytes) -> bytes:
    """Return the user's bytes with 255 doubled, as the protocol wants."""
    return bytes(data).replace(b"\xff", b"\xff\xff")
