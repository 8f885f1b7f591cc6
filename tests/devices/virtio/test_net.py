"""The network card: frames, filters, link, state."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from ratite.core.errors import ConfigError
from ratite.core.ethernet import MAX_FRAME
from ratite.devices.net.nic import RxState
from ratite.devices.notice import RxFilterChanged
from ratite.devices.virtio import net
from ratite.devices.virtio.net import NetFeatures, Offloads, VirtioNet

RX, TX, CTRL = 0, 1, 2
OWN = bytes.fromhex("525400123456")
OTHER = bytes.fromhex("525400abcdef")
GROUP = bytes.fromhex("01005e000001")
ALL = b"\xff" * 6
ROOM = 2048


class Cable:
    """The host's side: takes what it is told to, and hands frames in until they are taken."""

    id = "n0"

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.sent: list[bytes] = []
        self.waiting: list[bytes] = []
        self.user: Any = None

    def attach(self, user: Any, /) -> None:
        self.user = user

    def send(self, buffers: Sequence[memoryview], /) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.sent.append(b"".join(buffers))
        return True

    def accept_input(self) -> None:
        while self.waiting and self.user.receive(memoryview(self.waiting[0])):
            self.waiting.pop(0)

    def give(self, *frames: bytes) -> None:
        self.waiting += frames
        self.accept_input()


def frame(target: bytes = OWN, size: int = 60, vlan: int | None = None) -> bytes:
    kind = b"\x08\x00" if vlan is None else b"\x81\x00" + vlan.to_bytes(2, "big") + b"\x08\x00"
    return (target + OTHER + kind).ljust(size, b"\x5a")


class Driver:
    """A card with a driver on it."""

    def __init__(self, make_guest: Any, *, legacy: bool = False, **properties: Any) -> None:
        features = properties.pop("features", None)
        self.cable = Cable()
        self.card = VirtioNet(netdev=self.cable, **properties)
        self.guest = make_guest(self.card, legacy=legacy)
        self.notices: list[object] = []
        self.card.notify = self.notices.append
        self.rings = self.guest.start(features)
        self.long = not legacy or bool(self.card.features & net.F_MRG_RXBUF)
        self.header = 12 if self.long else 10

    def command(self, kind: int, command: int, data: bytes = b"") -> int:
        ring = self.rings[CTRL]
        (answer,) = ring.exchange([bytes((kind, command)), data or b"\0"], [1])
        return answer

    def offer(self, *sizes: int) -> int:
        head = self.rings[RX].add([], sizes or [ROOM])
        self.rings[RX].kick()
        return head

    def received(self) -> list[bytes]:
        """What came since the last call, without headers; buffers that belong together joined."""
        ring = self.rings[RX]
        frames = []
        done = iter(ring.collect())
        for head, length in done:
            data = ring.answer(head)[:length]
            count = struct.unpack_from("<H", data, 10)[0] if self.long else 1
            assert data[:10] == bytes(10)
            data = data[self.header :]
            for _ in range(count - 1):
                head, length = next(done)
                data += ring.answer(head)[:length]
            frames.append(data)
        return frames

    def takes(self, *frames: bytes) -> list[bool]:
        """Which of them the filter lets pass."""
        passed = []
        for sent in frames:
            self.offer()
            self.cable.give(sent)
            passed.append(self.received() == [sent])
            if not passed[-1]:  # the buffer is still there: use it up
                self.card.promiscuous, before = True, self.card.promiscuous
                self.cable.give(frame())
                self.card.promiscuous = before
                self.received()
        return passed


@pytest.fixture
def driver(make_guest: Any) -> Driver:
    return Driver(make_guest)


# -- frames


def test_a_frame_is_sent_without_its_header(make_guest: Any, legacy: bool) -> None:
    driver = Driver(make_guest, legacy=legacy)
    sent = frame()
    ring = driver.rings[TX]
    assert ring.exchange([bytes(12) + sent], []) == b""
    ring.exchange([bytes(5), bytes(7) + sent[:20], sent[20:]], [])
    ring.exchange([bytes(12), sent], [], indirect=True)
    assert driver.cable.sent == [sent] * 3
    assert driver.guest.interrupts


