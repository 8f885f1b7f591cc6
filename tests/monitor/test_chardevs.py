"""Character backends that come and go while the machine is there."""

from __future__ import annotations

import gc
import json
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from .conftest import MakeVm, MonitoredVm, QmpClient


def server(path: Path, **options: Any) -> dict[str, Any]:
    """The backend of a Unix server, as `chardev-add` takes it."""
    address = {"type": "unix", "data": {"path": str(path)}}
    return {"type": "socket", "data": {"addr": address, **options}}


def test_nobody_waits_for_the_client_of_a_server_that_is_added(
    qmp: QmpClient, tmp_path: Path
) -> None:
    remedy = "wait=on is for the command line: .* use wait=off"
    path = tmp_path / "s"
    with pytest.raises(AssertionError, match=remedy):
        qmp.result("chardev-add", id="s", backend=server(path, wait=True))
    line = f"chardev-add socket,id=s,path={path},server=on"
    assert "Error: wait=on is for the command line" in qmp.hmp(f"{line},wait=on")
    assert not path.exists()
    for extra in ("", ",wait=off"):
        assert qmp.hmp(line + extra) == ""
        assert path.exists()
        qmp.result("chardev-remove", id="s")


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ({"type": "file", "data": {"out": "/none/f"}}, "cannot open '/none/f': No such file"),
        (server(Path("/none/s")), "cannot listen on 'unix:/none/s,server=on': No such file"),
        (
            {"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": "x"}}}},
            "File descriptor named 'x' not found",
        ),
        (
            {"type": "null", "data": {"logfile": "/none/l"}},
            "cannot open the character log '/none/l': No such file",
        ),
    ],
)
def test_what_cannot_be_added_is_named(
    qmp: QmpClient, backend: dict[str, Any], reason: str
) -> None:
    text = qmp.error("chardev-add", id="c", backend=backend)[1]
    assert text.startswith(f"Failed to add chardev 'c': {reason}")


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """A TCP server that takes no further client before it has accepted some."""
    with socket.socket() as listener, ExitStack() as others:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(5):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        yield listener


@pytest.mark.parametrize("for_people", [False, True])
def test_while_a_client_connects_all_others_go_on(
    make_vm: MakeVm, tmp_path: Path, deaf: socket.socket, for_people: bool
) -> None:
    machine = make_vm(f"-qmp unix:{tmp_path}/other,server=on,wait=off")
    waiting, other = machine.client(), machine.client(tmp_path / "other")
    port = str(deaf.getsockname()[1])
    if for_people:
        line = f"chardev-add socket,id=c,host=127.0.0.1,port={port}"
        request = {"execute": "human-monitor-command", "arguments": {"command-line": line}}
    else:
        inet = {"type": "inet", "data": {"host": "127.0.0.1", "port": port}}
        backend = {"type": "socket", "data": {"addr": inet, "server": False}}
        request = {"execute": "chardev-add", "arguments": {"id": "c", "backend": backend}}
    waiting.send(json.dumps({**request, "id": 1}) + json.dumps({"execute": "stop", "id": 2}))
    assert "c" not in [chardev["label"] for chardev in other.result("query-chardev")]
    other.result("cont")
    assert other.result("query-status")["running"]
    accepted = threading.Thread(target=accept_all, args=(deaf,), daemon=True)
    accepted.start()
    answer = waiting.reply()
    assert answer == {"id": 1, "return": "" if for_people else {}}
    assert waiting.reply() == {"id": 2, "return": {}}
    shown = {chardev["label"]: chardev["filename"] for chardev in other.result("query-chardev")}
    assert shown["c"] == f"tcp:127.0.0.1:{port} <-> 127.0.0.1:{port}"


def accept_all(listener: socket.socket) -> None:
    """Let everybody in, until the listener is closed."""
    kept = []
    with suppress(OSError):
        while True:
            kept.append(listener.accept()[0])


def test_a_client_that_leaves_while_it_waits_gets_what_it_asked_for(
    make_vm: MakeVm, tmp_path: Path, deaf: socket.socket
) -> None:
    machine = make_vm(f"-qmp unix:{tmp_path}/other,server=on,wait=off")
    waiting, other = machine.client(), machine.client(tmp_path / "other")
    port = deaf.getsockname()[1]
    line = f"chardev-add socket,id=c,host=127.0.0.1,port={port}"
    request = {"execute": "human-monitor-command", "arguments": {"command-line": line}}
    waiting.send(json.dumps(request))
    other.result("query-status")
    waiting.close()
    threading.Thread(target=accept_all, args=(deaf,), daemon=True).start()
    deadline = time.monotonic() + 60
    while "c" not in [chardev["label"] for chardev in other.result("query-chardev")]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again = machine.client()
    assert again.result("query-status")["status"] == "prelaunch"


def test_a_line_without_an_id_and_one_that_asks_for_help(qmp: QmpClient) -> None:
    assert qmp.hmp("chardev-add null") == "Error: chardev: no id specified\n"
    assert "\n  ringbuf\n" in qmp.hmp("chardev-add help")


def test_nothing_is_left_of_backends_that_went_or_never_came(
    shared_vm: MonitoredVm, tmp_path: Path
) -> None:
    qmp = shared_vm.client()
    log = str(tmp_path / "log")
    qmp.result("chardev-add", id="c", backend={"type": "null", "data": {}})
    gone = weakref.ref(shared_vm.vm.backends.chardevs["c"])
    qmp.result("chardev-remove", id="c")
    before = len(os.listdir("/proc/self/fd"))
    for kind, data in (("file", {"out": "/none/f"}), ("pipe", {"device": "/none/p"})):
        qmp.error("chardev-add", id="c", backend={"type": kind, "data": {**data, "logfile": log}})
    for extra in ("", ",mux=on"):
        qmp.hmp(f"chardev-add ringbuf,id=c,logfile={log}{extra}")
        qmp.result("chardev-remove", id="c")
    assert len(os.listdir("/proc/self/fd")) == before
    gc.collect()
    assert gone() is None
    shared_vm.close_clients()


def test_output_and_logs_may_go_to_sets_of_descriptors(make_vm: MakeVm, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    fds = [os.open(path, os.O_WRONLY | os.O_CREAT) for path in (out, log)]
    sets = " ".join(f"-add-fd fd={fd},set={number}" for number, fd in enumerate(fds))
    machine = make_vm(
        f"{sets} -chardev file,id=f,path=/dev/fdset/0,logfile=/dev/fdset/1,logappend=on"
    )
    for fd in fds:
        os.close(fd)
    with machine.vm.machine.lock:
        machine.vm.backends.chardevs["f"].write(b"hello")
    assert (out.read_bytes(), log.read_bytes()) == (b"hello", b"hello")
    line = "chardev-add file,id=g,path=/dev/fdset/0,input-path=/dev/fdset/1"
    assert "no descriptor of the set allows that" in machine.client().hmp(line)
