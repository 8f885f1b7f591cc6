"""The machine as monitors see it. `ratite.vm.Vm` is the one that there is."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ratite.block import BlockLayer
from ratite.chardev import Chardev
from ratite.core.log import Log
from ratite.core.loop import Loop
from ratite.cpu.vcpu import Runner
from ratite.machines.config import ChardevConfig, MachineConfig, ObjectConfig
from ratite.machines.lifecycle import Actions, Cause
from ratite.machines.machine import Machine
from ratite.net import Network
from ratite.qom import Object

if TYPE_CHECKING:
    from ratite.migration.migration import Migration
    from ratite.migration.snapshot import Snapshots
    from ratite.monitor.hub import MonitorHub


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key of an option's value, and what type it has: string, boolean, number or size."""

    name: str
    type_name: str
    help: str = ""


@dataclass(frozen=True, slots=True)
class OptionInfo:
    """One option of the command line, with the keys of its value."""

    name: str
    keys: tuple[KeyInfo, ...]


class Backends(Protocol):
    """What the host provides to the machine, by id."""

    @property
    def chardevs(self) -> Mapping[str, Chardev]:
        """Character backends."""

    @property
    def block(self) -> BlockLayer:
        """Block nodes and drives."""

    @property
    def net(self) -> Network:
        """Netdevs and hubs."""

    def resolve(self, kind: str, id: str) -> object | None:
        """Claim a backend for a user."""

    def dialling(self, wanted: ChardevConfig) -> Callable[[], socket.socket] | None:
        """What must be waited for before one is opened, on any thread, if anything."""

    def plug_chardev(
        self, wanted: ChardevConfig, connection: socket.socket | None = None
    ) -> Chardev:
        """Open a character backend, with what `dialling` gave."""

    def change_chardev(
        self, wanted: ChardevConfig, connection: socket.socket | None = None
    ) -> Chardev:
        """Open a character backend in place of another, whose user goes on with it; with what
        `dialling` gave.
        """

    def check_new(self, id: str) -> None:
        """Raises `ConfigError` if there is a character backend with this id."""

    def check_changeable(self, id: str) -> Chardev:
        """The backend with this id, if another can take its place."""

    def remove_chardev(self, id: str) -> None:
        """Close a character backend that nobody uses."""

    def add_object(self, wanted: ObjectConfig) -> None:
        """Make a user's object."""

    def remove_object(self, id: str) -> None:
        """Forget a user's object."""


class Vm(Protocol):
    """One machine with everything that the host provides to it. Commands run on the main loop with
    the machine lock held.
    """

    actions: Actions
    on_end: Callable[[], None]

    @property
    def initialized(self) -> bool:
        """Whether the machine is there. If not (-preconfig), its root object is, and backends."""

    @property
    def config(self) -> MachineConfig:
        """What the user asked for."""

    @property
    def machine(self) -> Machine:
        """The board."""

    @property
    def root(self) -> Object:
        """The root of the composition tree: the board is its child `machine`."""

    @property
    def loop(self) -> Loop:
        """The main loop."""

    @property
    def log(self) -> Log:
        """The machine's log."""

    @property
    def runner(self) -> Runner:
        """What drives the vCPUs."""

    @property
    def backends(self) -> Backends:
        """What the host provides."""

    @property
    def snapshots(self) -> Snapshots:
        """Saved states of the machine."""

    @property
    def migration(self) -> Migration:
        """Migration to other machines, and from there."""

    @property
    def hub(self) -> MonitorHub:
        """What the monitors share."""

    def serve_gdb(self, device: str) -> str:
        """Serve gdb on a device, in the words of `-gdb`; returns its address, "" for `none`. Raises
        `ConfigError` or `HostError`."""

    def exit_preconfig(self) -> None:
        """Build the machine, and let it run. Raises `ConfigError` or `HostError`."""

    def start(self) -> None:
        """Let the guest run, or go on."""

    def stop(self) -> None:
        """Pause the guest."""

    def listen(self, uri: str, take_fd: Callable[[str], int]) -> None:
        """Take over a guest from there."""

    def request_reset(self, cause: Cause) -> None:
        """Reset soon."""

    def quit(self, cause: Cause = Cause.HOST_QMP_QUIT) -> None:
        """End soon."""

    @property
    def state_name(self) -> str:
        """The run state, in QEMU's words."""

    def pause_for(self, state: str) -> None:
        """Pause the guest, if it runs, and make this the run state."""

    def leave(self, state: str, *, run: bool) -> None:
        """Make this the run state, and let the guest run if it shall."""

    def power_down(self) -> None:
        """Press the power button."""

    def add_drive(self, text: str) -> str:
        """Make a drive, in the words of `-drive`; returns its name. Raises `ConfigError` or
        `HostError`."""

    def command_line_options(self) -> Iterable[OptionInfo]:
        """What the command line takes."""


@contextmanager
def halted(vm: Vm) -> Iterator[None]:
    """No vCPU executes meanwhile, so that registers are exact. Guest time stands still."""
    running = vm.runner.running
    if running:
        vm.runner.pause()
    try:
        yield
    finally:
        if running:
            vm.runner.resume()
