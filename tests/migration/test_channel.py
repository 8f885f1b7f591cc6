"""Where a migration comes in."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from ratite.migration.channel import Listener


def no_descriptor(name: str) -> int:
    pytest.fail(f"asked for {name}")


def test_tcp_without_a_host_is_for_this_machine_alone() -> None:
    listener = Listener("tcp::0", no_descriptor)
    try:
        (address,) = listener.addresses
        assert address["host"] == "127.0.0.1"
        with socket.create_connection(("127.0.0.1", int(str(address["port"])))):
            listener.accept().close()
    finally:
        listener.close()


def test_a_unix_socket_is_its_owners(tmp_path: Path) -> None:
    listener = Listener(f"unix:{tmp_path / 'in'}", no_descriptor)
    try:
        assert stat.S_IMODE((tmp_path / "in").stat().st_mode) == 0o600
    finally:
        listener.close()
