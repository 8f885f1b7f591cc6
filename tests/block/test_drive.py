"""Drives: asynchronous requests and their completions."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue

import pytest

from ratite.block import CacheMode, Drive, IoPool, RawImage


class Loop:
    """An event loop that runs when the test says so."""

    def __init__(self) -> None:
        self.posted: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def post(self, callback: Callable[[], None], /) -> None:
        self.posted.put(callback)

    def run_one(self) -> None:
        self.posted.get(timeout=10)()


@pytest.fixture
def pool() -> Iterator[IoPool]:
    pool = IoPool()
    yield pool
    pool.close()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def drive(tmp_path: Path, loop: Loop, pool: IoPool) -> Iterator[Drive]:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    drive = Drive("d0", RawImage(path), loop, pool)
    yield drive
    drive.close()


def test_a_write_completes_on_the_loop(drive: Drive, loop: Loop) -> None:
    results: list[int] = []
    drive.writev(512, [memoryview(b"data")], results.append)
    assert not results
    loop.run_one()
    assert results == [0]
    view = memoryview(bytearray(4))
    drive.readv(512, [view], results.append)
    drive.drain()
    assert results == [0, 0]
    assert view == b"data"


def test_an_error_is_an_errno(drive: Drive) -> None:
    results: list[int] = []
    drive.writev(1 << 20, [memoryview(b"data")], results.append)
    drive.readv((1 << 20) - 1, [memoryview(bytearray(4))], results.append)
    drive.drain()
    assert results == [errno.EINVAL, errno.EINVAL]
    assert drive.stats.failed_operations == 2


def test_drain_waits_for_everything_and_for_what_completions_start(drive: Drive) -> None:
    order: list[str] = []
    drive.writev(0, [memoryview(b"x")], lambda _: drive.flush(lambda _: order.append("flushed")))
    drive.discard(0, 512, lambda _: order.append("discarded"))
    drive.write_zeroes(0, 512, True, lambda _: order.append("zeroed"))
    drive.drain()
    assert sorted(order) == ["discarded", "flushed", "zeroed"]


class CountingImage(RawImage):
    flushes = 0

    def writev(self, offset: int, buffers: Sequence[memoryview]) -> None:
        if offset == 4096:
            raise OSError(errno.ENOSPC, "full")
        super().writev(offset, buffers)

    def flush(self) -> None:
        self.flushes += 1
        super().flush()


def test_without_a_write_cache_every_write_is_flushed(
    tmp_path: Path, loop: Loop, pool: IoPool
) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(8192))
    node = CountingImage(path, cache=CacheMode.WRITETHROUGH)
    drive = Drive("d0", node, loop, pool)
    results: list[int] = []
    drive.writev(0, [memoryview(b"x")], results.append)
    drive.drain()
    assert node.flushes == 1
    drive.write_cache = True
    drive.writev(0, [memoryview(b"x")], results.append)
    drive.drain()
    assert node.flushes == 1
    drive.writev(4096, [memoryview(b"x")], results.append)
    drive.drain()
    assert results == [0, 0, errno.ENOSPC]
    drive.close()
    assert node.flushes == 2


def test_the_pool_runs_jobs_in_parallel_and_ends() -> None:
    pool = IoPool(threads=2)
    barrier = threading.Barrier(2)
    passed: SimpleQueue[int] = SimpleQueue()

    def job() -> None:
        barrier.wait(timeout=10)
        passed.put(1)

    pool.run(job)
    pool.run(job)
    assert passed.get(timeout=10) + passed.get(timeout=10) == 2
    pool.close()


def test_a_closed_drive_answers_with_errors(drive: Drive) -> None:
    drive.close()
    drive.close()
    results: list[int] = []
    drive.readv(0, [memoryview(bytearray(4))], results.append)
    drive.writev(0, [memoryview(b"x")], results.append)
    drive.flush(results.append)
    drive.drain()
    assert results == [errno.EBADF] * 3
