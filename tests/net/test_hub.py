"""Hubs, announcements, and taps where the host allows them."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from ratite.core.errors import ConfigError, HostError
from ratite.net import AnnounceTerms, announcement
from ratite.net.hub import QUEUE_FRAMES
from ratite.net.options import DgramOptions, FdSocketAddress, HubportOptions, TapOptions

FRAME = bytes(range(60))


def test_a_frame_goes_out_at_all_other_ports(bench) -> None:
    cards = [bench.add(HubportOptions(id=f"p{n}", hubid=3)) for n in range(3)]
    other = bench.add(HubportOptions(id="q", hubid=4))
    assert bench.send("p1", FRAME[:10], FRAME[10:])
    assert [card.frames for card in (*cards, other)] == [[FRAME], [], [FRAME], []]


def test_a_port_keeps_so_much_for_a_card_without_room_and_no_more(bench, make_card) -> None:
    bench.add(HubportOptions(id="a", hubid=0))
    card = bench.add(HubportOptions(id="b", hubid=0), make_card(room=0))
    for number in range(QUEUE_FRAMES + 10):
        assert bench.send("a", struct.pack(">I", number))
    card.room = 1 << 20
    bench.do(bench.network.netdevs["b"].accept_input)
    assert [struct.unpack(">I", f)[0] for f in card.frames] == list(range(QUEUE_FRAMES))


def test_a_netdev_can_be_behind_a_port(bench, until) -> None:
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, peer:
        options = DgramOptions(id="n0", local=FdSocketAddress(str(ours.fileno())))
        bench.do(lambda: bench.network.add(options))
        bench.do(lambda: bench.network.add(HubportOptions(id="p", hubid=0, netdev="n0")))
        card = bench.add(HubportOptions(id="q", hubid=0))
        with pytest.raises(ConfigError, match="netdev 'no' not found"):
            bench.add(HubportOptions(id="r", hubid=0, netdev="no"))
        with pytest.raises(ConfigError, match="in use"):
            bench.add(HubportOptions(id="r", hubid=0, netdev="n0"))
        peer.send(FRAME)
        until(lambda: card.frames == [FRAME])
        assert bench.send("q", FRAME)
        assert peer.recv(100) == FRAME
        bench.do(lambda: bench.network.remove("n0"))
        assert bench.send("q", FRAME)
        assert bench.network.hubs[0].ports[-1].behind is None


def test_hubs_in_a_circle_do_not_keep_frames_going_round(bench, make_card) -> None:
    for n in range(2):
        bench.do(lambda n=n: bench.network.add(HubportOptions(id=f"a{n}", hubid=0)))
        wanted = HubportOptions(id=f"b{n}", hubid=1, netdev=f"a{n}")
        bench.do(lambda wanted=wanted: bench.network.add(wanted))
    here = bench.add(HubportOptions(id="here", hubid=0), make_card(room=5))
    there = bench.add(HubportOptions(id="there", hubid=1))
    assert bench.send("here", FRAME)
    assert there.frames[:1] == [FRAME] and len(there.frames) <= 2
    assert here.frames == []


def test_a_card_whose_netdev_is_deleted_finds_its_cable_out(bench) -> None:
    card = bench.add(HubportOptions(id="a", hubid=0))
    other = bench.add(HubportOptions(id="b", hubid=0))
    netdev = bench.network.netdevs["a"]
    bench.do(lambda: bench.network.remove("a"))
    assert card.links == [False]
    bench.do(lambda: netdev.send([memoryview(FRAME)]))
    assert other.frames == []
    assert not bench.network.remove("a")


def test_an_announcement_is_a_rarp_request_about_oneself() -> None:
    mac = bytes.fromhex("525400123456")
    frame = announcement(mac)
    assert len(frame) == 60 and frame[:14] == b"\xff" * 6 + mac + b"\x80\x35"
    hardware, protocol, sizes, operation = struct.unpack_from(">HHHH", frame, 14)
    assert (hardware, protocol, sizes, operation) == (1, 0x800, 0x604, 3)
    assert frame[22:28] == frame[32:38] == mac


def test_announcements_go_in_rounds_and_a_new_one_ends_the_old(bench, until) -> None:
    said: list[str] = []
    announcements = bench.network.announcements
    slow = AnnounceTerms(initial=3_600_000, max=3_600_000, rounds=2, step=0)
    quick = AnnounceTerms(initial=1, max=5, rounds=4, step=2)
    bench.do(lambda: announcements.begin("x", slow, lambda: said.append("slow")))
    bench.do(lambda: announcements.begin("x", quick, lambda: said.append("quick")))
    until(lambda: said == ["slow"] + ["quick"] * 4)
    assert [quick.pause_ms(n) for n in range(4)] == [1, 3, 5, 5]
    nothing = AnnounceTerms(rounds=0)
    bench.do(lambda: announcements.begin("y", nothing, lambda: said.append("none")))
    assert "none" not in said


def open_tap(bench, **options: str | None):
    try:
        return bench.add(TapOptions(id="t", **options))
    except HostError as error:
        pytest.skip(f"no tap here: {error}")


def test_a_tap_is_an_interface_of_the_host(bench, until, tmp_path: Path) -> None:
    note = tmp_path / "note"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\necho $0 $1 >> {note}\n")
    script.chmod(0o755)
    name = f"rat{os.getpid() % 100000}"
    open_tap(bench, ifname=name, script=str(script), downscript=str(script))
    assert Path("/sys/class/net", name).exists()
    info = f"ifname={name},script={script},downscript={script}"
    assert bench.network.netdevs["t"].info == info
    assert bench.send("t", FRAME)  # lost while it is down
    bench.do(lambda: bench.network.remove("t"))
    until(lambda: not Path("/sys/class/net", name).exists())
    assert note.read_text() == f"{script} {name}\n" * 2


def test_a_tap_whose_script_fails_is_not_there(bench) -> None:
    open_tap(bench, script="no", downscript="no")
    with pytest.raises(HostError, match="network script /bin/false failed with status 1"):
        bench.add(TapOptions(id="u", script="/bin/false"))
    with pytest.raises(HostError, match="could not run network script /nonexistent"):
        bench.add(TapOptions(id="u", script="/nonexistent"))
    assert list(bench.network.netdevs) == ["t"]


def test_a_host_that_refuses_taps_is_told_of_with_the_remedy(
    bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("ratite.net.tap.os.open", refuse)
    with pytest.raises(HostError) as caught:
        bench.add(TapOptions(id="t"))
    assert caught.value.text == "could not open /dev/net/tun: Operation not permitted"
    assert "ip tuntap add" in caught.value.hint


def test_taps_that_cannot_be_are_refused(bench) -> None:
    with pytest.raises(ConfigError, match="vhost=on is not offered"):
        bench.add(TapOptions(id="t", vhost=True))
    with pytest.raises(ConfigError, match="at most 15 bytes"):
        bench.add(TapOptions(id="t", ifname="a-name-that-is-too-long"))
    with pytest.raises(ConfigError, match="are invalid with fd="):
        bench.add(TapOptions(id="t", fd="0", ifname="x"))
    with open("/dev/null") as file, pytest.raises(ConfigError, match="is not a tap"):
        bench.add(TapOptions(id="t", fd=str(file.fileno())))
