"""Threads for system calls that wait for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from ratite.core.threads import NamedThread


class IoPool:
    """Worker threads for blocking system calls, started when first needed.

    One pool may serve any number of drives and machines.
    """

    def __init__(self, threads: int = 4) -> None:
        self._limit = threads
        self._threads: list[NamedThread] = []
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()

    def run(self, job: Callable[[], None]) -> None:
        """Run `job` on a worker. It must not raise."""
        self._jobs.put(job)
        if len(self._threads) < self._limit:
            with self._lock:
                if len(self._threads) < self._limit:
                    thread = NamedThread("block-io", self._work)
                    self._threads.append(thread)
                    thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def close(self) -> None:
        """Finish the queued jobs and end the threads."""
        with self._lock:
            threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join()
