"""Drives: requests and their completions, counting, limits, errors."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue

import pytest

from ratite.block import CacheOptions, Drive, FileNode, FileOptions, IoPool, Limits
from ratite.block.throttle import ThrottleGroup
from ratite.core.disk import Access, DiskTerms, ErrorAction, IoStatus, OnError
from ratite.core.errors import ConfigError, HostError
from tests.block.nodes import MIB, Loop, open_file


class Device:
    """A device that does nothing by itself."""

    id = "disk0"
    path = "/machine/peripheral/disk0"

    def __init__(self) -> None:
        self.resizes = 0
        self.retries = 0

    def resized(self) -> None:
        self.resizes += 1

    def retry(self) -> None:
        self.retries += 1


@pytest.fixture
def drive(image_path: Path, loop: Loop, pool: IoPool) -> Iterator[Drive]:
    drive = Drive("d0", loop, pool)
    drive.insert(open_file(image_path))
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


def test_an_error_is_an_errno_and_is_counted(drive: Drive) -> None:
    results: list[int] = []
    drive.writev(MIB, [memoryview(b"data")], results.append)
    drive.readv(MIB - 1, [memoryview(bytearray(4))], results.append)
    drive.flush(results.append)
    drive.discard(MIB, 1, results.append)
    drive.drain()
    assert sorted(results) == [0, errno.EINVAL, errno.EINVAL, errno.EINVAL]
    stats = drive.stats
    assert (stats.write.failed, stats.read.failed, stats.unmap.failed) == (1, 1, 1)
    assert (stats.write.operations, stats.write.bytes, stats.flush.operations) == (0, 0, 1)
    assert stats.write.total_time_ns > 0 and stats.last_access_ns > 0


def test_requests_are_counted_by_kind(drive: Drive) -> None:
    done: list[int] = []
    drive.writev(0, [memoryview(bytes(512)), memoryview(bytes(512))], done.append)
    drive.write_zeroes(4096, 2048, False, done.append)
    drive.readv(0, [memoryview(bytearray(512))], done.append)
    drive.discard(0, 4096, done.append)
    drive.flush(done.append)
    drive.drain()
    stats = drive.stats
    assert (stats.write.operations, stats.write.bytes) == (2, 3072)
    assert (stats.read.operations, stats.read.bytes) == (1, 512)
    assert (stats.unmap.operations, stats.unmap.bytes) == (1, 4096)
    assert stats.flush.operations == 1
    assert all(kind.total_time_ns > 0 for kind in (stats.read, stats.write, stats.flush))


def test_failed_and_impossible_requests_are_accounted_as_asked(drive: Drive) -> None:
    drive.attach(Device(), DiskTerms(account_failed=False, account_invalid=False))
    drive.refused(Access.WRITE)
    drive.writev(MIB, [memoryview(b"x")], lambda code: None)
    drive.drain()
    stats = drive.stats
    assert (stats.write.invalid, stats.write.failed, stats.write.total_time_ns) == (1, 1, 0)
    assert stats.last_access_ns == 0
    stats.account_invalid = True
    drive.refused(Access.UNMAP)
    assert stats.unmap.invalid == 1 and stats.last_access_ns > 0


def test_drain_waits_for_everything_and_for_what_completions_start(drive: Drive) -> None:
    order: list[str] = []
    drive.writev(0, [memoryview(b"x")], lambda _: drive.flush(lambda _: order.append("flushed")))
    drive.discard(0, 512, lambda _: order.append("discarded"))
    drive.write_zeroes(0, 512, True, lambda _: order.append("zeroed"))
    drive.drain()
    assert sorted(order) == ["discarded", "flushed", "zeroed"]


class CountingFile(FileNode):
    flushes = 0

    def _writev(self, offset: int, buffers: Sequence[memoryview]) -> None:
        if offset == 4096:
            raise OSError(errno.ENOSPC, "full")
        super()._writev(offset, buffers)

    def _flush(self) -> None:
        self.flushes += 1
        super()._flush()


def test_without_a_write_cache_every_write_is_flushed(
    image_path: Path, loop: Loop, pool: IoPool
) -> None:
    node = CountingFile("f", FileOptions(filename=str(image_path)))
    drive = Drive("d0", loop, pool, write_cache=False)
    drive.insert(node)
    results: list[int] = []
    drive.writev(0, [memoryview(b"x")], results.append)
    drive.write_zeroes(8192, 512, False, results.append)
    drive.drain()
    assert node.flushes == 2
    drive.write_cache = True
    drive.writev(0, [memoryview(b"x")], results.append)
    drive.drain()
    assert node.flushes == 2
    drive.writev(4096, [memoryview(b"x")], results.append)
    drive.drain()
    assert results == [0, 0, 0, errno.ENOSPC]
    drive.close()
    node.close()


def test_flushes_are_skipped_where_that_was_asked_for(
    image_path: Path, loop: Loop, pool: IoPool
) -> None:
    options = FileOptions(filename=str(image_path), cache=CacheOptions(no_flush=True))
    node = CountingFile("f", options)
    drive = Drive("d0", loop, pool)
    drive.insert(node)
    results: list[int] = []
    drive.flush(results.append)
    drive.drain()
    assert results == [0] and node.flushes == 0
    drive.close()
    node.close()


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


def test_a_drive_on_a_closed_node_answers_with_errors(drive: Drive) -> None:
    assert drive.node is not None
    drive.node.close()
    results: list[int] = []
    drive.readv(0, [memoryview(bytearray(4))], results.append)
    drive.writev(0, [memoryview(b"x")], results.append)
    drive.flush(results.append)
    drive.drain()
    assert results == [errno.EBADF] * 3


def test_an_empty_drive_answers_with_errors(drive: Drive) -> None:
    drive.close()
    drive.close()
    results: list[int] = []
    drive.readv(0, [memoryview(bytearray(4))], results.append)
    drive.writev(0, [memoryview(b"x")], results.append)
    drive.write_zeroes(0, 1, False, results.append)
    drive.discard(0, 1, results.append)
    drive.flush(results.append)
    assert results == [errno.ENOMEDIUM] * 5
    assert drive.size == 0 and not drive.read_only
    with pytest.raises(ConfigError, match="Device needs media, but drive is empty"):
        drive.attach(Device())


# -- devices


def test_a_drive_serves_one_device(drive: Drive) -> None:
    drive.claim()
    with pytest.raises(ConfigError, match="Drive 'd0' is already in use by another device"):
        drive.claim()
    drive.release()
    drive.claim()


def test_a_drive_has_its_image_to_itself(drive: Drive, image_path: Path, pool: IoPool) -> None:
    other = Drive("d1", Loop(), pool)
    node = open_file(image_path)
    for _ in range(2):
        with pytest.raises(HostError, match='Failed to get "write" lock'):
            other.insert(node)
        assert other.node is None and not node.users
        drive.attach(Device())
    assert other.removable and not drive.removable
    drive.detach()
    other.insert(node)
    other.attach(Device())
    other.close()


def test_a_device_has_its_node_to_itself(drive: Drive, image_path: Path, pool: IoPool) -> None:
    other = Drive("", Loop(), pool)
    other.insert(open_file(image_path))
    with pytest.raises(HostError, match='Failed to get "write" lock'):
        other.attach(Device())
    assert other.user is None
    drive.close()
    other.attach(Device())
    other.close()


def test_devices_that_agree_share_an_image(drive: Drive, image_path: Path, pool: IoPool) -> None:
    node = drive.node
    assert node is not None
    other = Drive("", Loop(), pool)
    other.insert(node)
    drive.attach(Device(), DiskTerms(share_rw=True))
    with pytest.raises(ConfigError, match="Permission conflict on node 'f'"):
        other.attach(Device())
    other.attach(Device(), DiskTerms(share_rw=True))
    assert other.describe() == "block device 'disk0'"


def test_a_device_that_did_not_come_about_leaves_the_drive(drive: Drive) -> None:
    released: list[Drive] = []
    drive.on_release = released.append
    drive.claim()
    drive.attach(Device())
    drive.release()
    assert not released and drive.user is None
    drive.claim()
    drive.attach(Device())
    drive.detach()
    drive.release()
    assert released == [drive]


def test_a_device_learns_of_another_size(drive: Drive) -> None:
    device = Device()
    drive.attach(device, DiskTerms(may_resize=True))
    assert drive.node is not None
    drive.node.resize(2 * MIB)
    assert device.resizes == 1 and drive.size == 2 * MIB


@pytest.mark.parametrize(
    ("policy", "code", "action", "status"),
    [
        (OnError.AUTO, errno.EIO, ErrorAction.REPORT, IoStatus.OK),
        (OnError.AUTO, errno.ENOSPC, ErrorAction.STOP, IoStatus.NO_SPACE),
        (OnError.ENOSPC, errno.ENOSPC, ErrorAction.STOP, IoStatus.NO_SPACE),
        (OnError.ENOSPC, errno.EIO, ErrorAction.REPORT, IoStatus.OK),
        (OnError.STOP, errno.EIO, ErrorAction.STOP, IoStatus.FAILED),
        (OnError.REPORT, errno.ENOSPC, ErrorAction.REPORT, IoStatus.OK),
        (OnError.IGNORE, errno.EIO, ErrorAction.IGNORE, IoStatus.OK),
    ],
)
def test_an_error_is_dealt_with_as_asked(
    drive: Drive, policy: OnError, code: int, action: ErrorAction, status: IoStatus
) -> None:
    told: list[tuple[bool, int, ErrorAction]] = []
    drive.on_failure = lambda _, *what: told.append(what)
    device = Device()
    drive.attach(device, DiskTerms(on_write_error=policy))
    assert drive.failed(True, code) is action
    assert drive.io_status is status and told == [(True, code, action)]
    assert drive.failed(False, errno.ENOSPC) is ErrorAction.REPORT
    drive.resume()
    assert drive.io_status is IoStatus.OK and device.retries == 1


def test_the_status_is_told_where_errors_can_stop_the_machine(drive: Drive) -> None:
    assert not drive.tells_status
    drive.attach(Device())
    assert drive.tells_status
    drive.on_write_error = OnError.REPORT
    assert not drive.tells_status
    drive.on_read_error = OnError.STOP
    assert drive.tells_status


def test_a_limit_holds_requests_back_until_the_drive_is_drained(drive: Drive, loop: Loop) -> None:
    group = ThrottleGroup("g", loop, lambda: 0)
    group.set(Limits.of({"iops": 1}))
    drive.throttle = group
    done: list[int] = []
    for _ in range(10):
        drive.readv(0, [memoryview(bytearray(512))], done.append)
    drive.flush(done.append)  # is not limited
    loop.run_until(lambda: len(done) == 2)
    assert group.waits(drive) and loop.timers
    drive.drain()
    assert done == [0] * 11 and not group.waits(drive)
