"""Threads, and names of them and of the process as the host's tools show them.

Source: Linux, proc(5), `/proc/PID/task/TID/comm`; other hosts show what they like.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from ratite.core.signals import ENDING_SIGNALS

LONGEST = 15
"""Bytes of a name that Linux keeps."""


class NamedThread(threading.Thread):
    """A thread that does not keep the program from ending, and leaves the signals that ask for it
    to the main thread. The host shows its name if `shown`, which is the whole process's.
    """

    shown: ClassVar[bool] = False

    def __init__(self, name: str, target: Callable[[], object]) -> None:
        super().__init__(target=target, name=name, daemon=True)

    def run(self) -> None:
        """Called in the new thread."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        if NamedThread.shown:
            _write(Path(f"/proc/self/task/{threading.get_native_id()}/comm"), self.name)
        super().run()


def name_process(name: str) -> None:
    """Have `ps` and `top` show this name for the process, and for the threads that it starts."""
    _write(Path("/proc/self/comm"), name)


def name_threads() -> None:
    """Have `top -H` and debuggers show the names of the threads that are started from now on."""
    NamedThread.shown = True


def _write(path: Path, name: str) -> None:
    with contextlib.suppress(OSError):  # no such host
        path.write_bytes(name.encode()[:LONGEST])
