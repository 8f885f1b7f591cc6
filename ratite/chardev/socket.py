"""TCP and Unix stream sockets, as server (one client at a time) or as client.

Descriptors that the peer of a Unix socket sends along are kept until the next ones come.
Not modelled: TLS, WebSocket, tn3270.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from functools import partial

from ratite.chardev import telnet
from ratite.chardev.chardev import Bytes, Chardev
from ratite.chardev.fd_stream import FdStream
from ratite.chardev.options import SOCKET_DEFAULTS, SocketOptions
from ratite.core.char import CharEvent
from ratite.core.errors import ConfigError, HostError
from ratite.core.loop import Loop
from ratite.core.port import check_port
from ratite.core.signals import interruptible
from ratite.core.sockets import BoundPath, Inet, Listener, Unix, connect, listen, send_at_once
from ratite.core.threads import NamedThread

MAX_FDS = 16
"""Descriptors that one message can bring."""


class SocketChardev(Chardev):
    """A stream socket, open while a peer is connected; output at other times is lost.

    A client may be given the `connection` that `dialling` has made. A server with `wait` on returns
    from the constructor when its first client has come; before it waits it calls `on_wait` with a
    line for the user. Raises ConfigError for options that do not go together, HostError if the
    address cannot be used.
    """

    type_name = "chardev-socket"
    kind = "socket"

    def __init__(
        self,
        id: str,
        loop: Loop,
        on_wait: Callable[[str], None] = lambda _: None,
        connection: socket.socket | None = None,
        *,
        options: SocketOptions = SOCKET_DEFAULTS,
    ) -> None:
        _check(options)
        super().__init__(id, loop, options)
        self._address = options
        self._stream: FdStream | None = None
        self._peer = ""
        self._telnet = telnet.TelnetFilter()
        self._listener: Listener | None = None
        self._closed = False
        self._fds: list[int] = []  # that came with the last message
        try:
            if options.server:
                self._start_server(on_wait)
            elif connection is not None:
                self._adopt(connection)
            else:
                self._start_client()
        except BaseException:
            self.close()
            raise

    @property
    def filename(self) -> str:
        """The address, and the peer's if one is connected."""
        where = _describe(self._address, self._listener)
        if self._stream is None:
            return f"disconnected:{where}"
        return f"{where} <-> {self._peer}" if self._peer else where

    @property
    def port(self) -> int:
        """The TCP port a server listens on, 0 for anything else."""
        if self._listener is None or self._listener.is_unix:
            return 0
        return self._listener.place[1]

    # -- server

    def _start_server(self, on_wait: Callable[[str], None]) -> None:
        options = self._address
        listening = _listen(options)
        bound = BoundPath(options.path) if options.path and not options.abstract else None
        self._listener = Listener(self._loop, listening, self._adopt, bound)
        if options.wait:
            on_wait(f"waiting for connection on: {self.filename}")
            self._adopt(self._listener.wait())
        if self._stream is None:
            self._listener.resume()

    # -- client

    def _start_client(self) -> None:
        if self._address.reconnect:
            self._connect_in_background()
            return
        with interruptible():
            connection = _connected(self._address)
        self._adopt(connection)

    def _connect_in_background(self) -> None:
        """Try once, without making the machine wait for name service or network."""
        if self._closed or self._stream is not None:
            return
        NamedThread(f"connect {self.id}", self._try).start()

    def _try(self) -> None:
        try:
            connection = _connect(self._address)
        except OSError:
            self._loop.post(self._retry_later)
        else:
            self._loop.post(lambda: self._adopt(connection))

    def _retry_later(self) -> None:
        if not self._closed:
            self._loop.post_after(
                self._address.reconnect * 1_000_000_000, self._connect_in_background
            )

    def add_client(self, fd: int) -> None:
        """Take a socket that is connected, and own it. Raises `ConfigError` if there is a peer
        already, or if it is no socket; it is not owned then.
        """
        if self._stream is not None:
            raise ConfigError("failed to add client")
        try:
            connection = socket.socket(fileno=fd)
        except OSError:
            raise ConfigError("failed to add client") from None
        if self._listener is not None:
            self._listener.pause()
        self._adopt(connection)

    def yank(self) -> None:
        """Break the connection soon, whatever the peer does."""
        stream = self._stream
        if stream is None:
            return
        with contextlib.suppress(OSError), socket.socket(fileno=stream.duplicate()) as end:
            end.shutdown(socket.SHUT_RDWR)

        def forget() -> None:
            if self._stream is stream:
                stream.close()
                self._disconnected()

        self._loop.post(forget)  # not at once: the frontend may be what has called

    # -- connection

    def _adopt(self, connection: socket.socket) -> None:
        if self._closed or self._stream is not None:  # another peer was handed over meanwhile
            connection.close()
            return
        connection.setblocking(False)
        send_at_once(connection, self._address.nodelay)
        self._peer = _peer(connection)
        connection_family = connection.family
        fd = connection.detach()
        self._stream = FdStream(
            self._loop,
            fd,
            fd,
            room=self._receive_room,
            received=self._received,
            ended=self._disconnected,
            writable=self._writable,
            read=self._read_message if connection_family == socket.AF_UNIX else os.read,
        )
        self._telnet = telnet.TelnetFilter()
        if self._address.telnet and self._address.server:
            self._stream.write(telnet.GREETING)
        self._set_open(True)
        self._stream.start()

    def _read_message(self, fd: int, size: int) -> bytes:
        """Read from a Unix socket. Raises OSError."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fd)
        try:
            data, fds, _, _ = socket.recv_fds(connection, size, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        finally:
            connection.detach()
        if fds:
            self._drop_fds()
            self._fds = list(fds)
        return data

    def _drop_fds(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def take_fd(self) -> int | None:
        """The first descriptor that came with the last message that brought any."""
        taken = self._fds.pop(0) if self._fds else None
        self._drop_fds()
        return taken

    def _received(self, data: bytes) -> None:
        breaks = 0
        if self._address.telnet:
            data, breaks = self._telnet.decode(data)
        self._deliver(data)
        for _ in range(breaks):
            self._event(CharEvent.BREAK)

    def _disconnected(self) -> None:
        self._stream = None
        self._peer = ""
        self._drop_fds()
        self._set_open(False)
        if self._closed:
            return
        if self._listener is not None:
            self._listener.resume()
        elif self._address.reconnect:
            self._retry_later()

    def _resume(self) -> None:
        if self._stream is not None:
            self._stream.start()

    def _send(self, data: Bytes) -> int:
        if self._stream is None:
            return len(data)
        if not self._address.telnet or telnet.IAC not in bytes(data):
            return self._stream.write(data)
        for index, byte in enumerate(bytes(data)):  # rare: a byte of 255, which is sent doubled
            if not self._stream.write(telnet.encode(bytes((byte,)))):
                return index
        return len(data)

    def close(self) -> None:
        """Disconnect, stop listening, and remove the Unix socket that a server made."""
        self._closed = True
        self._drop_fds()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        super().close()


def dialling(options: SocketOptions) -> Callable[[], socket.socket] | None:
    """How a client gets its connection, on any thread: raises `HostError`. None for others, and for
    those that connect by themselves. Raises `ConfigError`.
    """
    _check(options)
    if options.server or options.reconnect or options.fd is not None:
        return None
    return partial(_connected, options)


def _connected(options: SocketOptions) -> socket.socket:
    """A connected socket. Raises `HostError`."""
    try:
        return _connect(options)
    except OSError as error:
        raise HostError.from_os("connect to", error, _describe(options, None)) from error


def _check(options: SocketOptions) -> None:
    given = [name for name in ("path", "port", "fd") if getattr(options, name) is not None]
    if len(given) != 1:
        raise ConfigError(
            "a socket takes one of path=, port= and fd=, "
            f"not {' and '.join(given) if given else 'none'}"
        )
    if options.path == "":
        raise ConfigError("path= is empty")
    if options.server and options.reconnect:
        raise ConfigError("reconnect= is for clients, not for server=on")
    if options.fd is not None and not options.fd.isdecimal():
        raise ConfigError(f"fd={options.fd} is not a descriptor number")
    if options.port is not None:
        check_port(options.port)


def _describe(options: SocketOptions, listener: Listener | None) -> str:
    suffix = ",server=on" if options.server else ""
    if options.path is not None:
        return f"unix:{options.path}{suffix}"
    if options.fd is not None:
        return f"fd:{options.fd}{suffix}"
    protocol = "telnet" if options.telnet else "tcp"
    host, port = options.host, options.port
    if listener is not None:
        host, port = listener.place[0], str(listener.place[1])
    host = f"[{host}]" if ":" in host else host
    return f"{protocol}:{host}:{port}{suffix}"


def _peer(connection: socket.socket) -> str:
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    with contextlib.suppress(OSError):
        host, port = connection.getpeername()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return ""


def _place(options: SocketOptions) -> Inet | Unix:
    if options.path is not None:
        return Unix(options.path, options.abstract)
    assert options.port is not None
    return Inet(options.host, options.port, options.to, options.ipv4, options.ipv6)


def _connect(options: SocketOptions) -> socket.socket:
    """Return a connected socket. Raises OSError."""
    if options.fd is not None:
        return socket.socket(fileno=os.dup(int(options.fd)))
    return connect(_place(options))


def _listen(options: SocketOptions) -> socket.socket:
    """Return a listening socket. Raises HostError."""
    try:
        if options.fd is not None:
            return socket.socket(fileno=os.dup(int(options.fd)))
        return listen(_place(options))
    except OSError as error:
        raise HostError.from_os("listen on", error, _describe(options, None)) from error
