"""Migration of one machine: its settings, and the one that goes on or was the last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ratite.core.errors import ConfigError
from ratite.migration.channel import Listener, TakeFd, inherited_fd, outgoing
from ratite.migration.dirty_rate import DirtyRate
from ratite.migration.host import Host
from ratite.migration.incoming import Incoming
from ratite.migration.outgoing import Outgoing, Status
from ratite.migration.settings import Capabilities, Capability, Parameters

BUSY = "There's a migration process in progress"


class Migration:
    """Used on the main loop, with the machine lock held. Error texts are QEMU's."""

    def __init__(self, host: Host) -> None:
        self.capabilities = Capabilities()
        self.parameters = Parameters()
        self.outgoing: Outgoing | None = None
        self.incoming: Incoming | None = None
        self.dirty_rate = DirtyRate(host)
        self._host = host
        self._refused = False

    @property
    def status(self) -> Status:
        """How far the one away from here is, or was."""
        if self.outgoing is None:
            return Status.FAILED if self._refused else Status.NONE
        return self.outgoing.status

    def set_capabilities(self, wanted: Mapping[Capability, bool]) -> None:
        """Switch capabilities, all or none. Raises `ConfigError`."""
        if not self.status.over:
            raise ConfigError(BUSY)
        self.capabilities.set(wanted)

    def set_parameters(self, wanted: Mapping[str, Any]) -> None:
        """Change parameters, all or none. Raises `ConfigError`."""
        self.parameters = self.parameters.changed(wanted)

    @property
    def sends_events(self) -> bool:
        """Whether clients want to be told how far it is."""
        return self.capabilities.has(Capability.EVENTS)

    def start(self, uri: str, take_fd: TakeFd = inherited_fd) -> Outgoing:
        """Begin to send the guest away. Raises `ConfigError`."""
        if not self.status.over:
            raise ConfigError(BUSY)
        if self._host.dumping:
            raise ConfigError("Live migration disabled: dump-guest-memory in progress")
        match self._host.state_name:
            case "inmigrate":
                raise ConfigError("Guest is waiting for an incoming migration")
            case "postmigrate":
                raise ConfigError("Can't migrate the vm that was paused due to previous migration")
        try:
            connect = outgoing(uri, take_fd)
        except ConfigError:  # to clients it is one that failed
            self.outgoing, self._refused = None, True
            raise
        self._refused = False
        self.dirty_rate.give_up(only_bitmap=True)
        self.outgoing = Outgoing(self._host, connect, self.capabilities, lambda: self.parameters)
        self.outgoing.start()
        return self.outgoing

    def cancel(self) -> None:
        """Give up what goes on, if anything does."""
        if self.outgoing is not None:
            self.outgoing.cancel()

    @property
    def going_on(self) -> Outgoing | Incoming | None:
        """What sends or takes a guest now."""
        for one in (self.outgoing, self.incoming):
            if one is not None and one.connected:
                return one
        return None

    def go_on(self, status: Status) -> None:
        """Leave the pause before the switchover; `status` is what the caller believes. Raises
        `ConfigError`.
        """
        if self.status is not status or self.outgoing is None:
            raise ConfigError(f"Migration not in expected state: {self.status.value}")
        if status is Status.PRE_SWITCHOVER:
            self.outgoing.go_on()

    def listen(self, uri: str, take_fd: TakeFd | None = None, *, run_guest: bool) -> None:
        """Take over a guest from there. Raises `ConfigError` or `HostError`."""
        if self.incoming is not None:
            raise ConfigError("The incoming migration has already been started")
        self._host.migrating(Status.SETUP.value)
        listener = Listener(uri, take_fd or inherited_fd)
        self.incoming = Incoming(self._host, listener, self.capabilities)
        self.incoming.run_guest = run_guest
        self.incoming.start()

    def close(self) -> None:
        """End what goes on; without the machine lock."""
        self.dirty_rate.give_up()
        if self.outgoing is not None:
            self.outgoing.abandon()
            self.outgoing.join()
        if self.incoming is not None:
            self.incoming.close()
