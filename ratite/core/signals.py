"""The signals that ask the program to end, and how building a machine stands towards them.

A machine is built whole or not at all, so they are held back meanwhile; but where building waits
for somebody outside (a client to come, a pipe to be written), they get through.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import ClassVar

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """An ending signal came while the main thread waited for somebody outside."""


def _interrupt() -> None:
    raise Interrupted


class HeldSignals:
    """A context of the main thread that holds ending signals back: in that thread until `release`,
    in those that it starts for good, so that signals reach the main thread only.

    A signal that gets through calls `action` there, which raises `Interrupted` unless it is set.
    One that is still held back at the end is forgotten.
    """

    active: ClassVar[HeldSignals | None] = None

    def __init__(self) -> None:
        self.action: Callable[[], None] = _interrupt

    def __enter__(self) -> HeldSignals:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        self._handlers = {number: signal.signal(number, self._come) for number in ENDING_SIGNALS}
        HeldSignals.active = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        HeldSignals.active = None
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def release(self) -> None:
        """Let the signals through from now on, those that have come already first."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)

    def _come(self, number: int, frame: FrameType | None) -> None:
        self.action()


@contextmanager
def interruptible() -> Iterator[None]:
    """Wait inside for somebody outside the program. The main thread gets the signals here that
    `HeldSignals` keeps back, so that `Interrupted` may be raised; nothing changes in other threads,
    or where no signal is held back.
    """
    if HeldSignals.active is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
