"""What the monitors of one machine share, and the monitors themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

from ratite.chardev import Chardev, MuxPort
from ratite.core.errors import ConfigError
from ratite.devices.notice import Notice
from ratite.machines.config import AddFdConfig, MonitorConfig, MonitorMode
from ratite.machines.lifecycle import Cause, Change
from ratite.monitor.dump import Dump
from ratite.monitor.errors import QmpError
from ratite.monitor.event import EventBus
from ratite.monitor.fds import FdSets
from ratite.monitor.jobs import Jobs
from ratite.monitor.vm import Vm
from ratite.net.netdev import Place


class Monitor(Protocol):
    """A monitor of either kind."""

    def open(self) -> None:
        """Begin."""

    def close(self) -> None:
        """Say the last words and let the backend go."""


class MonitorHub:
    """One per machine. Used with the machine lock held."""

    def __init__(self, vm: Vm) -> None:
        self.events = EventBus(vm.loop)
        self.jobs = Jobs(vm.loop, self.events)
        self.fd_sets = FdSets()
        self.dump = Dump(vm)
        self.monitors: list[Monitor] = []
        self._vm = vm

    def add_fds(self, wanted: Iterable[AddFdConfig]) -> None:
        """What -add-fd says. Raises `ConfigError`."""
        for entry in wanted:
            try:
                self.fd_sets.add(os.dup(entry.fd), entry.set_id, entry.opaque)
            except OSError:
                raise ConfigError(
                    f"-add-fd: fd={entry.fd} is not valid or already in use"
                ) from None
            except QmpError as error:
                raise ConfigError(f"-add-fd: fd={entry.fd}: {error}") from None

    def add(self, wanted: MonitorConfig, chardev: Chardev) -> Monitor:
        """Start a monitor on a backend that was claimed for it."""
        if isinstance(chardev, MuxPort):
            chardev.stay_behind()  # the terminal belongs to the guest at first
        monitor: Monitor
        if wanted.mode is MonitorMode.CONTROL:
            from ratite.monitor.qmp import QmpMonitor

            monitor = QmpMonitor(self._vm, self, chardev, pretty=wanted.pretty)
        else:
            from ratite.monitor.hmp.monitor import HmpMonitor

            monitor = HmpMonitor(self._vm, chardev)
        self.monitors.append(monitor)
        monitor.open()
        return monitor

    def remove(self, monitor: Monitor) -> None:
        """End one monitor. Does nothing if it has ended."""
        if monitor in self.monitors:
            self.monitors.remove(monitor)
            monitor.close()

    def happened(self, change: Change, cause: Cause) -> None:
        """Tell clients what happened to the machine."""
        if not self.events.listeners:
            return
        from ratite.monitor.events import lifecycle_event

        self.events.emit(lifecycle_event(change, cause))

    def noticed(self, notice: Notice) -> None:
        """Tell clients what a device noticed."""
        if not self.events.listeners:
            return
        from ratite.monitor.events import notice_event

        self.events.emit(notice_event(notice))

    def stream_changed(self, netdev: str, address: Place | None) -> None:
        """Tell clients that a stream netdev is connected, or is no longer."""
        if not self.events.listeners:
            return
        from ratite.monitor.events import stream_event

        self.events.emit(stream_event(netdev, address))

    def migrating(self, status: str) -> None:
        """Tell clients how far a migration is."""
        from ratite.migration.outgoing import Status
        from ratite.monitor.events import MigrationEvent

        self.events.emit(MigrationEvent(Status(status)))

    def migration_pass(self, number: int) -> None:
        """Tell clients that memory is looked through once more."""
        from ratite.monitor.events import MigrationPass

        self.events.emit(MigrationPass(number))

    def close(self) -> None:
        """End all monitors; what they still had to say is handed to their backends."""
        self.dump.close()
        self.jobs.close()
        for monitor in self.monitors:
            monitor.close()
        self.monitors.clear()
        self.fd_sets.close()
