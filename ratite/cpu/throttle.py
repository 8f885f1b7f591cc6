"""Slowing the guest down: every vCPU sleeps a part of its time, and so writes to less memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ratite.core.threads import NamedThread

_SLICE_S = 0.01


class Throttle:
    """Has vCPUs leave generated code now and then, and sleep before they enter again."""

    def __init__(self, kick: Callable[[], None]) -> None:
        """`kick` has all vCPUs leave generated code."""
        self.percent = 0
        self.round = 0
        """Counts the naps: a vCPU takes each once."""
        self._kick = kick
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    def set(self, percent: int) -> None:
        """The part of their time that vCPUs sleep, 0 to 99."""
        self.percent = percent
        self._changed.set()
        if percent and (self._thread is None or not self._thread.is_alive()):
            self._thread = NamedThread("throttle", self._serve)
            self._thread.start()

    def nap(self, wanted: Callable[[], bool]) -> None:
        """Sleep, on a vCPU's thread, as long as `wanted`."""
        left = 1 - self.percent / 100
        end = time.monotonic() + _SLICE_S * (self.percent / 100) / left
        while wanted() and (rest := end - time.monotonic()) > 0:
            time.sleep(min(rest, _SLICE_S))

    def _serve(self) -> None:
        while self.percent:
            self._changed.clear()
            self._changed.wait(_SLICE_S / (1 - self.percent / 100))
            self.round += 1
            self._kick()
