"""Breakpoints and watchpoints that a client has set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from ratite.cpu.debug import Watchpoint
from ratite.isa.state import READ, WRITE


class PointType(IntEnum):
    """The numbers of `Z` packets."""

    SOFTWARE = 0
    HARDWARE = 1
    WRITE = 2
    READ = 3
    ACCESS = 4


_ACCESS = {
    PointType.WRITE: (WRITE, "watch"),
    PointType.READ: (READ, "rwatch"),
    PointType.ACCESS: (READ | WRITE, "awatch"),
}
_TOP = (1 << 64) - 1


class Engine(Protocol):
    """An accelerator."""

    def set_debug_points(
        self, breakpoints: Sequence[int], watchpoints: Sequence[Watchpoint], /
    ) -> None:
        """Replace what ends `run` with `Exit.DEBUG`; no vCPU is inside `run`."""


@dataclass(frozen=True, slots=True)
class Point:
    """One breakpoint or watchpoint."""

    type: PointType
    address: int
    size: int  # watchpoints: bytes; breakpoints: the client's own business


class PointTable:
    """The points of one machine. Both kinds of breakpoint work the same way: guest memory is never
    changed. Clients remove and set all points at every stop, so `commit` compares first.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._points: dict[Point, None] = {}
        self._breakpoints: list[int] = []  # in effect
        self._watched: list[Point] = []  # in effect
        self._committed = True

    def add(self, point: Point) -> None:
        """Set a point; setting it again changes nothing. Raises `ValueError` for one that cannot
        be.
        """
        if point.type in _ACCESS and not 0 < point.size <= _TOP - point.address + 1:
            raise ValueError("a watchpoint has a size")
        self._points[point] = None
        self._committed = False

    def remove(self, point: Point) -> None:
        """Remove a point, if it is set."""
        self._points.pop(point, None)
        self._committed = False

    def clear(self) -> None:
        """Remove all."""
        self._points.clear()
        self._committed = False

    def commit(self, *, stepping: bool = False) -> None:
        """Put them into effect; for a step only the watchpoints. No vCPU executes."""
        if self._committed:
            return
        if not stepping:
            self._committed = True
            self._breakpoints = [p.address for p in self._points if p.type not in _ACCESS]
        self._watched = [point for point in self._points if point.type in _ACCESS]
        watchpoints = [
            Watchpoint(point.address, point.address + point.size - 1, _ACCESS[point.type][0])
            for point in self._watched
        ]
        self._engine.set_debug_points(self._breakpoints, watchpoints)

    def breakpoint_at(self, pc: int) -> PointType | None:
        """The kind of breakpoint set at an address."""
        for point in self._points:
            if point.address == pc and point.type not in _ACCESS:
                return point.type
        return None

    def watched(self, number: int) -> Point | None:
        """The watchpoint with a number as the engine counts them, if it is still set."""
        point = self._watched[number] if number < len(self._watched) else None
        return point if point in self._points else None


def watch_reason(point: Point) -> str:
    """A watchpoint's part of a stop reply."""
    return f"{_ACCESS[point.type][1]}:{point.address:x};"


__all__ = ["Engine", "Point", "PointTable", "PointType", "watch_reason"]
