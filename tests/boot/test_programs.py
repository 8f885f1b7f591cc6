"""The real programs: at a terminal, in the background, and under signals."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.boot.harness import DEMO, program

pytestmark = pytest.mark.boot
pexpect: Any = pytest.importorskip("pexpect")

ESCAPE = "\x01"
PROMPT = "demo> "
QUIET = ["-display", "none", "-serial", "null"]


@pytest.fixture
def session() -> Iterator[Callable[..., Any]]:
    """Starts a program in a terminal of its own."""
    children: list[Any] = []

    def start(name: str, *words: str) -> Any:
        command, *arguments = program(name)
        child = pexpect.spawn(command, [*arguments, *words], encoding="utf-8", timeout=30)
        child.mode = termios.tcgetattr(child.child_fd)
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def ended(child: Any) -> int:
    """Wait for the end; the terminal must be as it was. Returns the exit status."""
    child.expect(pexpect.EOF)
    mode = termios.tcgetattr(child.child_fd)
    assert mode == child.mode
    child.close()
    return int(child.exitstatus)


def test_a_session_with_the_demo_guest(session: Callable[..., Any]) -> None:
    child = session("main")
    child.expect("Hello from inside the machine")
    for command, answer in [
        ("help", "poweroff +end"),
        ("mem", "0x0080000000 - 0x009fffffff +512 MiB +memory"),
        ("bench", "MIPS|instructions"),
        ("poweroff", "\r\n"),
    ]:
        child.expect_exact(PROMPT)
        child.sendline(command)
        child.expect(answer)
    assert ended(child) == 0


def test_ctrl_a_h_helps_and_ctrl_a_x_quits(session: Callable[..., Any]) -> None:
    child = session("system", "-M", "virt", "-bios", "builtin", "-kernel", str(DEMO))
    child.expect_exact(PROMPT)
    child.send(f"{ESCAPE}h")
    child.expect("C-a x +(quit|exit|end|leave)")
    child.sendline("echo still there")
    child.expect("\nstill there")
    child.send(f"{ESCAPE}x")
    assert ended(child) == 0


def test_ctrl_c_is_the_guests(session: Callable[..., Any]) -> None:
    child = session("main", "run")
    child.expect_exact(PROMPT)
    child.send("\x03")
    child.sendline("echo alive")
    child.expect("\nalive")
    child.send(f"{ESCAPE}x")
    assert ended(child) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_machine_cleanly(session: Callable[..., Any], number: int) -> None:
    child = session("main", "run")
    child.expect_exact(PROMPT)
    child.kill(number)
    assert ended(child) == 0


def test_a_signal_before_the_machine_is_built_leaves_nothing_behind(
    session: Callable[..., Any],
) -> None:
    child = session("main", "run")
    time.sleep(0.15)
    child.kill(signal.SIGTERM)
    child.expect(pexpect.EOF)
    assert "Traceback" not in child.before
    assert termios.tcgetattr(child.child_fd) == child.mode


def test_a_terminal_that_vanishes_ends_the_machine(session: Callable[..., Any]) -> None:
    child = session("main", "run")
    child.expect_exact(PROMPT)
    os.close(child.child_fd)
    child.ptyproc.closed = True
    deadline = time.monotonic() + 10
    while child.ptyproc.isalive():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.closed = True


def test_daemonize_returns_when_the_machine_runs(tmp_path: Path) -> None:
    pid_file, log = tmp_path / "pid", tmp_path / "serial"
    words = ["-M", "virt", "-bios", "builtin", "-kernel", str(DEMO), "-display", "none"]
    words += ["-serial", f"file:{log}", "-daemonize", "-pidfile", str(pid_file)]
    result = subprocess.run([*program("system"), *words], timeout=30, capture_output=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    pid = int(pid_file.read_text())
    try:
        os.kill(pid, 0)
        wait_until(lambda: PROMPT in log.read_text())
        second = subprocess.run([*program("system"), *words], timeout=30, capture_output=True)
        assert second.returncode == 1 and second.stderr.count(b"\n") == 1
        assert str(pid_file).encode() in second.stderr
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pid_file.exists())


def test_a_pidfile_is_there_while_the_machine_is(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    words = ["-M", "virt", "-bios", "builtin", "-kernel", str(DEMO), *QUIET]
    process = subprocess.Popen([*program("system"), *words, "-pidfile", str(pid_file)])
    wait_until(lambda: pid_file.exists() and pid_file.read_text() == f"{process.pid}\n")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert not pid_file.exists()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
