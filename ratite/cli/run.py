"""Running the machine that the command line describes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ratite.core.errors import ConfigError, HostError
from ratite.core.threads import name_process, name_threads
from ratite.machines.config import MachineConfig
from ratite.machines.lifecycle import Cause
from ratite.vm import Vm

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_machine(config: MachineConfig) -> int:
    """Build the machine, run it to its end, and return the exit status. Raises `ConfigError` or
    `HostError`.
    """
    if config.boot.dump_dtb is not None:
        return _dump_device_tree(config, config.boot.dump_dtb)
    if config.process.daemonize:
        return _daemonize(config)
    return _run(config, _nothing)


def _nothing() -> None:
    return


def _run(config: MachineConfig, ready: object) -> int:
    with _held_signals() as unhold, _pid_file(config.process.pid_file):
        vm = Vm(config=config)
        with vm, _signals(vm):
            assert callable(ready)
            ready()
            if not config.start_paused:
                vm.start()
            if config.process.name:
                name_process(config.process.name)
            if config.process.thread_names:
                name_threads()
            unhold()
            while not vm.wait(3600):
                continue
        return vm.exit_status


def _dump_device_tree(config: MachineConfig, path: Path) -> int:
    with Vm(config=config) as vm:
        blob = getattr(vm.machine, "fdt_blob", b"")
    try:
        path.write_bytes(blob)
    except OSError as error:
        raise HostError.from_os("write the device tree to", error, str(path)) from error
    return 0


@contextmanager
def _held_signals() -> Iterator[Callable[[], None]]:
    """Keep the ending signals back, in this thread until the function answered is called, in those
    that it starts for good: then they reach the thread that waits for the end, and a machine is
    built whole or not at all.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)

    def unhold() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield unhold
    finally:
        unhold()


@contextmanager
def _signals(vm: Vm) -> Iterator[None]:
    """A signal that asks the program to end ends the machine properly: images closed, terminal
    restored.
    """

    def end(number: int, frame: FrameType | None) -> None:
        vm.quit(Cause.HOST_SIGNAL)

    before = {number: signal.signal(number, end) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _pid_file(path: Path | None) -> Iterator[None]:
    """The file of -pidfile, locked while the machine lives and removed at its end."""
    if path is None:
        yield
        return
    import fcntl

    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise HostError.from_os("create the pidfile", error, str(path)) from error
    try:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"-pidfile: {path} belongs to a running machine") from None
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _daemonize(config: MachineConfig) -> int:
    """Go to the background; the foreground process ends when the machine is built, with its error
    if there is one.
    """
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as pipe:
            message = pipe.read()
        if message == "ready":
            return 0
        raise ConfigError(message or "-daemonize: the machine ended before it was ready")
    os.close(reader)
    os.setsid()

    def ready() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        os.write(writer, b"ready")
        os.close(writer)

    try:
        status = _run(config, ready)
    except (ConfigError, HostError) as error:
        os.write(writer, str(error).encode())
        status = 1
    os._exit(status)
