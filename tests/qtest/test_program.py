"""The program as test harnesses start it: they listen, it connects."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ratite.cli.options import parse
from ratite.core import ConfigError


def test_a_harness_that_listens_is_connected_to(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"{tmp_path}/socket")
    listener.listen(1)
    listener.settimeout(30)
    program = "import sys; from ratite.cli.system import main; sys.exit(main())"
    options = f"-M virt -display none -bios none -qtest-log {tmp_path}/log -accel qtest"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *options.split(), "-qtest", f"unix:path={tmp_path}/socket"]
    )
    try:
        connection, _ = listener.accept()
        connection.settimeout(30)
        connection.sendall(b"writel 0x80000000 0x12345678\nreadl 0x80000000\nclock_step 5\n")
        answers = b""
        while answers.count(b"\n") < 3:
            answers += connection.recv(1000)
        assert answers == b"OK\nOK 0x0000000012345678\nOK 5\n"
        assert "] readl 0x80000000\n" in (tmp_path / "log").read_text()
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_the_standard_streams_may_serve(tmp_path: Path) -> None:
    program = "import sys; from ratite.cli.system import main; sys.exit(main())"
    options = "-M virt -bios none -qtest-log none -accel qtest -qtest stdio"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *options.split()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write("endianness\n")
        process.stdin.flush()
        assert process.stdout.readline() == "OK little\n"
    finally:
        process.terminate()
        process.wait(30)


def test_time_cannot_be_both_counted_and_stepped() -> None:
    import ratite

    options = "-display none -bios none -accel qtest -icount 3".split()
    with pytest.raises(ConfigError, match="-icount"):
        ratite.Vm(config=parse(options))
