"""What character devices need of the host: a byte stream that never makes them wait."""

from __future__ import annotations

from typing import Protocol

from ratite.core.char import CharEvent


class CharFrontend(Protocol):
    """The device's side. Every method is called with the machine lock held."""

    def can_receive(self) -> int:
        """Return how many bytes `receive` would take now; 0 holds the input back."""

    def receive(self, data: bytes) -> None:
        """Take input: between 1 and `can_receive()` bytes."""

    def event(self, event: CharEvent) -> None:
        """Note what happened on the stream."""


class CharBackend(Protocol):
    """The host's side. Every method is called with the machine lock held, and none waits."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Take output; return how many bytes were taken.

        Fewer than `len(data)` means that the buffer is full: the frontend gets
        `CharEvent.WRITABLE` when there is room again. While nobody is connected everything is
        taken, and lost.
        """

    def attach(self, frontend: CharFrontend | None, /) -> None:
        """Connect the device, which gets `CharEvent.OPENED` at once if the other end is there."""

    def accept_input(self) -> None:
        """Say that `can_receive` has grown: input held back may be delivered."""

    def set_guest_open(self, is_open: bool, /) -> None:
        """Say whether the guest has the device open, for devices that know."""
