"""Names of guest code, as the executables that were loaded give them: for the log."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Symbol:
    """A function: `size` bytes from guest-virtual `start` on; 0 where the executable does not say,
    which is up to the next one.
    """

    start: int
    size: int
    name: str


class Symbols:
    """The functions of one machine's guest. Executables are read when a name is first asked for:
    few runs ever do. Any thread may ask.
    """

    def __init__(self) -> None:
        self._unread: list[Callable[[], Iterable[Symbol]]] = []
        self._sorted: list[Symbol] = []
        self._starts: list[int] = []

    def add(self, read: Callable[[], Iterable[Symbol]]) -> None:
        """Note where more come from. `read` raises nothing."""
        self._unread.append(read)

    def at(self, gva: int) -> str:
        """The function that an address lies in; "" if none is known."""
        if self._unread:
            self._read()
        number = bisect_right(self._starts, gva) - 1
        if number < 0:
            return ""
        found = self._sorted[number]
        size = found.size
        if size == 0 and number + 1 < len(self._sorted):
            size = self._sorted[number + 1].start - found.start
        return found.name if gva - found.start < size else ""

    def _read(self) -> None:
        unread, self._unread = self._unread, []
        fresh = [symbol for read in unread for symbol in read()]
        known = sorted({*self._sorted, *fresh})
        self._starts, self._sorted = [symbol.start for symbol in known], known
