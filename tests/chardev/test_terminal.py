"""Terminals: pty backends, and stdio in a child process on a pty of ours."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

import pytest

from ratite.chardev import PtyChardev
from ratite.core.char import CharEvent
from ratite.core.events import EventLoop

Until = Callable[..., None]

CHILD = """
import os, signal, sys, time
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):  # whatever runs the tests ignores
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
if "nohup" in sys.argv: signal.signal(signal.SIGHUP, signal.SIG_IGN)
from ratite.chardev import StdioChardev, StdioOptions, MuxChardev, MuxActions
from ratite.core.events import EventLoop
from ratite.core.lock import MachineLock
from ratite.core.errors import ConfigError

class Echo:
    def can_receive(self): return 100
    def receive(self, data):
        chardev.write(b"<" + data.hex().encode() + b">")
        if data == b"!": finish.append(1)
        if data == b"#": fail.append(1)
    def event(self, event):
        events.append(event.name)
        try: os.write(2, event.name.encode() + b"\\n")
        except OSError: pass
        if event.name == "CLOSED": finish.append(1)

events, finish, fail = [], [], []
loop = EventLoop(MachineLock())
loop.start()
chardev = StdioChardev("s", loop, options=StdioOptions(signal="signals" in sys.argv))
try:
    StdioChardev("t", loop)
except ConfigError as error:
    assert "'s'" in str(error)
with loop.lock:
    chardev.attach(Echo())
    chardev.write(b"ready\\n")
while not finish:
    time.sleep(0.01)
    if fail: raise RuntimeError("as asked")
with loop.lock:
    chardev.close()
loop.stop()
"""


class Child:
    """The script above, with a pty as its terminal."""

    def __init__(self, *arguments: str, script: str = CHILD) -> None:
        self.master, slave = pty.openpty()
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.output = b""

    def expect(self, text: bytes, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.output:
            left = deadline - time.monotonic()
            assert left > 0, self.output
            if select.select([self.master], [], [], left)[0]:
                self.output += os.read(self.master, 4096)

    def send(self, data: bytes) -> None:
        os.write(self.master, data)

    def finish(self) -> int:
        code = self.process.wait(timeout=20)
        assert self.process.stderr
        self.errors = self.process.stderr.read()
        self.process.stderr.close()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.master >= 0:
            os.close(self.master)
            os.close(self.slave)

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before


@pytest.fixture
def spawn() -> Any:
    children: list[Child] = []

    def start(*arguments: str) -> Child:
        child = Child(*arguments)
        children.append(child)
        child.expect(b"ready")
        return child

    yield start
    for child in children:
        child.close()


def test_stdio_is_raw_and_restored(spawn: Any) -> None:
    child = spawn()
    assert not child.restored
    child.send(b"\x03")
    child.expect(b"<03>")
    child.send(b"a\r")
    child.expect(b"<610d>")
    assert b"ready\r\n" in child.output  # output processing stays on
    child.send(b"!")
    assert child.finish() == 0
    assert child.restored
    assert os.get_blocking(child.slave)


def test_stdio_is_restored_after_an_exception(spawn: Any) -> None:
    child = spawn()
    child.send(b"#")
    assert child.finish() == 1
    assert b"as asked" in child.errors
    assert child.restored


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_stdio_is_restored_before_a_signal_kills(spawn: Any, number: int) -> None:
    child = spawn()
    child.process.send_signal(number)
    assert child.finish() == -number
    assert child.restored


def test_with_signals_on_ctrl_c_interrupts(spawn: Any) -> None:
    child = spawn("signals")
    child.send(b"\x03")
    assert child.finish() in (1, -signal.SIGINT)
    assert b"KeyboardInterrupt" in child.errors
    assert child.restored


# What a shell does: a job gets a process group of its own, and the terminal.
SHELL = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = subprocess.Popen([sys.executable, "-c", sys.argv[1]], process_group=0)
os.tcsetpgrp(0, job.pid)
print("job", job.pid, flush=True)
for report in ("stopped", "continued", "ended"):
    _, status = os.waitpid(job.pid, os.WUNTRACED | os.WCONTINUED)
    print("job", report, flush=True)
"""


def test_stdio_gives_the_terminal_back_while_stopped(until: Until) -> None:
    child = Child(CHILD, script=SHELL)
    try:
        child.expect(b"ready")
        child.expect(b"job ")
        job = int(child.output.split(b"job ")[1].split()[0])
        until(lambda: not child.restored)
        os.kill(job, signal.SIGTSTP)
        child.expect(b"job stopped")
        assert child.restored
        os.kill(job, signal.SIGCONT)
        child.expect(b"job continued")
        until(lambda: not child.restored)
        child.send(b"!")
        child.expect(b"job ended")
        assert child.restored
        assert child.finish() == 0
    finally:
        child.close()


def test_a_vanished_terminal_is_an_event(spawn: Any) -> None:
    child = spawn("nohup")
    os.close(child.slave)
    os.close(child.master)
    child.slave = child.master = -1
    assert child.finish() == 0
    assert b"CLOSED" in child.errors


def test_redirected_stdio_ends_its_input_but_not_its_output() -> None:
    script = CHILD.replace("while not finish:", "for _ in range(100):")
    done = subprocess.run(
        [sys.executable, "-c", script], input=b"abc", capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"ready\n<616263>"
    assert b"CLOSED" not in done.stderr


def test_a_pty_opens_and_closes_with_its_client(
    loop: EventLoop, recorder: Any, until: Until
) -> None:
    chardev = PtyChardev("c0", loop)
    chardev.attach(recorder)
    assert chardev.filename == f"pty:{chardev.tty_path}"
    label = chardev.id
    assert chardev.announcement == (f"char device redirected to {chardev.tty_path} (label {label})")
    assert chardev.write(b"lost") == 4
    for _ in range(2):
        client = os.open(chardev.tty_path, os.O_RDWR | os.O_NOCTTY)
        os.write(client, b"ping\r")
        until(lambda: recorder.data == b"ping\r")
        recorder.data = b""
        assert recorder.events[-1] is CharEvent.OPENED
        assert loop.call(lambda: chardev.write(b"pong\n")) == 5
        assert os.read(client, 100) == b"pong\n"
        os.close(client)
        until(lambda: recorder.events[-1] is CharEvent.CLOSED)
    loop.call(chardev.close)
    loop.call(chardev.close)
    assert not os.path.exists(chardev.tty_path)


def test_the_first_output_after_a_client_came_is_not_lost(loop: EventLoop) -> None:
    chardev = PtyChardev("c0", loop)
    client = os.open(chardev.tty_path, os.O_RDWR | os.O_NOCTTY)
    loop.call(lambda: chardev.write(b"at once"))
    assert os.read(client, 100) == b"at once"
    os.close(client)
    loop.call(chardev.close)
