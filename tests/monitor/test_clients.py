"""Clients that others wrote."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratite.testing import DEMO

from .conftest import MakeVm, MonitoredVm

ROOT = Path(__file__).parents[2]


# -- qemu.qmp, the client library of QEMU's developers


def test_qemu_qmp_talks_to_us(make_vm: MakeVm) -> None:
    qmp = pytest.importorskip("qemu.qmp")
    machine = make_vm()

    async def talk() -> None:
        client = qmp.QMPClient("test")
        await client.connect(str(machine.path))
        assert client.greeting is not None
        assert (await client.execute("query-status"))["status"] == "prelaunch"
        with client.listener(("RESUME", "STOP")) as listener:
            await client.execute("cont")
            assert (await listener.get())["event"] == "RESUME"
            await client.execute("stop")
            assert (await listener.get())["event"] == "STOP"
        with pytest.raises(qmp.ExecuteError, match="not found"):
            await client.execute("device_del", {"id": "nope"})
        answers = await asyncio.gather(*(client.execute("query-name") for _ in range(50)))
        assert answers == [{}] * 50
        await client.disconnect()

    asyncio.run(talk())


def test_qmp_shell_talks_to_us(make_vm: MakeVm) -> None:
    pytest.importorskip("qemu.qmp")
    machine = make_vm()
    command = [sys.executable, "-m", "qemu.qmp.qmp_shell", str(machine.path)]
    lines = "query-status\nquery-version\n"
    run = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60)
    assert "prelaunch" in run.stdout and "ratite" in run.stdout, run.stderr


# -- socat, as in many a script


@pytest.fixture
def socat() -> str:
    found = shutil.which("socat")
    if found is None:
        pytest.skip("socat is not installed")
    return found


def ask(socat: str, path: Path, text: str, *more: str) -> str:
    command = [socat, "-t2", *more, "-", f"UNIX-CONNECT:{path}"]
    run = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    return run.stdout


def test_socat_gets_qmp_answers(shared_vm: MonitoredVm, socat: str) -> None:
    text = "{'execute':'qmp_capabilities'}\n{'execute':'query-status'}\n"
    answers = ask(socat, shared_vm.path, text).splitlines()
    assert answers[1] == '{"return": {}}'
    assert '"status": "prelaunch"' in answers[2]


def test_socat_gets_hmp_answers(make_vm: MakeVm, socat: str, tmp_path: Path) -> None:
    path = tmp_path / "hmp.sock"
    make_vm(f"-monitor unix:{path},server=on,wait=off")
    assert "VM status: paused (prelaunch)" in ask(socat, path, "info status\n")


# -- libvirt's question what a binary can do


class Libvirt:
    """A libvirt daemon of our own: of a session, not of the system."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._environment = dict(os.environ, HOME=str(directory))
        for kind in ("RUNTIME_DIR", "CONFIG_HOME", "CACHE_HOME", "DATA_HOME"):
            place = directory / kind.lower()
            place.mkdir(mode=0o700)
            self._environment[f"XDG_{kind}"] = str(place)
        # root has no session: in a user namespace of its own it is somebody else
        self._prefix = ["unshare", "--user", "--map-user=1000"] if os.getuid() == 0 else []
        self._log = (directory / "log").open("wb")
        self._daemon = subprocess.Popen(
            [*self._prefix, "libvirtd", "--timeout", "120"],
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
        )

    def await_socket(self) -> None:
        """Wait for the daemon; skip the test if it cannot run here."""
        path = self.directory / "runtime_dir" / "libvirt" / "libvirt-sock"
        deadline = time.monotonic() + 20
        while not path.exists():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                said = (self.directory / "log").read_text(errors="replace")
                pytest.skip(f"libvirtd does not start here: {said[-300:]}")
            time.sleep(0.05)

    def virsh(self, *words: str) -> str:
        """What a command prints; it must not fail."""
        command = [*self._prefix, "virsh", "-c", "qemu:///session", *words]
        run = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=100
        )
        assert run.returncode == 0, run.stderr + (self.directory / "log").read_text()
        return run.stdout

    def close(self) -> None:
        """End the daemon."""
        self._daemon.terminate()
        self._daemon.wait(20)
        self._log.close()


@pytest.fixture
def libvirt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Libvirt]:
    """libvirt, if this machine has its programs."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
    for name, package in (("libvirtd", "libvirt-daemon"), ("virsh", "libvirt-clients")):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed ({package})")
    with tempfile.TemporaryDirectory(prefix="lv") as directory:  # names of sockets are short
        daemon = Libvirt(Path(directory))
        try:
            daemon.await_socket()
            yield daemon
        finally:
            daemon.close()


@pytest.fixture
def emulator(tmp_path: Path) -> Path:
    """Our program, as libvirt wants it: an executable file."""
    binary = tmp_path / "ratite-system-riscv64"
    binary.write_text(
        textwrap.dedent(f"""\
            #!{sys.executable}
            import sys
            sys.path.insert(0, {str(ROOT)!r})
            from ratite.cli.system import main
            sys.exit(main())
            """)
    )
    binary.chmod(0o755)
    return binary


@pytest.mark.slow
def test_libvirt_learns_what_the_program_can_do(libvirt: Libvirt, emulator: Path) -> None:
    question = f"--emulatorbin {emulator} --arch riscv64 --virttype qemu --machine virt"
    answer = libvirt.virsh("domcapabilities", *question.split())
    assert "<arch>riscv64</arch>" in answer
    assert "<vcpu max='512'/>" in answer
    assert "<mode name='maximum' supported='yes'>" in answer
    assert "<rng supported='yes'>" in answer and "<value>builtin</value>" in answer


DOMAIN = """\
<domain type="qemu">
  <name>demo</name>
  <memory unit="MiB">64</memory>
  <vcpu>2</vcpu>
  <os><type arch="riscv64" machine="virt">hvm</type><kernel>{kernel}</kernel></os>
  <devices>
    <emulator>{emulator}</emulator>
    <serial type="unix"><source mode="bind" path="{serial}"/></serial>
    <memballoon model="none"/>
  </devices>
</domain>
"""


@pytest.mark.slow
def test_libvirt_runs_a_guest(libvirt: Libvirt, emulator: Path, tmp_path: Path) -> None:
    serial = libvirt.directory / "serial"
    description = tmp_path / "demo.xml"
    description.write_text(DOMAIN.format(kernel=DEMO, emulator=emulator, serial=serial))
    libvirt.virsh("create", str(description), "--paused")
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(30)
        line.connect(str(serial))
        libvirt.virsh("resume", "demo")
        output = b""
        while b"demo>" not in output:
            output += line.recv(4096)
        assert "running" in libvirt.virsh("domstate", "demo")
        libvirt.virsh("suspend", "demo")
        assert "paused" in libvirt.virsh("domstate", "demo")
        status = libvirt.virsh("qemu-monitor-command", "demo", "--hmp", "info status")
        assert status.startswith("VM status: paused")
        assert "vcpu.current=2" in libvirt.virsh("domstats", "demo")
        libvirt.virsh("reset", "demo")
        libvirt.virsh("resume", "demo")
        output = b""
        while b"demo>" not in output:
            output += line.recv(4096)
    libvirt.virsh("destroy", "demo")
    assert "demo" not in libvirt.virsh("list", "--all")
