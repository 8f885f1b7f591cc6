"""The block device, on a real image and on a backend that fails when told to."""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ratite.block import Discard, Drive, FileNode, FileOptions, IoPool
from ratite.core.choice import OnOffAuto
from ratite.core.disk import Access, DiskTerms, ErrorAction, OnError
from ratite.core.errors import ConfigError
from ratite.core.events import EventLoop
from ratite.core.lock import MachineLock
from ratite.devices.virtio.blk import BlockOptions, VirtioBlk
from ratite.qom import find_type, keyword_arguments

IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = b"\0", b"\1", b"\2"
F_RO, F_FLUSH, F_CONFIG_WCE, F_MQ, F_DISCARD, F_WRITE_ZEROES = (
    1 << bit for bit in (5, 9, 11, 12, 13, 14)
)
SIZE = 1 << 20


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def erase(sector: int, sectors: int, flags: int = 0) -> bytes:
    return struct.pack("<QII", sector, sectors, flags)


class Disk:
    """A backend in memory that answers at once, or when `drain` is called."""

    def __init__(self, size: int = SIZE) -> None:
        self.id = "d0"
        self.data = bytearray(size)
        self.write_cache = True
        self.read_only = False
        self.error = 0
        self.lazy = False
        self.calls: list[tuple[Any, ...]] = []
        self.waiting: list[Callable[[], None]] = []
        self.user: Any = None
        self.terms = DiskTerms()
        self.action = ErrorAction.REPORT
        self.failures: list[tuple[bool, int]] = []
        self.refusals: list[Access] = []

    def attach(self, user: Any, terms: DiskTerms, /) -> None:
        self.user, self.terms = user, terms

    def detach(self) -> None:
        self.user = None

    def failed(self, is_write: bool, code: int, /) -> ErrorAction:
        self.failures.append((is_write, code))
        return self.action

    def refused(self, access: Access, /) -> None:
        self.refusals.append(access)

    @property
    def size(self) -> int:
        return len(self.data)

    def _done(self, done: Callable[[int], None]) -> None:
        if self.lazy:
            self.waiting.append(lambda: done(self.error))
        else:
            done(self.error)

    def readv(self, offset: int, buffers: Sequence[memoryview], done: Any, /) -> None:
        for view in buffers:
            view[:] = self.data[offset : offset + len(view)]
            offset += len(view)
        self._done(done)

    def writev(self, offset: int, buffers: Sequence[memoryview], done: Any, /) -> None:
        for view in buffers:
            self.data[offset : offset + len(view)] = view
            offset += len(view)
        self._done(done)

    def flush(self, done: Any, /) -> None:
        self.calls.append(("flush",))
        self._done(done)

    def discard(self, offset: int, size: int, done: Any, /) -> None:
        self.calls.append(("discard", offset, size))
        self._done(done)

    def write_zeroes(self, offset: int, size: int, unmap: bool, done: Any, /) -> None:
        self.calls.append(("zero", offset, size, unmap))
        self._done(done)

    def drain(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def start(make_guest: Any, disk: Disk) -> Any:
    def start(features: int | None = None, *, legacy: bool = False, **properties: Any) -> Any:
        guest = make_guest(VirtioBlk(drive=disk, **properties), legacy=legacy)
        guest.settle = disk.drain
        return guest, guest.start(features)[0]

    return start


class Never:
    """A loop that never runs: `drain` does its work."""

    def post(self, callback: Any, /) -> None:
        pass


def drive_on(path: Path, loop: Any, pool: IoPool, **options: Any) -> Drive:
    """A drive with an image in it."""
    path.write_bytes(bytes(SIZE))
    drive = Drive("d0", loop, pool, **options)
    drive.insert(FileNode("f", FileOptions(filename=str(path), discard=Discard.UNMAP)))
    return drive


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Drive]:
    pool = IoPool()
    drive = drive_on(tmp_path / "disk.img", Never(), pool)
    yield drive
    drive.close()
    pool.close()