def test_headers_are_short_for_legacy_drivers_that_merge_no_buffers(make_guest: Any) -> None:
    driver = Driver(make_guest, legacy=True, features=net.F_MAC)
    driver.rings[TX].exchange([bytes(10) + frame()], [])
    assert driver.cable.sent == [frame()]
    driver.offer()
    driver.cable.give(frame())
    assert driver.received() == [frame()]


def test_a_frame_is_received_into_one_buffer_or_several(driver: Driver) -> None:
    driver.offer(12, 100)
    driver.cable.give(frame(size=90))
    assert driver.received() == [frame(size=90)]
    for _ in range(4):
        driver.offer(64)
    driver.cable.give(frame(size=200))
    assert driver.received() == [frame(size=200)]


def test_a_frame_waits_for_buffers_enough(driver: Driver) -> None:
    driver.cable.give(frame(size=100), frame(size=61))
    driver.offer(64)
    assert driver.received() == []
    driver.offer(64)
    assert driver.received() == [frame(size=100)]
    driver.offer(ROOM)
    assert driver.received() == [frame(size=61)]


def test_a_frame_that_can_never_fit_is_lost(make_guest: Any) -> None:
    driver = Driver(make_guest, features=net.F_MAC)  # without merged buffers
    driver.offer(64)
    driver.cable.give(frame(size=200), frame(size=50))
    assert driver.received() == [frame(size=50)]
    driver = Driver(make_guest)
    for _ in range(16):  # all that the queue has
        driver.offer(16)
    driver.cable.give(frame(size=1000), frame(size=60))
    assert driver.received() == [frame(size=60)]


def test_frames_wait_for_a_driver(make_guest: Any) -> None:
    cable = Cable()
    guest = make_guest(VirtioNet(netdev=cable))
    cable.give(frame())
    assert cable.waiting
    ring = guest.start()[RX]
    ring.add([], [ROOM])
    ring.kick()
    assert not cable.waiting
    assert [length for _, length in ring.collect()] == [72]


def test_what_the_netdev_does_not_take_stays_in_the_queue(driver: Driver) -> None:
    driver.cable.room = 1
    ring = driver.rings[TX]
    for number in range(3):
        ring.add([bytes(12) + frame(size=60 + number)])
    ring.kick()
    assert len(ring.collect()) == 1
    driver.cable.room = 10
    driver.card.writable()
    assert [len(sent) for sent in driver.cable.sent] == [60, 61, 62]
    assert len(ring.collect()) == 2


def test_a_driver_that_sends_without_end_lets_others_have_their_turn(make_guest: Any) -> None:
    driver = Driver(make_guest)
    ring = driver.rings[TX]
    size = ring.size

    def send(buffers: Sequence[memoryview], /) -> bool:
        driver.cable.sent.append(b"")
        if len(driver.cable.sent) < 2 * net.TX_BURST:  # the guest's other harts go on
            ring.offer(0)
        return True

    driver.cable.send = send  # type: ignore[method-assign]
    for _ in range(size):
        ring.add([bytes(12) + frame()])
    ring.kick()
    assert len(driver.cable.sent) == net.TX_BURST
    driver.guest.clock.advance(1)
    assert len(driver.cable.sent) > net.TX_BURST


def test_nonsense_to_send_breaks_the_card_or_is_lost(make_guest: Any) -> None:
    driver = Driver(make_guest)
    for size in (0, 5, 13, MAX_FRAME + 1):
        driver.rings[TX].exchange([bytes(12 + size)], [])
    assert driver.cable.sent == [] and not driver.guest.needs_reset
    driver.rings[TX].add([bytes(5)])
    driver.rings[TX].kick()
    assert driver.guest.needs_reset
    driver.rings = driver.guest.start()
    driver.rings[TX].exchange([bytes(12) + frame()], [])
    assert driver.cable.sent == [frame()]


@pytest.mark.parametrize("sizes", [(5,), (11,)])
def test_a_buffer_without_room_for_the_header_breaks_the_card(
    driver: Driver, sizes: tuple[int, ...]
) -> None:
    driver.offer(*sizes)
    driver.cable.give(frame())
    assert driver.guest.needs_reset
    driver.cable.give(frame())
    assert not driver.cable.waiting  # lost


