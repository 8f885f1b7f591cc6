"""The process of a program: signals at any time, and standard streams that are closed, full, or
read by nobody.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = "ratite-system-riscv64"
CODE = "from ratite.cli.system import main; raise SystemExit(main())"
QUIET = ["-display", "none", "-S", "-bios", "none"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.getcwd()}


def start(
    *words: str, code: str = CODE, prepare: Callable[[], object] | None = None
) -> subprocess.Popen[str]:
    """The real program, in a process that has SIGINT's default action as in a terminal."""

    def begin() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if prepare is not None:
            prepare()

    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=begin,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Status, standard output, standard error."""
    try:
        out, err = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def run(*words: str, prepare: Callable[[], object] | None = None) -> tuple[int, str, str]:
    return end(start(*words, prepare=prepare))


# -- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "device",
    [
        "-serial unix:{path},server=on",
        "-chardev socket,id=c,path={path},server",
        "-qmp unix:{path},server",
    ],
)
def test_a_server_that_waits_says_so_and_ends_when_told(
    tmp_path: Path, device: str, number: signal.Signals
) -> None:
    path, pid_file = tmp_path / "s", tmp_path / "pid"
    process = start(*QUIET, "-pidfile", str(pid_file), *device.format(path=path).split())
    assert process.stderr is not None
    line = process.stderr.readline()
    where = f"disconnected:unix:{path},server=on"
    assert line == f"{PROGRAM}: info: waiting for connection on: {where}\n"
    process.send_signal(number)
    assert end(process) == (0, "", "")
    assert not path.exists() and not pid_file.exists()


@pytest.mark.parametrize("option", ["-kernel", "-bios", "-D"])
def test_a_pipe_without_another_end_can_be_given_up(tmp_path: Path, option: str) -> None:
    pipe, pid_file = tmp_path / "pipe", tmp_path / "pid"
    os.mkfifo(pipe)
    process = start("-display", "none", option, str(pipe), "-pidfile", str(pid_file))
    while not (pid_file.exists() and pid_file.read_text()):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert end(process) == (0, "", "")


def test_a_kernel_may_come_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start("-display", "none", "-kernel", str(pipe))
    pipe.write_bytes(b"just text\n")
    status, _, err = end(process)
    assert status == 1 and f"-kernel: {pipe} is text" in err


def test_ctrl_c_amid_the_imports_is_quiet() -> None:
    code = f"""
import os, signal, sys
class Killer:
    def find_spec(self, name, path=None, target=None):
        if name == "ratite.cli.options":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Killer())
{CODE}
"""
    assert end(start(*QUIET, code=code)) == (-signal.SIGINT, "", "")


# -- standard streams


def refused(err: str) -> str:
    """The one line on standard error, without the program's name."""
    match = re.fullmatch(rf"{PROGRAM}: (.+)\n", err)
    assert match is not None, err
    return match[1]


def closed(*fds: int) -> Callable[[], None]:
    def close() -> None:
        for fd in fds:
            os.close(fd)

    return close


@pytest.mark.parametrize("fds", [(1,), (0,), (0, 1), (0, 1, 2)])
def test_a_terminal_that_is_closed_is_none(tmp_path: Path, fds: tuple[int, ...]) -> None:
    image, pid_file = tmp_path / "image", tmp_path / "pid"
    image.write_bytes(bytes(1 << 20))
    words = ["-nographic", "-drive", f"file={image},if=none", "-pidfile", str(pid_file)]
    process = start(*words, "-bios", "builtin", prepare=closed(*fds))
    while not (pid_file.exists() and pid_file.read_text()):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    status, _, err = end(process)
    assert (status, err) == (0, "")
    assert image.read_bytes() == bytes(1 << 20)


def test_help_that_nobody_reads_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert run("-device", "virtio-blk-device,help", prepare=lambda: os.dup2(writer, 1)) == (
        0,
        "",
        "",
    )
    os.close(writer)


@pytest.mark.parametrize("words", ["-M help", "-h", "-version", "-display none -S -serial pty"])
def test_output_that_is_refused_is_one_line(words: str) -> None:
    with open("/dev/full", "w") as full:
        status, _, err = run(*words.split(), prepare=lambda: os.dup2(full.fileno(), 1))
    assert status == 1
    assert refused(err) == "cannot write to standard output: No space left on device"


def test_an_error_that_cannot_be_told_is_a_status() -> None:
    assert run("-nosuch", prepare=closed(2)) == (1, "", "")


@pytest.mark.parametrize("gigabytes", [2, 4, 8])
def test_too_little_address_space_is_one_line(gigabytes: int) -> None:
    limit = gigabytes * 1_000_000_000
    status, _, err = run(
        *QUIET, prepare=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    )
    assert status == 1
    assert refused(err).endswith("Cannot allocate memory")


# -- pseudo terminals


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ("-serial pty", "serial0"),
        ("-serial mon:pty", "serial0-base"),
        ("-chardev pty,id=x", "x"),
        ("-monitor pty", "compat_monitor0"),
        ("-gdb pty", "gdb"),
    ],
)
def test_a_pseudo_terminal_tells_its_path(words: str, label: str) -> None:
    process = start(*QUIET, *words.split())
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.fullmatch(rf"char device redirected to (/dev/\S+) \(label {label}\)\n", line)
    assert match is not None and Path(match[1]).is_char_device()
    process.send_signal(signal.SIGTERM)
    assert end(process) == (0, "", "")


# -- in the background


def test_a_daemon_leaves_its_directory_and_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("disk").write_bytes(bytes(4096))
    words = "-daemonize -pidfile pid -nodefaults -monitor unix:monitor,server=on,wait=off -m 8M"
    disk = "-drive file=disk,format=raw,if=none,id=d -device virtio-blk-device,drive=d"
    assert run(*QUIET, *words.split(), *disk.split()) == (0, "", "")
    pid = int(Path("pid").read_text())
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    with socket.socket(socket.AF_UNIX) as person:
        person.connect("monitor")
        person.settimeout(30)
        person.sendall(b"savevm one\rquit\rinfo status\r")
        seen = b""
        while piece := person.recv(4096):
            seen += piece
    assert seen.endswith(b"quit\r\n"), seen
    assert Path("disk.snapshots/1/info.json").exists()
    deadline = time.monotonic() + 30
    while Path("pid").exists() or Path("monitor").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- memory


def built(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    """A machine that is there."""
    path = tmp_path / "qmp"
    process = start(*QUIET, *words, "-qmp", f"unix:{path},server=on,wait=off")
    with socket.socket(socket.AF_UNIX) as client:
        while client.connect_ex(str(path)):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        assert client.recv(100)  # the greeting
    return process


def test_memory_may_be_locked(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if os.getuid() and limit != resource.RLIM_INFINITY:
        pytest.skip("the host limits locked memory")
    process = built(tmp_path, "-overcommit", "mem-lock=on")
    locked = re.search(r"VmLck:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
    assert locked is not None and int(locked[1]) > 0
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 0


def test_guest_memory_may_be_left_out_of_core_dumps(tmp_path: Path) -> None:
    process = built(tmp_path, "-m", "77M", "-machine", "dump-guest-core=off")
    mappings = Path(f"/proc/{process.pid}/smaps").read_text()
    flags = re.findall(rf"Size: +{77 << 10} kB\n(?:.*\n)*?VmFlags: (.*)", mappings)
    assert any("dd" in line.split() for line in flags)
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 0
