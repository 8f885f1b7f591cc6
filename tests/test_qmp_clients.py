"""`ratite.qmp`: clients of `qemu.qmp`, ready to use."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from ratite import ConfigError, Vm

qemu_qmp = pytest.importorskip("qemu.qmp")

from ratite import qmp  # noqa: E402 - needs the package

QUIET = "-M virt -m 64M -S -nodefaults -display none -bios none".split()


def run(talk: Coroutine[Any, Any, None]) -> None:
    """Have a conversation, within limits."""
    asyncio.run(asyncio.wait_for(talk, 60))


def test_a_machine_of_this_process_is_asked() -> None:
    async def talk(vm: Vm) -> None:
        async with qmp.connect(vm) as client, qmp.connect(vm) as other:
            assert isinstance(client, qemu_qmp.QMPClient)
            with client.listener("RESUME") as events:
                await other.execute("cont")
                assert (await events.get())["event"] == "RESUME"
            assert (await client.execute("query-status"))["running"]
            await other.execute("stop")
            with pytest.raises(qemu_qmp.ExecuteError, match="has not been found"):
                await client.execute("nope")

    with Vm(bios="none", memory="64M") as vm:
        before = dict(vm.backends.chardevs)
        run(talk(vm))
        run(talk(vm))
        assert vm.backends.chardevs == before and vm.hub.monitors == []


def test_a_machine_may_end_before_its_client() -> None:
    async def talk() -> None:
        vm = Vm(bios="none", memory="64M")
        async with qmp.connect(vm) as client:
            await client.execute("quit")
            await asyncio.to_thread(vm.close)

    run(talk())


def test_a_server_is_found_by_its_address(tmp_path: Path) -> None:
    path = tmp_path / "qmp"

    async def talk(port: int) -> None:
        for where in (path, str(path), ("127.0.0.1", port)):
            async with qmp.connect(where) as client:
                assert await client.execute("query-target") == {"arch": "riscv64"}

    unix = f"unix:{path},server=on,wait=off"
    with Vm(options=[*QUIET, "-qmp", unix, "-qmp", "tcp:127.0.0.1:0,server=on,wait=off"]) as vm:
        run(talk(vm.backends.chardevs["compat_monitor1"].port))


def test_who_is_not_there_is_an_error() -> None:
    async def talk() -> None:
        with pytest.raises(qemu_qmp.ConnectError):
            async with qmp.connect("/nonexistent/qmp"):
                pass

    run(talk())


def test_a_machine_is_launched_for_a_client_and_ends_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    async def talk() -> None:
        async with qmp.launch(*QUIET, "-pidfile", str(pid_file)) as client:
            assert (await client.execute("query-status"))["status"] == "prelaunch"
            assert pid_file.exists()
        assert not pid_file.exists()

    run(talk())


def test_a_program_that_does_not_start_says_why() -> None:
    async def talk() -> None:
        async with qmp.launch("-kernel", "/nonexistent/kernel", "-display", "none"):
            pytest.fail("it started")

    with pytest.raises(ConfigError, match="-kernel: cannot read '/nonexistent/kernel'"):
        run(talk())


def test_descriptors_go_along() -> None:
    async def talk(vm: Vm) -> None:
        ours, theirs = socket.socketpair()
        async with qmp.connect(vm) as client:
            with ours, theirs:
                client.send_fd_scm(theirs.fileno())
                await client.execute("getfd", {"fdname": "spare"})
            await client.execute("closefd", {"fdname": "spare"})

    with Vm(bios="none", memory="64M") as vm:
        run(talk(vm))


def test_without_the_library_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qemu.qmp", None)
    monkeypatch.delitem(sys.modules, "ratite.qmp")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ratite\[qmp\]'"):
        import ratite.qmp  # noqa: F401
