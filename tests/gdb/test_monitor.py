"""The monitor command that lets a debugger in."""

from __future__ import annotations

from ratite.core.errors import ConfigError


def run(debugged, line: str) -> str:
    return debugged.vm.loop.call(lambda: debugged.vm.debugger.monitor(line))


def test_the_server_is_started_moved_and_stopped_while_the_guest_runs(machine, tmp_path) -> None:
    debugged = machine()
    debugged.vm.start()
    client = debugged.connect()
    assert client.ask("?").startswith("T05")
    assert "Waiting for gdb" in run(debugged, f"gdbserver unix:{tmp_path}/other")
    assert debugged.vm.runner.running
    debugged.path = tmp_path / "other"
    assert debugged.connect().ask("?").startswith("T05")
    assert run(debugged, "gdbserver none") == "Disabled gdbserver\n"
    assert debugged.vm.runner.running
    assert "gdb" not in debugged.vm.backends.chardevs
    assert "Could not open" in run(debugged, "gdbserver chardev:nobody")
    assert "Could not open" in run(debugged, "gdbserver unix:/nowhere/at/all")


def test_a_client_may_end_its_own_server(machine) -> None:
    debugged = machine()
    client = debugged.connect()
    client.send("qRcmd," + b"gdbserver none".hex())
    try:
        while True:
            client.byte()
    except EOFError:
        pass


def test_what_cannot_be_served_is_refused(machine) -> None:
    debugged = machine()
    for device in ("tcp:nonsense", "chardev:nobody"):
        try:
            debugged.vm.loop.call(lambda device=device: debugged.vm.serve_gdb(device))
        except ConfigError:
            continue
        raise AssertionError(device)
