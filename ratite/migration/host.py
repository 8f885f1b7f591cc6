"""What saving, loading and migrating need of the machine's owner. `ratite.vm.Vm` is the one that
there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ratite.core.clock import VirtualClock
from ratite.core.lock import MachineLock
from ratite.cpu.vcpu import Runner
from ratite.memory import RamList
from ratite.migration.vmstate import Part


class Disk(Protocol):
    """A drive."""

    @property
    def id(self) -> str:
        """What the user calls it."""

    @property
    def path(self) -> str:
        """The image's file; "" if it has none."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def active(self) -> bool:
        """True if the image is this machine's."""

    @property
    def read_only(self) -> bool:
        """True if the guest cannot write to it."""

    def drain(self) -> None:
        """Finish what is in flight."""

    def copy_out(self, path: str, advance: Callable[[int], object]) -> None:
        """Copy the content into a new file; `advance` gets the size of each piece. Raises
        `HostError`.
        """

    def copy_in(self, path: str) -> None:
        """Replace the content by a file's. Raises `HostError`."""

    def activate(self) -> None:
        """Claim the image for this machine. Raises `HostError`."""

    def deactivate(self) -> None:
        """Leave the image to another machine."""


class Machine(Protocol):
    """The board: see `ratite.migration.vmstate.Subject`."""

    @property
    def lock(self) -> MachineLock:
        """Held while devices are looked at."""

    @property
    def ram(self) -> RamList:
        """Its memory."""

    @property
    def clock(self) -> VirtualClock:
        """Guest time."""

    def state_identity(self) -> dict[str, Any]:
        """What must be equal where a state is loaded."""

    def state_parts(self) -> Mapping[str, Part]:
        """Everything with state, in the order of loading."""

    def state_loaded(self) -> None:
        """All parts have been loaded."""


class Loop(Protocol):
    """The main loop."""

    def post(self, callback: Callable[[], object]) -> None:
        """Have this run on the loop, with the machine lock held."""


class Host(Protocol):
    """One machine with everything that the host provides to it. `disks` and the methods are used
    with the machine lock held, on the main loop.
    """

    @property
    def machine(self) -> Machine:
        """The board."""

    @property
    def runner(self) -> Runner:
        """What drives the vCPUs."""

    @property
    def loop(self) -> Loop:
        """The main loop."""

    @property
    def disks(self) -> Mapping[str, Disk]:
        """The drives by id."""

    def held(self, state: str) -> AbstractContextManager[None]:
        """No vCPU executes inside, and the run state is `state`; afterwards all is as before."""

    def fail(self) -> None:
        """The guest's state is lost: it must not run on."""

    def check_idle(self) -> None:
        """Raise `ConfigError` while a migration goes on, or if another machine has the images."""

    @property
    def dumping(self) -> bool:
        """Whether guest memory is being dumped, and must stay as it is."""

    @property
    def gone(self) -> bool:
        """Whether the main loop does nothing any more."""

    @property
    def state_name(self) -> str:
        """The run state, in QEMU's words."""

    def pause_for(self, state: str) -> None:
        """Pause the guest, if it runs, and make this the run state."""

    def leave(self, state: str, *, run: bool) -> None:
        """Make this the run state, and let the guest run if it shall."""

    def arrived(self) -> None:
        """A guest has come here: its network shall know."""

    def migrating(self, status: str) -> None:
        """Tell clients how far a migration is."""

    def migration_pass(self, number: int) -> None:
        """Tell clients that memory is looked through once more."""

    def incoming_failed(self, text: str) -> None:
        """There is no guest to run: end the program."""
