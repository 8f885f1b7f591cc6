"""Netdevs and links."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from ratite.core.ethernet import format_mac
from ratite.devices.device import Device
from ratite.devices.net.nic import Nic, nics
from ratite.monitor.commands import network
from ratite.monitor.hmp.command import Completed, Rest, Shell, hmp
from ratite.monitor.netdev_text import netdev_options, netdev_tree
from ratite.net import KINDS, HubPort, Netdev
from ratite.qom import Named

_FORM = f"[{'|'.join(KINDS)}],id=str[,prop=value][,...]"


def _netdevs(shell: Shell) -> Iterable[str]:
    return shell.vm.backends.net.netdevs


def _names(shell: Shell) -> Iterable[str]:
    return (*(card.nic_name for card in nics(shell.vm.machine)), *_netdevs(shell))


@hmp("netdev_add", "add host network device", preconfig=True)
def netdev_add(shell: Shell, netdev: Annotated[Rest, Named(_FORM)]) -> str:
    """Make a network backend: `TYPE,id=ID[,NAME=VALUE]...`."""
    if netdev in ("help", "?"):
        return "\n".join(["Available netdev backend types:", *KINDS]) + "\n"
    options = netdev_options(netdev_tree(netdev))
    network.add_netdev(shell.vm, shell.session, options)
    return ""


@hmp("netdev_del", "remove host network device", preconfig=True)
def netdev_del(shell: Shell, id: Annotated[str, Completed(_netdevs)]) -> None:
    """Delete a network backend."""
    network.netdev_del(shell.vm, id)


@hmp("set_link", "change the link status of a network adapter")
def set_link(shell: Shell, name: Annotated[str, Completed(_names)], up: bool) -> None:
    """Plug a network cable in, or pull it out."""
    network.set_link(shell.vm, name, up)


@hmp("announce_self", "Trigger GARP/RARP announcements")
def announce_self(shell: Shell, interfaces: str = "", id: str = "") -> None:
    """Tell the network where the cards are: all of them, or those named, with commas between."""
    wanted = [name for name in interfaces.split(",") if name]
    network.announce(shell.vm, network.migration_terms(shell.vm), wanted, id)


@hmp("info network", "show the network state")
def info_network(shell: Shell) -> str:
    """Hubs with their ports, cards with their netdevs, and other netdevs."""
    net = shell.vm.backends.net
    cards = nics(shell.vm.machine)
    card_of = {id(card.netdev): card for card in cards if card.netdev is not None}
    text = ""
    shown: set[int] = set()  # what is printed where its port is
    for hub in reversed(net.hubs.values()):
        text += f"hub {hub.number}\n"
        for port in hub.ports:
            shown.add(id(port))
            other: Netdev | Nic | None = port.behind or card_of.get(id(port))
            shown.add(id(other))
            text += f" \\ {port.id}" + (f": {_line(other)}" if other is not None else "\n")
    present = {id(netdev) for netdev in net.netdevs.values()}
    for card in cards:
        if id(card) not in shown:
            text += _line(card)
            if isinstance(card.netdev, Netdev) and id(card.netdev) in present:
                text += f" \\ {_line(card.netdev)}"
        shown.add(id(card.netdev))
    rest = (n for n in net.netdevs.values() if not (isinstance(n, HubPort) or id(n) in shown))
    return text + "".join(_line(netdev) for netdev in rest)


def _line(client: Netdev | Nic) -> str:
    if isinstance(client, Netdev):
        return f"{client.id}: index=0,type={client.kind},{client.info}\n"
    assert isinstance(client, Device)
    mac = format_mac(client.rx_filter().address)
    model = client.type_name
    return f"{client.nic_name}: index=0,type=nic,model={model},macaddr={mac}\n"
