"""Addresses of stream sockets, and how backends listen there and connect.

Not re-exported by `ratite.core`: few runs have sockets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ratite.core.errors import HostError
from ratite.core.loop import Loop, close_watched
from ratite.core.signals import interruptible

ANY_HOST = "*"
CONNECT_TIMEOUT = 10.0
RETRY_NS = 1_000_000_000
"""How long the host or the user has to provide what a client needs: a descriptor, say."""
LASTING = (
    *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
    *(errno.EINVAL, errno.EOPNOTSUPP),  # a socket of the user's that does not listen
)
"""Errors of accept() that the next call would meet, too."""

SocketName = str | tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Inet:
    """A TCP or UDP port, by number or by service name. Without a host it is this host's alone;
    `ANY_HOST` is all addresses of a server. A server takes the first free port up to `to`.
    """

    host: str
    port: str
    to: int = 0
    ipv4: bool = True
    ipv6: bool = True


@dataclass(frozen=True, slots=True)
class Unix:
    """A Unix socket, with a file or with an abstract name."""

    path: str
    abstract: bool = False

    @property
    def name(self) -> str:
        """As the host takes it."""
        return f"\0{self.path}" if self.abstract else self.path


@contextmanager
def _names() -> Iterator[None]:
    """A name inside that the host's encodings cannot hold is an OSError, too."""
    try:
        yield
    except UnicodeError:
        raise OSError(errno.EINVAL, "a name that no host can have") from None


def resolve(
    address: Inet, *, passive: bool, kind: socket.SocketKind = socket.SOCK_STREAM
) -> list[tuple[int, tuple[object, ...]]]:
    """Return the families and addresses that it stands for; may wait. Raises OSError."""
    family = socket.AF_UNSPEC
    if not address.ipv6:
        family = socket.AF_INET
    elif not address.ipv4:
        family = socket.AF_INET6
    host = None if passive and address.host == ANY_HOST else address.host or "localhost"
    flags = socket.AI_PASSIVE if passive else 0
    with _names():
        answers = socket.getaddrinfo(host, address.port, family, kind, 0, flags)
    return [(int(answer[0]), answer[4]) for answer in answers]


def connect(address: Inet | Unix) -> socket.socket:
    """Return a connected socket; waits. Raises OSError."""
    if isinstance(address, Unix):
        with _names():
            return _connect_one(socket.AF_UNIX, address.name)
    failure = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for family, name in resolve(address, passive=False):
        try:
            return _connect_one(family, name)
        except OSError as error:
            failure = error
    raise failure


def _connect_one(family: int, name: SocketName) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_TIMEOUT)
        connection.connect(name)
    except BaseException:
        connection.close()
        raise
    return connection


def send_at_once(connection: socket.socket, wanted: bool = True) -> None:
    """Whether small pieces wait for others; sockets other than TCP's have no such choice."""
    if connection.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, wanted)


def listen(address: Inet | Unix) -> socket.socket:
    """Return a listening socket. Raises OSError, or HostError if the path is taken."""
    if isinstance(address, Inet):
        return _listen_tcp(address)
    with _names():
        return _listen_unix(address)


def _listen_unix(address: Unix) -> socket.socket:
    if not address.abstract:
        clear_stale(address.path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)  # what bind() gives the file: owner only, at once
        listener.bind(address.name)
        listener.listen(1)
    except BaseException:
        listener.close()
        raise
    return listener


def clear_stale(path: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    """Remove a socket that nobody listens on any more. Raises HostError if it is not that."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise HostError(f"cannot listen on {path!r}: it exists and is not a socket; remove it")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.settimeout(CONNECT_TIMEOUT)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise HostError(
        f"cannot listen on {path!r}: another process listens there; choose another path"
    )


def _listen_tcp(address: Inet) -> socket.socket:
    failure = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for family, (host, port, *rest) in resolve(address, passive=True):
        assert isinstance(port, int)
        for attempt in range(port, max(port, address.to) + 1):
            listener = socket.socket(family, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((host, attempt, *rest))
                listener.listen(1)
                return listener
            except OSError as error:
                listener.close()
                failure = error
    raise failure


class BoundPath:
    """The file of a Unix socket that we made, to be removed with it."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # the process may change its directory
        self._inode = 0
        with contextlib.suppress(OSError):
            self._inode = os.stat(path).st_ino

    def remove(self) -> None:
        """Remove it, unless somebody else has put another one there."""
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)


class Listener:
    """Offers the clients of a listening socket, which it owns: the next one when `resume` is
    called, on the loop.
    """

    def __init__(
        self,
        loop: Loop,
        listening: socket.socket,
        accepted: Callable[[socket.socket], None],
        bound: BoundPath | None = None,
    ) -> None:
        self._loop = loop
        self._socket = listening
        self._accepted = accepted
        self._bound = bound
        self._waiting = False
        self._closed = False

    @property
    def is_unix(self) -> bool:
        """Whether it is a Unix socket."""
        return self._socket.family == socket.AF_UNIX

    @property
    def place(self) -> tuple[str, int]:
        """Host and port, of a TCP socket."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def wait(self) -> socket.socket:
        """The first client; waits for it. Raises OSError."""
        self._socket.setblocking(True)
        with interruptible():
            return self._socket.accept()[0]

    def resume(self) -> None:
        """Take one more client."""
        if not (self._waiting or self._closed):
            self._waiting = True
            self._socket.setblocking(False)
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        if not self._waiting:
            return
        try:
            connection, _ = self._socket.accept()
        except OSError as error:
            if error.errno in LASTING:  # the loop would come back at once
                self.pause()
                self._loop.post_after(RETRY_NS, self.resume)
            return
        self.pause()
        self._accepted(connection)

    def pause(self) -> None:
        """Take nobody until `resume` is called."""
        self._waiting = False
        self._loop.remove_reader(self._socket.fileno())

    def close(self) -> None:
        """Stop listening, and remove the file."""
        if self._closed:
            return
        self._closed, self._waiting = True, False
        close_watched(self._loop, self._socket.detach())
        if self._bound is not None:
            self._bound.remove()
