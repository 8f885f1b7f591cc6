"""Network backends: the host's side of network cards."""

from ratite.net.announce import AnnounceTerms, announcement
from ratite.net.hub import Hub, HubPort
from ratite.net.netdev import Netdev, NetHost, NetUser
from ratite.net.network import KINDS, Network, inherited_fd
from ratite.net.options import NetdevOptions, NetdevUnion, SocketAddress

__all__ = [
    "AnnounceTerms",
    "announcement",
    "Hub",
    "HubPort",
    "Netdev",
    "NetHost",
    "NetUser",
    "KINDS",
    "Network",
    "inherited_fd",
    "NetdevOptions",
    "NetdevUnion",
    "SocketAddress",
]
