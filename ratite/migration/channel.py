"""Where a stream goes to or comes from, as URIs say: `tcp:HOST:PORT`, `unix:PATH`, `exec:COMMAND`,
`fd:NAME`, `file:PATH`.

Sockets carry answers back; through the others a stream goes one way. A channel is used by one
thread; `abort` may come from any.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from ratite.core.errors import ConfigError, HostError
from ratite.core.port import HIGHEST

SCHEMES = ("tcp", "unix", "exec", "fd", "file")
_CONNECT_TIMEOUT_S = 30.0
_SHELL = "/bin/sh"


def _is_readable(fd: int) -> bool:
    """Whether there is something to read, or an end. Of descriptors with any number."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


class Aborted(Exception):
    """Somebody asked for the end."""


class Waker:
    """Wakes a thread that polls `fd`. What comes after `close` reaches nobody: the number may be
    another file's by then.
    """

    def __init__(self) -> None:
        self.fd, self._other = os.pipe()
        self._guard = threading.Lock()
        self._woken = False  # once is enough: a pipe has an end

    def wake(self) -> None:
        """Have `fd` readable from now on. Any thread."""
        with self._guard:
            if self._other >= 0 and not self._woken:
                self._woken = True
                os.write(self._other, b"x")

    def close(self) -> None:
        """Give the pipe back. Calls after the first do nothing."""
        with self._guard:
            if self._other >= 0:
                os.close(self._other)
                os.close(self.fd)
                self._other = -1


