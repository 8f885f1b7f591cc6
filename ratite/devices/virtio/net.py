"""Virtio network card.

Source: Virtio 1.2, chapter 5.1 (network device); RFC 903 for what drivers announce.
Not modelled: offloads of checksums and segmentation (which no netdev here could use), several
pairs of queues, receive-side scaling, hash reports, failover.

Frames go from guest RAM to the host without a copy here, and are copied once on their way back.
What cannot be sent now stays in the queue; what cannot be received now stays with the netdev.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from ratite.core.clock import Timer
from ratite.core.errors import ConfigError
from ratite.core.ethernet import BROADCAST, HEADER_SIZE, MAX_FRAME, parse_mac
from ratite.core.trace import TraceEvent
from ratite.devices.net.backend import NetBackend
from ratite.devices.net.nic import Nic, RxFilter, RxState, enroll
from ratite.devices.notice import RxFilterChanged
from ratite.devices.register import State
from ratite.devices.virtio.device import VIRTIO_DEFAULTS, Status, VirtioDevice, VirtioOptions
from ratite.devices.virtio.feature import F_VERSION_1, FeatureBit
from ratite.devices.virtio.queue import Element, VirtQueue
from ratite.qom import Backend, Doc, Int32, Named, PropertyGroup, UInt16

F_MTU = FeatureBit(3, "VIRTIO_NET_F_MTU", "Limit on the size of packets")
F_MAC = FeatureBit(5, "VIRTIO_NET_F_MAC", "Address of the card")
F_MRG_RXBUF = FeatureBit(15, "VIRTIO_NET_F_MRG_RXBUF", "One packet in several buffers")
F_STATUS = FeatureBit(16, "VIRTIO_NET_F_STATUS", "State of the link")
F_CTRL_VQ = FeatureBit(17, "VIRTIO_NET_F_CTRL_VQ", "Queue of commands")
F_CTRL_RX = FeatureBit(18, "VIRTIO_NET_F_CTRL_RX", "Modes of the filter")
F_CTRL_VLAN = FeatureBit(19, "VIRTIO_NET_F_CTRL_VLAN", "Filter of VLANs")
F_CTRL_RX_EXTRA = FeatureBit(20, "VIRTIO_NET_F_CTRL_RX_EXTRA", "More modes of the filter")
F_GUEST_ANNOUNCE = FeatureBit(21, "VIRTIO_NET_F_GUEST_ANNOUNCE", "Announcing the guest, when asked")
F_CTRL_MAC_ADDR = FeatureBit(23, "VIRTIO_NET_F_CTRL_MAC_ADDR", "Setting the address by command")
F_SPEED_DUPLEX = FeatureBit(63, "VIRTIO_NET_F_SPEED_DUPLEX", "Speed and duplex of the link")

S_LINK_UP, S_ANNOUNCE = 1, 2
CTRL_RX, CTRL_MAC, CTRL_VLAN, CTRL_ANNOUNCE = 0, 1, 2, 3
ACK_OK, ACK_ERROR = b"\0", b"\1"
COMMAND = struct.Struct("<BB")  # class, command
COUNT = struct.Struct("<I")
VLAN_ID = struct.Struct("<H")
MAX_COMMAND = 64 * 1024  # bytes that are looked at
CONFIG = struct.Struct("<6sHHHIB")  # MAC, status, pairs, MTU, speed, duplex
HEADER = struct.Struct("<BBHHHHH")  # flags, gso type, sizes and offsets of offloads, buffers
SHORT_HEADER_SIZE = 10  # of legacy drivers: without the number of buffers

MODES = (  # by the commands that switch them
    "promiscuous",
    "all_multicast",
    "all_unicast",
    "no_multicast",
    "no_unicast",
    "no_broadcast",
)
MAC_TABLE_SIZE = 64
VLANS = 4096
VLAN_TYPE = b"\x81\0"
MIN_QUEUE, MAX_QUEUE = 256, 1024
CTRL_QUEUE_SIZE = 64
TX_BURST = 256
"""Frames that are sent before others have their turn."""
UNKNOWN_SPEED, UNKNOWN_DUPLEX = -1, 0xFF
DUPLEX = {"half": 0, "full": 1}


@TraceEvent
def virtio_net_handle_rx_mode(cmd: int, on: int) -> str:
    """The driver switches a mode of reception."""
    return f"cmd {cmd} on {on}"


@TraceEvent
def virtio_net_announce_notify() -> str:
    """The driver is asked to announce itself."""
    return ""


@dataclass(frozen=True)
class NetFeatures(PropertyGroup):
    """Features that can be switched off."""

    mrg_rxbuf: Annotated[bool, Named("mrg_rxbuf")] = True
    status: bool = True
    ctrl_vq: Annotated[bool, Named("ctrl_vq")] = True
    ctrl_rx: Annotated[bool, Named("ctrl_rx")] = True
    ctrl_vlan: Annotated[bool, Named("ctrl_vlan")] = True
    ctrl_rx_extra: Annotated[bool, Named("ctrl_rx_extra")] = True
    ctrl_mac_addr: Annotated[bool, Named("ctrl_mac_addr")] = True
    guest_announce: Annotated[bool, Named("guest_announce")] = True

    @property
    def bits(self) -> int:
        """The feature bits that these properties offer."""
        control = (
            (F_CTRL_RX if self.ctrl_rx else 0)
            | (F_CTRL_VLAN if self.ctrl_vlan else 0)
            | (F_CTRL_RX_EXTRA if self.ctrl_rx_extra else 0)
            | (F_CTRL_MAC_ADDR if self.ctrl_mac_addr else 0)
            | (F_GUEST_ANNOUNCE if self.guest_announce and self.status else 0)
        )
        return (
            F_MAC
            | (F_MRG_RXBUF if self.mrg_rxbuf else 0)
            | (F_STATUS if self.status else 0)
            | (F_CTRL_VQ | control if self.ctrl_vq else 0)
        )


_OFFLOAD = Doc("accepted: no netdev has offloads")
_OFF = Doc("must be off")


@dataclass(frozen=True)
class Offloads(PropertyGroup):
    """Properties of QEMU's card that have no effect with netdevs like ours, and those that cannot
    be switched on.
    """

    csum: Annotated[bool, _OFFLOAD] = True
    guest_csum: Annotated[bool, Named("guest_csum"), _OFFLOAD] = True
    gso: Annotated[bool, _OFFLOAD] = True
    guest_tso4: Annotated[bool, Named("guest_tso4"), _OFFLOAD] = True
    guest_tso6: Annotated[bool, Named("guest_tso6"), _OFFLOAD] = True
    guest_ecn: Annotated[bool, Named("guest_ecn"), _OFFLOAD] = True
    guest_ufo: Annotated[bool, Named("guest_ufo"), _OFFLOAD] = True
    host_tso4: Annotated[bool, Named("host_tso4"), _OFFLOAD] = True
    host_tso6: Annotated[bool, Named("host_tso6"), _OFFLOAD] = True
    host_ecn: Annotated[bool, Named("host_ecn"), _OFFLOAD] = True
    host_ufo: Annotated[bool, Named("host_ufo"), _OFFLOAD] = True
    ctrl_guest_offloads: Annotated[bool, Named("ctrl_guest_offloads"), _OFFLOAD] = True
    mq: Annotated[bool, _OFF] = False
    rss: Annotated[bool, _OFF] = False
    hash: Annotated[bool, _OFF] = False
    guest_rsc_ext: Annotated[bool, Named("guest_rsc_ext"), _OFF] = False
    failover: Annotated[bool, _OFF] = False


NET_FEATURES = NetFeatures()
OFFLOADS = Offloads()


class VirtioNet(VirtioDevice, Nic):
    """A network card on the backend `netdev`; without one its cable leads nowhere."""

    type_name = "virtio-net-device"
    category = "Network"
    device_id = 1
    known_features = (
        F_MTU,
        F_MAC,
        F_MRG_RXBUF,
        F_STATUS,
        F_CTRL_VQ,
        F_CTRL_RX,
        F_CTRL_VLAN,
        F_CTRL_RX_EXTRA,
        F_GUEST_ANNOUNCE,
        F_CTRL_MAC_ADDR,
        F_SPEED_DUPLEX,
    )

    link_up = State(True, kept=True)
    announcing = State(False)  # the driver was asked to announce itself, and has not yet
    address = State[bytes](factory=lambda card: parse_mac(card.mac) or bytes(6))
    promiscuous = State(True)
    all_multicast = State(False)
    all_unicast = State(False)
    no_multicast = State(False)
    no_unicast = State(False)
    no_broadcast = State(False)
    unicast_table = State[list[bytes]](factory=lambda _: [], element=b"")
    multicast_table = State[list[bytes]](factory=lambda _: [], element=b"")
    unicast_overflow = State(False)
    multicast_overflow = State(False)
    vlans = State(bytes(VLANS // 8))  # a bit each, for drivers with F_CTRL_VLAN

    def __init__(
        self,
        *,
        netdev: Annotated[
            NetBackend | None, Backend("netdev"), Doc("ID of a netdev to use as a backend")
        ] = None,
        mac: Annotated[str, Doc("Ethernet 6-byte MAC Address, example: 52:54:00:12:34:56")] = "",
        bootindex: Annotated[Int32, Doc("accepted: no firmware here boots from networks")] = -1,
        rx_queue_size: Annotated[UInt16, Named("rx_queue_size")] = MIN_QUEUE,
        tx_queue_size: Annotated[UInt16, Named("tx_queue_size")] = MIN_QUEUE,
        host_mtu: Annotated[UInt16, Named("host_mtu"), Doc("told to the driver; 0: not")] = 0,
        speed: Annotated[Int32, Doc("Mbit/s told to the driver; -1: unknown")] = UNKNOWN_SPEED,
        duplex: Annotated[str | None, Doc("half or full, told to the driver")] = None,
        tx: Annotated[str | None, Doc("accepted: frames are sent at once")] = None,
        features_of_net: NetFeatures = NET_FEATURES,
        offloads: Offloads = OFFLOADS,
        virtio: VirtioOptions = VIRTIO_DEFAULTS,
    ) -> None:
        self.netdev = netdev
        self.mac = mac
        self.bootindex = bootindex
        self.rx_queue_size = rx_queue_size
        self.tx_queue_size = tx_queue_size
        self.host_mtu = host_mtu
        self.speed = speed
        self.duplex = duplex
        self.tx = tx
        self.features_of_net = features_of_net
        self.offloads = offloads
        self.nic_name = ""
        self.nic_number = 0
        self._tells_rx_filter = True
        self._burst = 0
        self._burst_timer: Timer | None = None
        super().__init__(virtio)

    # -- life

    def realize(self) -> None:
        """Make the queues. Raises ConfigError for properties that cannot be."""
        self._check()
        enroll(self, self)
        self.address = parse_mac(self.mac) or bytes(6)
        self._rx = self.add_queue(self.rx_queue_size, lambda _: self._buffers_came())
        self._tx = self.add_queue(self.tx_queue_size, self._transmit_all)
        if self.features_of_net.ctrl_vq:
            self.add_queue(CTRL_QUEUE_SIZE, self._take_commands)
        super().realize()
        self._burst_timer = self.transport.clock.timer(lambda: self._transmit_all(self._tx))
        if self.netdev is not None:
            self.netdev.attach(self)

    def unrealize(self) -> None:
        """Drop the queues."""
        super().unrealize()
        self.queues.clear()

    def _check(self) -> None:
        for name in ("mq", "rss", "hash", "guest_rsc_ext", "failover"):
            if getattr(self.offloads, name):
                raise ConfigError(f"{self.type_name}: {name}=on is not supported")
        for name in ("rx_queue_size", "tx_queue_size"):
            size = getattr(self, name)
            if not MIN_QUEUE <= size <= MAX_QUEUE or size & (size - 1):
                dot = "." if name == "rx_queue_size" else ""
                raise ConfigError(
                    f"Invalid {name} (= {size}), must be a power of 2 "
                    f"between {MIN_QUEUE} and {MAX_QUEUE}{dot}"
                )
        if self.duplex is not None and self.duplex not in DUPLEX:
            raise ConfigError("'duplex' must be 'half' or 'full'")
        if self.speed < UNKNOWN_SPEED:
            raise ConfigError("'speed' must be between 0 and INT_MAX")

    def own_features(self) -> int:
        """The feature bits of this card."""
        features = self.features_of_net.bits
        if self.host_mtu:
            features |= F_MTU
        if self.speed != UNKNOWN_SPEED or self.duplex is not None:
            features |= F_SPEED_DUPLEX
        return features

    def driver_ready(self) -> None:
        """Frames that waited for the driver may come."""
        self._buffers_came()

    def stopped(self, queues: Sequence[VirtQueue]) -> None:
        """Send no more."""
        if self._burst_timer is not None:
            self._burst_timer.delete()

    def check(self, saved: Mapping[str, Any]) -> None:
        """Raise `ConfigError` if `load` could not take this."""
        super().check(saved)
        tables = [saved["unicast_table"], saved["multicast_table"]]
        macs = [saved["address"], *tables[0], *tables[1]]
        fits = sum(map(len, tables)) <= MAC_TABLE_SIZE and all(len(mac) == 6 for mac in macs)
        if not fits or len(saved["vlans"]) != VLANS // 8:
            raise ConfigError(f"saved state of '{self.type_name}' has a wrong filter table")

    # -- configuration space

    def read_config(self) -> bytes:
        """Address, link and what the driver is told, as far as features say that it is there;
        little-endian.
        """
        status = S_LINK_UP if self.link_up else 0
        if self.announcing:
            status |= S_ANNOUNCE
        duplex = UNKNOWN_DUPLEX if self.duplex is None else DUPLEX[self.duplex]
        speed = self.speed & 0xFFFF_FFFF
        space = CONFIG.pack(self.address, status, 1, self.host_mtu, speed, duplex)
        features = self.own_features()
        if features & F_SPEED_DUPLEX:
            return space
        if features & F_MTU:
            return space[:12]
        return space[:8] if features & F_STATUS else space[:6]

    def write_config(self, offset: int, value: int, size: int) -> None:
        """Let a legacy driver without a command for it change the address."""
        if self.has(F_VERSION_1) or self.has(F_CTRL_MAC_ADDR) or offset + size > 6:
            super().write_config(offset, value, size)
            return
        address = bytearray(self.address)
        address[offset : offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        self.address = bytes(address)
        self._filter_changed()

    # -- link

    @property
    def has_link(self) -> bool:
        """Whether the cable is in."""
        return self.link_up

    def link_changed(self, up: bool, /) -> None:
        """The cable is in, or out."""
        if up != self.link_up:
            self.link_up = up
            if self.has(F_STATUS):
                self.config_changed()
        if up and self.netdev is not None:
            self.netdev.accept_input()

    def announce(self) -> None:
        """Ask a driver that can to announce itself."""
        if self.has(F_GUEST_ANNOUNCE) and self.has(F_CTRL_VQ):
            if trace := self.log.trace:
                trace(virtio_net_announce_notify)
            self.announcing = True
            self.config_changed()

    # -- sending

    @property
    def _header_size(self) -> int:
        long = self.features & (F_VERSION_1 | F_MRG_RXBUF)
        return HEADER.size if long else SHORT_HEADER_SIZE

    def _transmit_all(self, queue: VirtQueue) -> None:
        """Send what the driver has made available. Runs: per notification."""
        if self.is_broken or not self.status & Status.DRIVER_OK:
            return
        self._burst = TX_BURST
        queue.run(self._transmit)
        queue.notify()

    def _transmit(self, element: Element) -> bool:
        """Send one frame; False if no more can be sent now. Runs: per frame."""
        header = self._header_size
        size = element.readable_size - header
        if size < 0:
            self.broken("a frame to send without its header")
            return False
        if self.netdev is not None and self.link_up:
            if not HEADER_SIZE <= size <= MAX_FRAME:
                self.guest_error(f"a frame of {size} bytes to send")
            elif not self.netdev.send(_after(element.readable, header)):
                self._tx.unpop(element)
                return False
        self._tx.push(element, 0)
        self._burst -= 1
        if self._burst:
            return True
        assert self._burst_timer is not None
        self._burst_timer.mod(self.transport.clock.now_ns())
        return False

    def writable(self) -> None:
        """The netdev takes frames again."""
        if self._tx.ready:
            self._transmit_all(self._tx)

    # -- receiving

    def _buffers_came(self) -> None:
        if self.netdev is not None and not self.is_broken:
            self._rx.set_notification(wanted=False)
            self.netdev.accept_input()

    def receive(self, frame: memoryview, /) -> bool:
        """Take a frame from the host, or lose it; False if there is no room for it now. Runs: per
        frame.
        """
        if self.is_broken or not self.link_up:
            return True
        if not self._rx.ready or not self.status & Status.DRIVER_OK:
            return False
        if not self._wants(frame):
            return True
        size = self._header_size + len(frame)
        elements = self._take_buffers(size)
        if not elements and not self.is_broken:
            self._rx.set_notification(wanted=True)
            elements = self._take_buffers(size)  # that came before the driver knew
            if not elements:
                return self.is_broken
        if elements and sum(element.writable_size for element in elements) >= size:
            self._fill(elements, frame)
        elif elements:
            self._give_back(elements)  # it never fits: it is lost
        return True

    def _take_buffers(self, size: int) -> list[Element]:
        """Chains for so many bytes, or all that there can be; none if more may come."""
        queue = self._rx
        taken: list[Element] = []
        room = 0
        most = queue.size if self.has(F_MRG_RXBUF) else 1
        while room < size and len(taken) < most:
            element = queue.pop()
            if element is None:
                self._give_back(taken)
                return []
            taken.append(element)
            room += element.writable_size
            if taken[0].writable_size < self._header_size or not element.writable_size:
                self.broken("a buffer to receive into without room for the header")
                return []
        return taken

    def _give_back(self, elements: list[Element]) -> None:
        for element in reversed(elements):
            self._rx.unpop(element)

    def _fill(self, elements: list[Element], frame: memoryview) -> None:
        first = elements[0]
        header = HEADER.pack(0, 0, 0, 0, 0, 0, len(elements))[: self._header_size]
        done = min(len(frame), first.writable_size - len(header))
        _scatter(first.writable, header, frame[:done])
        self._rx.push(first, len(header) + done)
        for element in elements[1:]:
            size = element.fill(frame[done:])
            self._rx.push(element, size)
            done += size
        self._rx.notify()

    def _wants(self, frame: memoryview) -> bool:
        """Whether the driver's filter lets a frame pass."""
        if self.promiscuous:
            return True
        if len(frame) < HEADER_SIZE:
            return False
        if frame[12:14] == VLAN_TYPE and len(frame) >= 16 and self.has(F_CTRL_VLAN):
            vlan = (frame[14] << 8 | frame[15]) & (VLANS - 1)
            if not self.vlans[vlan >> 3] >> (vlan & 7) & 1:
                return False
        target = bytes(frame[:6])
        if target == BROADCAST:
            return not self.no_broadcast
        if target[0] & 1:
            if self.no_multicast:
                return False
            wide = self.all_multicast or self.multicast_overflow
            return wide or target in self.multicast_table
        if self.no_unicast:
            return False
        wide = self.all_unicast or self.unicast_overflow
        return wide or target == self.address or target in self.unicast_table

    # -- commands of the driver

    def _take_commands(self, queue: VirtQueue) -> None:
        def take(element: Element) -> bool:
            if element.readable_size < COMMAND.size or not element.writable_size:
                self.broken("a command without header or room for the answer")
                return False
            data = element.gather(MAX_COMMAND)
            kind, command = COMMAND.unpack_from(data)
            done = self._do(kind, command, data[COMMAND.size :])
            if not done:
                self.guest_error(f"command {command} of class {kind} is not possible")
            queue.push(element, element.fill(ACK_OK if done else ACK_ERROR))
            return True

        queue.run(take)
        queue.notify()

    def _do(self, kind: int, command: int, data: bytes) -> bool:
        """Do what a command says; False if that is not possible."""
        if kind == CTRL_ANNOUNCE:
            done = command == 0 and self.announcing and self.has(F_GUEST_ANNOUNCE)
            self.announcing = self.announcing and not done
            return done
        match kind:
            case 0:
                done = self._set_mode(command, data)
            case 1:
                done = self._set_addresses(command, data)
            case 2:
                done = self._set_vlan(command, data)
            case _:
                return False
        if done:
            self._filter_changed()
        return done

    def _set_mode(self, command: int, data: bytes) -> bool:
        needed = F_CTRL_RX if command < 2 else F_CTRL_RX_EXTRA
        if command >= len(MODES) or len(data) < 1 or not self.has(needed):
            return False
        if trace := self.log.trace:
            trace(virtio_net_handle_rx_mode, command, data[0])
        setattr(self, MODES[command], data[0] != 0)
        return True

    def _set_addresses(self, command: int, data: bytes) -> bool:
        if command == 1:
            if len(data) != 6 or not self.has(F_CTRL_MAC_ADDR):
                return False
            self.address = data
            return True
        if command or not self.has(F_CTRL_RX):
            return False
        tables = []
        for _ in range(2):
            if len(data) < COUNT.size:
                return False
            size = COUNT.size + 6 * COUNT.unpack_from(data)[0]
            if len(data) < size:
                return False
            tables.append([data[at : at + 6] for at in range(COUNT.size, size, 6)])
            data = data[size:]
        if data:
            return False
        unicast, multicast = tables
        self.unicast_overflow = len(unicast) > MAC_TABLE_SIZE
        self.unicast_table = [] if self.unicast_overflow else unicast
        left = MAC_TABLE_SIZE - len(self.unicast_table)
        self.multicast_overflow = len(multicast) > left
        self.multicast_table = [] if self.multicast_overflow else multicast
        return True

    def _set_vlan(self, command: int, data: bytes) -> bool:
        if command > 1 or len(data) < VLAN_ID.size or not self.has(F_CTRL_VLAN):
            return False
        (vlan,) = VLAN_ID.unpack_from(data)
        if vlan >= VLANS:
            return False
        vlans = bytearray(self.vlans)
        bit = 1 << (vlan & 7)
        vlans[vlan >> 3] = vlans[vlan >> 3] & ~bit | (0 if command else bit)
        self.vlans = bytes(vlans)
        return True

    # -- for clients who want to filter in the guest's place

    def _filter_changed(self) -> None:
        if self._tells_rx_filter:
            self._tells_rx_filter = False
            self.notify(RxFilterChanged(self.id, self.path))

    def watch_rx_filter(self) -> None:
        """Give notice of the next change."""
        self._tells_rx_filter = True

    def rx_filter(self) -> RxFilter:
        """What it takes now."""
        vlans = list(range(VLANS))
        vlan = RxState.ALL
        if self.has(F_CTRL_VLAN):
            vlans = [n for n in vlans if self.vlans[n >> 3] >> (n & 7) & 1]
            vlan = RxState.NORMAL if vlans else RxState.NONE
        return RxFilter(
            promiscuous=self.promiscuous,
            refuses_broadcast=self.no_broadcast,
            multicast=_rx_state(none=self.no_multicast, all=self.all_multicast),
            unicast=_rx_state(none=self.no_unicast, all=self.all_unicast),
            vlan=vlan,
            multicast_overflow=self.multicast_overflow,
            unicast_overflow=self.unicast_overflow,
            address=self.address,
            vlan_table=tuple(vlans),
            unicast_table=tuple(self.unicast_table),
            multicast_table=tuple(self.multicast_table),
        )


def _rx_state(*, none: bool, all: bool) -> RxState:
    return RxState.NONE if none else RxState.ALL if all else RxState.NORMAL


def _after(buffers: list[memoryview], skip: int) -> list[memoryview]:
    """Return `buffers` without their first bytes, which may be in several."""
    for index, view in enumerate(buffers):
        if len(view) > skip:
            return [view[skip:] if skip else view, *buffers[index + 1 :]]
        skip -= len(view)
    return []


def _scatter(buffers: list[memoryview], *parts: bytes | memoryview) -> None:
    """Write parts one after another to `buffers`, which have room for them."""
    index = offset = 0
    for part in parts:
        done = 0
        while done < len(part):
            view = buffers[index]
            size = min(len(view) - offset, len(part) - done)
            view[offset : offset + size] = part[done : done + size]
            done += size
            offset += size
            if offset == len(view):
                index, offset = index + 1, 0