def test_what_is_written_is_read(make_guest: Any, image: Drive, legacy: bool) -> None:
    guest = make_guest(VirtioBlk(drive=image), legacy=legacy)
    guest.settle = image.drain
    (ring,) = guest.start()
    data = bytes(range(256)) * 4
    assert ring.exchange([header(OUT, 3), data], [1]) == OK
    assert ring.exchange([header(FLUSH)], [1]) == OK
    assert ring.exchange([header(IN, 3)], [1024, 1]) == data + OK
    assert ring.exchange([header(IN, 4)], [100, 412, 1], indirect=True) == data[512:] + OK
    assert ring.exchange([header(WRITE_ZEROES), erase(4, 1)], [1]) == OK
    assert ring.exchange([header(DISCARD), erase(0, 8)], [1]) == OK
    assert ring.exchange([header(IN, 4)], [512, 1]) == bytes(512) + OK


def test_any_layout_of_buffers_will_do(start: Any, disk: Disk) -> None:
    _, ring = start()
    data = bytes(range(200)) + bytes(312)
    whole = header(OUT, 1) + data
    assert ring.exchange([whole], [1]) == OK
    assert ring.exchange([whole[:7], whole[7:16], whole[16:17], whole[17:]], [1]) == OK
    assert ring.exchange([whole[:10], whole[10:]], [1]) == OK
    assert disk.data[512:1024] == data
    head = header(IN, 1)
    assert ring.exchange([head[:3], head[3:]], [513]) == data + OK
    assert ring.exchange([head], [500, 13]) == data + OK


