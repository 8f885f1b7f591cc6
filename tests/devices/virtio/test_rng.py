"""The entropy device, and with it what all devices share."""

from __future__ import annotations

from typing import Any

import pytest

from ratite.core.errors import ConfigError
from ratite.devices.virtio.rng import VirtioRng

MS = 1_000_000


class Source:
    """Counts up; may run dry."""

    id = "rng0"

    def __init__(self, left: int = 1 << 30) -> None:
        self.left = left
        self.count = 0

    def request(self, size: int, /) -> bytes:
        size = min(size, self.left)
        self.left -= size
        start, self.count = self.count, self.count + size
        return bytes(i & 0xFF for i in range(start, start + size))


def test_the_guest_gets_random_bytes(make_guest: Any, legacy: bool) -> None:
    guest = make_guest(VirtioRng(rng=Source()), legacy=legacy)
    (ring,) = guest.start()
    assert guest.get(0x008) == 4
    assert ring.exchange([], [5]) == bytes(range(5))
    assert ring.exchange([], [3, 4]) == bytes(range(5, 12))
    assert ring.exchange([], [2, 2, 2], indirect=True) == bytes(range(12, 18))


def test_without_a_backend_it_makes_one(make_guest: Any) -> None:
    (ring,) = make_guest(VirtioRng()).start()
    assert len(ring.exchange([], [64])) == 64


def test_the_rate_is_limited(make_guest: Any) -> None:
    guest = make_guest(VirtioRng(rng=Source(), max_bytes=10, period=100))
    (ring,) = guest.start()
    assert len(ring.exchange([], [8])) == 8
    assert len(ring.exchange([], [8])) == 2
    ring.add([], [4])
    ring.kick()
    assert ring.collect() == []
    guest.clock.advance(99 * MS)
    assert ring.collect() == []
    guest.clock.advance(1 * MS)
    assert [length for _, length in ring.collect()] == [4]


def test_a_source_that_runs_dry_is_asked_again(make_guest: Any) -> None:
    source = Source(left=0)
    guest = make_guest(VirtioRng(rng=source))
    (ring,) = guest.start()
    ring.add([], [4])
    ring.kick()
    guest.clock.advance(50 * MS)
    assert ring.collect() == []
    source.left = 100
    guest.clock.advance(50 * MS)
    assert [length for _, length in ring.collect()] == [4]


def test_a_limited_guest_goes_on_after_migration(make_guest: Any) -> None:
    guest = make_guest(VirtioRng(rng=Source(), max_bytes=10, period=100))
    (ring,) = guest.start()
    ring.exchange([], [10])
    ring.add([], [4])
    ring.kick()
    device, transport = guest.device.save(), guest.transport.save()
    guest.transport.reset()
    guest.device.reset()
    assert guest.get(0x070) == 0
    guest.transport.load(transport)
    guest.device.load(device)
    guest.clock.advance(100 * MS)
    assert [length for _, length in ring.collect()] == [4]


def test_impossible_properties_are_refused(make_guest: Any) -> None:
    with pytest.raises(ConfigError, match="period"):
        make_guest(VirtioRng(period=0))
    with pytest.raises(ConfigError, match="max-bytes"):
        make_guest(VirtioRng(max_bytes=1 << 63))
