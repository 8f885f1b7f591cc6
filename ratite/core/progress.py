"""How far long work is: who does it says so, who waits shows it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], object]
"""Called now and then with what is done and what there is to do, in any unit."""


def nobody_looks(done: int, total: int) -> None:
    """The progress of work that nobody waits for."""
