"""Where a migration comes in."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import stat
import threading
from pathlib import Path

import pytest

from ratite.core.errors import HostError
from ratite.migration.channel import Aborted, Channel, Listener, outgoing

LARGE = 1024  # more than select() takes


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


def test_a_pipe_without_a_reader_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HostError, match="No such device or address"):
        outgoing(f"file:{tmp_path / 'pipe'}", no_descriptor)()


def test_a_pipe_is_read_once_somebody_writes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    listener = Listener(f"file:{tmp_path / 'pipe'}", no_descriptor)
    try:
        writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b"guest"))
        writer.start()
        assert listener.accept().read(100) == b"guest"
        writer.join()
    finally:
        listener.close()


def test_waiting_for_a_pipe_can_be_given_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    listener = Listener(f"file:{tmp_path / 'pipe'}", no_descriptor)
    try:
        listener.abort()
        with pytest.raises(Aborted):
            listener.accept()
    finally:
        listener.close()


def test_descriptors_may_have_large_numbers() -> None:
    ours, theirs = socket.socketpair()
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= LARGE:
        pytest.skip("the host does not let us have descriptors like that")
    channel = Channel(fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, LARGE))
    try:
        assert not channel.readable
        theirs.send(b"x")
        assert channel.readable and channel.goes_on
    finally:
        channel.close()
        ours.close()
        theirs.close()


def test_what_is_over_is_not_woken_through_anothers_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "in"
    listener = Listener(f"unix:{path}", no_descriptor)
    with socket.socket(socket.AF_UNIX) as source:
        source.connect(str(path))
        channel = listener.accept()
        listener.close()
        files = [(tmp_path / str(number)).open("wb") for number in range(10)]  # same numbers
        listener.abort()
        channel.abort()
        channel.yank()
        for file in files:
            file.close()
            assert not Path(file.name).read_bytes()
