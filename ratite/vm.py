"""A virtual machine, from Python: the API that the command line itself is built on.

import ratite

with ratite.Vm(kernel="vmlinuz", initrd="initrd.cpio", append="console=ttyS0", memory="512M") as vm:
    vm.start()
    vm.serial.expect("~ # ", timeout=60)
    vm.serial.send("uname -m\\n")
    print(vm.serial.expect("riscv64"))
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ratite.accel.registry import make_engine
from ratite.backends import Backends
from ratite.block import Drive
from ratite.chardev import LocalChardev, MuxActions
from ratite.chardev.expect import Serial
from ratite.cli.convert import accel as read_accel
from ratite.cli.convert import cpu as read_cpu
from ratite.cli.draft import Draft, Wanted
from ratite.cli.log_options import open_log
from ratite.cli.messages import messages_of
from ratite.cli.options import parse
from ratite.cli.process import show
from ratite.core.disk import ErrorAction
from ratite.core.errors import ConfigError, HostError, blaming, located
from ratite.core.events import EventLoop
from ratite.core.size import parse_size
from ratite.cpu.idle import IdleRunner
from ratite.cpu.register_view import RegisterView
from ratite.cpu.riscv import RiscvVcpu
from ratite.cpu.vcpu import IcountRunner, Runner, ThreadRunner
from ratite.debugger import Debugger, serve_qtest
from ratite.devices.net.nic import nics
from ratite.devices.notice import IoFailed, Notice
from ratite.devices.power import PowerAction
from ratite.machines.config import (
    BootConfig,
    CpuConfig,
    DriveConfig,
    MachineConfig,
    MemoryConfig,
    RebootAction,
    ShutdownAction,
    SmpConfig,
)
from ratite.machines.lifecycle import (
    Actions,
    Cause,
    Change,
    qemu_system_powerdown_request,
    qemu_system_shutdown_request,
    vm_state_notify,
)
from ratite.machines.machine import Environment, Machine, Power, RunState, machine_types
from ratite.memory import Gpa, MemTxResult
from ratite.monitor import MonitorHub, OptionInfo
from ratite.monitor.dump import BUSY as DUMP_BUSY
from ratite.net import NetHost
from ratite.qom import Container, find_type, keyword_arguments

if TYPE_CHECKING:
    from ratite.migration.migration import Migration
    from ratite.migration.snapshot import Snapshots

DEFAULT_ISA = "riscv64"
SERIAL_ID = "python-serial"
_BUSY_STATES = (RunState.FINISH_MIGRATE, RunState.SAVE_VM, RunState.RESTORE_VM)


class Vm:
    """One machine with everything that the host provides to it."""

    def __init__(
        self,
        machine: str = "virt",
        *,
        kernel: str | Path | None = None,
        initrd: str | Path | None = None,
        append: str = "",
        bios: str | None = None,
        dtb: str | Path | None = None,
        memory: str | int | None = None,
        cpus: int = 1,
        cpu: str | None = None,
        drives: Sequence[str | Path | DriveConfig] = (),
        accel: str = "tcg",
        serial: bool = True,
        no_reboot: bool = False,
        options: Sequence[str] = (),
        config: MachineConfig | None = None,
        mux_actions: MuxActions | None = None,
        program: str = "ratite",
    ) -> None:
        """Build the machine; it does not run yet. Either give `config`, whole, or the usual
        options; `cpu` and `accel` may have properties, as on the command line (`"rv64,zba=off"`).
        With `serial` the first serial port is `vm.serial`. `options` are words of the command line
        for all the rest (`["-device", "virtio-rng-device"]`). `program` stands in front of messages
        on standard error. Raises `ConfigError` or `HostError`."""
        if config is None:
            size = parse_size(memory, default_suffix="M") if isinstance(memory, str) else memory
            config = MachineConfig(
                board=machine,
                cpu=CpuConfig() if cpu is None else read_cpu(cpu),
                memory=MemoryConfig(size),
                smp=SmpConfig(cpus, cpus, 1, cpus, 1),
                boot=BootConfig(_path(kernel), _path(initrd), append, _path(dtb), bios),
                drives=tuple(_drive(index, drive) for index, drive in enumerate(drives)),
                accels=(read_accel(accel),),
                on_reboot=RebootAction.SHUTDOWN if no_reboot else RebootAction.RESET,
            )
            if serial:
                config = replace(config, serials=(SERIAL_ID,))
        if options:
            config = _with_options(options, config)
        self.config = config
        self.actions = Actions(
            config.on_reboot, config.on_shutdown, config.on_panic, config.on_watchdog
        )
        self.serial = Serial()
        self.exit_status = 0
        self.on_end: Callable[[], None] = lambda: None
        self.listeners: list[Callable[[Change, Cause], None]] = []
        """Called on the main loop, with the machine lock held, after each change of the whole."""
        messages = messages_of(config, program)
        self._ended = threading.Event()
        self._closed = False
        self._crash: BaseException | None = None
        self._closers: list[Callable[[], None]] = []
        self._icount_now = [0]
        self.machine = self._make_machine()
        self.loop = EventLoop(self.machine.lock)
        self.hub = MonitorHub(self)
        self._messages = messages
        self._run_incoming = not config.start_paused
        self._migrates = False
        self.backends = Backends(
            self.loop,
            mux_actions
            or MuxActions(quit=partial(self.quit, Cause.HOST_UI), save_disks=self._commit_disks),
            self.hub.fd_sets.resolve,
            escape=config.echr,
            on_wait=lambda text: messages.tell(f"info: {text}"),
            on_notice=self._noticed,
            network=NetHost(
                self.loop,
                running=lambda: self.machine.run_state is RunState.RUNNING,
                warn=lambda text: messages.tell(f"warning: {text}"),
                stream_changed=self.hub.stream_changed,
            ),
            active=config.incoming is None,
        )
        self.root = Container()
        self.root.add_child("machine", self.machine)
        self.root.add_child("objects", self.backends.object_root)
        self.root.add_child("chardevs", self.backends.chardev_root)
        self.listeners.append(self.hub.happened)
        self.debugger = Debugger(self)
        self.log = open_log(config, messages.tell)
        self.runner: Runner
        self.initialized = False
        """Whether the machine is there; with `config.preconfig` not before `exit_preconfig`."""
        try:
            self._open_backends()
            if not config.preconfig:
                self._build()
            self._locked(self._open_monitors)
            if not config.preconfig:
                self._locked(self._open_debugger)
                self._await_guest()
        except BaseException:
            self._release()
            raise

    # What only some runs use is imported when it is asked for.

    @cached_property
    def snapshots(self) -> Snapshots:
        """Saved states of the machine."""
        from ratite.migration.snapshot import Snapshots

        return Snapshots(self)

    @cached_property
    def migration(self) -> Migration:
        """Migration to other machines, and from there."""
        from ratite.migration.migration import Migration

        self._migrates = True
        return Migration(self)

    # -- construction

    def _make_machine(self) -> Machine:
        name = self.config.board or "virt"
        boards = machine_types(DEFAULT_ISA)
        board = boards.get(name)
        if board is None:
            raise ConfigError(
                f"-machine: unsupported machine type '{name}'; `-machine help` lists them"
            )
        with blaming(f"-machine {name}"):
            return board(
                **keyword_arguments(board, dict(self.config.properties), lambda kind, id: None)
            )

    def _open_backends(self) -> None:
        self.loop.start()
        self._closers.append(self.loop.stop)
        self._closers.append(lambda: self._locked(self.backends.close))
        with self.machine.lock:
            self.hub.add_fds(self.config.add_fds)
            self._make_backends()

    def exit_preconfig(self) -> None:
        """Build the machine, and let the guest run unless it shall not (-S). Only with
        `config.preconfig`, once. Raises `ConfigError` or `HostError`; the machine has ended then.
        """
        if self._crash is not None:
            raise self._crash
        try:
            self._build()
            self._locked(self._open_debugger)
            self._await_guest()
            if self.config.load_snapshot is not None:
                with blaming(f"-loadvm {self.config.load_snapshot}"):
                    self.load_snapshot(self.config.load_snapshot)
        except (ConfigError, HostError) as error:
            self._crash = error
            self.loop.post(self._end)  # a monitor that asked for it still answers
            raise
        if not self.config.start_paused:
            self.start()

    def _build(self) -> None:
        icount = self.config.icount
        idle = any(accel.name == "qtest" for accel in self.config.accels[:1])
        if icount is not None and idle:
            raise ConfigError("-icount: there are no instructions to count with -accel qtest")
        environment = Environment(
            engine=lambda ram, space: make_engine(
                self.config.accels,
                DEFAULT_ISA,
                ram,
                space,
                exact_budget=icount is not None,
                log=self.log,
            ),
            backends=self.backends,
            on_power=self._on_power,
            on_notice=self._noticed,
            log=self.log,
            clock_source=(lambda: self._icount_now[0]) if icount or idle else None,
        )
        self.machine.construct(self.config, environment)
        machine = self.machine
        if idle:
            self.runner = IdleRunner(machine.vcpus, machine.lock, machine.clock, self._icount_now)
        elif icount is None:
            self.runner = ThreadRunner(machine.vcpus, machine.lock, machine.clock)
        else:
            shift = 3 if icount.shift is None else icount.shift
            self.runner = IcountRunner(
                machine.vcpus,
                machine.lock,
                machine.clock,
                self._icount_now,
                shift,
                sleep=icount.sleep,
            )
        self.runner.flush_code = machine.engine.flush_code
        self.runner.on_crash = self._on_crash
        self._closers.append(machine.engine.close)
        self._closers.append(machine.clock.close)
        self._closers.append(machine.wall_clock.close)
        self._closers.append(self.runner.close)
        self.runner.prepare()
        self._closers.append(lambda: self.migration.close() if self._migrates else None)
        if self.config.incoming is not None:
            machine.run_state = RunState.INMIGRATE
        if not idle:
            self._warn_of_loose_cables()
        self.initialized = True

    def _warn_of_loose_cables(self) -> None:
        loose = [f"netdev {n.id}" for n in self.backends.net.netdevs.values() if not n.claimed]
        loose += [f"nic {card.nic_name}" for card in nics(self.machine) if card.netdev is None]
        for what in loose:
            self._messages.tell(f"warning: {what} has no peer")

    def _await_guest(self) -> None:
        """Have a guest come from where -incoming says."""
        uri = self.config.incoming
        if uri is not None and uri != "defer":
            with blaming(f"-incoming {uri}"), self.machine.lock:
                self.listen(uri)

    def _open_monitors(self) -> None:
        self._closers.append(lambda: self.loop.call(self.hub.close))  # never amid a command
        for wanted in self.config.monitors:
            chardev = self.backends.chardevs.get(wanted.chardev)
            if chardev is None:
                raise ConfigError(f"-mon: there is no chardev '{wanted.chardev}'")
            self.hub.add(wanted, chardev.claim())

    def serve_gdb(self, device: str) -> str:
        """Serve gdb on a device, in the words of `-gdb`, and no longer on another; returns its
        address, "" for `none`. The machine lock is held. Raises `ConfigError` or `HostError`."""
        return self.debugger.serve_on(device)

    def monitor(self, line: str, *, timeout: float = 10.0) -> str:
        """What a command of the monitor for people prints. From any thread that does not hold the
        machine lock. Raises `TimeoutError`."""
        return self.loop.call(lambda: self.debugger.monitor(line), timeout)

    def _open_debugger(self) -> None:
        self._closers.append(lambda: self.loop.call(self.debugger.close))
        if self.config.gdb is not None:
            self.debugger.serve(self.backends.chardevs[self.config.gdb])
        if self.config.qtest is not None:
            self._closers.append(serve_qtest(self, self.config.qtest))

    def _make_backends(self) -> None:
        config = self.config
        for wanted in config.objects:
            known = find_type(wanted.type_name) is not None
            option = f"-object {wanted.type_name}" if known else "-object"
            with located(wanted.origin), blaming(option):
                self.backends.add_object(wanted)
        for chardev in config.chardevs:
            with located(chardev.origin), blaming(chardev.option or f"-chardev {chardev.id}"):
                made = self.backends.add_chardev(chardev)
            if made.announcement:
                show(f"{made.announcement}\n")
        if SERIAL_ID in config.serials:
            local = LocalChardev(SERIAL_ID, self.loop, self.serial.output)
            self.serial.connect(local)
            self.backends.adopt(local)
        for netdev in config.netdevs:
            with located(netdev.origin):
                self.backends.add_netdev(netdev)
        for node in config.blockdevs:
            self.backends.add_blockdev(node)
        for drive in config.drives:
            with located(drive.origin):
                self.backends.add_drive(drive)

    def _locked(self, action: Callable[[], None]) -> None:
        with self.machine.lock:
            action()

    # -- life

    def start(self) -> None:
        """Let the guest run, or go on. Does nothing if it runs. Raises `RuntimeError` after
        `close`, and before `exit_preconfig`."""
        self._check_open()
        if self.runner.running:
            return
        with self.machine.lock:
            if self.machine.run_state is RunState.INMIGRATE:
                self.run_incoming(True)
                return
            if self.dumping:
                raise ConfigError(DUMP_BUSY)
            if self.machine.run_state in _BUSY_STATES:
                raise ConfigError("the guest cannot run while its state is being saved or sent")
            for disk in self.disks.values():
                disk.activate()
            self.machine.run_state = RunState.RUNNING
            self._go_on()

    def _go_on(self) -> None:
        """The run state says that the guest runs: have it so. The machine lock is held."""
        self.backends.block.resume()
        self.backends.net.resume()
        self._happened(Change.RESUME)
        self.runner.resume()

    @contextmanager
    def held(self, state: str) -> Iterator[None]:
        """No vCPU executes inside, and the run state is `state`; afterwards all is as before."""
        before = self.machine.run_state
        running = before is RunState.RUNNING
        if running:
            self.stop(RunState(state))
        self.machine.run_state = RunState(state)
        try:
            yield
        finally:
            if self.machine.run_state is RunState(state):
                self.machine.run_state = before
                if running:
                    self._go_on()

    def check_idle(self) -> None:
        """Raise `ConfigError` while a migration goes on, or if another machine has the images."""
        coming = self.machine.run_state is RunState.INMIGRATE
        if coming or (self._migrates and not self.migration.status.over):
            raise ConfigError("There's a migration process in progress")
        if self.dumping:
            raise ConfigError(DUMP_BUSY)
        if not all(disk.active for disk in self.disks.values()):
            raise ConfigError(
                "the images belong to where the guest has moved; `cont` takes them back"
            )

    @property
    def dumping(self) -> bool:
        """Whether guest memory is being dumped, and must stay as it is."""
        return self.hub.dump.active

    @property
    def gone(self) -> bool:
        """Whether the main loop does nothing any more."""
        return self._closed

    @property
    def state_name(self) -> str:
        """The run state, in QEMU's words."""
        return self.machine.run_state.value

    def pause_for(self, state: str) -> None:
        """Pause the guest, if it runs, and make this the run state."""
        self.stop(RunState(state))
        self.machine.run_state = RunState(state)

    def leave(self, state: str, *, run: bool) -> None:
        """Make this the run state, and let the guest run if it shall."""
        self.machine.run_state = RunState(state)
        if run:
            self._go_on()

    def migrating(self, status: str) -> None:
        """Tell clients how far a migration is, if they want to know."""
        if self.migration.sends_events:
            self.hub.migrating(status)

    def migration_pass(self, number: int) -> None:
        """Tell clients that memory is looked through once more, if they want to know."""
        if self.migration.sends_events:
            self.hub.migration_pass(number)

    def arrived(self) -> None:
        """A guest has come here from another machine: its network shall know."""
        from ratite.monitor.commands.network import announce_arrival

        announce_arrival(self)

    def incoming_failed(self, text: str) -> None:
        """There is no guest to run: end, with status 1."""
        self._messages.tell(f"load of migration failed: {text}")
        self.exit_status = 1
        self._end()

    def migrate(self, uri: str, *, timeout: float | None = None) -> None:
        """Send the guest to another machine, and return when it runs there; it goes on here if that
        fails. Raises `ConfigError` for a wrong URI, `HostError` for a failure, `TimeoutError` after
        `timeout` seconds, with the migration cancelled.
        """
        self._check_open()
        outgoing = self.loop.call(lambda: self.migration.start(uri))
        if not outgoing.wait(timeout):
            outgoing.cancel()
            outgoing.wait()
            raise TimeoutError(f"the migration to {uri} took longer than {timeout} seconds")
        if not outgoing.completed:
            raise HostError(f"migration to {uri}: {outgoing.error or outgoing.status.value}")

    def fail(self) -> None:
        """The guest's state is lost, and it cannot run until it is reset."""
        self.machine.run_state = RunState.INTERNAL_ERROR

    def save_snapshot(self, tag: str = "", *, path: str | Path | None = None) -> str:
        """Save the machine and the content of its writable drives, beside the first of these or in
        a new directory `path`; returns the tag, which is made of the time if none is given. Raises
        `ConfigError` or `HostError`, with nothing changed.
        """
        self._check_open()
        if path is None:
            return self.loop.call(lambda: self.snapshots.save(tag))
        self.loop.call(lambda: self.snapshots.save_at(Path(path), tag))
        return tag

    def load_snapshot(self, tag: str = "", *, path: str | Path | None = None) -> None:
        """Go back to a snapshot; a guest that runs goes on from there. Raises `ConfigError` or
        `HostError`, with nothing changed.
        """
        self._check_open()
        if path is None:
            self.loop.call(lambda: self.snapshots.load(tag))
        else:
            self.loop.call(lambda: self.snapshots.load_at(Path(path)))

    @property
    def disks(self) -> Mapping[str, Drive]:
        """The drives that are not empty, by id."""
        return self.backends.block.disks

    def stop(self, state: RunState = RunState.PAUSED) -> None:
        """Pause the guest. Does nothing if it does not run."""
        if self.machine.run_state is RunState.INMIGRATE:
            self.run_incoming(False)
        if not self._closed and self.machine.run_state is RunState.RUNNING:
            self.runner.pause()
            self.machine.run_state = state
            self._happened(Change.STOP)

    def run_incoming(self, run: bool) -> None:
        """Whether a guest that arrives shall run."""
        self._run_incoming = run
        if self._migrates and self.migration.incoming is not None:
            self.migration.incoming.run_guest = run

    def listen(self, uri: str, take_fd: Callable[[str], int] | None = None) -> None:
        """Take over a guest from there. Raises `ConfigError` or `HostError`."""
        self.migration.listen(uri, take_fd, run_guest=self._run_incoming)

    def reset(self, cause: Cause = Cause.HOST_QMP_RESET) -> None:
        """Press the reset button. Raises `RuntimeError` after `close`."""
        self._check_open()
        if self.machine.run_state is RunState.INMIGRATE:
            return  # there is no guest yet
        running = self.runner.running
        self.runner.pause()
        with self.machine.lock:
            self.machine.reset()
        self._happened(Change.RESET, cause)
        if running:
            self.runner.resume()
        elif (
            self.machine.run_state not in _BUSY_STATES
        ):  # else whoever made it so knows what follows
            self.machine.run_state = RunState.PRELAUNCH

    def request_reset(self, cause: Cause) -> None:
        """Reset, or what `actions` say instead. On the main loop."""
        if self.actions.reboot is RebootAction.RESET:
            self.reset(cause)
        else:
            self._shut_down(cause)

    def add_drive(self, text: str) -> str:
        """Make a drive that no device has yet, in the words of `-drive`; returns its name. The
        machine lock is held. Raises `ConfigError` or `HostError`."""
        from ratite.cli.storage import hot_drive

        taken = [drive.name for drive in self.backends.block.drives if drive.name]
        return self.backends.add_drive(hot_drive(text, taken)).name

    def _commit_disks(self) -> None:
        """Write what temporary overlays hold to the images below, while the guest goes on."""
        from ratite.monitor.hmp.command import Shell
        from ratite.monitor.hmp.shell import run_line
        from ratite.monitor.later import Later, Outcome
        from ratite.monitor.session import Session

        def tell(outcome: Outcome) -> None:
            if text := outcome():
                self._messages.tell(text.rstrip("\n"))

        found = run_line(Shell(self, Session()), "commit all")
        if isinstance(found, Later):
            found.begin(self.loop, tell)
        else:
            tell(lambda: found)

    def command_line_options(self) -> list[OptionInfo]:
        """The options that take keys and values."""
        from ratite.cli.describe import describe_options

        return describe_options()

    def power_down(self) -> None:
        """Press the power button: it is for the guest to act on it."""
        if trace := self.log.trace:
            trace(qemu_system_powerdown_request)
        self._happened(Change.POWERDOWN)

    def _happened(self, change: Change, cause: Cause = Cause.NONE) -> None:
        """Tell the listeners, from any thread."""
        trace = self.log.trace
        if trace and change in (Change.RESUME, Change.STOP):
            trace(vm_state_notify, change is Change.RESUME, self.machine.run_state.value)
        if trace and change is Change.SHUTDOWN:
            trace(qemu_system_shutdown_request, cause)

        def tell() -> None:
            for listener in tuple(self.listeners):
                listener(change, cause)

        if self.loop.current:
            tell()
        else:
            self.loop.post(tell)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the machine to end: its guest powered off, or `quit`. False after `timeout`
        seconds.
        """
        ended = self._ended.wait(timeout)
        if self._crash is not None:
            raise self._crash
        return ended

    def run(self, until: str | None = None, *, timeout: float | None = None) -> str:
        """Start, and wait for the text `until` on the serial port, or for the end; returns the
        output.
        """
        self.start()
        if until is not None:
            return self.serial.expect(until, timeout=timeout or 1e9)
        self.wait(timeout)
        return self.serial.text

    def quit(self, cause: Cause = Cause.HOST_UI) -> None:
        """End the machine. From any thread; returns at once."""

        def finish() -> None:
            if not self._ended.is_set():
                self._happened(Change.SHUTDOWN, cause)
                self.loop.post(self._end)  # a monitor that asked for it still answers

        if self.loop.current:
            finish()
        else:
            self.loop.post(finish)

    def _end(self) -> None:
        self._ended.set()
        self.serial.end()
        self.on_end()

    def close(self) -> None:
        """End the machine and give everything back to the host. It cannot run again; calls after
        the first do nothing."""
        self._end()
        self._release()
        self._closed = True

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the machine is closed; make a new one")
        if not self.initialized:
            raise RuntimeError("the machine is not there before exit_preconfig")

    def _release(self) -> None:
        closers, self._closers = self._closers, []
        with ExitStack() as stack:  # all of them, whatever one of them raises
            for close in closers:
                stack.callback(close)

    def __enter__(self) -> Vm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- what devices report and the guest asks for

    def _noticed(self, notice: Notice) -> None:
        """With the lock held, on any thread."""
        self.hub.noticed(notice)
        if isinstance(notice, IoFailed) and notice.action is ErrorAction.STOP:
            self.loop.post(lambda: self.stop(RunState.IO_ERROR))

    def _on_power(self, power: Power) -> None:
        """On a vCPU's or device's thread, with the lock held: it is seen to on the main loop."""
        for vcpu in self.machine.vcpus:
            vcpu.kick(leave=True)
        self.loop.post(lambda: self._see_to(power))

    def _see_to(self, power: Power) -> None:
        if self._ended.is_set():
            return
        if power.action is PowerAction.RESET:
            self.request_reset(Cause.GUEST_RESET)
        else:
            self.exit_status = power.status
            self._shut_down(Cause.GUEST_SHUTDOWN)

    def _shut_down(self, cause: Cause) -> None:
        """End, or with -no-shutdown stay, paused. On the main loop."""
        running = self.runner.running
        self.runner.pause()
        self.machine.run_state = RunState.SHUTDOWN
        self._happened(Change.SHUTDOWN, cause)
        if self.actions.shutdown is not ShutdownAction.PAUSE:
            self._end()
        elif running:
            self._happened(Change.STOP)

    def _on_crash(self, error: BaseException) -> None:
        self._crash = error
        self.machine.run_state = RunState.INTERNAL_ERROR
        self._end()

    # -- memory and registers

    def read_memory(self, gpa: int, size: int) -> bytes:
        """Guest-physical memory, devices included. Raises `ValueError` where nothing answers, and
        for a negative size."""
        if size < 0:
            raise ValueError(f"size {size} is negative")
        with self.machine.lock:
            data, result = self.machine.memory.read_bytes(Gpa(gpa), size)
        if result is not MemTxResult.OK:
            raise ValueError(f"no memory answers for {size} bytes at {gpa:#x}")
        return data

    def write_memory(self, gpa: int, data: bytes) -> None:
        """Write guest-physical memory; ROM too, as a debugger does. Raises `ValueError` where
        nothing answers.
        """
        with self.machine.lock:
            result = self.machine.memory.write_rom(Gpa(gpa), data)
        if result is not MemTxResult.OK:
            raise ValueError(f"no memory answers for {len(data)} bytes at {gpa:#x}")

    @property
    def cpus(self) -> Sequence[RegisterView]:
        """The vCPUs' registers; meaningful while the machine is stopped."""
        return [RegisterView(vcpu) for vcpu in self.machine.vcpus if isinstance(vcpu, RiscvVcpu)]


def _with_options(words: Sequence[str], config: MachineConfig) -> MachineConfig:
    try:
        return parse(words, Draft(config))
    except Wanted:
        raise ConfigError(f"{' '.join(words)}: help is for the command line to give") from None


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)


def _drive(index: int, drive: str | Path | DriveConfig) -> DriveConfig:
    return drive if isinstance(drive, DriveConfig) else DriveConfig(f"drive{index}", Path(drive))