def test_random_commands_and_chains_raise_nothing(make_guest: Any) -> None:
    source = random.Random(1)
    driver = Driver(make_guest)
    for _ in range(300):
        queue = source.randrange(3)
        readable = [source.randbytes(source.randrange(1, 40)) for _ in range(source.randrange(4))]
        if queue == CTRL and readable and source.random() < 0.7:
            readable[0] = bytes((source.randrange(5), source.randrange(7))) + readable[0]
        writable = [source.randrange(1, 40) for _ in range(source.randrange(4))]
        if readable or writable:
            ring = driver.rings[queue]
            ring.add(readable, writable, indirect=source.random() < 0.3)
            ring.kick()
        driver.cable.give(frame(source.choice((OWN, OTHER, GROUP, ALL)), source.randrange(14, 90)))
        driver.cable.waiting.clear()
        if driver.guest.needs_reset:
            driver.guest.top = 0x8010_0000
            driver.rings = driver.guest.start()


# -- filters


def test_what_is_received_before_a_driver_says_otherwise_is_all(driver: Driver) -> None:
    assert driver.takes(frame(), frame(OTHER), frame(GROUP), frame(ALL)) == [True] * 4


def test_modes_of_reception(driver: Driver) -> None:
    frames = (frame(), frame(OTHER), frame(GROUP), frame(ALL))
    assert driver.command(0, 0, b"\0") == 0  # promiscuous off
    assert driver.takes(*frames) == [True, False, False, True]
    for mode, taken in (
        (1, [True, False, True, True]),  # all multicast
        (2, [True, True, False, True]),  # all unicast
        (3, [True, False, False, True]),  # no multicast
        (4, [False, False, False, True]),  # no unicast
        (5, [True, False, False, False]),  # no broadcast
    ):
        assert driver.command(0, mode, b"\1") == 0
        assert driver.takes(*frames) == taken
        assert driver.command(0, mode, b"\0") == 0
    assert driver.command(0, 6, b"\1") == 1
    assert driver.command(0, 1, b"\1") == driver.command(0, 3, b"\1") == 0
    assert driver.takes(frame(GROUP)) == [False]


def table(*lists: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(macs)) + b"".join(macs) for macs in lists)


def macs(count: int, first: int) -> list[bytes]:
    return [bytes((first, 0, 0, 0, n >> 8, n & 0xFF)) for n in range(count)]


def test_the_table_of_addresses_is_exact(driver: Driver) -> None:
    driver.command(0, 0, b"\0")
    assert driver.command(1, 0, table([OTHER], [GROUP])) == 0
    third = bytes.fromhex("525400abcdee")
    group = bytes.fromhex("01005e000002")
    frames = (frame(), frame(OTHER), frame(third), frame(GROUP), frame(group))
    assert driver.takes(*frames) == [True, True, False, True, False]
    assert driver.command(1, 0, table([], [])) == 0
    assert driver.takes(*frames) == [True, False, False, False, False]


def test_a_table_that_overflows_lets_all_of_its_kind_pass(driver: Driver) -> None:
    driver.command(0, 0, b"\0")
    assert driver.command(1, 0, table(macs(64, 2), [])) == 0
    assert driver.takes(frame(OTHER), frame(GROUP)) == [False, False]
    assert driver.command(1, 0, table(macs(64, 2), macs(1, 3))) == 0
    assert driver.takes(frame(OTHER), frame(GROUP)) == [False, True]
    assert driver.command(1, 0, table(macs(65, 2), macs(64, 3))) == 0
    assert driver.takes(frame(OTHER), frame(GROUP), frame(macs(64, 3)[63])) == [True, False, True]
    assert driver.card.rx_filter().unicast_overflow
    assert not driver.card.rx_filter().multicast_overflow


def test_wrong_tables_change_nothing(driver: Driver) -> None:
    driver.command(1, 0, table([OTHER], []))
    for data in (b"\1", table([OTHER]), table([OTHER], [])[:-1], table([], []) + b"\0"):
        assert driver.command(1, 0, data) == 1
    assert driver.command(1, 0, struct.pack("<I", 0xFFFF_FFFF)) == 1
    assert driver.card.unicast_table == [OTHER]


