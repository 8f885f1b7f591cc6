"""What all network cards have in common for those who manage the machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

from ratite.core.errors import ConfigError
from ratite.core.ethernet import (
    DEFAULT_PREFIX,
    FIRST_DEFAULT,
    LAST_DEFAULT,
    format_mac,
    parse_mac,
)
from ratite.devices.device import Device
from ratite.devices.net.backend import NetBackend
from ratite.qom import Object


class RxState(Enum):
    """Which frames of a kind a card takes."""

    NORMAL = "normal"  # those in its table
    NONE = "none"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class RxFilter:
    """What a card takes. Addresses are six bytes each."""

    promiscuous: bool
    refuses_broadcast: bool
    multicast: RxState
    unicast: RxState
    vlan: RxState
    multicast_overflow: bool
    unicast_overflow: bool
    address: bytes
    vlan_table: tuple[int, ...]
    unicast_table: tuple[bytes, ...]
    multicast_table: tuple[bytes, ...]


class Nic(ABC):
    """What a network card is besides a device: its class derives from both."""

    mac: str
    """What it is made with, as text; after realize never empty."""
    nic_name: str
    """Empty until `enroll`."""
    nic_number: int
    """Cards are counted in the order in which they are made."""
    netdev: NetBackend | None

    @property
    @abstractmethod
    def has_link(self) -> bool:
        """Whether the cable is in."""

    @abstractmethod
    def link_changed(self, up: bool, /) -> None:
        """The cable is in, or out."""

    @abstractmethod
    def announce(self) -> None:
        """Have the guest tell the network where it is, if its driver can."""

    @abstractmethod
    def rx_filter(self) -> RxFilter:
        """What it takes."""

    @abstractmethod
    def watch_rx_filter(self) -> None:
        """Give notice of the next change of what it takes."""


def nics(root: Object) -> list[Nic]:
    """The cards that are realized below `root`, the oldest first."""
    cards = (node for node in root.walk() if isinstance(node, Nic))
    there = (card for card in cards if card.nic_name)
    return sorted(there, key=lambda card: card.nic_number)


def enroll(card: Nic, device: Device) -> None:
    """Give a card, which is `device`, its number, its name, and an address if it has none. Raises
    `ConfigError`.
    """
    given = parse_mac(card.mac) if card.mac else None
    if card.mac and given is None:
        raise ConfigError(f"Property '{device.type_name}.mac' doesn't take value '{card.mac}'")
    root: Object = device
    while root.parent is not None:
        root = root.parent
    others = nics(root)
    alike = sum(type(other) is type(card) for other in others)
    card.nic_number = len(others)
    card.nic_name = device.id or f"{device.type_name}.{alike}"
    if given is None:
        given = _free_address({parse_mac(other.mac) for other in others})
    card.mac = format_mac(given)


def _free_address(taken: set[bytes | None]) -> bytes:
    candidates = (DEFAULT_PREFIX + bytes((n,)) for n in range(FIRST_DEFAULT, LAST_DEFAULT + 1))
    return next((mac for mac in candidates if mac not in taken), DEFAULT_PREFIX + b"\xff")
