"""QMP with asyncio: ready clients of `qemu.qmp`, the library of QEMU's developers, for machines of
ours. It is an optional dependency: pip install 'ratite[qmp]'.

    async with qmp.launch("-M", "virt", "-S", "-bios", "none") as client:
        print(await client.execute("query-status"))
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO

from ratite.core.errors import ConfigError
from ratite.machines.config import ChardevConfig, MonitorConfig, MonitorMode
from ratite.monitor import Monitor
from ratite.vm import Vm

try:
    from qemu.qmp import ConnectError, QMPClient
except ModuleNotFoundError as error:
    text = "ratite.qmp needs the package qemu.qmp: pip install 'ratite[qmp]'"
    raise ModuleNotFoundError(text, name=error.name) from None

PATIENCE = 10.0
"""Seconds that a program of ours has to end once its client has gone."""
_NUMBERS = count()


@asynccontextmanager
async def connect(
    where: Vm | str | Path | tuple[str, int] | socket.socket, *, name: str = "ratite"
) -> AsyncIterator[QMPClient]:
    """A client of a machine in this process, or of the server at a Unix socket, at a TCP port, or
    at the other end of a socket; negotiated, and disconnected at the end. `name` is for its log.
    Raises `qemu.qmp.ConnectError`.
    """
    if isinstance(where, Vm):
        async with _monitor_of(where) as connection, connect(connection, name=name) as client:
            yield client
        return
    client = QMPClient(name)
    await client.connect(str(where) if isinstance(where, Path) else where)
    try:
        yield client
    finally:
        with suppress(EOFError, OSError):  # the machine has ended before
            await client.disconnect()


@asynccontextmanager
async def launch(*options: str, name: str = "ratite") -> AsyncIterator[QMPClient]:
    """A client of a machine of its own: the program `ratite-system-riscv64` with these options. The
    machine ends with the client. Raises `ConfigError` with what the program says if it does not
    start.
    """
    ours, theirs = socket.socketpair()
    async with AsyncExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile())
        with theirs:
            process = await _start(theirs.fileno(), options, said)
        stack.push_async_callback(_end, process)
        try:
            client = await stack.enter_async_context(connect(ours, name=name))
        except ConnectError:
            status = await asyncio.wait_for(process.wait(), PATIENCE)
            said.seek(0)
            text = said.read().decode("utf-8", "replace").strip()
            raise ConfigError(text or f"{_PROGRAM} ended with status {status}") from None
        yield client


_PROGRAM = "ratite-system-riscv64"
_CODE = "import sys; from ratite.cli.system import main; sys.exit(main())"


async def _start(fd: int, options: Sequence[str], said: IO[bytes]) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", _CODE),
        *("-chardev", f"socket,id=python-qmp,fd={fd}", "-mon", "python-qmp,mode=control"),
        *options,
        pass_fds=(fd,),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=said,
    )


async def _end(process: Process) -> None:
    """Have the program end, as Ctrl-C would; without mercy if it does not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            process.send_signal(number)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), PATIENCE)
            return


@asynccontextmanager
async def _monitor_of(vm: Vm) -> AsyncIterator[socket.socket]:
    """A connection to a new monitor of a machine, which ends with it."""
    id = f"python-qmp{next(_NUMBERS)}"
    ours, theirs = socket.socketpair()

    def add() -> Monitor:
        options = {"fd": str(theirs.fileno())}
        chardev = vm.backends.plug_chardev(ChardevConfig("socket", id, properties=options))
        return vm.hub.add(MonitorConfig(id, MonitorMode.CONTROL), chardev.claim())

    def remove(monitor: Monitor) -> None:
        vm.hub.remove(monitor)
        vm.backends.remove_chardev(id)

    with theirs:
        monitor = await asyncio.to_thread(vm.loop.call, add)
    try:
        yield ours
    finally:
        if not vm.closed:
            await asyncio.to_thread(vm.loop.call, partial(remove, monitor))
