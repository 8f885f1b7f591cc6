"""Telling the network where a guest is: after it has moved here, and when a client asks for it.

Source: RFC 903 (RARP); QEMU's QMP reference, "announce-self", for the times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ratite.core.ethernet import BROADCAST
from ratite.core.loop import Loop

_RARP_REQUEST = bytes.fromhex("8035 0001 0800 06 04 0003")
_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class AnnounceTerms:
    """How often, and when; milliseconds."""

    initial: int = 50
    max: int = 550
    rounds: int = 5
    step: int = 100

    def pause_ms(self, round: int) -> int:
        """What passes after a round, counted from 0, before the next."""
        wanted = self.initial + round * self.step
        return wanted if 0 <= wanted <= self.max else max(self.max, 0)


def announcement(mac: bytes) -> bytes:
    """The frame from which switches learn where the card with this address is."""
    nowhere = bytes(4)
    return (BROADCAST + mac + _RARP_REQUEST + (mac + nowhere) * 2).ljust(60, b"\0")


class Announcements:
    """Rounds that go on, by the name that a client gave them; a new one takes the place of another
    of its name.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._latest: dict[str, object] = {}

    def begin(self, name: str, terms: AnnounceTerms, announce: Callable[[], None]) -> None:
        """Call `announce` now and in each round to come."""
        token = self._latest[name] = object()

        def run(number: int) -> None:
            if self._latest.get(name) is not token:
                return
            announce()
            if number + 1 < terms.rounds:
                self._loop.post_after(terms.pause_ms(number) * _MS, lambda: run(number + 1))
            else:
                del self._latest[name]

        if terms.rounds > 0:
            run(0)
        else:
            del self._latest[name]

    def end(self) -> None:
        """Announce no more."""
        self._latest.clear()
