"""Netdevs over datagram sockets, a frame in each: `dgram`, and `socket` with udp= or mcast=."""

from __future__ import annotations

import socket

from ratite.core.sockets import BoundPath, SocketName
from ratite.net.netdev import Buffers, NetHost
from ratite.net.packets import PacketNetdev

RETRY_NS = 1_000_000
"""The host does not tell when a Unix socket that others send to, too, has room again."""


class DgramNetdev(PacketNetdev):
    """Sends to one address (or where the socket is connected to) and receives from any."""

    kind = "dgram"

    def __init__(
        self,
        id: str,
        host: NetHost,
        endpoint: socket.socket,
        remote: SocketName | None,
        info: str,
        bound: BoundPath | None = None,
    ) -> None:
        endpoint.setblocking(False)
        self._socket = endpoint
        self._remote = remote
        self._bound = bound
        super().__init__(id, host, endpoint.fileno(), info)

    def _read_frame(self, buffer: memoryview) -> int:
        try:
            return self._socket.recv_into(buffer)
        except BlockingIOError:
            raise
        except OSError:
            return 0  # of an earlier datagram: the host tells that it did not arrive

    def _write_frame(self, buffers: Buffers) -> None:
        if self._remote is None:
            self._socket.sendmsg(buffers)
        else:
            self._socket.sendmsg(buffers, [], 0, self._remote)

    def _await_room(self) -> None:
        if self._socket.family == socket.AF_UNIX:
            self._host.loop.post_after(RETRY_NS, self._has_room)
        else:
            super()._await_room()

    def close(self) -> None:
        """Close the socket, and remove its file."""
        if self._socket.fileno() >= 0:
            self._socket.detach()
            super().close()
            if self._bound is not None:
                self._bound.remove()


class SocketDgramNetdev(DgramNetdev):
    """The same under its older name."""

    kind = "socket"
