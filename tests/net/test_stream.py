"""Netdevs over stream sockets, with real peers."""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

import pytest

from ratite.core.errors import ConfigError, HostError
from ratite.core.ethernet import MAX_FRAME
from ratite.net.options import (
    FdSocketAddress,
    InetSocketAddress,
    SocketOptions,
    StreamOptions,
    UnixSocketAddress,
)

FRAME = bytes(range(60))
LOOPBACK = InetSocketAddress("127.0.0.1", "0")


def framed(frame: bytes) -> bytes:
    return struct.pack(">I", len(frame)) + frame


def port_of(bench, id: str) -> int:
    return bench.network.netdevs[id].port


def connect(bench, id: str) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port_of(bench, id)))
    peer.settimeout(20)
    return peer


def receive(peer: socket.socket) -> bytes:
    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = peer.recv(size - len(data))
            assert piece
            data += piece
        return data

    return exactly(struct.unpack(">I", exactly(4))[0])


@pytest.fixture
def served(bench, until):
    """A netdev that listens, its card, and a peer."""
    card = bench.add(StreamOptions(id="n0", addr=LOOPBACK, server=True))
    with connect(bench, "n0") as peer:
        until(lambda: bench.streams)
        yield card, peer


def test_frames_go_both_ways(bench, served, until) -> None:
    card, peer = served
    peer.sendall(framed(FRAME) + framed(b"second")[:7])
    until(lambda: card.frames == [FRAME])
    peer.sendall(framed(b"second")[7:])
    until(lambda: card.frames == [FRAME, b"second"])
    assert bench.send("n0", FRAME[:14], FRAME[14:])
    assert receive(peer) == FRAME


def test_who_comes_and_goes_is_told_and_the_next_may_come(bench, served, until) -> None:
    card, peer = served
    host, port = peer.getsockname()
    assert bench.network.netdevs["n0"].info == f"tcp:{host}:{port}"
    id, place = bench.streams[0]
    assert (id, place.host, place.port, place.ipv4) == ("n0", host, str(port), True)
    peer.close()
    until(lambda: bench.streams[1:] == [("n0", None)])
    assert bench.network.netdevs["n0"].info == ""
    assert bench.send("n0", FRAME)  # lost
    with connect(bench, "n0") as other:
        other.sendall(framed(FRAME))
        until(lambda: card.frames == [FRAME])


def test_a_peer_that_ends_its_output_is_gone(bench, served, until) -> None:
    card, peer = served
    peer.sendall(framed(FRAME) + b"\0\0")
    peer.shutdown(socket.SHUT_WR)
    until(lambda: bench.streams[1:])
    assert card.frames == [FRAME]
    assert peer.recv(10) == b""


def test_a_frame_that_is_too_long_ends_the_connection(bench, served, until) -> None:
    card, peer = served
    peer.sendall(framed(FRAME) + struct.pack(">I", MAX_FRAME + 1))
    assert peer.recv(10) == b""
    until(lambda: bench.warnings)
    assert f"a frame of {MAX_FRAME + 1} bytes" in bench.warnings[0]
    assert card.frames == [FRAME]


def test_a_peer_that_never_reads_holds_the_card_back_not_memory(bench, served, until) -> None:
    card, peer = served
    taken = 0
    while bench.send("n0", bytes(60_000)):
        taken += 1
        assert taken < 2000, "there is no end to what is taken"
    netdev = bench.network.netdevs["n0"]
    assert len(netdev._unsent) <= MAX_FRAME + 4
    assert not bench.send("n0", FRAME)
    for _ in range(taken):
        assert len(receive(peer)) == 60_000
    until(lambda: card.writables)
    assert bench.send("n0", FRAME)
    assert receive(peer) == FRAME


