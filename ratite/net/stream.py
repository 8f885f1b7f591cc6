"""Netdevs over stream sockets: `stream`, and `socket` with listen=, connect= or fd=.

Not modelled: TLS, connecting again (QEMU 8.0's reconnect=).
"""

from __future__ import annotations

import socket

from ratite.core.errors import HostError
from ratite.core.loop import close_later
from ratite.core.sockets import BoundPath, Inet, Listener, Unix, connect, listen, send_at_once
from ratite.core.threads import NamedThread
from ratite.net.framing import SIZE, FrameReader, Oversize
from ratite.net.netdev import Buffers, Netdev, NetHost, Place
from ratite.net.options import FdSocketAddress, InetSocketAddress, UnixSocketAddress
from ratite.net.packets import MOST_BUFFERS


class StreamNetdev(Netdev):
    """One peer at a time; frames are lost while there is none. A peer that does not read holds the
    guest's frames back.
    """

    kind = "stream"

    def __init__(self, id: str, host: NetHost) -> None:
        super().__init__(id, host)
        self._connection: socket.socket | None = None
        self._listener: Listener | None = None
        self._reader = FrameReader()
        self._reading = False
        self._unsent = memoryview(b"")  # the rest of one frame
        self._waits_for_room = False
        self._failed = False
        self._closed = False
        self._place = ""

    # -- peers

    @property
    def info(self) -> str:
        """Who is at the other end."""
        return "connection error" if self._failed else self._place

    def listen(self, address: Inet | Unix) -> None:
        """Wait for a peer there, and after it for another. Raises `HostError`."""
        try:
            listening = listen(address)
        except OSError as error:
            raise HostError.from_os("listen on", error, _describe(address)) from error
        bound = None
        if isinstance(address, Unix) and not address.abstract:
            bound = BoundPath(address.path)
        self.listen_on(listening, bound)

    def listen_on(self, listening: socket.socket, bound: BoundPath | None = None) -> None:
        """The same on a socket that listens already."""
        self._listener = Listener(self._host.loop, listening, self._accepted, bound)
        self._listener.resume()

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        assert self._listener is not None
        return self._listener.place[1]

    def connect(self, address: Inet | Unix) -> None:
        """Connect to a peer in the background, once: neither name service nor network keep the
        machine waiting.
        """

        def attempt() -> None:
            try:
                connection = connect(address)
            except OSError as error:
                reason = error.strerror or str(error)
                self._host.loop.post(lambda: self._no_peer(_describe(address), reason))
            else:
                self._host.loop.post(lambda: self.adopt(connection, address))

        NamedThread(f"connect {self.id}", attempt).start()

    def _no_peer(self, where: str, reason: str) -> None:
        if not self._closed:
            self._failed = True
            self._host.warn(f"netdev '{self.id}': cannot connect to {where}: {reason}")

    def _accepted(self, connection: socket.socket) -> None:
        self.adopt(connection, None)

    def adopt(self, connection: socket.socket, address: Inet | Unix | None = None) -> None:
        """Talk to this peer, which we connected to at `address`, or which came to us."""
        if self._closed:
            connection.close()
            return
        connection.setblocking(False)
        send_at_once(connection)
        self._connection = connection
        self._reader = FrameReader()
        place = _place_of(connection, address)
        self._place = self._shown(place, came=address is None)
        self._connected(place)
        self._read_on()

    def _shown(self, place: Place, *, came: bool) -> str:
        return _uri(place)

    def _connected(self, place: Place | None) -> None:
        self._host.stream_changed(self.id, place)

    def _lose(self, connection: socket.socket) -> None:
        """The peer is gone, or shall be. Does nothing if another one is there."""
        if self._connection is connection:
            self._hang_up()
            self._connected(None)
            if self._listener is not None:
                self._listener.resume()
            self._writable()  # to lose what it has

    def _hang_up(self) -> None:
        if self._connection is not None:
            close_later(self._host.loop, self._connection.detach())
        self._connection = None
        self._reading = self._waits_for_room = False
        self._unsent = memoryview(b"")
        self._place = ""

    # -- from the host

    def _read_on(self) -> None:
        connection = self._connection
        if connection is not None and not self._reading:
            self._reading = True
            self._host.loop.add_reader(connection.fileno(), lambda: self._readable(connection))

    def _pause(self) -> None:
        if self._connection is not None and self._reading:
            self._reading = False
            self._host.loop.remove_reader(self._connection.fileno())

    def _readable(self, connection: socket.socket) -> None:
        if connection is not self._connection or not self._reading:
            return
        try:
            size = connection.recv_into(self._reader.room())
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        if not size:
            self._lose(connection)
            return
        self._reader.received(size)
        self._hand_out(connection)

    def _hand_out(self, connection: socket.socket) -> bool:
        """Deliver what has come; False if some of it must wait."""
        try:
            done = self._reader.deliver(self._deliver)
        except Oversize as error:
            self._host.warn(f"netdev '{self.id}': the peer sends {error}: hanging up")
            self._lose(connection)
            return False
        if not done:
            self._pause()
        return done

    def _resume(self) -> None:
        connection = self._connection
        if connection is not None and not self._reading and self._hand_out(connection):
            self._read_on()

    # -- to the host

    def _send(self, buffers: Buffers) -> bool:
        connection = self._connection
        if connection is None:
            return True
        if self._unsent or self._waits_for_room:
            return False
        if len(buffers) > MOST_BUFFERS:
            buffers = [b"".join(buffers)]
        size = sum(map(len, buffers))
        try:
            sent = connection.sendmsg([SIZE.pack(size), *buffers])
        except (BlockingIOError, InterruptedError):
            self._await_room(connection)
            return False
        except OSError:
            self._host.loop.post(lambda: self._lose(connection))
            return True
        if sent < SIZE.size + size:
            self._unsent = memoryview(b"".join([SIZE.pack(size), *buffers]))[sent:]
            self._await_room(connection)
        return True

    def _await_room(self, connection: socket.socket) -> None:
        self._waits_for_room = True
        self._host.loop.add_writer(connection.fileno(), lambda: self._flush(connection))

    def _flush(self, connection: socket.socket) -> None:
        if connection is not self._connection:
            return
        try:
            while self._unsent:
                self._unsent = self._unsent[connection.send(self._unsent) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._lose(connection)
            return
        self._waits_for_room = False
        self._host.loop.remove_writer(connection.fileno())
        self._writable()

    def close(self) -> None:
        """Hang up, and stop listening."""
        self._closed = True
        self._hang_up()
        if self._listener is not None:
            self._listener.close()


class SocketStreamNetdev(StreamNetdev):
    """The same under its older name, which tells nobody who comes and goes."""

    kind = "socket"

    def _shown(self, place: Place, *, came: bool) -> str:
        where = _uri(place).partition(":")[2]
        return f"socket: connection from {where}" if came else f"socket: connect to {where}"

    def _connected(self, place: Place | None) -> None:
        return None


def _describe(address: Inet | Unix) -> str:
    if isinstance(address, Unix):
        return f"unix:{address.path}"
    return _tcp(address.host or "localhost", address.port)


def _tcp(host: str, port: str) -> str:
    return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"


def _place_of(connection: socket.socket, address: Inet | Unix | None) -> Place:
    """Where the peer is: what we connected to, or what it came from."""
    try:
        name = connection.getpeername()
        own = connection.getsockname()
    except OSError:  # it is gone already
        name = own = ""
    if connection.family == socket.AF_UNIX:
        path = address.path if isinstance(address, Unix) else _text(name) or _text(own)
        return UnixSocketAddress(path)
    if not isinstance(name, tuple):
        return FdSocketAddress("")
    six = connection.family == socket.AF_INET6
    return InetSocketAddress(name[0], str(name[1]), None, None if six else True, six or None)


def _text(name: object) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _uri(place: Place) -> str:
    match place:
        case InetSocketAddress(host=host, port=port):
            return _tcp(host, port)
        case UnixSocketAddress(path=path):
            return f"unix:{path}"
        case FdSocketAddress():
            return "fd:"
