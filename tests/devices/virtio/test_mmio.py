"""The MMIO transport and the rings, with the entropy device as the simplest user."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from ratite.core import FakeClock
from ratite.core.errors import ConfigError
from ratite.devices import find_free_bus
from ratite.devices.bus import SystemBus
from ratite.devices.virtio.device import VirtioOptions
from ratite.devices.virtio.mmio import VirtioMmio
from ratite.devices.virtio.rng import VirtioRng
from ratite.memory import AddressSpace, MemoryRegion

RAM = 0x8000_0000
ROM = 0x2000_0000
EVENT_IDX = 1 << 29
INDIRECT = 1 << 28


@pytest.fixture
def guest(make_guest: Any) -> Any:
    return make_guest(VirtioRng())


def slot(number: int = 0, **properties: Any) -> VirtioMmio:
    space = AddressSpace(MemoryRegion.container("m", 1 << 32), "m")
    return VirtioMmio(space, FakeClock(), number, **properties)


def test_an_empty_slot_says_so() -> None:
    empty = slot()
    assert [empty.read(offset) for offset in (0, 4, 8, 12)] == [0x74726976, 1, 0, 0x554D4551]
    assert slot(force_legacy=False).read(4) == 2
    for offset in range(0x10, 0x200, 4):
        empty.write(offset, 0xFFFF_FFFF)
        assert empty.read(offset) == 0


def test_devices_fill_the_slots_in_order() -> None:
    root = SystemBus("main-system-bus")
    slots = [slot(number) for number in range(3)]
    for one in slots:
        root.plug(one)
    found = find_free_bus(root, "virtio-bus")
    assert found is slots[2].bus
    assert found.name == "virtio-mmio-bus.2"
    first = VirtioRng()
    found.plug(first)
    assert slots[2].read(8) == 4
    assert find_free_bus(root, "virtio-bus") is slots[1].bus
    with pytest.raises(ConfigError, match="full"):
        slots[2].bus.plug(VirtioRng())
    slots[2].bus.unplug(first)
    assert slots[2].read(8) == 0


def test_features_come_in_two_halves(guest: Any) -> None:
    assert guest.offered() & 0xFFFF_FFFF == INDIRECT | EVENT_IDX
    assert guest.offered() >> 32 & 1
    guest.set(0x014, 2)
    assert guest.get(0x010) == 0


def test_a_legacy_device_offers_one_half(make_guest: Any) -> None:
    assert make_guest(VirtioRng(), legacy=True).offered() == 0x3900_0000


def test_a_legacy_page_size_outlives_the_drivers_reset(make_guest: Any) -> None:
    guest = make_guest(VirtioRng(), legacy=True)
    guest.set(0x028, 4096)
    guest.set(0x070, 0)
    for register, value in ((0x030, 0), (0x038, 8), (0x03C, 4096), (0x040, 0x80001)):
        guest.set(register, value)
    assert guest.get(0x040) == 0x80001


def test_features_may_be_switched_off(make_guest: Any) -> None:
    options = VirtioOptions(indirect_desc=False, event_idx=False, queue_reset=False)
    assert make_guest(VirtioRng(virtio=options)).offered() == 1 << 32
    with pytest.raises(ConfigError, match="packed"):
        make_guest(VirtioRng(virtio=VirtioOptions(packed=True)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("use_started", False), ("use_disabled_flag", False), ("x_disable_legacy_check", True)],
)
def test_what_has_one_value_takes_no_other(make_guest: Any, name: str, value: bool) -> None:
    with pytest.raises(ConfigError, match=f"{name.replace('_', '-')}=.* is not supported"):
        make_guest(VirtioRng(virtio=VirtioOptions(**{name: value})))


def test_a_driver_must_use_the_platforms_addresses_if_it_is_told_to(make_guest: Any) -> None:
    guest = make_guest(VirtioRng(virtio=VirtioOptions(iommu_platform=True)))
    assert guest.offered() >> 33 & 1
    for features, status in ((1 << 32, 3), (1 << 32 | 1 << 33, 11)):
        guest.set(0x070, 0)
        guest.set(0x070, 3)
        for half in (0, 1):
            guest.set(0x024, half)
            guest.set(0x020, features >> 32 * half & 0xFFFF_FFFF)
        guest.set(0x070, 11)
        assert guest.get(0x070) == status


@pytest.mark.parametrize("features", [0, 1 << 32 | 1 << 35, 1 << 32 | 1])
def test_an_impossible_choice_of_features_is_not_ok(guest: Any, features: int) -> None:
    guest.set(0x070, 3)
    for half in (0, 1):
        guest.set(0x024, half)
        guest.set(0x020, features >> 32 * half & 0xFFFF_FFFF)
    guest.set(0x070, 11)
    assert guest.get(0x070) == 3


def test_registers_are_32_bits_wide(guest: Any) -> None:
    assert guest.get(0x000, 1) == 0
    assert guest.get(0x002, 2) == 0
    guest.set(0x070, 1, 1)
    assert guest.get(0x070) == 0
    assert guest.get(0x000, 8) == 2 << 32 | 0x74726976


def test_there_is_no_shared_memory(guest: Any) -> None:
    guest.set(0x0AC, 0)
    assert [guest.get(offset) for offset in (0xB0, 0xB4, 0xB8, 0xBC)] == [0xFFFF_FFFF] * 4


def test_the_interrupt_stays_until_it_is_acknowledged(guest: Any) -> None:
    (ring,) = guest.start(features=0)
    ring.exchange([], [1])
    assert guest.transport.irq.level
    assert guest.get(0x060) == 1
    guest.set(0x064, 2)
    assert guest.transport.irq.level
    guest.set(0x064, 1)
    assert not guest.transport.irq.level
    assert guest.get(0x060) == 0


def test_a_guest_that_wants_no_interrupt_gets_none(guest: Any) -> None:
    (ring,) = guest.start(features=0)
    guest.poke(ring.avail, struct.pack("<H", 1))
    ring.exchange([], [1])
    assert guest.interrupts == 0


def test_with_event_indexes_the_guest_names_the_entry(guest: Any) -> None:
    (ring,) = guest.start(features=EVENT_IDX)
    guest.poke(ring.avail + 4 + 2 * ring.size, struct.pack("<H", 2))  # used_event
    for expected in (1, 1, 2, 2):  # the first interrupt always comes
        ring.exchange([], [1])
        guest.set(0x064, 1)
        assert guest.interrupts == expected
    # avail_event: notify when the next one is available
    assert struct.unpack("<H", guest.peek(ring.used + 4 + 8 * ring.size, 2)) == (4,)


def test_indexes_wrap(guest: Any) -> None:
    (ring,) = guest.start()
    state = guest.device.save()
    for queue in state["queue_states"]:
        queue["last_available"] = queue["used_index"] = 0xFFFE
    guest.device.load(state)
    guest.poke(ring.avail + 2, struct.pack("<H", 0xFFFE))
    guest.poke(ring.used + 2, struct.pack("<H", 0xFFFE))
    ring.avail_index = ring.seen = 0xFFFE
    for _ in range(5):
        assert len(ring.exchange([], [3])) == 3


def test_many_chains_in_one_notification(guest: Any) -> None:
    (ring,) = guest.start()
    heads = [ring.add([], [4]) for _ in range(ring.size)]
    ring.kick()
    assert ring.collect() == [(head, 4) for head in heads]
    assert guest.interrupts == 1


def test_a_reset_by_the_guest_forgets_everything(guest: Any) -> None:
    (ring,) = guest.start()
    ring.exchange([], [1])
    guest.set(0x070, 0)
    assert [guest.get(offset) for offset in (0x070, 0x060, 0x044)] == [0, 0, 0]
    assert not guest.transport.irq.level
    (ring,) = guest.start()
    assert len(ring.exchange([], [1])) == 1


def test_one_queue_may_be_reset(guest: Any) -> None:
    (ring,) = guest.start()
    guest.set(0x030, 0)
    guest.set(0x0C0, 1)
    assert guest.get(0x0C0) == 0
    assert guest.get(0x044) == 0
    ring.add([], [1])
    ring.kick()
    assert ring.collect() == []


def test_a_modern_device_waits_for_driver_ok(guest: Any) -> None:
    (ring,) = guest.start()
    guest.device.status = 11
    ring.add([], [1])
    ring.kick()
    assert ring.collect() == []


def test_state_survives_migration(make_guest: Any, legacy: bool) -> None:
    guest = make_guest(VirtioRng(), legacy=legacy)
    (ring,) = guest.start()
    ring.exchange([], [1])
    assert guest.transport.irq.level
    device, transport = guest.device.save(), guest.transport.save()
    guest.transport.reset()
    guest.device.reset()
    assert not guest.transport.irq.level
    guest.transport.load(transport)
    guest.device.load(device)
    assert guest.transport.irq.level
    guest.set(0x064, 1)
    assert len(ring.exchange([], [9])) == 9


def test_written_memory_is_marked_dirty(guest: Any) -> None:
    (ring,) = guest.start()
    written: list[tuple[int, int]] = []
    guest.ram_list.add_code_listener(lambda addr, size: written.append((addr, size)))
    head = ring.add([], [8])
    address = ring.buffers[head][0][0] - RAM
    guest.ram_list.dirty_map(0)[address >> 12] = 0  # as if translated code were there
    ring.kick()
    assert (address, 8) in written


# -- nonsense: each breaks the device, which works again after a reset


def broken(guest: Any, ring: Any) -> bool:
    interrupts = guest.interrupts
    ring.kick()
    assert guest.needs_reset
    assert guest.interrupts == interrupts + 1
    assert guest.get(0x060) & 2
    ring.kick()
    assert ring.collect() == []
    (ring,) = guest.start()
    assert len(ring.exchange([], [1])) == 1
    return True


def test_a_loop_in_a_chain(guest: Any) -> None:
    (ring,) = guest.start()
    ring.put_desc(0, guest.alloc(8), 8, 1 | 2, 1)
    ring.put_desc(1, guest.alloc(8), 8, 1 | 2, 0)
    ring.offer(0)
    assert broken(guest, ring)


@pytest.mark.parametrize(
    ("address", "size"),
    [
        (0, 4),
        (0x1000_1000, 4),
        (RAM - 2, 4),
        (RAM + (4 << 20) - 2, 4),
        (ROM, 4),
        ((1 << 64) - 2, 4),
        (RAM, 0),
        (RAM, 0xFFFF_FFFF),
    ],
)
def test_a_buffer_where_none_can_be(guest: Any, address: int, size: int) -> None:
    (ring,) = guest.start()
    ring.put_desc(0, address, size, 2)
    ring.offer(0)
    assert broken(guest, ring)


def test_a_head_outside_the_table(guest: Any) -> None:
    (ring,) = guest.start()
    ring.offer(ring.size)
    assert broken(guest, ring)


def test_a_next_outside_the_table(guest: Any) -> None:
    (ring,) = guest.start()
    ring.put_desc(0, guest.alloc(8), 8, 1 | 2, 4711)
    ring.offer(0)
    assert broken(guest, ring)


def test_more_available_than_fits(guest: Any) -> None:
    (ring,) = guest.start()
    guest.poke(ring.avail + 2, struct.pack("<H", ring.size + 1))
    assert broken(guest, ring)


def test_a_readable_buffer_after_a_writable_one(guest: Any) -> None:
    (ring,) = guest.start()
    ring.put_desc(0, guest.alloc(8), 8, 1 | 2, 1)
    ring.put_desc(1, guest.alloc(8), 8, 0, 0)
    ring.offer(0)
    assert broken(guest, ring)


@pytest.mark.parametrize("size", [0, 8, 24])
def test_an_indirect_table_of_a_wrong_size(guest: Any, size: int) -> None:
    (ring,) = guest.start()
    ring.put_desc(0, guest.alloc(64), size, 4)
    ring.offer(0)
    assert broken(guest, ring)


def test_an_indirect_table_in_another_or_outside_ram(guest: Any) -> None:
    (ring,) = guest.start()
    inner = guest.store(struct.pack("<QIHH", RAM, 16, 4, 0))
    ring.put_desc(0, inner, 16, 4)
    ring.offer(0)
    assert broken(guest, ring)
    (ring,) = guest.start()
    ring.put_desc(0, 0x1234, 16, 4)
    ring.offer(0)
    assert broken(guest, ring)


def test_an_indirect_table_that_was_not_agreed(guest: Any) -> None:
    (ring,) = guest.start(features=0)
    ring.add([], [4], indirect=True)
    assert broken(guest, ring)


@pytest.mark.parametrize("which", ["desc", "avail", "used"])
def test_a_ring_outside_ram(guest: Any, which: str) -> None:
    (ring,) = guest.start()
    guest.set(0x044, 0)
    good, where = getattr(ring, which), 0xDEAD_0000_0000
    setattr(ring, which, where)
    guest.set_up(ring)
    setattr(ring, which, good)
    assert broken(guest, ring)


@pytest.mark.parametrize("size", [0, 3, 16384, 0xFFFF_FFFF])
def test_an_impossible_queue_size(guest: Any, size: int) -> None:
    (ring,) = guest.start()
    guest.set(0x044, 0)
    guest.set(0x038, size)
    guest.set(0x044, 1)
    assert broken(guest, ring)


def test_ram_that_goes_away_breaks_the_device(guest: Any) -> None:
    (ring,) = guest.start()
    ring.exchange([], [4])
    (region,) = [r for r in guest.root.subregions if r.region_name == "ram"]
    region.set_enabled(False)
    ring.kick()
    assert guest.needs_reset
    region.set_enabled(True)
    (ring,) = guest.start()
    assert len(ring.exchange([], [4])) == 4


def test_a_broken_legacy_device_just_stops(make_guest: Any) -> None:
    guest = make_guest(VirtioRng(), legacy=True)
    (ring,) = guest.start()
    ring.offer(77)
    ring.kick()
    assert not guest.needs_reset
    assert ring.collect() == []
    (ring,) = guest.start()
    assert len(ring.exchange([], [4])) == 4
