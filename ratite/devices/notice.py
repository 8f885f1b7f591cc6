"""What devices tell whoever manages the machine, besides what they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ratite.core.disk import ErrorAction


@dataclass(frozen=True, slots=True)
class PortChanged:
    """The guest opened or closed the port with this id."""

    id: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class IoFailed:
    """The host could not do a request to a drive (of this name, with this node): `errno` says why,
    `action` what was done about it. `tells_space`: whether anybody asked if space is the reason.
    """

    drive: str
    node: str
    is_write: bool
    errno: int
    action: ErrorAction
    tells_space: bool


@dataclass(frozen=True, slots=True)
class ThresholdPassed:
    """A write to a block node went `exceeded` bytes beyond the threshold set."""

    node: str
    exceeded: int
    threshold: int


@dataclass(frozen=True, slots=True)
class RxFilterChanged:
    """The guest changed which frames the network card with this id, at this path, takes."""

    id: str
    path: str


Notice = PortChanged | IoFailed | ThresholdPassed | RxFilterChanged
Notify = Callable[[Notice], None]
"""Called with the machine lock held, on any thread."""


def ignore(notice: Notice) -> None:
    """Nobody manages the machine."""
