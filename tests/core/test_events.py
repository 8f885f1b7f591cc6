"""The main loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest

from ratite.core import MachineLock
from ratite.core.events import EventLoop


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop(MachineLock())
    loop.start()
    yield loop
    loop.stop()


def test_posted_callbacks_run_in_order_on_the_loop_with_the_lock_held(loop: EventLoop) -> None:
    seen: list[tuple[int, bool, bool]] = []
    for number in range(3):
        loop.post(lambda number=number: seen.append((number, loop.current, loop.lock.held)))
    loop.call(lambda: None)
    assert seen == [(0, True, True), (1, True, True), (2, True, True)]


def test_call_answers_and_passes_exceptions_on(loop: EventLoop) -> None:
    assert loop.call(lambda: 42) == 42
    assert loop.call(lambda: loop.call(lambda: 43)) == 43
    with pytest.raises(ZeroDivisionError):
        loop.call(lambda: 1 // 0)


def test_a_reader_is_called_when_there_is_something_to_read(loop: EventLoop) -> None:
    read_end, write_end = os.pipe()
    got: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        got.append(os.read(read_end, 100))
        loop.remove_reader(read_end)
        done.set()

    loop.add_reader(read_end, read)
    os.write(write_end, b"hello")
    assert done.wait(5)
    assert got == [b"hello"]
    os.close(read_end)
    os.close(write_end)


def test_a_regular_file_can_be_watched(loop: EventLoop) -> None:
    done = threading.Event()
    with open(os.devnull, "rb") as null:

        def read() -> None:
            loop.remove_reader(null.fileno())
            done.set()

        loop.add_reader(null.fileno(), read)
        assert done.wait(5)


def test_a_writer_is_called_when_there_is_room(loop: EventLoop) -> None:
    read_end, write_end = os.pipe()
    done = threading.Event()

    def write() -> None:
        loop.remove_writer(write_end)
        done.set()

    loop.add_writer(write_end, write)
    assert done.wait(5)
    os.close(read_end)
    os.close(write_end)


def test_a_callback_that_raises_is_shown_and_the_loop_goes_on(
    loop: EventLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.post(lambda: 1 // 0)
    assert loop.call(lambda: "alive") == "alive"
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_coroutines_run_without_the_lock(loop: EventLoop) -> None:
    async def work() -> bool:
        await asyncio.sleep(0)
        return loop.lock.held

    assert loop.spawn(work()).result(5) is False


def test_delayed_callbacks_come_later(loop: EventLoop) -> None:
    done = threading.Event()
    loop.post_after(1_000_000, done.set)
    assert done.wait(5)


def test_stop_ends_the_thread_and_later_posts_are_dropped() -> None:
    loop = EventLoop(MachineLock())
    loop.start()
    loop.start()
    loop.stop()
    loop.stop()
    loop.post(pytest.fail)
    loop.add_reader(0, pytest.fail)


def test_a_loop_that_never_started_can_be_stopped() -> None:
    EventLoop(MachineLock()).stop()
