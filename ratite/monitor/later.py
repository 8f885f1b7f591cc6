"""Commands whose answer takes long: what must be waited for is done on a thread of its own, while
the guest, the main loop and other monitors go on. The monitor that asked waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ratite.core.lock import MachineLock
from ratite.core.loop import Loop
from ratite.core.threads import NamedThread

Outcome = Callable[[], Any]
"""Answers what the work came to, or raises what it raised."""


@dataclass(frozen=True, slots=True)
class Later:
    """What a command answers instead of its result. `work` is done without the machine lock;
    `finish` on the main loop, with it: it makes the result, or raises what the command would.
    """

    work: Callable[[], object]
    finish: Callable[[Outcome], Any]

    def then(self, change: Callable[[Outcome], Any]) -> Later:
        """The same, with another result: made of this one, which may be an error."""
        return Later(self.work, lambda outcome: change(lambda: self.finish(outcome)))

    def begin(self, loop: Loop, done: Callable[[Outcome], object]) -> None:
        """Start to work; `done` gets the way to the result, on the main loop."""

        def run() -> None:
            outcome = _perform(self.work)
            loop.post(lambda: done(lambda: self.finish(outcome)))

        NamedThread("monitor work", run).start()

    def wait(self, lock: MachineLock) -> Any:
        """Do it all here, for callers that cannot come back. The machine lock, which they hold, is
        given up for the work, so that the guest goes on.
        """
        with lock.unlocked():
            outcome = _perform(self.work)
        return self.finish(outcome)


def _perform(work: Callable[[], object]) -> Outcome:
    try:
        result = work()
    except Exception as error:
        failure = error

        def fail() -> Any:
            raise failure

        return fail
    return lambda: result
