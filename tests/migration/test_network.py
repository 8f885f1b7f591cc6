"""A guest with a network that moves."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from ratite.vm import Vm

RARP = b"\x80\x35"


def test_the_network_is_told_where_a_guest_has_gone(
    machine: Callable[..., Vm], tmp_path: Path
) -> None:
    uri = f"unix:{tmp_path}/migration"
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    try:
        words = [
            f"-netdev dgram,id=n0,local.type=fd,local.str={guests.fileno()} -S "
            "-device virtio-net-device,netdev=n0,mac=52:54:00:00:00:07".split()
            for _, guests in pairs
        ]
        target = machine(*words[1], "-incoming", uri)
        source = machine(*words[0])
        source.migrate(uri, timeout=60)
        ours = pairs[1][0]
        ours.settimeout(20)
        for _ in range(2):  # the first of several rounds
            frame = ours.recv(2000)
            assert frame[6:14] == bytes.fromhex("525400000007") + RARP
        with target.machine.lock:
            assert target.backends.net.netdevs["n0"].claimed
    finally:
        for pair in pairs:
            for end in pair:
                end.close()
