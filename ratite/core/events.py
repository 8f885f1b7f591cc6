"""The main loop: host events, each handled with the machine lock held.

Not re-exported by `ratite.core`: it imports asyncio, which costs some 40 ms that `-version` does
not want to pay.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from ratite.core.lock import MachineLock
from ratite.core.threads import NamedThread

T = TypeVar("T")


class EventLoop:
    """An asyncio loop in a thread of its own.

    Every callback given to it runs on that thread with the machine lock held; coroutines (of
    monitors, say) run without it and take it themselves. Any thread may call any method.
    """

    def __init__(self, lock: MachineLock, name: str = "main loop") -> None:
        self.lock = lock
        # poll, not epoll: a redirected regular file or /dev/null can then be waited for like any
        # terminal.
        self._loop = asyncio.SelectorEventLoop(selectors.PollSelector())
        self._thread = NamedThread(name, self._serve)
        self._started = False

    @property
    def asyncio_loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself, for asyncio servers and streams."""
        return self._loop

    @property
    def current(self) -> bool:
        """True on the loop's own thread."""
        return threading.current_thread() is self._thread

    def start(self) -> None:
        """Start the thread. Does nothing if it is running."""
        if not self._started:
            self._started = True
            self._thread.start()

    def stop(self) -> None:
        """End the loop after the callbacks already posted, and wait for it. The caller does not
        hold the machine lock.

        Called on the loop's own thread, it only asks for the end.
        """
        if not self._started:
            if not self._loop.is_closed():
                self._loop.close()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._loop.stop)
        if not self.current:
            self._thread.join()

    def post(self, callback: Callable[[], object]) -> None:
        """Have this run on the loop, soon, in the order of posting. After `stop` it is dropped."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._run, callback)

    def post_after(self, delay_ns: int, callback: Callable[[], object]) -> None:
        """Have this run on the loop after some host time."""
        self._direct(lambda: self._loop.call_later(delay_ns / 1e9, self._run, callback))

    def call(self, function: Callable[[], T], timeout: float | None = None) -> T:
        """Run this on the loop and answer its result, or raise what it raises.

        The caller does not hold the machine lock (unless it is on the loop already). `timeout` in
        seconds raises `TimeoutError`.
        """
        if self.current:
            with self.lock:
                return function()
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self.post(run)
        return future.result(timeout)

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop, without the machine lock."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        """Call this whenever `fd` can be read (or has ended), instead of an earlier reader."""
        self._direct(lambda: self._loop.add_reader(fd, self._run, callback))

    def remove_reader(self, fd: int) -> None:
        """Watch `fd` for reading no more. Does nothing if it was not watched."""
        self._direct(lambda: self._loop.remove_reader(fd))

    def add_writer(self, fd: int, callback: Callable[[], object]) -> None:
        """Call this whenever `fd` can be written, instead of any earlier writer of it."""
        self._direct(lambda: self._loop.add_writer(fd, self._run, callback))

    def remove_writer(self, fd: int) -> None:
        """Watch `fd` for writing no more. Does nothing if it was not watched."""
        self._direct(lambda: self._loop.remove_writer(fd))

    def _direct(self, action: Callable[[], object]) -> None:
        """Do something to the loop's own tables, on its thread: at once if we are there."""
        if self.current or not self._started:
            if self._loop.is_closed():
                return
            action()
        else:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(action)

    def _run(self, callback: Callable[[], object]) -> None:
        with self.lock:
            try:
                callback()
            except Exception:
                # One of the two places that may: a bug in one device's callback is shown, and the
                # rest goes on.
                print("ratite: error in a main loop callback", file=sys.stderr)
                traceback.print_exc()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()
