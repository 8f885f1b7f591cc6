"""How far long work is, for a person who waits at a monitor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ratite.core.progress import Progress, nobody_looks

_PATIENCE_S = 1.0
_INTERVAL_S = 0.2
_ERASE = "\r\x1b[K"


@contextmanager
def shown_progress(what: str, show: Callable[[str], object] | None) -> Iterator[Progress]:
    """Where to tell how far some work is: `show` gets a line that replaces itself, and is gone at
    the end. Short work shows nothing.
    """
    if show is None:
        yield nobody_looks
        return
    due = time.monotonic() + _PATIENCE_S
    was_shown = False

    def tell(done: int, total: int) -> None:
        nonlocal due, was_shown
        now = time.monotonic()
        if now >= due:
            due, was_shown = now + _INTERVAL_S, True
            show(f"{_ERASE}{what}: {done * 100 // max(total, 1)} %")

    try:
        yield tell
    finally:
        if was_shown:
            show(_ERASE)
