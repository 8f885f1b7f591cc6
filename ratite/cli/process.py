"""The process that a program runs in: its standard streams, and Ctrl-C before there is a machine.

Imported by the programs before all else: until Ctrl-C is seen to it would show a traceback, so that
this imports nothing but what is part of the interpreter (`_signal` is what `signal` wraps).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # of Linux's mman.h


def begin() -> None:
    """Called first in a program's process. SIGINT ends it without further ado, even amid an import.
    Standard streams that are closed become /dev/null, lest a file that is opened takes their place.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            os.set_inheritable(fd, True)


class CtrlCRaises:
    """A context inside which SIGINT raises KeyboardInterrupt, for work that must be left in
    order.
    """

    def __enter__(self) -> None:
        self._before = _signal.getsignal(_signal.SIGINT)
        if self._before == _signal.SIG_DFL:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _signal.signal(_signal.SIGINT, self._before)


def lock_memory() -> None:
    """Have the host keep in memory what the process has touched, or will. Raises `HostError`."""
    import ctypes

    from ratite.core.errors import HostError

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        number = ctypes.get_errno()
        raise HostError(f"cannot lock memory: {os.strerror(number)}", number)


def show(text: str) -> None:
    """Write to standard output, at once. Lost if that is closed, or if its reader has left; raises
    `HostError` for any other refusal.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _drop_output()
        if not isinstance(error, BrokenPipeError):
            from ratite.core.errors import HostError

            raise HostError.from_os("write to standard output", error) from error


class Messages:
    """Lines for the user on standard error. They begin with the program's name, and what `-msg`
    puts before it.
    """

    def __init__(self, program: str, *, timestamp: bool = False, guest: str | None = None) -> None:
        self._program = program
        self._timestamp = timestamp
        self._guest = guest

    def tell(self, text: str) -> None:
        """Write a line; it is lost if standard error is closed or refuses."""
        if sys.stderr is not None:
            try:
                print(f"{self._head()}{self._program}: {text}", file=sys.stderr, flush=True)
            except OSError:
                return

    def _head(self) -> str:
        words = []
        if self._timestamp:
            seconds, ns = divmod(time.time_ns(), 1_000_000_000)
            moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
            words.append(f"{moment}.{ns // 1000:06d}Z")
        if self._guest:
            words.append(self._guest)
        return "".join(f"{word} " for word in words)


def _drop_output() -> None:
    """What is still buffered must not fail again when Python flushes it at the end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
