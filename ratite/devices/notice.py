"""What devices tell whoever manages the machine, besides what they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PortChanged:
    """The guest opened or closed the port with this id."""

    id: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class IoFailed:
    """The host could not do a request to a drive; `errno` says why, `reported` if the guest was
    told.
    """

    drive: str
    is_write: bool
    errno: int
    reported: bool


Notice = PortChanged | IoFailed
Notify = Callable[[Notice], None]
"""Called with the machine lock held, on any thread."""


def ignore(notice: Notice) -> None:
    """Nobody manages the machine."""
