"""Netdevs over datagram sockets, with real peers."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from ratite.core.errors import ConfigError, HostError
from ratite.net.dgram import DgramNetdev
from ratite.net.options import (
    DgramOptions,
    FdSocketAddress,
    InetSocketAddress,
    SocketOptions,
    StreamOptions,
    UnixSocketAddress,
)

FRAME = bytes(range(60))


@pytest.fixture
def peer():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(20)
        yield peer


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("old", [False, True])
def test_udp_goes_both_ways(bench, peer, until, old: bool) -> None:
    there, here = peer.getsockname()[1], free_port()
    if old:
        options = SocketOptions(id="n0", udp=f"127.0.0.1:{there}", localaddr=f"127.0.0.1:{here}")
    else:
        local = InetSocketAddress("127.0.0.1", str(here))
        options = DgramOptions(
            id="n0", local=local, remote=InetSocketAddress("127.0.0.1", str(there))
        )
    card = bench.add(options)
    assert bench.send("n0", FRAME[:20], FRAME[20:])
    data, address = peer.recvfrom(2000)
    assert (data, address[1]) == (FRAME, here)
    peer.sendto(FRAME, address)
    until(lambda: card.frames == [FRAME])


def test_nobody_at_the_other_end_is_no_error(bench, peer, until) -> None:
    there = peer.getsockname()[1]
    local = InetSocketAddress("127.0.0.1", str(free_port()))
    remote = InetSocketAddress("127.0.0.1", str(there))
    card = bench.add(DgramOptions(id="n0", local=local, remote=remote))
    peer.close()
    for _ in range(5):
        assert bench.send("n0", FRAME)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(FRAME, ("127.0.0.1", int(local.port)))
        until(lambda: card.frames == [FRAME])


class Unreachable(socket.socket):
    """Tells once of an earlier datagram that found no way."""

    told = False

    def recv_into(self, *arguments: object) -> int:
        if not self.told:
            self.told = True
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        return super().recv_into(*arguments)  # type: ignore[arg-type]


def test_no_way_to_the_other_end_is_no_error(bench, peer, make_card, until, capsys) -> None:
    endpoint = Unreachable(socket.AF_INET, socket.SOCK_DGRAM)
    endpoint.bind(("127.0.0.1", 0))
    here, card = endpoint.getsockname(), make_card()
    host = bench.network._host
    netdev = DgramNetdev("n0", host, endpoint, None, "")
    bench.do(lambda: netdev.attach(card))
    peer.sendto(FRAME, here)
    until(lambda: card.frames == [FRAME])
    bench.do(netdev.close)
    assert "error in a main loop callback" not in capsys.readouterr().err


def test_unix_sockets_are_the_owners_alone_and_go_with_the_netdev(
    bench, tmp_path: Path, until
) -> None:
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    options = DgramOptions(id="n0", local=UnixSocketAddress(here), remote=UnixSocketAddress(there))
    card = bench.add(options)
    assert stat.S_IMODE(os.stat(here).st_mode) == 0o600
    assert bench.send("n0", FRAME)  # nobody is there yet
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(there)
        peer.settimeout(20)
        taken = 0
        while bench.send("n0", FRAME):  # until it must wait for one who does not read
            taken += 1
            assert taken < 100_000
        for _ in range(taken):
            assert peer.recv(100) == FRAME
        until(lambda: card.writables)
        peer.sendto(FRAME, here)
        until(lambda: card.frames == [FRAME])
    with pytest.raises(HostError, match="another process listens there"):
        bench.add(
            DgramOptions(id="n1", local=UnixSocketAddress(here), remote=UnixSocketAddress(there))
        )
    bench.do(lambda: bench.network.remove("n0"))
    assert not os.path.exists(here)


def test_a_card_without_room_keeps_one_frame_waiting(bench, peer, make_card, until) -> None:
    here = free_port()
    local = InetSocketAddress("127.0.0.1", str(here))
    remote = InetSocketAddress("127.0.0.1", str(peer.getsockname()[1]))
    card = bench.add(DgramOptions(id="n0", local=local, remote=remote), make_card(room=1))
    for number in range(3):
        peer.sendto(bytes((number,)) * 60, ("127.0.0.1", here))
    netdev = bench.network.netdevs["n0"]
    until(lambda: netdev._held)
    assert len(card.frames) == 1

    def go_on() -> None:
        card.room = 10
        netdev.accept_input()

    bench.do(go_on)
    until(lambda: [frame[0] for frame in card.frames] == [0, 1, 2])


def test_a_group_hears_what_its_members_say(bench, until) -> None:
    port = free_port()
    group = f"230.0.0.7:{port}"
    try:
        first = bench.add(SocketOptions(id="a", mcast=group, localaddr="127.0.0.1"))
    except HostError as error:
        pytest.skip(f"no multicast here: {error}")
    remote = InetSocketAddress("230.0.0.7", str(port))
    local = InetSocketAddress("127.0.0.1", "0")
    second = bench.add(DgramOptions(id="b", local=local, remote=remote))
    assert bench.network.netdevs["a"].info == f"socket: mcast={group}"
    assert bench.network.netdevs["b"].info == f"mcast={group}"
    assert bench.send("a", FRAME)
    until(lambda: second.frames == [FRAME] and first.frames == [FRAME])  # the sender, too


def test_a_pair_of_sockets_can_be_handed_over(bench, until) -> None:
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, peer:
        card = bench.add(DgramOptions(id="n0", local=FdSocketAddress(str(ours.fileno()))))
        assert bench.network.netdevs["n0"].info == f"fd={ours.fileno()} unix"
        peer.send(FRAME)
        until(lambda: card.frames == [FRAME])
        assert bench.send("n0", FRAME)
        assert peer.recv(100) == FRAME


HERE = InetSocketAddress("127.0.0.1", "0")
WRONG = {
    "Can't use file descriptor 99999999999: Bad file descriptor": SocketOptions(
        id="n0", fd="99999999999"
    ),
    "port number '' is invalid": SocketOptions(id="n0", listen="127.0.0.1:"),
    "port 70000 is out of range: 0 to 65535": SocketOptions(id="n0", connect="127.0.0.1:70000"),
    "Parameter 'to' expects uint16_t": StreamOptions(
        id="n0", addr=InetSocketAddress("127.0.0.1", "1", to=1 << 40), server=True
    ),
    f"can't resolve host address '{'x' * 300}'": DgramOptions(
        id="n0", local=HERE, remote=InetSocketAddress("x" * 300, "1")
    ),
    "dgram requires local= parameter": DgramOptions(id="n0", remote=HERE),
    "type=inet or type=unix requires remote parameter": DgramOptions(id="n0", local=HERE),
    "remote and local types must be the same": DgramOptions(
        id="n0", local=UnixSocketAddress("/nowhere"), remote=HERE
    ),
    "don't set remote with local.fd": DgramOptions(
        id="n0", local=FdSocketAddress("0"), remote=HERE
    ),
    "localaddr= is mandatory with udp=": SocketOptions(id="n0", udp="127.0.0.1:5"),
    "exactly one of listen=, connect=, mcast= or udp= is required": SocketOptions(id="n0"),
    "host address '127.0.0.1' doesn't contain ':' separating host from port": SocketOptions(
        id="n0", listen="127.0.0.1"
    ),
    "specified mcastaddr 1.2.3.4 (0x01020304) does not contain a multicast address": SocketOptions(
        id="n0", mcast="1.2.3.4:5"
    ),
    "File descriptor named 'foo' has not been found": SocketOptions(id="n0", fd="foo"),
    "Parameter 'id' expects an identifier": SocketOptions(id="1n", fd="foo"),
    "can't bind ip=8.8.8.8 to socket: Cannot assign requested address": DgramOptions(
        id="n0", local=InetSocketAddress("8.8.8.8", "2345"), remote=HERE
    ),
    "can't bind unix=/nonexistent/x to socket: No such file or directory": DgramOptions(
        id="n0",
        local=UnixSocketAddress("/nonexistent/x"),
        remote=UnixSocketAddress("/nonexistent/y"),
    ),
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_options_are_refused_in_qemus_words(bench, text: str) -> None:
    with pytest.raises((ConfigError, HostError)) as caught:
        bench.add(WRONG[text])
    assert caught.value.text == text
    assert not bench.network.netdevs
