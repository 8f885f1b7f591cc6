"""Threads of the user's that do drives' requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from ratite.block import Drive, IoPool
from ratite.block.iothread import IoThread
from ratite.core.disk import DiskTerms
from ratite.qom import PropertyError
from tests.block.nodes import Loop, open_file
from tests.block.test_drive import Device


@pytest.fixture
def iothread() -> Iterator[IoThread]:
    thread = IoThread()
    thread.id = "io0"
    thread.complete()
    yield thread
    thread.close()


def names(iothread: IoThread, count: int) -> list[str]:
    """The threads that do so many jobs, one after the other."""
    done: SimpleQueue[str] = SimpleQueue()
    found = []
    for _ in range(count):
        iothread.run(lambda: done.put(threading.current_thread().name))
        found.append(done.get(timeout=30))
    return found


def test_jobs_are_done_by_one_thread_with_the_objects_name(iothread: IoThread) -> None:
    assert names(iothread, 3) == ["IO io0"] * 3
    (thread,) = [t for t in threading.enumerate() if t.name == "IO io0"]
    assert thread.native_id == iothread.thread_id
    iothread.close()
    assert not thread.is_alive()
    iothread.close()


def test_what_was_asked_for_is_done_before_the_end(iothread: IoThread) -> None:
    done: list[int] = []
    for number in range(100):
        iothread.run(lambda number=number: done.append(number))  # type: ignore[misc]
    iothread.close()
    assert done == list(range(100))


def test_looking_for_requests_grows_and_shrinks_within_its_limit(iothread: IoThread) -> None:
    iothread.poll_max_ns, times = 20000, []
    for waited_ns in (5000, 5000, 10000, 19000, 10**9, 5000):
        iothread._adapt(waited_ns)
        times.append(iothread._poll_ns)
    assert times == [4000, 8000, 16000, 20000, 0, 4000]
    iothread.poll_grow, iothread.poll_shrink = 4, 2
    iothread._adapt(5000)
    assert iothread._poll_ns == 16000
    iothread._adapt(30000)
    assert iothread._poll_ns == 8000
    assert names(iothread, 3) == ["IO io0"] * 3  # with looking, too


def test_times_are_not_negative(iothread: IoThread) -> None:
    with pytest.raises(PropertyError, match="poll-max-ns value must be in range"):
        iothread.set_property("poll-max-ns", -1)
    iothread.set_property("poll-max-ns", 0)
    assert names(iothread, 2) == ["IO io0"] * 2
    with pytest.raises(PropertyError, match="poll-shrink value must be in range"):
        IoThread(poll_shrink=-1).complete()


def test_a_drive_has_its_calls_made_where_its_device_says(
    image_path: Path, loop: Loop, pool: IoPool, iothread: IoThread
) -> None:
    calls: list[str] = []

    class Spy:
        def run(self, job: object, /) -> None:
            calls.append("asked")
            iothread.run(job)  # type: ignore[arg-type]

    drive = Drive("d0", loop, pool)
    drive.insert(open_file(image_path))
    results: list[int] = []
    drive.attach(Device(), DiskTerms(runner=Spy()))
    drive.writev(0, [memoryview(bytes(512))], results.append)
    drive.drain()
    assert (results, calls) == ([0], ["asked"])
    drive.detach()
    drive.flush(results.append)
    drive.drain()
    assert (results, calls) == ([0, 0], ["asked"])
    drive.close()
