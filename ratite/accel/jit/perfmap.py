"""The map by which Linux perf names generated code (`-perfmap`): /tmp/perf-PID.map, a line per
function: address and size in hexadecimal, name. perf wants that place.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import TextIO

from ratite.core.errors import HostError
from ratite.native.loader import LoadedObject


class PerfMap:
    """The process's map. Any thread may add to it."""

    def __init__(self, path: str) -> None:
        """Begin the file anew. Raises `HostError`."""
        try:
            # Not through a link that somebody else has laid there.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            self._file: TextIO = open(os.open(path, flags, 0o644), "w", encoding="utf-8")
        except OSError as error:
            raise HostError.from_os("write the perf map", error, path) from error
        self._lock = threading.Lock()

    def add(self, code: LoadedObject, name: str = "") -> None:
        """Enter the functions of an object, or one under another name."""
        lines = [
            f"{address:x} {size:x} {name or symbol}\n" for symbol, address, size in code.functions()
        ]
        with self._lock:
            self._file.writelines(lines)
            self._file.flush()


@functools.cache
def perf_map() -> PerfMap:
    """The process's map, begun at the first call. Raises `HostError`."""
    return PerfMap(f"/tmp/perf-{os.getpid()}.map")
