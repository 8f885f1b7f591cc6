"""The process that a program runs in: its standard streams, and Ctrl-C before there is a machine.

Imported by the programs before all else: it imports next to nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def begin() -> None:
    """Called first in a program's process. SIGINT ends it without further ado, even amid an import.
    Standard streams that are closed become /dev/null, lest a file that is opened takes their place.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            os.set_inheritable(fd, True)


@contextmanager
def ctrl_c_raises() -> Iterator[None]:
    """Inside, SIGINT raises KeyboardInterrupt, for work that must be left in order."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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


def tell(program: str, text: str) -> None:
    """A line for the user on standard error; lost if that is closed or refuses."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"{program}: {text}", file=sys.stderr, flush=True)


def _drop_output() -> None:
    """What is still buffered must not fail again when Python flushes it at the end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