def test_vlans_are_filtered_once_the_driver_asks_for_some(driver: Driver) -> None:
    driver.command(0, 0, b"\0")
    assert driver.command(2, 0, struct.pack("<H", 5)) == 0
    assert driver.command(2, 0, struct.pack("<H", 4095)) == 0
    frames = (frame(vlan=5), frame(vlan=0xF000 | 4095), frame(vlan=6), frame())
    assert driver.takes(*frames) == [True, True, False, True]
    assert driver.command(2, 1, struct.pack("<H", 5)) == 0
    assert driver.takes(*frames) == [False, True, False, True]
    assert driver.command(2, 0, struct.pack("<H", 4096)) == 1
    assert driver.command(2, 2, struct.pack("<H", 1)) == 1


def test_a_driver_without_the_feature_gets_all_vlans(make_guest: Any) -> None:
    driver = Driver(make_guest, features=net.F_MAC | net.F_CTRL_VQ | net.F_CTRL_RX)
    driver.command(0, 0, b"\0")
    assert driver.takes(frame(vlan=6)) == [True]
    assert driver.command(2, 0, struct.pack("<H", 5)) == 1
    assert driver.command(0, 2, b"\1") == 1  # of F_CTRL_RX_EXTRA
    assert driver.card.rx_filter().vlan is RxState.ALL
    assert len(driver.card.rx_filter().vlan_table) == 4096


def test_the_driver_changes_the_address(driver: Driver) -> None:
    driver.command(0, 0, b"\0")
    assert driver.command(1, 1, OTHER) == 0
    assert driver.takes(frame(OTHER), frame(OWN)) == [True, False]
    assert driver.guest.config(0, 6) == OTHER
    assert driver.command(1, 1, OTHER + b"\0") == 1
    driver.guest.start()
    assert driver.guest.config(0, 6) == OWN


def test_a_legacy_driver_writes_the_address_into_the_configuration(make_guest: Any) -> None:
    driver = Driver(make_guest, legacy=True, features=net.F_MAC)
    for index, byte in enumerate(OTHER):
        driver.guest.set(0x100 + index, byte, 1)
    assert driver.guest.config(0, 6) == OTHER
    driver.guest.set(0x100 + 6, 0x1234, 2)  # beyond the address
    assert driver.guest.config(0, 6) == OTHER
    modern = Driver(make_guest)
    modern.guest.set(0x100, 0, 1)
    assert modern.guest.config(0, 6) == OWN


def test_a_change_of_the_filter_is_noticed_once_until_somebody_asks(driver: Driver) -> None:
    driver.command(0, 0, b"\0")
    driver.command(0, 1, b"\1")
    assert driver.notices == [RxFilterChanged("", driver.card.path)]
    driver.card.watch_rx_filter()
    driver.command(0, 9, b"\1")  # refused
    assert len(driver.notices) == 1
    driver.command(2, 0, struct.pack("<H", 5))
    assert len(driver.notices) == 2
    found = driver.card.rx_filter()
    assert (found.promiscuous, found.multicast, found.vlan_table) == (False, RxState.ALL, (5,))


# -- link, configuration, properties


def test_the_link_is_told_and_frames_are_lost_while_it_is_down(driver: Driver) -> None:
    assert driver.guest.config(6, 2) == b"\1\0"
    before = driver.guest.get(0x0FC)
    driver.card.link_changed(False)
    assert driver.guest.get(0x060) & 2 and driver.guest.get(0x0FC) != before
    assert driver.guest.config(6, 2) == b"\0\0"
    driver.rings[TX].exchange([bytes(12) + frame()], [])
    driver.offer()
    driver.cable.give(frame())
    assert driver.cable.sent == [] and driver.received() == [] and not driver.cable.waiting
    driver.guest.start()
    assert driver.guest.config(6, 2) == b"\0\0"  # a reset does not plug cables in
    driver.card.link_changed(True)
    assert driver.guest.config(6, 2) == b"\1\0"


