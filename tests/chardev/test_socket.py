"""Sockets: servers, clients, telnet."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ratite.chardev import SocketChardev, SocketOptions
from ratite.chardev.telnet import TelnetFilter
from ratite.core.char import CharEvent
from ratite.core.errors import ConfigError, HostError
from ratite.core.events import EventLoop
from ratite.core.sockets import Listener

Until = Callable[..., None]


def unix_server(loop: EventLoop, path: Path, **options: Any) -> SocketChardev:
    return SocketChardev(
        "c0", loop, options=SocketOptions(path=str(path), server=True, wait=False, **options)
    )


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(path))
    return client


def test_a_unix_server_serves_one_client_after_another(
    loop: EventLoop, recorder: Any, tmp_path: Path, until: Until
) -> None:
    path = tmp_path / "s"
    server = unix_server(loop, path)
    server.attach(recorder)
    assert recorder.events == []
    assert server.write(b"lost") == 4
    assert server.filename == f"disconnected:unix:{path},server=on"
    for _ in range(2):
        recorder.events.clear()
        with connect(path) as client:
            client.sendall(b"ping")
            until(lambda: recorder.data.endswith(b"ping"))
            assert recorder.events == [CharEvent.OPENED]
            assert server.write(b"pong") == 4
            assert client.recv(100) == b"pong"
        until(lambda: recorder.events == [CharEvent.OPENED, CharEvent.CLOSED])
        recorder.data = b""
    server.close()
    server.close()
    assert not path.exists()


def test_a_host_without_descriptors_is_given_time(
    loop: EventLoop,
    recorder: Any,
    tmp_path: Path,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ratite.core.sockets.RETRY_NS", 20_000_000)
    attempts: list[float] = []
    accept = socket.socket.accept

    def refuse_twice(listener: socket.socket) -> Any:
        attempts.append(time.monotonic())
        if len(attempts) <= 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", refuse_twice)
    server = unix_server(loop, tmp_path / "s")
    server.attach(recorder)
    with connect(tmp_path / "s"):
        until(lambda: recorder.events == [CharEvent.OPENED])
    first, second, third = attempts
    assert second - first >= 0.02 and third - second >= 0.02
    server.close()


def test_the_unix_socket_is_the_owners_only(loop: EventLoop, tmp_path: Path) -> None:
    server = unix_server(loop, tmp_path / "s")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    server.close()


def test_a_stale_socket_is_replaced_a_living_one_is_not(loop: EventLoop, tmp_path: Path) -> None:
    path = tmp_path / "s"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    server = unix_server(loop, path)
    with pytest.raises(HostError, match="another process listens"):
        unix_server(loop, path)
    assert path.exists()
    server.close()
    path.write_text("precious")
    with pytest.raises(HostError, match="not a socket"):
        unix_server(loop, path)
    assert path.read_text() == "precious"


def test_a_server_may_wait_for_its_first_client(
    loop: EventLoop, recorder: Any, tmp_path: Path, until: Until
) -> None:
    path = tmp_path / "s"
    clients: list[socket.socket] = []
    messages: list[str] = []

    def arrive(message: str) -> None:
        messages.append(message)
        threading.Thread(target=lambda: clients.append(connect(path))).start()

    server = SocketChardev("c0", loop, arrive, options=SocketOptions(path=str(path), server=True))
    assert messages == [f"waiting for connection on: disconnected:unix:{path},server=on"]
    server.attach(recorder)
    assert recorder.events == [CharEvent.OPENED]
    until(lambda: clients)
    clients[0].sendall(b"x")
    until(lambda: recorder.data == b"x")
    clients[0].close()
    server.close()


def test_a_tcp_client_meets_a_tcp_server(loop: EventLoop, make_recorder: Any, until: Until) -> None:
    server = SocketChardev(
        "s",
        loop,
        options=SocketOptions(host="127.0.0.1", port="0", server=True, wait=False),
    )
    client = SocketChardev(
        "c", loop, options=SocketOptions(host="127.0.0.1", port=str(server.port))
    )
    left, right = make_recorder(), make_recorder()
    server.attach(left)
    client.attach(right)
    until(lambda: left.events)
    assert client.filename.startswith(f"tcp:127.0.0.1:{server.port} <-> ")
    big = os.urandom(3_000_000)
    sent = 0
    while sent < len(big):
        taken = loop.call(partial(client.write, big[sent : sent + 50_000]))
        sent += taken
        if taken < 50_000 and sent < len(big):
            until(lambda: CharEvent.WRITABLE in right.events)
            right.events.remove(CharEvent.WRITABLE)
        left.room = 1 << 20
        loop.call(server.accept_input)

    def all_arrived() -> bool:
        left.room = 1 << 20
        loop.call(server.accept_input)
        return len(left.data) == len(big)

    until(all_arrived)
    assert left.data == big
    client.close()
    until(lambda: CharEvent.CLOSED in left.events)
    server.close()


def test_a_server_looks_for_a_free_port(loop: EventLoop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = SocketOptions(
            host="127.0.0.1", port=str(port), to=min(port + 50, 65535), server=True, wait=False
        )
        server = SocketChardev("s", loop, options=options)
        assert server.port > port
        server.close()


def test_a_client_without_a_server_fails_and_with_reconnect_comes_back(
    loop: EventLoop, recorder: Any, tmp_path: Path, until: Until
) -> None:
    path = tmp_path / "s"
    with pytest.raises(HostError, match="connect to"):
        SocketChardev("c", loop, options=SocketOptions(path=str(path)))
    client = SocketChardev("c", loop, options=SocketOptions(path=str(path), reconnect=1))
    client.attach(recorder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)
        for _ in range(2):
            listener.accept()[0].close()
    until(lambda: recorder.events.count(CharEvent.CLOSED) == 2)
    client.close()


def test_a_handed_over_descriptor_is_used(loop: EventLoop, recorder: Any, until: Until) -> None:
    ours, theirs = socket.socketpair()
    client = SocketChardev("c", loop, options=SocketOptions(fd=str(theirs.fileno())))
    client.attach(recorder)
    ours.sendall(b"hi")
    until(lambda: recorder.data == b"hi")
    client.close()
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "not none"),
        ({"path": "x", "port": "1"}, "path and port"),
        ({"path": "x", "server": True, "reconnect": 1}, "reconnect"),
        ({"fd": "three"}, "not a descriptor number"),
        ({"path": "", "server": True}, "path= is empty"),
        ({"port": "65536"}, "port 65536 is out of range: 0 to 65535"),
        ({"port": "-1", "server": True}, "port -1 is out of range: 0 to 65535"),
    ],
)
def test_options_that_do_not_go_together(
    loop: EventLoop, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        SocketChardev("c0", loop, options=SocketOptions(**options))


def test_an_unknown_host_is_a_host_error(loop: EventLoop) -> None:
    with pytest.raises(HostError, match=r"'tcp:127\.0\.0\.1:nonsense': Servname") as error:
        SocketChardev("c", loop, options=SocketOptions(host="127.0.0.1", port="nonsense"))
    assert error.value.errno == 0


def test_telnet_greets_breaks_and_escapes(
    loop: EventLoop, recorder: Any, tmp_path: Path, until: Until
) -> None:
    server = unix_server(loop, tmp_path / "s", telnet=True)
    server.attach(recorder)
    with connect(tmp_path / "s") as client:
        assert client.recv(100).startswith(b"\xff\xfb")
        client.sendall(b"a\xff\xfd\x01b\xff\xf3c\xff\xff")
        until(lambda: recorder.data == b"abc\xff")
        until(lambda: CharEvent.BREAK in recorder.events)
        assert server.write(b"1\xff2") == 3
        data = b""
        while len(data) < 4:
            data += client.recv(100)
        assert data == b"1\xff\xff2"
    server.close()


def test_telnet_commands_may_come_in_pieces() -> None:
    stream = b"a\xff\xfa\x18\x01\xff\xf0b\xff\xf1c\xff\xfb\x03d"
    for cut in range(len(stream)):
        telnet = TelnetFilter()
        first, _ = telnet.decode(stream[:cut])
        second, _ = telnet.decode(stream[cut:])
        assert first + second == b"abcd"


# -- sockets that are handed over


def test_a_socket_that_does_not_listen_keeps_nobody_busy(
    loop: EventLoop, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratite.core.sockets.RETRY_NS", 3600 * 10**9)
    calls: list[int] = []

    class Socket(socket.socket):
        def accept(self) -> Any:
            calls.append(1)
            return super().accept()

    with Socket(socket.AF_INET) as deaf:
        listener = Listener(loop, deaf, lambda _: None)
        loop.call(listener.resume)
        until(lambda: calls)
        for _ in range(50):
            loop.call(lambda: None)
        assert len(calls) == 1
        loop.call(listener.close)


def test_any_connected_socket_can_be_a_client(
    loop: EventLoop, recorder: Any, tmp_path: Path, until: Until
) -> None:
    server = unix_server(loop, tmp_path / "s")
    server.attach(recorder)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(peer.getsockname())
            peer.connect(client.getsockname())
            loop.call(lambda: server.add_client(os.dup(client.fileno())))
        peer.send(b"ping")
        until(lambda: recorder.data == b"ping")
    loop.call(server.close)


def test_a_client_that_was_handed_over_keeps_its_place(
    loop: EventLoop, recorder: Any, tmp_path: Path, until: Until
) -> None:
    options = SocketOptions(path=str(tmp_path / "late"), reconnect=1)
    chardev = SocketChardev("c0", loop, options=options)
    chardev.attach(recorder)
    ours, theirs = socket.socketpair()
    with ours, socket.socket(socket.AF_UNIX) as late:
        loop.call(lambda: chardev.add_client(theirs.detach()))
        late.bind(options.path)
        late.listen(1)
        dialled = socket.socket(socket.AF_UNIX)
        dialled.connect(options.path)
        loop.call(lambda: chardev._adopt(dialled))  # what connecting in the background ends with
        connection, _ = late.accept()
        with connection:
            connection.settimeout(10)
            assert connection.recv(1) == b""  # hung up
        ours.sendall(b"ping")
        until(lambda: recorder.data == b"ping")
    loop.call(chardev.close)