@pytest.mark.parametrize(
    ("kind", "sector", "size"),
    [
        (IN, SIZE // 512, 512),
        (IN, SIZE // 512 - 1, 1024),
        (IN, (1 << 64) - 1, 512),
        (IN, 1 << 55, 512),
        (IN, 0, 511),
        (OUT, SIZE // 512, 512),
        (OUT, 0, 100),
    ],
)
def test_a_range_outside_the_disk_is_an_error(
    start: Any, kind: int, sector: int, size: int
) -> None:
    _, ring = start()
    if kind == IN:
        assert ring.exchange([header(kind, sector)], [size, 1]) == bytes(size) + IOERR
    else:
        assert ring.exchange([header(kind, sector), bytes(size)], [1]) == IOERR


def test_the_serial_number(start: Any) -> None:
    _, ring = start(serial="ABC123")
    assert ring.exchange([header(GET_ID)], [20, 1]) == b"ABC123".ljust(20, b"\0") + OK
    _, ring = start(serial="0123456789012345678901234")
    assert ring.exchange([header(GET_ID)], [20, 1]) == b"01234567890123456789" + OK
    assert ring.exchange([header(GET_ID)], [4, 1]) == b"0123" + OK


def test_unknown_requests_are_unsupported(start: Any) -> None:
    _, ring = start()
    for kind in (2, 5, 99, 0x7FFF_FFFF):
        assert ring.exchange([header(kind)], [1]) == UNSUPP


def test_a_request_without_header_or_status_breaks_the_device(start: Any) -> None:
    for readable, writable in (([b"short"], [1]), ([header(IN)], []), ([], [600])):
        guest, ring = start()
        ring.add(readable, writable)
        ring.kick()
        assert guest.needs_reset
        assert ring.collect() == []


def test_a_read_only_disk(start: Any, disk: Disk) -> None:
    disk.read_only = True
    guest, ring = start()
    assert guest.offered() & F_RO
    for request in ([header(OUT), bytes(512)], [header(DISCARD), erase(0, 1)]):
        assert ring.exchange(request, [1]) == IOERR
    assert ring.exchange([header(IN)], [512, 1]) == bytes(512) + OK


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_errors_of_the_host_are_reported_or_ignored(start: Any, disk: Disk, code: int) -> None:
    disk.error = code
    _, ring = start()
    assert ring.exchange([header(OUT), bytes(512)], [1]) == IOERR
    assert ring.exchange([header(IN)], [512, 1]) == bytes(512) + IOERR
    assert disk.failures == [(True, code), (False, code)]
    disk.action = ErrorAction.IGNORE
    assert ring.exchange([header(OUT), bytes(512)], [1]) == OK
    assert ring.exchange([header(IN)], [512, 1]) == bytes(512) + OK


def test_the_drive_learns_how_it_is_used(start: Any, disk: Disk) -> None:
    options = BlockOptions(
        share_rw=True,
        rerror=OnError.STOP,
        werror=OnError.IGNORE,
        account_failed=OnOffAuto.OFF,
    )
    guest, _ = start(block=options)
    assert disk.user is guest.device
    expected = DiskTerms(True, True, OnError.STOP, OnError.IGNORE, None, False)
    assert disk.terms == expected
    guest.device.parent_bus.unplug(guest.device)
    assert disk.user is None


def test_what_the_disk_cannot_do_is_counted(start: Any, disk: Disk) -> None:
    _, ring = start()
    ring.exchange([header(IN, SIZE // 512)], [512, 1])
    ring.exchange([header(OUT, SIZE // 512), bytes(512)], [1])
    ring.exchange([header(DISCARD), erase(SIZE // 512, 1)], [1])
    ring.exchange([header(WRITE_ZEROES), erase(SIZE // 512, 1)], [1])
    assert disk.refusals == [Access.READ, Access.WRITE, Access.UNMAP, Access.WRITE]
    assert not disk.failures


# -- errors that stop the machine


def stop_three(ring: Any, disk: Disk) -> list[int]:
    """Have three writes fail that are kept."""
    disk.error, disk.action = errno.EIO, ErrorAction.STOP
    heads = [ring.add([header(OUT, n), bytes([n + 1]) * 512], [1]) for n in range(3)]
    ring.kick()
    assert ring.collect() == [] and len(disk.failures) == 3
    return heads


def test_a_request_that_stops_the_machine_is_done_again(start: Any, disk: Disk) -> None:
    guest, ring = start()
    heads = stop_three(ring, disk)
    guest.device.retry()
    assert ring.collect() == [] and len(disk.failures) == 6
    disk.error = 0
    disk.data[:] = bytes(SIZE)
    guest.device.retry()
    assert sorted(head for head, _ in ring.collect()) == sorted(heads)
    assert [ring.answer(head) for head in heads] == [OK] * 3
    assert disk.data[: 3 * 512] == b"".join(bytes([n]) * 512 for n in (1, 2, 3))
    assert guest.transport.irq.level
    guest.device.retry()
    assert ring.exchange([header(OUT), bytes(512)], [1]) == OK


def test_requests_that_stopped_the_machine_are_migrated(
    start: Any, make_guest: Any, disk: Disk
) -> None:
    guest, ring = start()
    heads = stop_three(ring, disk)
    state = guest.device.save()
    disk.error = 0
    guest.device.load(state)
    guest.clock.advance(1)
    assert ring.collect() == []
    guest.device.retry()
    assert sorted(head for head, _ in ring.collect()) == sorted(heads)
    assert ring.exchange([header(IN, 1)], [512, 1]) == b"\2" * 512 + OK


def test_a_reset_forgets_requests_that_stopped_the_machine(start: Any, disk: Disk) -> None:
    guest, ring = start()
    stop_three(ring, disk)
    guest.set(0x070, 0)
    disk.error = 0
    disk.data[:] = bytes(SIZE)
    guest.device.retry()
    assert disk.data == bytes(SIZE)


def test_a_request_that_the_guest_spoils_meanwhile_breaks_the_device(
    start: Any, disk: Disk
) -> None:
    guest, ring = start()
    (first, *_) = stop_three(ring, disk)
    ring.put_desc(first, 0x10, 16, 0)  # a buffer where no RAM is
    guest.device.retry()
    assert guest.needs_reset and ring.collect() == []


# -- size


def test_a_driver_learns_of_another_size(start: Any, disk: Disk) -> None:
    guest, ring = start()
    before = guest.get(0x0FC)
    disk.data = bytearray(2 * SIZE)
    guest.device.resized()
    assert guest.get(0x060) & 2 and guest.get(0x0FC) != before
    assert guest.config(0, 8) == (2 * SIZE // 512).to_bytes(8, "little")
    assert ring.exchange([header(OUT, SIZE // 512), bytes(512)], [1]) == OK
    disk.data = bytearray(512)
    guest.device.resized()
    assert ring.exchange([header(OUT, 1), bytes(512)], [1]) == IOERR


def test_discard_and_write_zeroes_reach_the_backend(start: Any, disk: Disk) -> None:
    _, ring = start()
    assert ring.exchange([header(DISCARD), erase(8, 16)], [1]) == OK
    assert ring.exchange([header(WRITE_ZEROES), erase(1, 2)], [1]) == OK
    assert ring.exchange([header(WRITE_ZEROES) + erase(3, 4, 1)], [1]) == OK
    assert disk.calls == [
        ("discard", 4096, 8192),
        ("zero", 512, 1024, False),
        ("zero", 1536, 2048, True),
    ]
    assert ring.exchange([header(DISCARD), erase(0, 1, 1)], [1]) == UNSUPP
    assert ring.exchange([header(WRITE_ZEROES), erase(0, 1, 2)], [1]) == UNSUPP
    assert ring.exchange([header(DISCARD), erase(0, 1) * 2], [1]) == UNSUPP
    assert ring.exchange([header(DISCARD), b"?"], [1]) == UNSUPP
    assert ring.exchange([header(DISCARD), erase(0, SIZE // 512 + 1)], [1]) == IOERR
    assert ring.exchange([header(DISCARD), erase((1 << 64) - 1, 1)], [1]) == IOERR
    _, ring = start(max_discard_sectors=8)
    assert ring.exchange([header(DISCARD), erase(0, 9)], [1]) == IOERR
    guest, ring = start(discard=False, write_zeroes=False)
    assert not guest.offered() & (F_DISCARD | F_WRITE_ZEROES)
    assert ring.exchange([header(DISCARD), erase(0, 1)], [1]) == UNSUPP


def test_the_configuration_space(start: Any, disk: Disk) -> None:
    options = BlockOptions(physical_block_size=4096, min_io_size=4096, opt_io_size=65536)
    guest, _ = start(num_queues=4, block=options)
    fields = struct.unpack("<QIIHBBIBBHIBxHIIIIIB3x", guest.config(0, 60))
    assert fields[:7] == (2048, 0, 254, 2, 16, 63, 512)
    assert fields[7:13] == (3, 0, 8, 128, 1, 4)
    assert fields[13:] == (4194303, 1, 1, 4194303, 1, 1)
    assert guest.offered() & F_MQ
    assert guest.get(0x100, 4) == 2048
    assert guest.get(0x120, 2) == 1
    assert guest.get(0x100 + 60, 4) == 0
    guest.set(0x100, 1, 4)
    assert guest.get(0x100, 4) == 2048


def test_the_granularity_of_discards_is_reported_or_not(start: Any) -> None:
    for reported, sectors in ((True, 128), (False, 1)):
        options = BlockOptions(discard_granularity=65536)
        guest, _ = start(block=options, report_discard_granularity=reported)
        assert struct.unpack("<I", guest.config(44, 4)) == (sectors,)


def test_several_queues_work(start: Any, make_guest: Any, disk: Disk) -> None:
    guest = make_guest(VirtioBlk(drive=disk, num_queues=3))
    for number, ring in enumerate(guest.start()):
        assert ring.exchange([header(OUT, number), bytes([number]) * 512], [1]) == OK
        assert disk.data[512 * number] == number


def test_the_write_cache_is_the_drivers_to_choose(start: Any, disk: Disk) -> None:
    guest, _ = start()
    assert guest.config(32, 1) == b"\1"
    guest.set(0x120, 0, 1)
    assert not disk.write_cache
    assert guest.config(32, 1) == b"\0"
    guest.set(0x070, 0)
    assert disk.write_cache
    start(0)  # a driver that knows nothing of caches
    assert not disk.write_cache
    disk.write_cache = True
    guest, _ = start(F_FLUSH)
    assert disk.write_cache
    guest.set(0x120, 0, 1)
    assert disk.write_cache
    guest, _ = start(block=BlockOptions(write_cache=OnOffAuto.OFF), config_wce=False)
    assert not disk.write_cache
    assert not guest.offered() & (F_FLUSH | F_CONFIG_WCE)
    off = BlockOptions(write_cache=OnOffAuto.OFF)
    assert start(block=off)[0].offered() & F_FLUSH
    assert not start(block=off, x_enable_wce_if_config_wce=False)[0].offered() & F_FLUSH


def test_blocks_of_4096_bytes(start: Any) -> None:
    _, ring = start(block=BlockOptions(logical_block_size=4096))
    assert ring.exchange([header(IN, 8)], [4096, 1]) == bytes(4096) + OK
    assert ring.exchange([header(IN, 1)], [4096, 1])[-1:] == IOERR
    assert ring.exchange([header(IN, 8)], [512, 1])[-1:] == IOERR


def test_a_reset_waits_for_requests_in_flight(start: Any, disk: Disk) -> None:
    guest, ring = start()
    disk.lazy = True
    head = ring.add([header(OUT), b"x" * 512], [1])
    ring.kick()
    assert ring.collect() == []
    guest.set(0x070, 0)
    assert not disk.waiting
    assert ring.answer(head) == OK
    assert not guest.transport.irq.level


def test_saving_finishes_requests_in_flight(start: Any, disk: Disk) -> None:
    guest, ring = start()
    disk.lazy = True
    ring.add([header(OUT), b"x" * 512], [1])
    ring.kick()
    state = guest.device.save()
    assert len(ring.collect()) == 1
    guest.device.load(state)
    guest.clock.advance(1)
    assert ring.collect() == []


def test_a_late_answer_after_a_queue_was_reset_is_dropped(start: Any, disk: Disk) -> None:
    guest, ring = start()
    disk.lazy = True
    head = ring.add([header(OUT), b"x" * 512], [1])
    ring.kick()
    late, disk.waiting = disk.waiting, []
    guest.set(0x070, 0)
    guest.poke(ring.buffers[head][0][0], b"\x55")
    late[0]()
    assert ring.answer(head) == b"\x55"


@pytest.mark.parametrize(
    ("properties", "complaint"),
    [
        ({"scsi": True}, "scsi=on"),
        ({"block": BlockOptions(backend_defaults=OnOffAuto.ON)}, "backend_defaults=on"),
        ({"num_queues": 0}, "num-queues"),
        ({"num_queues": 2000}, "num-queues"),
        ({"queue_size": 100}, "queue-size"),
        ({"queue_size": 2048}, "queue-size"),
        ({"block": BlockOptions(logical_block_size=1000)}, "logical_block_size"),
        ({"block": BlockOptions(logical_block_size=256)}, "logical_block_size"),
        (
            {"block": BlockOptions(logical_block_size=4096, physical_block_size=512)},
            "is more than",
        ),
    ],
)
def test_impossible_properties_are_refused(
    start: Any, properties: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        start(**properties)


def test_a_disk_needs_a_drive(make_guest: Any) -> None:
    with pytest.raises(ConfigError, match="drive property not set"):
        make_guest(VirtioBlk())


def test_properties_by_their_names(disk: Disk) -> None:
    cls = find_type("virtio-blk-device")
    assert cls is VirtioBlk
    values = {
        "drive": "d0",
        "serial": "S",
        "num-queues": "2",
        "queue-size": "64",
        "logical_block_size": "4k",
        "write-cache": "on",
        "event_idx": "off",
        "config-wce": "off",
    }
    device = cls(**keyword_arguments(cls, values, lambda kind, id: disk))
    assert isinstance(device, VirtioBlk)
    assert device.drive is disk
    assert device.get_property("drive") == "d0"
    assert device.get_property("logical_block_size") == 4096
    assert not device.virtio.event_idx


def test_writethrough_reaches_the_image(make_guest: Any, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    pool = IoPool()
    drive = drive_on(path, Never(), pool, write_cache=False)
    guest = make_guest(VirtioBlk(drive=drive))
    guest.settle = drive.drain
    (ring,) = guest.start()
    assert guest.config(32, 1) == b"\0"
    assert ring.exchange([header(OUT), b"w" * 512], [1]) == OK
    assert path.read_bytes()[:512] == b"w" * 512
    drive.close()
    pool.close()


def test_requests_finish_on_the_loop_and_a_reset_does_not_wait_for_it(
    make_guest: Any, tmp_path: Path
) -> None:
    path = tmp_path / "disk.img"
    loop, pool = EventLoop(MachineLock()), IoPool()
    loop.start()
    drive = drive_on(path, loop, pool)
    guest = make_guest(VirtioBlk(drive=drive))
    for turn in range(20):
        with loop.lock:
            guest.top = 0x8010_0000
            (ring,) = guest.start()
            heads = [ring.add([header(OUT, turn), bytes([turn]) * 512], [1]) for _ in range(5)]
            ring.kick()
            if turn % 2:
                guest.set(0x070, 0)
                assert [ring.answer(head) for head in heads] == [OK] * 5
                continue
        done: list[Any] = []
        deadline = time.monotonic() + 10
        while len(done) < 5:
            assert time.monotonic() < deadline
            with loop.lock:
                done += ring.collect()
        assert guest.transport.irq.level
    with loop.lock:
        drive.close()
    loop.stop()
    pool.close()
    assert path.read_bytes()[: 20 * 512] == b"".join(bytes([turn]) * 512 for turn in range(20))