def test_a_driver_is_asked_to_announce_itself_until_it_says_that_it_has(driver: Driver) -> None:
    assert driver.command(3, 0) == 1
    driver.card.announce()
    assert driver.guest.get(0x060) & 2
    assert driver.guest.config(6, 2) == b"\3\0"
    assert driver.command(3, 0) == 0
    assert driver.guest.config(6, 2) == b"\1\0"


def test_the_configuration_tells_what_properties_say(make_guest: Any) -> None:
    driver = Driver(make_guest, host_mtu=1400, speed=1000, duplex="full")
    assert driver.card.features & net.F_MTU
    config = struct.unpack("<6sHHHIB", driver.guest.config(0, 17))
    assert config == (OWN, 1, 1, 1400, 1000, 1)
    assert len(VirtioNet().read_config()) == 8
    assert len(VirtioNet(host_mtu=1400).read_config()) == 12
    plain = VirtioNet(features_of_net=NetFeatures(status=False, ctrl_vq=False))
    assert len(plain.read_config()) == 6
    assert plain.own_features() == net.F_MAC | net.F_MRG_RXBUF
    assert len(make_guest(plain).start()) == 2


def test_offloads_are_not_offered(driver: Driver) -> None:
    offloads = 0b11 | 0b1111 << 7 | 0b1111 << 11 | 1 << 22 | 1 << 2
    assert not driver.guest.offered() & offloads


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        ({"mac": "xx"}, "Property 'virtio-net-device.mac' doesn't take value 'xx'"),
        ({"duplex": "foo"}, "'duplex' must be 'half' or 'full'"),
        ({"speed": -5}, "'speed' must be between 0 and INT_MAX"),
        (
            {"rx_queue_size": 3},
            "Invalid rx_queue_size (= 3), must be a power of 2 between 256 and 1024.",
        ),
        (
            {"tx_queue_size": 2048},
            "Invalid tx_queue_size (= 2048), must be a power of 2 between 256 and 1024",
        ),
        ({"offloads": Offloads(mq=True)}, "virtio-net-device: mq=on is not supported"),
    ],
)
def test_impossible_properties_are_refused(
    make_guest: Any, properties: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_guest(VirtioNet(**properties))
    assert caught.value.text == text


# -- state


def test_all_of_the_state_is_there_after_loading(driver: Driver) -> None:
    driver.command(0, 0, b"\0")
    for mode in (1, 2, 3, 4, 5):
        driver.command(0, mode, b"\1")
    driver.command(1, 0, table(macs(3, 2), macs(65, 3)))
    driver.command(1, 1, OTHER)
    driver.command(2, 0, struct.pack("<H", 1234))
    driver.card.announce()
    driver.card.link_changed(False)
    before = driver.card.rx_filter(), driver.guest.config(0, 8)
    device, transport = driver.card.save(), driver.guest.transport.save()
    driver.guest.transport.reset()
    driver.card.reset()
    driver.card.link_changed(True)
    assert driver.card.rx_filter() != before[0]
    driver.guest.transport.load(transport)
    driver.card.load(device)
    assert (driver.card.rx_filter(), driver.guest.config(0, 8)) == before


def test_frames_that_waited_when_it_was_saved_are_sent_after_loading(driver: Driver) -> None:
    driver.cable.room = 0
    driver.rings[TX].add([bytes(12) + frame()])
    driver.rings[TX].kick()
    device, transport = driver.card.save(), driver.guest.transport.save()
    driver.guest.transport.reset()
    driver.card.reset()
    driver.cable.room = 1
    driver.guest.transport.load(transport)
    driver.card.load(device)
    driver.guest.clock.advance(1)
    assert driver.cable.sent == [frame()]
    driver.offer()
    driver.cable.give(frame())
    assert driver.received() == [frame()]


@pytest.mark.parametrize(
    "wrong",
    [
        {"unicast_table": macs(40, 2), "multicast_table": macs(40, 3)},
        {"unicast_table": [b"short"]},
        {"address": bytes(7)},
        {"vlans": bytes(511)},
    ],
)
def test_a_filter_that_cannot_be_is_not_loaded(driver: Driver, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="wrong filter table"):
        driver.card.load({**driver.card.save(), **wrong})