def test_a_card_without_room_holds_the_peer_back(bench, make_card, until) -> None:
    card = bench.add(StreamOptions(id="n0", addr=LOOPBACK, server=True), make_card(room=1))
    with connect(bench, "n0") as peer:
        peer.sendall(framed(bytes(996)) * 2)
        until(lambda: card.frames and not bench.network.netdevs["n0"]._reading)
        peer.setblocking(False)
        sent = 2000
        with pytest.raises(BlockingIOError):
            while sent < 64 << 20:  # the sizes of the host's buffers are its own matter
                sent += peer.send(framed(bytes(996)))
        assert len(card.frames) == 1

        def go_on() -> None:
            card.room = 1 << 30
            bench.network.netdevs["n0"].accept_input()

        bench.do(go_on)
        until(lambda: len(card.frames) >= sent // 1000)


def test_nothing_reaches_a_guest_that_is_paused(bench, served, until) -> None:
    card, peer = served
    bench.running = False
    peer.sendall(framed(FRAME))
    netdev = bench.network.netdevs["n0"]
    until(lambda: not netdev._reading)
    bench.do(netdev.accept_input)
    assert card.frames == []
    bench.running = True
    bench.do(bench.network.resume)
    assert card.frames == [FRAME]


def test_frames_are_lost_while_the_link_is_down(bench, served, until) -> None:
    card, peer = served
    netdev = bench.network.netdevs["n0"]
    bench.do(lambda: netdev.set_link(False))
    peer.sendall(framed(b"lost"))
    assert bench.send("n0", b"lost")
    until(lambda: netdev._reader._end == 8 == netdev._reader._start)
    assert card.links == [False]
    bench.do(lambda: netdev.set_link(True))
    peer.sendall(framed(FRAME))
    until(lambda: card.frames == [FRAME])
    assert bench.send("n0", FRAME)
    assert receive(peer) == FRAME


def test_a_client_connects_to_a_unix_socket(bench, tmp_path: Path, until) -> None:
    path = str(tmp_path / "net")
    bench.add(StreamOptions(id="a", addr=UnixSocketAddress(path), server=True))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    card = bench.add(StreamOptions(id="b", addr=UnixSocketAddress(path)))
    until(lambda: len(bench.streams) == 2)
    assert bench.send("a", FRAME)
    until(lambda: card.frames == [FRAME])
    assert bench.network.netdevs["b"].info == f"unix:{path}"
    bench.do(lambda: bench.network.remove("a"))
    assert not os.path.exists(path)
    until(lambda: bench.network.netdevs["b"].info == "")


def test_a_client_without_a_server_says_so(bench, tmp_path: Path, until) -> None:
    bench.add(StreamOptions(id="n0", addr=UnixSocketAddress(str(tmp_path / "none"))))
    until(lambda: bench.warnings)
    assert "netdev 'n0': cannot connect to unix:" in bench.warnings[0]
    assert bench.network.netdevs["n0"].info == "connection error"


def test_an_address_that_is_taken_is_refused(bench) -> None:
    bench.add(StreamOptions(id="a", addr=LOOPBACK, server=True))
    port = str(port_of(bench, "a"))
    options = StreamOptions(id="b", addr=InetSocketAddress("127.0.0.1", port), server=True)
    with pytest.raises(HostError, match=r"cannot listen on 'tcp:127\.0\.0\.1:\d+': Address"):
        bench.add(options)
    assert "b" not in bench.network.netdevs


def test_the_older_name_speaks_the_same(bench, until) -> None:
    bench.add(SocketOptions(id="a", listen=":0"))
    netdev = bench.network.netdevs["a"]
    assert netdev._listener.place[0] == "127.0.0.1"  # this host only, where none is named
    card = bench.add(SocketOptions(id="b", connect=f":{netdev.port}"))
    until(lambda: bench.network.netdevs["b"].info)
    until(lambda: netdev.info.startswith("socket: connection from 127.0.0.1:"))
    assert bench.network.netdevs["b"].info == f"socket: connect to 127.0.0.1:{netdev.port}"
    assert bench.send("a", FRAME)
    until(lambda: card.frames == [FRAME])
    assert bench.streams == []


@pytest.mark.parametrize("old", [False, True])
def test_a_socket_can_be_handed_over(bench, until, old: bool) -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        number = str(ours.fileno())
        options = (
            SocketOptions(id="n0", fd=number)
            if old
            else StreamOptions(id="n0", addr=FdSocketAddress(number))
        )
        card = bench.add(options)
        peer.sendall(framed(FRAME))
        until(lambda: card.frames == [FRAME])


def test_a_descriptor_that_is_no_socket_is_refused(bench, tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        with pytest.raises(ConfigError, match="can't get socket option SO_TYPE"):
            bench.add(StreamOptions(id="n0", addr=FdSocketAddress(str(file.fileno()))))
    with pytest.raises(ConfigError, match="Can't use file descriptor 9999: Bad file desc"):
        bench.add(StreamOptions(id="n0", addr=FdSocketAddress("9999")))
