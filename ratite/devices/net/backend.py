"""What network cards need of the host: a cable that never makes them wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class NetUser(Protocol):
    """The card's side. Every method is called with the machine lock held."""

    def receive(self, frame: memoryview, /) -> bool:
        """Take a frame, or lose it; the memory is the caller's again afterwards. False: not now;
        the same frame comes again after `accept_input`.
        """

    def writable(self) -> None:
        """After `send` answered False: now may be better."""

    def link_changed(self, up: bool, /) -> None:
        """The cable is in, or out."""


class NetBackend(Protocol):
    """The host's side. Every method is called with the machine lock held, and none waits."""

    @property
    def id(self) -> str:
        """What the user calls it."""

    def attach(self, user: NetUser, /) -> None:
        """Serve this card from now on."""

    def send(self, buffers: Sequence[memoryview], /) -> bool:
        """Take a frame, in pieces, or lose it. False: not now; `writable` follows."""

    def accept_input(self) -> None:
        """The card can take frames again."""
