"""Clients that others wrote."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.fixture
def libvirt(tmp_path: Path) -> Iterator[None]:
    """libvirt's daemon, if this machine has one and nobody else runs it."""
    programs = {
        name: shutil.which(name, path="/usr/sbin:/usr/bin") for name in ("libvirtd", "virsh")
    }
    if None in programs.values():
        pytest.skip("libvirtd and virsh are not installed (libvirt-daemon, libvirt-clients)")
    if os.getuid() != 0 or Path("/var/run/libvirt/libvirt-sock").exists():
        pytest.skip("needs root, and no other libvirtd")
    pid = tmp_path / "pid"
    log = (tmp_path / "log").open("wb")
    command = [str(programs["libvirtd"]), "--timeout", "60", "--pid-file", str(pid)]
    daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(100):
            if Path("/var/run/libvirt/libvirt-sock").exists() or daemon.poll() is not None:
                break
            time.sleep(0.1)
        if daemon.poll() is not None:
            pytest.skip(f"libvirtd does not start here: {(tmp_path / 'log').read_text()[-200:]}")
        yield
    finally:
        daemon.terminate()
        daemon.wait(20)
        log.close()


@pytest.mark.slow
def test_libvirt_learns_what_the_program_can_do(libvirt: None, tmp_path: Path) -> None:
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
    tmp_path.chmod(0o755)
    question = (
        f"domcapabilities --emulatorbin {binary} --arch riscv64 --virttype qemu --machine virt"
    )
    run = subprocess.run(
        ["virsh", "-c", "qemu:///system", *question.split()],
        capture_output=True,
        text=True,
        timeout=100,
    )
    if "Failed to connect" in run.stderr or "Cannot check" in run.stderr:
        pytest.skip(f"libvirtd does not serve here: {run.stderr.strip()[-200:]}")
    assert "<arch>riscv64</arch>" in run.stdout, run.stderr
    assert "<vcpu max='512'/>" in run.stdout
    assert "<mode name='maximum' supported='yes'>" in run.stdout
