"""A monitor's work, a piece per turn of the main loop: a client that sends much does not keep the
guest from its devices, and one that does not read its answers is asked for nothing more.
"""

from __future__ import annotations

from collections.abc import Callable

from ratite.chardev import Chardev
from ratite.monitor.later import Later, Outcome
from ratite.monitor.outlet import Outlet
from ratite.monitor.vm import Vm


class Turns:
    """When a monitor does its next piece of work. Used with the machine lock held.

    `work` does one piece of the input that has come, if that is enough for one, and answers whether
    to come again for the rest.
    """

    def __init__(self, vm: Vm, chardev: Chardev, outlet: Outlet, work: Callable[[], bool]) -> None:
        self._vm = vm
        self._chardev = chardev
        self._outlet = outlet
        self._work = work
        self._posted = False
        self._waiting = False  # for the answer to what was asked

    @property
    def busy(self) -> bool:
        """True while no input is wanted: a piece waits, or the client does not read."""
        return self._posted or self._waiting or self._outlet.blocked

    def wait_for(self, later: Later, done: Callable[[Outcome], object]) -> None:
        """Do nothing until this is over; then what is to be `done` about it."""
        self._waiting = True

        def over(outcome: Outcome) -> None:
            self._waiting = False
            done(outcome)
            if not self._waiting:
                self._come_again()

        later.begin(self._vm.loop, over)

    def take(self) -> None:
        """Do a piece now; if there is more, come again."""
        self._posted = False
        if not self._outlet.blocked and not self._waiting and self._work():  # else WRITABLE comes
            self._come_again()

    def go_on(self, *, pending: bool) -> None:
        """The client reads again (WRITABLE): send what waits; then the work that is `pending`, or
        new input.
        """
        self._outlet.flush()
        if pending:
            self._come_again()
        elif not self._outlet.blocked:
            self._chardev.accept_input()

    def _come_again(self) -> None:
        if not self._posted:
            self._posted = True
            self._vm.loop.post(self._next)

    def _next(self) -> None:
        if not self._posted:
            return
        self.take()
        if not self._posted:
            self._chardev.accept_input()
