"""All netdevs and hubs of one machine, and how netdevs are made from options."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from typing import Any

from ratite.core.errors import ConfigError, HostError
from ratite.core.port import HIGHEST, check_port
from ratite.core.sockets import BoundPath, Inet, Unix, clear_stale, resolve
from ratite.net import tap
from ratite.net.announce import Announcements
from ratite.net.dgram import DgramNetdev, SocketDgramNetdev
from ratite.net.hub import Hub, HubPort
from ratite.net.netdev import Netdev, NetHost, Place
from ratite.net.options import (
    DgramOptions,
    FdSocketAddress,
    HubportOptions,
    InetSocketAddress,
    NetdevOptions,
    SocketOptions,
    StreamOptions,
    TapOptions,
    UnixSocketAddress,
)
from ratite.net.stream import SocketStreamNetdev, StreamNetdev

KINDS = ("socket", "stream", "dgram", "hubport", "tap")
"""In the order of `-netdev help`."""
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9\-._]*")

TakeFd = Callable[[str], int]
"""Answers a descriptor, for the caller to own, by the name or number that a user gave. Raises
`ConfigError`."""


def inherited_fd(name: str) -> int:
    """A descriptor that the process was started with, by its number. Raises `ConfigError`."""
    if not name[:1].isdecimal():
        raise ConfigError(f"File descriptor named '{name}' has not been found")
    try:
        return os.dup(int(name))
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"Can't use file descriptor {name}: Bad file descriptor") from None


class Network:
    """Used with the machine lock held."""

    def __init__(self, host: NetHost) -> None:
        self.netdevs: dict[str, Netdev] = {}
        self.hubs: dict[int, Hub] = {}
        self.announcements = Announcements(host.loop)
        self._host = host

    def add(self, options: NetdevOptions, take_fd: TakeFd = inherited_fd) -> Netdev:
        """Make a netdev. Raises `ConfigError` or `HostError`, with nothing left open."""
        if not _IDENTIFIER.fullmatch(options.id):
            raise ConfigError("Parameter 'id' expects an identifier")
        if options.id in self.netdevs:
            raise ConfigError(f"Duplicate ID '{options.id}'")
        try:
            made = self._make(options, take_fd)
        except UnicodeError:
            raise ConfigError("a name that the host cannot have") from None
        self.netdevs[made.id] = made
        return made

    def claim(self, id: str) -> Netdev | None:
        """A netdev for a user of its own; None if there is none. Raises `InUse`."""
        found = self.netdevs.get(id)
        return None if found is None else found.claim()

    def remove(self, id: str) -> bool:
        """Close a netdev. A device that has it finds its cable pulled out. False if there is
        none.
        """
        gone = self.netdevs.pop(id, None)
        if gone is None:
            return False
        user = gone.user
        gone.close()
        if isinstance(user, HubPort):
            user.lose_behind()
        elif user is not None:
            gone.set_link(False)
        return True

    def resume(self) -> None:
        """The guest runs again: frames that waited reach it."""
        for netdev in tuple(self.netdevs.values()):
            netdev.resume()

    def close(self) -> None:
        """Close all."""
        self.announcements.end()
        for id in reversed(tuple(self.netdevs)):
            self.netdevs.pop(id).close()

    # -- kinds

    def _make(self, options: NetdevOptions, take_fd: TakeFd) -> Netdev:
        match options:
            case HubportOptions():
                return self._hubport(options)
            case StreamOptions():
                return self._stream(options, take_fd)
            case SocketOptions():
                return self._socket(options, take_fd)
            case DgramOptions():
                return self._dgram(options, take_fd)
            case TapOptions():
                return self._tap(options, take_fd)
        raise AssertionError(options)

    def _hubport(self, options: HubportOptions) -> Netdev:
        behind = None
        if options.netdev is not None:
            behind = self.claim(options.netdev)
            if behind is None:
                raise ConfigError(f"netdev '{options.netdev}' not found")
        hub = self.hubs.setdefault(options.hubid, Hub(options.hubid))
        return HubPort(options.id, self._host, hub, behind)

    def _stream(self, options: StreamOptions, take_fd: TakeFd) -> Netdev:
        made = StreamNetdev(options.id, self._host)
        if isinstance(options.addr, FdSocketAddress):
            given = _socket_of(take_fd(options.addr.str), socket.SOCK_STREAM, options.addr.str)
            (made.listen_on if options.server else made.adopt)(given)
        elif options.server:
            made.listen(_address(options.addr))
        else:
            made.connect(_address(options.addr))
        return made

    def _socket(self, options: SocketOptions, take_fd: TakeFd) -> Netdev:
        given = [options.fd, options.listen, options.connect, options.mcast, options.udp]
        if sum(item is not None for item in given) != 1:
            raise ConfigError("exactly one of listen=, connect=, mcast= or udp= is required")
        if options.localaddr is not None and options.mcast is None and options.udp is None:
            raise ConfigError("localaddr= is only valid with mcast= or udp=")
        if options.fd is not None:
            return self._socket_fd(options.id, take_fd(options.fd), options.fd)
        if options.mcast is not None:
            return self._group(options.id, _host_port(options.mcast), options.localaddr, old=True)
        if options.udp is not None:
            if options.localaddr is None:
                raise ConfigError("localaddr= is mandatory with udp=")
            remote, local = _host_port(options.udp), _host_port(options.localaddr)
            info = f"socket: udp={options.udp}"
            return self._udp(SocketDgramNetdev, options.id, local, remote, info)
        made = SocketStreamNetdev(options.id, self._host)
        if options.listen is not None:
            made.listen(_host_port(options.listen))
        elif options.connect is not None:
            made.connect(_host_port(options.connect))
        return made

    def _socket_fd(self, id: str, fd: int, shown: str) -> Netdev:
        given = _socket_of(fd, None, shown)
        if given.type == socket.SOCK_STREAM:
            made = SocketStreamNetdev(id, self._host)
            made.adopt(given)
            return made
        family = "unix" if given.family == socket.AF_UNIX else "inet"
        return SocketDgramNetdev(id, self._host, given, None, f"socket: fd={shown} {family}")

    def _dgram(self, options: DgramOptions, take_fd: TakeFd) -> Netdev:
        local, remote = options.local, options.remote
        if isinstance(local, FdSocketAddress):
            if remote is not None:
                raise ConfigError("don't set remote with local.fd")
            given = _socket_of(take_fd(local.str), socket.SOCK_DGRAM, local.str)
            family = "unix" if given.family == socket.AF_UNIX else "inet"
            info = f"fd={local.str} {family}"
            return DgramNetdev(options.id, self._host, given, None, info)
        if isinstance(remote, InetSocketAddress) and _is_group(remote.host):
            interface = local.host if isinstance(local, InetSocketAddress) else None
            group = _address(remote)
            assert isinstance(group, Inet)
            return self._group(options.id, group, interface, old=False)
        if local is None:
            raise ConfigError("dgram requires local= parameter")
        if remote is None:
            raise ConfigError("type=inet or type=unix requires remote parameter")
        if type(local) is not type(remote):
            raise ConfigError("remote and local types must be the same")
        if isinstance(local, UnixSocketAddress) and isinstance(remote, UnixSocketAddress):
            return self._unix_dgram(options.id, local, remote)
        here, there = _address(local), _address(remote)
        assert isinstance(here, Inet) and isinstance(there, Inet)
        info = f"udp={here.host}:{here.port}/{there.host}:{there.port}"
        return self._udp(DgramNetdev, options.id, here, there, info)

    def _unix_dgram(self, id: str, local: UnixSocketAddress, remote: UnixSocketAddress) -> Netdev:
        address = Unix(local.path, bool(local.abstract))
        endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            if not address.abstract:
                clear_stale(address.path, socket.SOCK_DGRAM)
            os.fchmod(endpoint.fileno(), 0o600)  # what bind() gives the file: owner only, at once
            endpoint.bind(address.name)
        except OSError as error:
            endpoint.close()
            raise _unbound(f"unix={address.path}", error) from error
        except HostError:
            endpoint.close()
            raise
        bound = None if address.abstract else BoundPath(address.path)
        there = Unix(remote.path, bool(remote.abstract)).name
        info = f"udp={local.path}:{remote.path}"
        return DgramNetdev(id, self._host, endpoint, there, info, bound)

    def _udp(self, cls: type[DgramNetdev], id: str, local: Inet, remote: Inet, info: str) -> Netdev:
        family, there = _lookup(remote)
        endpoint = socket.socket(family, socket.SOCK_DGRAM)
        try:
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            endpoint.bind(_lookup(local, family)[1])
        except OSError as error:
            endpoint.close()
            raise _unbound(f"ip={local.host}", error) from error
        except BaseException:
            endpoint.close()
            raise
        return cls(id, self._host, endpoint, there, info)

    def _group(self, id: str, group: Inet, interface: str | None, *, old: bool) -> Netdev:
        """A multicast group, joined at the interface with an address, or where the host likes."""
        _, there = _lookup(group, socket.AF_INET)
        address = str(there[0])
        if not _is_group(address):
            number = int.from_bytes(socket.inet_aton(address), "big")
            raise ConfigError(
                f"specified mcastaddr {address} (0x{number:08x}) "
                "does not contain a multicast address"
            )
        endpoint = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            endpoint.bind(there)
            own = socket.inet_aton(interface or "0.0.0.0")
            member = socket.inet_aton(address) + own
            endpoint.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            endpoint.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            if interface is not None:
                endpoint.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        except OSError as error:
            endpoint.close()
            raise HostError(
                f"can't add socket to multicast group {address}: {error.strerror or error}",
                error.errno or 0,
            ) from error
        cls = SocketDgramNetdev if old else DgramNetdev
        info = f"{'socket: ' if old else ''}mcast={address}:{there[1]}"
        return cls(id, self._host, endpoint, there, info)

    def _tap(self, options: TapOptions, take_fd: TakeFd) -> Netdev:
        for name in ("vhost", "vnet_hdr"):
            if getattr(options, name):
                raise ConfigError(f"{name}=on is not offered; leave it out")
        if options.queues not in (None, 1):
            raise ConfigError("queues= is not offered: there is one queue; leave it out")
        if options.fd is None:
            return self._new_tap(options)
        if (options.ifname, options.script, options.downscript) != (None, None, None):
            raise ConfigError(
                "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, fds=, and vhostfds= "
                "are invalid with fd="
            )
        fd = take_fd(options.fd)
        try:
            tap.check_tap(fd, options.fd)
        except ConfigError:
            os.close(fd)
            raise
        return tap.TapNetdev(options.id, self._host, fd, f"fd={options.fd}", ())

    def _new_tap(self, options: TapOptions) -> Netdev:
        fd, name = tap.open_tap(options.ifname or "")
        up, down = _script(options.script, tap.IF_UP), _script(options.downscript, tap.IF_DOWN)
        try:
            if up:
                tap.run_script(up, name)
        except HostError:
            os.close(fd)
            raise
        info = f"ifname={name},script={up or 'no'},downscript={down or 'no'}"
        return tap.TapNetdev(options.id, self._host, fd, info, (down, name) if down else ())


def _script(wanted: str | None, default: str) -> str:
    """The program to run; "" for none."""
    if wanted is None:
        return default if os.access(default, os.X_OK) else ""
    return "" if wanted == "no" else wanted


def _socket_of(fd: int, kind: int | None, shown: str) -> socket.socket:
    """The socket that a descriptor is, which it owns now. Raises `ConfigError`."""
    try:
        found = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        raise ConfigError("can't get socket option SO_TYPE") from None
    if found.type not in (socket.SOCK_STREAM, socket.SOCK_DGRAM) or kind not in (None, found.type):
        found.close()
        raise ConfigError(f"socket type of fd={shown} must be stream or dgram, as the netdev is")
    return found


def _address(options: Place) -> Inet | Unix:
    if isinstance(options, UnixSocketAddress):
        return Unix(options.path, bool(options.abstract))
    if isinstance(options, FdSocketAddress):
        raise ConfigError("type=fd is for our end alone")
    check_port(options.port)
    four, six = options.ipv4, options.ipv6
    if four is False and six is False:
        raise ConfigError("ipv4=off and ipv6=off leave no address")
    if not 0 <= (options.to or 0) <= HIGHEST:
        raise ConfigError("Parameter 'to' expects uint16_t")
    # one that is switched on alone switches the other off
    return Inet(
        options.host,
        options.port,
        options.to or 0,
        four if four is not None else not six,
        six if six is not None else not four,
    )


def _host_port(text: str) -> Inet:
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ConfigError(f"host address '{text}' doesn't contain ':' separating host from port")
    if not port:
        raise ConfigError("port number '' is invalid")
    check_port(port)
    return Inet(host, port, ipv6=False)


def _lookup(address: Inet, family: int = 0) -> tuple[int, Any]:
    """Family and address of a UDP port. Raises `ConfigError`."""
    try:
        found = resolve(address, passive=True, kind=socket.SOCK_DGRAM)
    except OSError:
        raise ConfigError(f"can't resolve host address '{address.host}'") from None
    for answer in found:
        if family in (0, answer[0]):
            return answer
    raise ConfigError(f"host address '{address.host}' is of another family than the other end's")


def _is_group(host: str) -> bool:
    try:
        return 224 <= socket.inet_aton(host)[0] < 240
    except OSError:
        return False


def _unbound(where: str, error: OSError) -> HostError:
    text = f"can't bind {where} to socket: {error.strerror or error}"
    return HostError(text, error.errno or 0)
