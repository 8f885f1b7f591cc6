"""The main loop as those see it who wait for descriptors on it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol


class Loop(Protocol):
    """What backends need of the event loop; callbacks come with the machine lock held."""

    @property
    def current(self) -> bool:
        """True on the loop's own thread."""

    def post(self, callback: Callable[[], object]) -> None:
        """Have this run on the loop, in the order of posting."""

    def post_after(self, delay_ns: int, callback: Callable[[], object]) -> None:
        """Have this run on the loop after some host time."""

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        """Call this whenever `fd` can be read or has ended."""

    def remove_reader(self, fd: int) -> None:
        """Watch `fd` for reading no more."""

    def add_writer(self, fd: int, callback: Callable[[], object]) -> None:
        """Call this whenever `fd` can be written."""

    def remove_writer(self, fd: int) -> None:
        """Watch `fd` for writing no more."""


def close_later(loop: Loop, fd: int) -> None:
    """Have `fd` watched no more and closed, after all that any thread has asked of it before."""
    loop.post(lambda: close_watched(loop, fd))


def close_watched(loop: Loop, fd: int) -> None:
    """Stop watching `fd`, then close it: on the loop, where its number cannot be reused between."""
    loop.remove_reader(fd)
    loop.remove_writer(fd)
    if loop.current:
        os.close(fd)
    else:
        loop.post(lambda: os.close(fd))
