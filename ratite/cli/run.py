"""Running the machine that the command line describes."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from ratite.cli.process import lock_memory
from ratite.core.errors import ConfigError, HostError, blaming
from ratite.core.signals import HeldSignals, Interrupted, interruptible
from ratite.core.threads import name_process, name_threads
from ratite.machines.config import MachineConfig
from ratite.machines.lifecycle import Cause
from ratite.vm import Vm

SIGNALS_S = 0.5
"""How long a signal may go unseen."""


def run_machine(config: MachineConfig, program: str) -> int:
    """Build the machine, run it to its end, and return the exit status. A signal that asks the
    program to end does so properly, images closed and terminal restored, with status 0. `program`
    stands in front of messages. Raises `ConfigError` or `HostError`.
    """
    if config.boot.dump_dtb is not None:
        config = replace(config, preconfig=False)
    elif config.process.daemonize:
        return _daemonize(config, program)
    return _run(config, program, _nothing)


def _nothing() -> None:
    return


def _run(config: MachineConfig, program: str, ready: Callable[[], None]) -> int:
    if config.process.name:
        name_process(config.process.name)
    if config.process.thread_names:
        name_threads()
    if config.process.lock_memory:
        with blaming("-overcommit mem-lock=on"):
            lock_memory()
    with HeldSignals() as signals, _pid_file(config.process.pid_file):
        try:
            with Vm(config=config, program=program) as vm:
                if config.boot.dump_dtb is not None:
                    _dump_device_tree(vm, config.boot.dump_dtb)
                    return 0
                if config.dump_vmstate is not None:
                    _dump_vmstate(vm, config.dump_vmstate)
                    return 0
                signals.action = partial(vm.quit, Cause.HOST_SIGNAL)
                if config.load_snapshot is not None and not config.preconfig:
                    with blaming(f"-loadvm {config.load_snapshot}"):
                        vm.load_snapshot(config.load_snapshot)
                ready()
                waits = config.preconfig or config.incoming is not None
                if not (config.start_paused or waits):
                    vm.start()
                signals.release()
                _tune_collector()
                # Python looks at signals before it waits; one that comes just then is seen after.
                while not vm.wait(SIGNALS_S):
                    continue
        except Interrupted:
            return 0
        return vm.exit_status


def _tune_collector() -> None:
    """What was made so far stays for good, and what compiling makes is seldom cyclic."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def _dump_device_tree(vm: Vm, path: Path) -> None:
    blob = getattr(vm.machine, "fdt_blob", b"")
    try:
        with interruptible():
            path.write_bytes(blob)
    except OSError as error:
        raise HostError.from_os("write the device tree to", error, str(path)) from error


def _dump_vmstate(vm: Vm, path: Path) -> None:
    from ratite.migration.describe import vmstate_json

    try:
        with interruptible():
            path.write_text(vmstate_json(vm.machine.name), encoding="utf-8")
    except OSError as error:
        raise HostError.from_os("write the state's layout to", error, str(path)) from error


@contextmanager
def _pid_file(path: Path | None) -> Iterator[None]:
    """The file of -pidfile, locked while the machine lives and removed at its end."""
    if path is None:
        yield
        return
    import fcntl

    place = path.absolute()  # -daemonize leaves the directory
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
        try:
            yield
        finally:
            place.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _daemonize(config: MachineConfig, program: str) -> int:
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
        if not config.preconfig:  # else there are files yet to be opened
            os.chdir("/")
        os.write(writer, b"ready")
        os.close(writer)

    try:
        status = _run(config, program, ready)
    except (ConfigError, HostError) as error:
        os.write(writer, str(error).encode())
        status = 1
    os._exit(status)
