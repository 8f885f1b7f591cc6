"""Threads of the user's for requests to drives.

Source: QEMU's QMP reference, "IothreadProperties", and its document on adaptive polling.
Not modelled: batches, and pools of further threads: the thread makes the host's calls itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Annotated

from ratite.core.threads import NamedThread
from ratite.qom import Doc, Int64, Object, Property, PropertyError, Resolver

_FIRST_POLL_NS = 4000


class IoThread(Object):
    """A thread that does the requests of the devices that name it, one after the other.

    It looks for further requests for a while before it sleeps, longer if that turns out to be worth
    it, but never longer than `poll-max-ns`.
    """

    type_name = "iothread"

    def __init__(
        self,
        *,
        poll_max_ns: Annotated[Int64, Doc("how long it looks for requests at most; 0: never")] = (
            32768
        ),
        poll_grow: Annotated[Int64, Doc("that time's factor where it was too short; 0: 2")] = 0,
        poll_shrink: Annotated[
            Int64, Doc("its divisor where looking was in vain; 0: not to look any more")
        ] = 0,
    ) -> None:
        self.poll_max_ns = poll_max_ns
        self.poll_grow = poll_grow
        self.poll_shrink = poll_shrink
        self._poll_ns = 0
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: NamedThread | None = None
        super().__init__()

    @property
    def thread_id(self) -> int:
        """The host's number of the thread."""
        assert self._thread is not None and self._thread.native_id is not None
        return self._thread.native_id

    def complete(self) -> None:
        """Start the thread. Raises `ConfigError`."""
        for entry in self.properties().values():
            _check(entry, entry.get(self))
        self._thread = NamedThread(f"IO {self.id}", self._work)
        self._thread.start()

    def close(self) -> None:
        """Finish what was asked for, and end the thread."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def run(self, job: Callable[[], None]) -> None:
        """Run `job` on the thread. It must not raise."""
        self._jobs.put(job)

    def set_property(
        self, name: str, value: object, resolve: Resolver | None = None, *, strict: bool = False
    ) -> None:
        """Set a property, at any time. Raises `PropertyError`."""
        entry = self.properties().get(name)
        if entry is not None:
            _check(entry, entry.parse(self.type_name, value, resolve, strict=strict))
        super().set_property(name, value, resolve, strict=strict)

    # -- the thread

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job()

    def _next(self) -> Callable[[], None] | None:
        start_ns = time.monotonic_ns()
        if self._poll_ns:
            end_ns = start_ns + self._poll_ns
            while time.monotonic_ns() < end_ns:
                try:
                    return self._jobs.get_nowait()
                except Empty:
                    time.sleep(0)  # lets others have the interpreter
        job = self._jobs.get()
        self._adapt(time.monotonic_ns() - start_ns)
        return job

    def _adapt(self, waited_ns: int) -> None:
        """Look longer the next time if that would have met the job, else less long."""
        if waited_ns > self.poll_max_ns:
            self._poll_ns = self._poll_ns // self.poll_shrink if self.poll_shrink else 0
        elif waited_ns > self._poll_ns:
            longer = self._poll_ns * (self.poll_grow or 2) or _FIRST_POLL_NS
            self._poll_ns = min(longer, self.poll_max_ns)


def _check(entry: Property, value: int) -> None:
    if value < 0:
        raise PropertyError(f"{entry.name} value must be in range [0, {entry.maximum}]")
