"""Netdevs, links, and what network cards take.

Source: QEMU's QMP reference, "Net devices".
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

from ratite.core.ethernet import format_mac, parse_mac
from ratite.devices.net.nic import RxState, nics
from ratite.monitor.command import command
from ratite.monitor.errors import DeviceNotFound, QmpError
from ratite.monitor.session import Session
from ratite.monitor.vm import Vm
from ratite.net import AnnounceTerms, NetdevOptions, NetdevUnion, announcement, inherited_fd
from ratite.qom import Doc


@command("netdev_add", boxed=True, preconfig=True)
def netdev_add(vm: Vm, session: Session, options: NetdevUnion) -> None:
    """Make a network backend."""
    add_netdev(vm, session, options)


def add_netdev(vm: Vm, session: Session, options: NetdevOptions) -> None:
    """The same. Raises `QmpError`, `ConfigError`, `HostError`."""

    def take_fd(name: str) -> int:
        if name[:1].isdecimal():
            return inherited_fd(name)
        try:
            return session.fds.take(name)
        except QmpError:
            raise QmpError(f"File descriptor named '{name}' has not been found") from None

    vm.backends.net.add(options, take_fd)


@command("netdev_del", preconfig=True)
def netdev_del(vm: Vm, id: str) -> None:
    """Delete a network backend. A card that has it finds its cable pulled out."""
    if not vm.backends.net.remove(id):
        raise DeviceNotFound(f"Device '{id}' not found")


@command("set_link")
def set_link(
    vm: Vm,
    name: Annotated[str, Doc("a card, or a netdev and with it its card")],
    up: Annotated[bool, Doc("whether the cable is in")],
) -> None:
    """Plug a network cable in, or pull it out."""
    cards = [card for card in nics(vm.machine) if card.nic_name == name]
    for card in cards:
        card.link_changed(up)
    netdev = vm.backends.net.netdevs.get(name)
    if netdev is not None:
        netdev.set_link(up)
    elif not cards:
        raise DeviceNotFound(f"Device '{name}' not found")


@dataclass(frozen=True)
class RxFilterInfo:
    """Which frames a network card takes."""

    name: Annotated[str, Doc("the card's")]
    promiscuous: Annotated[bool, Doc("all of them")]
    multicast: RxState
    unicast: RxState
    vlan: RxState
    broadcast_allowed: Annotated[
        bool, Doc("true if the driver refuses broadcasts: QEMU, too, says the opposite of the name")
    ]
    multicast_overflow: bool
    unicast_overflow: bool
    main_mac: str
    vlan_table: list[int]
    unicast_table: list[str]
    multicast_table: list[str]


@command("query-rx-filter")
def query_rx_filter(vm: Vm, name: str | None = None) -> list[RxFilterInfo]:
    """Which frames network cards take: all cards, or the one of this name."""
    cards = [card for card in nics(vm.machine) if name in (None, card.nic_name)]
    if not cards and name is not None:
        if name in vm.backends.net.netdevs:
            raise QmpError(f"net client({name}) isn't a NIC")
        raise QmpError(f"invalid net client name: {name}")
    found = []
    for card in cards:
        rx = card.rx_filter()
        found.append(
            RxFilterInfo(
                card.nic_name,
                rx.promiscuous,
                rx.multicast,
                rx.unicast,
                rx.vlan,
                rx.refuses_broadcast,
                rx.multicast_overflow,
                rx.unicast_overflow,
                format_mac(rx.address),
                sorted(rx.vlan_table, reverse=True),
                [format_mac(mac) for mac in rx.unicast_table],
                [format_mac(mac) for mac in rx.multicast_table],
            )
        )
        card.watch_rx_filter()
    return found


@command("announce-self")
def announce_self(
    vm: Vm,
    initial: Annotated[int, Doc("milliseconds between the first round and the second")],
    max: Annotated[int, Doc("milliseconds between rounds, at most")],
    rounds: int,
    step: Annotated[int, Doc("milliseconds that each pause is longer")],
    interfaces: Annotated[list[str] | None, Doc("cards; all of them if left out")] = None,
    id: Annotated[str | None, Doc("a name; another announcement of it ends this one")] = None,
) -> None:
    """Tell the network where the cards are, several times."""
    announce(vm, AnnounceTerms(initial, max, rounds, step), interfaces or (), id or "")


def announce_arrival(vm: Vm) -> None:
    """The same for all cards, as often as the migration's parameters say."""
    announce(vm, migration_terms(vm))


def migration_terms(vm: Vm) -> AnnounceTerms:
    """How often a guest is announced that has come here."""
    own = vm.migration.parameters
    return AnnounceTerms(
        own.announce_initial, own.announce_max, own.announce_rounds, own.announce_step
    )


def announce(
    vm: Vm, terms: AnnounceTerms, interfaces: Collection[str] = (), name: str = ""
) -> None:
    """Send the rounds of an announcement; of all cards if none is named."""

    def send() -> None:
        for card in nics(vm.machine):
            if interfaces and card.nic_name not in interfaces:
                continue
            mac = parse_mac(card.mac)
            if card.netdev is not None and card.has_link and mac is not None:
                card.netdev.send([memoryview(announcement(mac))])
            card.announce()

    vm.backends.net.announcements.begin(name, terms, send)
