"""A terminal in raw mode, and its way back whatever ends the process.

Source: POSIX.1-2017 chapter 11 (general terminal interface).
Not modelled: restoring after SIGKILL or a crash of the process, which nothing inside it survives.
"""

from __future__ import annotations

import atexit
import os
import signal
import termios
from types import FrameType
from typing import ClassVar

_DEADLY = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


class RawTerminal:
    """Raw mode of the terminal `fd`; does nothing if `fd` is no terminal.

    Output processing stays on, so that messages printed besides the guest's look right. With
    `signals` the keys Ctrl-C, Ctrl-Z and Ctrl-\\ keep their meaning. The mode is restored by
    `leave`, at exit, before a signal that the program does not handle ends it, and while the
    process is stopped.
    """

    active: ClassVar[list[RawTerminal]] = []  # what must be restored

    def __init__(self, fd: int, *, signals: bool) -> None:
        self._fd = fd
        self._signals = signals
        self._saved: list[int | list[bytes | int]] | None = None

    def enter(self) -> None:
        """Switch to raw mode. Does nothing if it is on, or if there is no terminal."""
        if self._saved is not None or not os.isatty(self._fd):
            return
        self._saved = termios.tcgetattr(self._fd)
        if not RawTerminal.active:
            atexit.register(_restore_all)
            _handle_signals()
        RawTerminal.active.append(self)
        self.apply()

    def apply(self) -> None:
        """Set the raw mode again, as after the process was stopped and continued."""
        iflag, oflag, cflag, lflag, ispeed, ospeed, chars = termios.tcgetattr(self._fd)
        iflag &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        oflag |= termios.OPOST
        cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
        if not self._signals:
            lflag &= ~termios.ISIG
        chars[termios.VMIN], chars[termios.VTIME] = 1, 0
        self._set([iflag, oflag, cflag, lflag, ispeed, ospeed, chars])

    def leave(self) -> None:
        """Restore the mode found by `enter`. Does nothing if raw mode is off."""
        if self._saved is None:
            return
        self.restore()
        self._saved = None
        RawTerminal.active.remove(self)
        if not RawTerminal.active:
            atexit.unregister(_restore_all)

    def restore(self) -> None:
        """Set the mode found by `enter`, but stay responsible for the terminal."""
        if self._saved is not None:
            self._set(self._saved)

    def _set(self, mode: list[int | list[bytes | int]]) -> None:
        # A background process may set the mode of its terminal only with SIGTTOU blocked.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)
        except termios.error:
            pass  # the terminal has vanished
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _restore_all() -> None:
    for terminal in RawTerminal.active:
        terminal.restore()


def _handle_signals() -> None:
    """Catch the signals that end or stop the process and that nobody else handles."""
    try:
        for number in _DEADLY:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _die)
        if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, _stop)
    except ValueError:
        pass  # not the main thread: whoever embeds ratite there handles signals


def _die(number: int, _frame: FrameType | None) -> None:
    _restore_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _stop(number: int, _frame: FrameType | None) -> None:
    _restore_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)  # stops here, until SIGCONT
    signal.signal(number, _stop)
    for terminal in RawTerminal.active:
        terminal.apply()
