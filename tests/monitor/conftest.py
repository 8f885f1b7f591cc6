"""A machine with monitors, and a client that speaks to them over a socket, as others do."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ratite.cli.options import parse
from ratite.vm import Vm

Json = dict[str, Any]
MACHINE = "-M virt -m 256M -smp 2 -S -nodefaults -display none -bios none"


class QmpClient:
    """A client, as simple as can be: it sends what it is told and reads lines."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        negotiate: bool = True,
        timeout: float = 20,
        connected: socket.socket | None = None,
    ) -> None:
        self.socket = connected or socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        if path is not None:
            self.socket.connect(str(path))
        self._input = self.socket.makefile("rb")
        self.events: list[Json] = []
        self.greeting = self.read()
        if negotiate:
            assert self.command("qmp_capabilities", enable=["oob"]) == {"return": {}}

    def send(self, data: bytes | str) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def read(self) -> Json:
        """The next line, whatever it is; an error at the end of the stream."""
        line = self._input.readline()
        assert line.endswith(b"\r\n"), line[:100]
        message: Json = json.loads(line)
        return message

    def reply(self) -> Json:
        """The next answer; events are kept in `events`."""
        while "event" in (message := self.read()):
            self.events.append(message)
        return message

    def event(self, name: str) -> Json:
        """The next event of this name, of those kept or to come."""
        while True:
            for index, message in enumerate(self.events):
                if message["event"] == name:
                    return self.events.pop(index)
            message = self.read()
            assert "event" in message, message
            self.events.append(message)

    def ask(self, request: Json) -> Json:
        """The answer to a request."""
        self.send(json.dumps(request))
        return self.reply()

    def command(self, name: str, /, **arguments: Any) -> Json:
        """The answer to a command; `_` in names of arguments stands for `-`."""
        members = {key.rstrip("_").replace("_", "-"): value for key, value in arguments.items()}
        return self.ask({"execute": name, "arguments": members})

    def result(self, name: str, /, **arguments: Any) -> Any:
        """What a command returns; it must not fail."""
        answer = self.command(name, **arguments)
        assert "return" in answer, answer
        return answer["return"]

    def error(self, name: str, /, **arguments: Any) -> tuple[str, str]:
        """Class and text of a command's error; it must fail."""
        answer = self.command(name, **arguments)
        assert "error" in answer, answer
        return answer["error"]["class"], answer["error"]["desc"]

    def hmp(self, line: str) -> str:
        """What a command for people prints."""
        text: str = self.result("human-monitor-command", command_line=line)
        return text.replace("\r\n", "\n")

    def rest(self) -> list[Json]:
        """What comes until the other side hangs up."""
        return [json.loads(line) for line in self._input]

    def close(self) -> None:
        """Hang up."""
        self._input.close()
        self.socket.close()


class MonitoredVm:
    """A machine, and where its QMP server listens."""

    def __init__(self, vm: Vm, path: Path) -> None:
        self.vm = vm
        self.path = path
        self._clients: list[QmpClient] = []

    def client(self, path: Path | None = None, *, negotiate: bool = True) -> QmpClient:
        """A new client; closed at the end of the test."""
        client = QmpClient(path or self.path, negotiate=negotiate)
        self._clients.append(client)
        return client

    def close_clients(self) -> None:
        """Hang up all."""
        for client in self._clients:
            client.close()
        self._clients.clear()


@contextmanager
def monitored(directory: Path, options: str = MACHINE, more: str = "") -> Iterator[MonitoredVm]:
    """A machine of these options, paused."""
    path = directory / "qmp.sock"
    words = f"{options} {more} -qmp unix:{path},server=on,wait=off".split()
    with Vm(config=parse(words)) as vm:
        machine = MonitoredVm(vm, path)
        try:
            yield machine
        finally:
            machine.close_clients()


@pytest.fixture(scope="module")
def shared_vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoredVm]:
    """One machine for tests that leave it as it was."""
    with monitored(tmp_path_factory.mktemp("vm")) as machine:
        yield machine


@pytest.fixture
def qmp(shared_vm: MonitoredVm) -> Iterator[QmpClient]:
    """A client of the shared machine."""
    yield shared_vm.client()
    shared_vm.close_clients()


MakeVm = Callable[..., MonitoredVm]


@pytest.fixture
def make_vm(tmp_path: Path) -> Iterator[MakeVm]:
    """Makes a machine for one test: `make_vm("-more options")`."""
    opened: list[Any] = []

    def make(more: str = "", options: str = MACHINE) -> MonitoredVm:
        opened.append(monitored(tmp_path, options, more))
        machine: MonitoredVm = opened[-1].__enter__()
        return machine

    yield make
    for one in reversed(opened):
        one.__exit__(None, None, None)


@contextmanager
def peer_of(options: str) -> Iterator[QmpClient]:
    """A QEMU of these options, to be asked the same."""
    program = shutil.which("qemu-system-riscv64")
    if program is None:
        pytest.skip("qemu-system-riscv64 is not installed")
    with client_of([program], options) as client:
        yield client


@contextmanager
def client_of(command: Sequence[str], options: str) -> Iterator[QmpClient]:
    """A client of a process that is started with these options."""
    ours, theirs = socket.socketpair()
    words = f"-chardev socket,id=peer,fd={theirs.fileno()} -mon chardev=peer,mode=control"
    process = subprocess.Popen(
        [*command, *options.split(), *words.split()],
        pass_fds=[theirs.fileno()],
        stderr=subprocess.DEVNULL,
    )
    theirs.close()
    try:
        client = QmpClient(connected=ours, timeout=120)
        try:
            yield client
        finally:
            client.close()
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def make_qemu() -> Iterator[Callable[..., QmpClient]]:
    """Starts a QEMU for one test: `make_qemu("-more options")` is a client of it."""
    with ExitStack() as stack:
        yield lambda more="", options=MACHINE: stack.enter_context(peer_of(f"{options} {more}"))