class Channel:
    """An open way in or out. Raises `HostError` for what the host refuses, `Aborted` after
    `abort`.
    """

    def __init__(
        self,
        fd: int,
        *,
        child: subprocess.Popen[bytes] | None = None,
        sync: bool = False,
    ) -> None:
        """Owns `fd`, and `child`, whose end decides whether all went well. With `sync` the data
        shall be on stable storage in the end.
        """
        self._fd = fd
        self._child = child
        self._sync = sync
        self._socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
        self._waker = Waker()
        self._aborted = self._yanked = False
        os.set_blocking(fd, False)

    @property
    def answers(self) -> bool:
        """Whether the other end can answer."""
        return self._socket

    def write(self, data: bytes) -> None:
        """Send all of it."""
        view = memoryview(data)
        while view:
            self._check()
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)
            except OSError as error:
                raise HostError.from_os("send the state", error) from error

    def read(self, size: int) -> bytes:
        """Some bytes, at most `size`; none at the end."""
        while True:
            self._check()
            try:
                return os.read(self._fd, min(size, 1 << 20))
            except BlockingIOError:
                self._wait(select.POLLIN)
            except OSError as error:
                raise HostError.from_os("receive the state", error) from error

    @property
    def readable(self) -> bool:
        """Whether the other end has said something, or is gone."""
        return self._socket and _is_readable(self._fd)

    @property
    def goes_on(self) -> bool:
        """Whether more has come than was read. What may yet come is not waited for: whoever has the
        other end may keep it open.
        """
        return _is_readable(self._fd) and bool(self.read(1))

    def await_input(self) -> None:
        """Wait for something to `read`, to which a pipe that nobody has opened looks ended."""
        self._wait(select.POLLIN)

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._fd, event)
        poll.register(self._waker.fd, select.POLLIN)
        poll.poll()
        if self._aborted:
            raise Aborted

    def _check(self) -> None:
        if self._yanked:
            raise HostError("the connection was broken by yank")

    def yank(self) -> None:
        """Have it fail, whatever the other end does. Any thread."""
        self._yanked = True
        self._waker.wake()

    def abort(self) -> None:
        """Have whoever waits here stop. Any thread."""
        self._aborted = True
        self._waker.wake()

    def finish(self) -> None:
        """End a stream that was sent whole."""
        try:
            if self._sync:
                os.fsync(self._fd)
        except OSError as error:
            raise HostError.from_os("write the state", error) from error
        if self._child is not None:
            self._close_fd()
            while (status := self._exit_status()) is None:
                if self._aborted:
                    raise Aborted
            if status:
                raise HostError(f"the command that takes the state ended with status {status}")

    def _exit_status(self) -> int | None:
        assert self._child is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._child.wait(0.05)
        return None

    def hang_up(self) -> None:
        """After the last words: take what the other end still sends, until it hangs up, lest the
        host drops the words.
        """
        if not self._socket:
            return
        with contextlib.suppress(OSError, HostError, Aborted):
            with socket.socket(fileno=os.dup(self._fd)) as end:
                end.shutdown(socket.SHUT_WR)
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            while poll.poll(2000) and os.read(self._fd, 1 << 20):
                continue

    def _close_fd(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """Give everything back. Calls after the first do nothing."""
        self._close_fd()
        self._waker.close()
        if self._child is not None and self._child.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(1)  # it sees the end of its input, or nobody who reads
            self._child.kill()
            self._child.wait()


TakeFd = Callable[[str], int]
Connect = Callable[[], Channel]


def split(uri: str) -> tuple[str, str]:
    """Scheme and rest. Raises `ConfigError` for another scheme."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme not in SCHEMES:
        raise ConfigError(f"unknown migration protocol: {uri}")
    return scheme, rest


def outgoing(uri: str, take_fd: TakeFd) -> Connect:
    """What opens the way out; it may wait, on any thread, and raises `HostError`. Raises
    `ConfigError` at once for a URI that cannot be.
    """
    try:
        scheme, rest = split(uri)
    except ConfigError:
        raise ConfigError("Parameter 'uri' expects a valid migration protocol") from None
    match scheme:
        case "tcp":
            host, port = _address(rest)
            return lambda: _connect_tcp(host, port)
        case "unix":
            return lambda: _connect_unix(rest)
        case "exec":
            return lambda: _command(rest, out=True)
        case "file":
            return lambda: _file(rest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    fd = take_fd(rest)
    return lambda: Channel(fd)


def inherited_fd(name: str) -> int:
    """A descriptor that the process was started with, by its number. Raises `ConfigError`."""
    try:
        return os.dup(int(name))
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"File descriptor named '{name}' has not been found") from None


class Listener:
    """The way in: waits for whoever sends the stream."""

    def __init__(self, uri: str, take_fd: TakeFd) -> None:
        """Raises `ConfigError` or `HostError`."""
        self.addresses: list[dict[str, Any]] = []
        self._server: socket.socket | None = None
        self._path = ""
        self._channel: Channel | None = None
        scheme, rest = split(uri)
        match scheme:
            case "tcp":
                self._listen_tcp(*_address(rest))
            case "unix":
                self._listen_unix(rest)
            case "exec":
                self._channel = _command(rest, out=False)
            case "file":
                self._channel = _file(rest, os.O_RDONLY)
            case _:
                self._channel = Channel(take_fd(rest))
        self._waker = Waker()

    def accept(self) -> Channel:
        """The channel, once somebody is there. Raises `Aborted` or `HostError`."""
        if self._server is not None and self._channel is None:
            poll = select.poll()
            poll.register(self._server, select.POLLIN)
            poll.register(self._waker.fd, select.POLLIN)
            poll.poll()
            if _is_readable(self._waker.fd):
                raise Aborted
            connection, _ = self._server.accept()
            self._channel = Channel(connection.detach())
            self.addresses = []
            return self._channel
        assert self._channel is not None
        self._channel.await_input()
        return self._channel

    def abort(self) -> None:
        """Stop waiting. Any thread."""
        self._waker.wake()
        if self._channel is not None:
            self._channel.abort()

    def close(self) -> None:
        """Give everything back."""
        self._waker.close()
        if self._server is not None:
            self._server.close()
            self._server = None
            if self._path:
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
        if self._channel is not None:
            self._channel.close()

    def _listen_tcp(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = server = socket.socket(family)
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((host or ("::1" if family == socket.AF_INET6 else "127.0.0.1"), port))
            server.listen(1)
        except OSError as error:
            server.close()
            raise HostError(f"Failed to bind socket: {error.strerror or error}") from error
        shown, number = server.getsockname()[:2]
        kind = "ipv6" if family == socket.AF_INET6 else "ipv4"
        self.addresses = [{"type": "inet", "host": shown, "port": str(number), kind: True}]

    def _listen_unix(self, path: str) -> None:
        self._server = server = socket.socket(socket.AF_UNIX)
        try:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.stat(path).st_mode):
                    os.unlink(path)
            os.fchmod(server.fileno(), 0o600)  # what bind() gives the file: owner only, at once
            server.bind(path)
            server.listen(1)
        except OSError as error:
            server.close()
            raise HostError(
                f"Failed to bind socket to {path}: {error.strerror or error}"
            ) from error
        self._path = os.path.abspath(path)
        self.addresses = [{"type": "unix", "path": path}]


def _address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT[,...]`; an IPv6 address is in brackets."""
    host, colon, port = text.partition(",")[0].rpartition(":")
    if not colon or not port.isdecimal() or len(port) > 5 or int(port) > HIGHEST:
        raise ConfigError(f"error parsing address '{text}'")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _connect_tcp(host: str, port: int) -> Channel:
    try:
        connection = socket.create_connection((host or "localhost", port), _CONNECT_TIMEOUT_S)
    except socket.gaierror as error:
        raise HostError(f"address resolution failed for {host}:{port}: {error.strerror}") from error
    except OSError as error:
        raise HostError(
            f"Failed to connect to '{host}:{port}': {error.strerror or error}"
        ) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Channel(connection.detach())


def _connect_unix(path: str) -> Channel:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise HostError(f"Failed to connect to '{path}': {error.strerror or error}") from error
    return Channel(connection.detach())


def _command(command: str, *, out: bool) -> Channel:
    """A shell command that takes the stream on its input, or gives it on its output."""
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(
            [_SHELL, "-c", command],
            stdin=pipe if out else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if out else pipe,
            restore_signals=True,
            start_new_session=True,
        )
    except OSError as error:
        raise HostError.from_os("run", error, command) from error
    stream = child.stdin if out else child.stdout
    assert stream is not None
    fd = os.dup(stream.fileno())
    stream.close()
    return Channel(fd, child=child)


def _file(path: str, flags: int) -> Channel:
    """A pipe is not waited for here, where nothing could end it."""
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise HostError.from_os("open", error, path) from error
    return Channel(fd, sync=flags & os.O_ACCMODE == os.O_WRONLY)
