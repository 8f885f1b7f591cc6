"""When a monitor does its next piece of work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from ratite.chardev import Chardev
from ratite.monitor.outlet import REPLY_LIMIT, Outlet
from ratite.monitor.turns import Turns
from ratite.monitor.vm import Vm


class Stage:
    """A machine's loop, a backend and a monitor's work, all played by the test."""

    def __init__(self) -> None:
        self.loop = self
        self.posted: list[Callable[[], object]] = []
        self.accepted = 0
        self.room = 1 << 30
        self.done = 0
        self.pieces = 0  # that wait to be done
        self.outlet = Outlet(cast(Chardev, self))
        self.turns = Turns(cast(Vm, self), cast(Chardev, self), self.outlet, self.work)

    def post(self, callback: Callable[[], Any]) -> None:
        self.posted.append(callback)

    def turn(self) -> None:
        """One turn of the loop."""
        posted, self.posted = self.posted, []
        for callback in posted:
            callback()

    def accept_input(self) -> None:
        self.accepted += 1

    def write(self, data: bytes) -> int:
        taken = min(len(data), self.room)
        self.room -= taken
        return taken

    def work(self) -> bool:
        self.pieces -= 1
        self.done += 1
        return self.pieces > 0


def test_the_first_piece_is_done_at_once_the_others_a_turn_each() -> None:
    stage = Stage()
    stage.pieces = 3
    stage.turns.take()
    assert (stage.done, stage.turns.busy, stage.accepted) == (1, True, 0)
    stage.turn()
    assert (stage.done, stage.turns.busy, stage.accepted) == (2, True, 0)
    stage.turn()
    assert (stage.done, stage.turns.busy, stage.accepted) == (3, False, 1)
    stage.turn()
    assert stage.done == 3


def test_a_client_that_does_not_read_is_not_worked_for() -> None:
    stage = Stage()
    stage.room = 0
    stage.outlet.write(bytes(REPLY_LIMIT + 1))
    stage.pieces = 1
    stage.turns.take()
    assert (stage.done, stage.turns.busy) == (0, True)
    stage.turns.go_on(pending=True)
    stage.turn()
    assert (stage.done, stage.turns.busy) == (0, True)
    stage.room = 1 << 30
    stage.turns.go_on(pending=True)
    stage.turns.go_on(pending=True)
    assert len(stage.posted) == 1
    stage.turn()
    assert (stage.done, stage.turns.busy) == (1, False)


def test_a_client_that_reads_again_is_asked_for_more() -> None:
    stage = Stage()
    stage.turns.go_on(pending=False)
    assert (stage.done, stage.posted, stage.accepted) == (0, [], 1)


def test_input_between_turns_is_not_done_twice() -> None:
    stage = Stage()
    stage.pieces = 2
    stage.turns.take()
    stage.turns.take()
    assert stage.done == 2
    stage.turn()
    assert stage.done == 2
