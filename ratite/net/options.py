"""What can be asked of a netdev: the one declaration of it, for QMP, `-netdev` and `-nic`.

Source: QEMU's QMP reference, "Netdev" and "SocketAddress", for the names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ratite.qom import Doc, Named, Tagged

# -- addresses


@dataclass(frozen=True)
class InetSocketAddress:
    """A TCP or UDP port."""

    case: ClassVar[str] = "inet"
    host: Annotated[str, Doc("empty: this host only")]
    port: Annotated[str, Doc("a number or a service's name")]
    to: Annotated[int | None, Doc("a server takes the first free port up to this one")] = None
    ipv4: bool | None = None
    ipv6: bool | None = None


@dataclass(frozen=True)
class UnixSocketAddress:
    """A Unix socket."""

    case: ClassVar[str] = "unix"
    path: str
    abstract: Annotated[bool | None, Doc("a name of its own, not a file's")] = None


@dataclass(frozen=True)
class FdSocketAddress:
    """A socket that was handed over."""

    case: ClassVar[str] = "fd"
    str: Annotated[str, Doc("a name that `getfd` gave, or a number")]


SocketAddress = Annotated[
    InetSocketAddress | UnixSocketAddress | FdSocketAddress, Tagged("type", "SocketAddress")
]

# -- netdevs


@dataclass(frozen=True, kw_only=True)
class NetdevOptions:
    """What every netdev takes."""

    case: ClassVar[str] = ""
    id: Annotated[str, Doc("what devices call it by")]


@dataclass(frozen=True, kw_only=True)
class HubportOptions(NetdevOptions):
    """A port of a hub, which all frames reach that come in at another port."""

    case: ClassVar[str] = "hubport"
    hubid: Annotated[int, Doc("number of the hub")]
    netdev: Annotated[str | None, Doc("a netdev to connect to the port, instead of a device")] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class SocketOptions(NetdevOptions):
    """Another emulator, over one of several kinds of sockets."""

    case: ClassVar[str] = "socket"
    fd: Annotated[str | None, Doc("a socket: a name that `getfd` gave, or a number")] = None
    listen: Annotated[str | None, Doc("[HOST]:PORT of TCP to wait for the other on")] = None
    connect: Annotated[str | None, Doc("[HOST]:PORT of TCP where the other waits")] = None
    mcast: Annotated[str | None, Doc("GROUP:PORT of a multicast group")] = None
    localaddr: Annotated[
        str | None, Doc("with mcast the interface's address, with udp our [HOST]:PORT")
    ] = None
    udp: Annotated[str | None, Doc("HOST:PORT where the other receives")] = None


@dataclass(frozen=True, kw_only=True)
class StreamOptions(NetdevOptions):
    """Another emulator, over a stream socket."""

    case: ClassVar[str] = "stream"
    addr: SocketAddress
    server: Annotated[bool, Doc("wait for the other there, instead of connecting")] = False


@dataclass(frozen=True, kw_only=True)
class DgramOptions(NetdevOptions):
    """Another emulator, over a datagram socket; a multicast group is a remote address."""

    case: ClassVar[str] = "dgram"
    local: Annotated[SocketAddress | None, Doc("our address")] = None
    remote: Annotated[SocketAddress | None, Doc("the other's address, or a group's")] = None


@dataclass(frozen=True, kw_only=True)
class TapOptions(NetdevOptions):
    """A network interface of the host."""

    case: ClassVar[str] = "tap"
    ifname: Annotated[str | None, Doc("its name; the host chooses one if none is given")] = None
    fd: Annotated[str | None, Doc("a tap that is open: a name that `getfd` gave, or a number")] = (
        None
    )
    script: Annotated[
        str | None, Doc("program to set it up with; `no`: none (default: /etc/qemu-ifup if it is)")
    ] = None
    downscript: Annotated[
        str | None, Doc("the same for the end (default: /etc/qemu-ifdown if it is)")
    ] = None
    queues: Annotated[int | None, Doc("1: there is one queue")] = None
    vhost: Annotated[bool | None, Doc("must be off")] = None
    vnet_hdr: Annotated[bool | None, Named("vnet_hdr"), Doc("must be off")] = None


NetdevUnion = Annotated[
    HubportOptions | SocketOptions | StreamOptions | DgramOptions | TapOptions,
    Tagged("type", "Netdev"),
]
