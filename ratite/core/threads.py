"""Names of threads and of the process, as the host's tools show them.

Source: Linux, proc(5), `/proc/PID/task/TID/comm`; other hosts show what they like.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

LONGEST = 15
"""Bytes of a name that Linux keeps."""


def name_process(name: str) -> None:
    """Have `ps` and `top` show this name for the process."""
    _write(Path("/proc/self/comm"), name)


def name_threads() -> None:
    """Have `top -H` and debuggers show Python's names of the threads that there are now, but for
    the main thread, whose name is the process's."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.native_id is not None:
            _write(Path(f"/proc/self/task/{thread.native_id}/comm"), thread.name)


def _write(path: Path, name: str) -> None:
    with contextlib.suppress(OSError):  # no such host, or the thread has ended
        path.write_bytes(name.encode()[:LONGEST])
