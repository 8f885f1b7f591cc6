"""What virtio devices tell of what the guest's driver does."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest

from ratite.core import Log
from ratite.core.char import CharEvent
from ratite.devices.virtio.blk import VirtioBlk
from ratite.devices.virtio.console import VirtConsole, VirtioSerial
from ratite.devices.virtio.rng import VirtioRng


class Told:
    """A guest whose devices tell of events."""

    def __init__(self, guest: Any, *others: Any) -> None:
        self.guest = guest
        self.out = io.StringIO()
        self.log = Log(stream=self.out)
        for device in (guest.device, guest.transport, *others):
            device.log = self.log

    def of(self, *patterns: str) -> None:
        """Tell of these from now on, and of nothing else."""
        self.log.switch_events("*", False)
        for pattern in patterns:
            assert self.log.trace_events(pattern) == ""
        self.guest.transport.follow_trace()
        self.out.seek(0)
        self.out.truncate()

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


@pytest.fixture
def disk(make_guest: Any, make_disk: Any) -> Told:
    return Told(make_guest(VirtioBlk(drive=make_disk(bytes(4096)))))


def test_the_life_of_a_request(disk: Told) -> None:
    (ring,) = disk.guest.start()
    disk.of("virtio_*", "virtqueue_*", "-virtio_mmio*")
    ring.exchange([struct.pack("<IIQ", 0, 0, 2)], [512, 1])
    assert disk.lines == [
        "virtio_queue_notify vdev / n 0",
        "virtqueue_pop vdev / n 0 head 0 in_num 2 out_num 1",
        "virtio_blk_handle_read vdev / req 0 sector 2 nsectors 1",
        "virtio_blk_rw_complete vdev / req 0 ret 0",
        "virtio_blk_req_complete vdev / req 0 status 0",
        "virtqueue_fill vdev / n 0 head 0 len 513",
        "virtio_notify vdev / n 0",
    ]
    disk.of("virtio_blk_*")
    ring.exchange([struct.pack("<IIQ", 1, 0, 100), bytes(1024)], [1])
    assert disk.lines == [
        "virtio_blk_handle_write vdev / req 3 sector 100 nsectors 2",
        "virtio_blk_req_complete vdev / req 3 status 1",
    ]


def test_the_registers_and_the_status(disk: Told) -> None:
    disk.of("virtio_mmio_*", "virtio_set_status", "-virtio_mmio_setting*")
    disk.guest.set(0x070, 1)
    disk.guest.get(0x000)
    assert disk.lines == [
        "virtio_mmio_write_offset offset 0x70 value 0x1",
        "virtio_set_status vdev / val 1",
        "virtio_mmio_read offset 0x0 value 0x74726976",
    ]
    disk.of("virtio_set_status", "virtio_mmio_queue_write", "virtio_mmio_setting_irq")
    (ring,) = disk.guest.start()
    assert "virtio_mmio_queue_write value 0x10 max 256" in disk.lines
    statuses = [line for line in disk.lines if line.startswith("virtio_set_status")]
    assert [int(line.split()[-1]) for line in statuses] == [0, 1, 3, 11, 15]
    disk.of("virtio_mmio_setting_irq")
    ring.exchange([struct.pack("<IIQ", 4, 0, 0)], [1])
    disk.guest.set(0x064, 1)
    assert disk.lines == ["virtio_mmio_setting_irq level 1", "virtio_mmio_setting_irq level 0"]


def test_a_legacy_driver_tells_its_page_size(make_guest: Any, make_disk: Any) -> None:
    disk = Told(make_guest(VirtioBlk(drive=make_disk(bytes(4096))), legacy=True))
    disk.of("virtio_mmio_guest_page")
    disk.guest.start()
    assert disk.lines == ["virtio_mmio_guest_page size 0x1000 shift 12"]


def test_random_bytes(make_guest: Any) -> None:
    rng = Told(make_guest(VirtioRng(max_bytes=100)))
    (ring,) = rng.guest.start()
    rng.of("virtio_rng_*")
    ring.exchange([], [8])
    assert rng.lines == [
        "virtio_rng_request rng /: 8 bytes requested, 100 bytes quota left",
        "virtio_rng_pushed rng /: 8 bytes pushed",
    ]


def test_a_port_that_is_throttled(make_guest: Any, terminal: Any) -> None:
    serial, port = VirtioSerial(), VirtConsole(chardev=terminal)
    console = Told(make_guest(serial), port)
    serial.bus.plug(port)
    rings = console.guest.start(None, dict.fromkeys(range(4), 16))
    rings[2].add([], [64])
    terminal.room = 3
    console.of("virtio_console_*", "virtio_serial_*")
    rings[3].add([struct.pack("<IHH", 0, 3, 1)])
    rings[3].kick()
    rings[1].add([b"hello"])
    rings[1].kick()
    terminal.room = 100
    port.event(CharEvent.WRITABLE)
    rings[0].add([], [16])
    rings[3].add([struct.pack("<IHH", 0, 6, 1)])
    rings[3].kick()
    terminal.type(b"ab")
    assert console.lines == [
        "virtio_serial_handle_control_message event 3, value 1",
        "virtio_serial_handle_control_message_port port 0",
        "virtio_serial_send_control_event port 0, event 4, value 1",
        "virtio_serial_send_control_event port 0, event 6, value 1",
        "virtio_console_flush_buf port 0, in_len 5, out_len 3",
        "virtio_serial_throttle_port port 0, throttle 1",
        "virtio_console_chr_event port 0, event writable",
        "virtio_serial_throttle_port port 0, throttle 0",
        "virtio_console_flush_buf port 0, in_len 2, out_len 2",
        "virtio_serial_handle_control_message event 6, value 1",
        "virtio_serial_handle_control_message_port port 0",
        "virtio_console_chr_read port 0, size 2",
    ]
