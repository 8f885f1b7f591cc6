"""The machine lock: one per machine, held while device code, the QOM tree or the memory tree is
touched.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType


class MachineLock:
    """A re-entrant lock (what QEMU calls the BQL).

    vCPU threads take it to dispatch an MMIO access, the main loop and the timer threads around each
    callback. Whoever holds it must not wait for another of these threads.

    Runs: per exit.
    """

    __slots__ = ("_depth", "_lock", "_owner")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._depth = 0

    @property
    def held(self) -> bool:
        """True if the calling thread holds the lock."""
        return self._owner == threading.get_ident()

    def acquire(self) -> None:
        """Take the lock, waiting as long as it takes; once more if the calling thread has it
        already.
        """
        me = threading.get_ident()
        if self._owner != me:
            self._lock.acquire()
            self._owner = me
        self._depth += 1

    def release(self) -> None:
        """Give back one `acquire` of the calling thread."""
        assert self._owner == threading.get_ident(), "machine lock released by a thread without it"
        self._depth -= 1
        if self._depth == 0:
            self._owner = 0
            self._lock.release()

    @contextmanager
    def unlocked(self) -> Iterator[None]:
        """Give the lock up entirely for a while, however often the calling thread has it, to wait
        for a thread that may need it.
        """
        if not self.held:
            yield  # another thread's depth is not ours to touch
            return
        depth, self._depth = self._depth, 0
        self._owner = 0
        self._lock.release()
        try:
            yield
        finally:
            self.acquire()
            self._depth = depth

    def __enter__(self) -> MachineLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
