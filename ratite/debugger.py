"""A machine with gdb or a test program looking on: what joins `ratite.vm.Vm` to `ratite.gdb` and to
the qtest server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from ratite.chardev import Chardev
from ratite.cli.debugging import GDB_ID, gdb_chardev
from ratite.core.errors import ConfigError, HostError, blaming
from ratite.core.signals import interruptible
from ratite.cpu.idle import IdleRunner
from ratite.machines.lifecycle import Cause, Change
from ratite.machines.machine import RunState
from ratite.monitor.session import Session

if TYPE_CHECKING:
    from ratite.gdb import GdbServer
    from ratite.vm import Vm


class Debugger:
    """The gdb server of one machine, of which there is at most one. Called on the main loop, or
    before the machine runs, with the machine lock held.
    """

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self.monitor: Callable[[str], str] = self._run_command
        """Runs what gdb's `monitor CMD` says, and returns its output."""
        self._session = Session()
        self._server: GdbServer | None = None
        vm.listeners.append(self._happened)

    # -- serving

    def serve(self, chardev: Chardev) -> None:
        """Serve on a character backend, and no longer on another. Raises `ConfigError` if it is
        in use.
        """
        from ratite.gdb import GdbServer

        self.stop_serving()
        vm = self._vm
        self._server = GdbServer(vm.machine, vm.runner, vm.loop, self, chardev.claim())
        self._server.monitor = lambda command: self.monitor(command)

    def serve_on(self, device: str) -> str:
        """What the monitor command `gdbserver DEVICE` does; returns the server's address, "" for
        `none`. Raises `ConfigError` or `HostError`."""
        vm = self._vm
        wanted = gdb_chardev(device)
        if wanted is None and device != "none":
            id = device.removeprefix("chardev:")
            chardev = vm.backends.chardevs.get(id)
            if chardev is None:
                raise ConfigError(f"there is no chardev '{id}'")
            self.serve(chardev)
            return chardev.filename
        self.stop_serving()
        if wanted is None:
            return ""
        chardev = vm.backends.plug_chardev(wanted)
        self.serve(chardev)
        return chardev.filename

    def stop_serving(self) -> None:
        """Let a client that debugs the machine go, and accept no other."""
        if self._server is not None:
            self._server.shut()
            self._server = None
            if GDB_ID in self._vm.backends.chardevs:
                self._vm.backends.remove_chardev(GDB_ID)

    def close(self) -> None:
        """The machine has ended: tell the client."""
        if self._server is not None:
            self._server.close(self._vm.exit_status)
            self._server = None

    def _run_command(self, line: str) -> str:
        """Have the monitor for people run a line. It is loaded now, since few sessions need it."""
        from ratite.monitor.hmp.command import Shell
        from ratite.monitor.hmp.shell import run_line
        from ratite.monitor.later import Later

        found = run_line(Shell(self._vm, self._session), line)
        return str(found.wait(self._vm.machine.lock)) if isinstance(found, Later) else found

    def _happened(self, change: Change, cause: Cause) -> None:
        if change is Change.STOP and self._server is not None:
            self._server.machine_stopped()

    # -- what the server asks of the machine

    @property
    def can_run(self) -> bool:
        """False once the guest has shut down or crashed, and while its memory is dumped."""
        ended = (RunState.SHUTDOWN, RunState.INTERNAL_ERROR)
        return self._vm.machine.run_state not in ended and not self._vm.dumping

    def start(self) -> None:
        """Let the guest run."""
        self._vm.start()

    def stop(self) -> None:
        """Pause it."""
        self._vm.stop()

    def debug_stop(self) -> None:
        """Pause it because a debugger wants so."""
        self._vm.runner.pause()
        self._vm.stop(RunState.DEBUG)

    def quit(self) -> None:
        """End the machine; returns at once."""
        self._vm.quit()


def serve_qtest(vm: Vm, id: str) -> Callable[[], None]:
    """Serve a test program on a character backend; returns what closes its log. Raises
    `ConfigError` or `HostError`."""
    where = vm.config.qtest_log
    log: TextIO | None = None if where == "none" else sys.stderr
    if where is not None and log is not None:
        try:
            with interruptible():
                log = open(where, "w", encoding="utf-8")
        except OSError as error:
            with blaming("-qtest-log"):
                raise HostError.from_os("create", error, where) from error
    from ratite.monitor.qtest import Qtest

    server = Qtest(vm.machine, vm.root, vm.runner, vm.backends.chardevs[id].claim(), log=log)
    if isinstance(vm.runner, IdleRunner) and not vm.config.start_paused:
        vm.runner.on_resume = lambda: vm.loop.post(server.begin)
    else:
        server.begin()
    return log.close if log is not None and log is not sys.stderr else lambda: None


__all__ = ["Debugger", "serve_qtest"]
