"""The block layer of one machine: its nodes, its drives, and what is done to them from outside.

Used with the machine lock held. Errors are `ConfigError` and `HostError`, with nothing changed;
their texts are those of QEMU 7.2.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic_ns
from typing import Protocol

from ratite.block.drive import Drive, OnFailure
from ratite.block.file_node import MAX_SIZE, ResolvePath, as_written
from ratite.block.graph import BlockGraph
from ratite.block.node import BlockNode, OnThreshold
from ratite.block.options import NodeOptions
from ratite.block.overlay import OverlayNode
from ratite.block.permission import Link, Permission
from ratite.block.pool import IoPool
from ratite.block.throttle import Limits, ThrottleGroup
from ratite.core.disk import ErrorAction
from ratite.core.errors import ConfigError


class BlockLoop(Protocol):
    """What the layer needs of the event loop; callbacks come with the machine lock held."""

    def post(self, callback: Callable[[], object], /) -> None:
        """Run `callback` soon."""

    def post_after(self, delay_ns: int, callback: Callable[[], object], /) -> None:
        """Run `callback` after some host time."""


class _Command:
    """A command as the user of a node, for as long as it takes."""

    def describe(self) -> str:
        return "an unnamed block device"

    def resized(self) -> None:
        return


class BlockLayer:
    """All nodes and drives."""

    def __init__(
        self,
        loop: BlockLoop,
        resolve_path: ResolvePath = as_written,
        *,
        active: bool = True,
    ) -> None:
        """Images are not claimed unless `active`: another machine has them."""
        self.active = active
        self.graph = BlockGraph(
            resolve_path, is_taken=self._is_drive, find_drive=self._node_of_drive
        )
        self.graph.on_threshold = self._threshold_passed
        self.drives: list[Drive] = []
        """All, those without a name too, in the order of making."""
        self.on_threshold: OnThreshold = _ignore_threshold
        """Called with a node, how far a write exceeded its threshold, and the threshold."""
        self.on_failure: OnFailure = _ignore_failure
        """Called when a request to a drive has failed."""
        self._loop = loop
        self._pool: IoPool | None = None
        self._groups: dict[str, ThrottleGroup] = {}

    # -- drives

    @property
    def disks(self) -> Mapping[str, Drive]:
        """The drives that are not empty, by what a device calls them."""
        return {drive.id: drive for drive in self.drives if drive.node is not None}

    def drive(self, name: str) -> Drive | None:
        """The drive with a name."""
        return next((drive for drive in self.drives if name and drive.name == name), None)

    def drive_of_device(self, qdev: str) -> Drive | None:
        """The drive of the device with an id or path."""
        for drive in self.drives:
            if drive.user is not None and qdev in (drive.user.id, drive.user.path):
                return drive
        return None

    def _is_drive(self, name: str) -> bool:
        return self.drive(name) is not None

    def _node_of_drive(self, name: str) -> BlockNode | None:
        drive = self.drive(name)
        if drive is None:
            return None
        if drive.node is None:
            raise ConfigError(f"Device '{name}' has no medium")
        return drive.node

    def add_drive(
        self,
        name: str,
        options: NodeOptions | None,
        *,
        write_cache: bool = True,
        read_only: bool = False,
    ) -> Drive:
        """Make a drive with a name, and the node in it; without options it is empty."""
        if self._is_drive(name):
            raise ConfigError(f"Device with id '{name}' already exists")
        if self.graph.find(name) is not None or (options and options.node_name == name):
            raise ConfigError(f"Device name '{name}' conflicts with an existing node name")
        drive = self._make_drive(name, write_cache=write_cache, read_only=read_only)
        if options is not None:
            self._insert_new(drive, options)
        self.drives.append(drive)
        return drive

    def _insert_new(self, drive: Drive, options: NodeOptions) -> None:
        node = self.graph.open(options)
        try:
            drive.insert(node)
        except BaseException:
            self.graph.forget(node)
            raise

    def _make_drive(self, name: str, *, write_cache: bool = True, read_only: bool = False) -> Drive:
        if self._pool is None:
            self._pool = IoPool()
        drive = Drive(
            name,
            self._loop,
            self._pool,
            write_cache=write_cache,
            read_only=read_only,
            active=self.active,
        )
        drive.on_release = self.remove_drive
        drive.quiesce = self.drain
        drive.on_failure = lambda *what: self.on_failure(*what)
        return drive

    def claim(self, id: str) -> Drive | None:
        """Reserve for a device the drive, or the node, with a name; None if there is neither."""
        drive = self.drive(id)
        if drive is not None:
            return drive.claim()
        node = self.graph.find(id)
        if node is None:
            return None
        drive = self._make_drive("")
        drive.insert(node)
        self.drives.append(drive)
        return drive.claim()

    def remove_drive(self, drive: Drive) -> None:
        """Delete a drive, and its node if nobody else uses it."""
        self._leave_group(drive)
        node = drive.node
        drive.close()
        if drive in self.drives:
            self.drives.remove(drive)
        if node is not None:
            self.graph.forget(node)

    def delete_drive(self, drive: Drive) -> None:
        """Take a drive by name from the user; a device that has it keeps it, empty."""
        if drive.user is None:
            self.remove_drive(drive)
            return
        self._leave_group(drive)
        self.eject(drive)
        drive.abandon()

    # -- media

    def eject(self, drive: Drive) -> None:
        """Empty a drive."""
        node = drive.eject()
        if node is not None:
            self.graph.forget(node)

    def change(self, drive: Drive, options: NodeOptions) -> None:
        """Put a new node into a drive instead of what is there."""
        node = self.graph.open(options)
        try:
            self.check_removable(drive)
            old = drive.eject()
            try:
                drive.insert(node)
            except BaseException:
                if old is not None:
                    drive.insert(old)
                raise
            if old is not None:
                self.graph.forget(old)
        finally:
            self.graph.forget(node)  # does nothing where it is used

    def check_removable(self, drive: Drive) -> None:
        """Raise `ConfigError` if the drive's medium cannot change."""
        if not drive.removable:
            raise ConfigError(f"Device '{drive.name or drive.qdev}' is not removable")

    def begin_commit(self, drive: Drive) -> Commit | None:
        """Begin to write what a temporary overlay holds to the image below; None if there is none.
        Raises OSError besides.
        """
        overlay = drive.node
        return Commit(self, overlay) if isinstance(overlay, OverlayNode) else None

    # -- nodes

    def find(self, device: str, node_name: str) -> BlockNode:
        """The node in a drive, or with a name."""
        found = self._node_of_drive(device) if device else None
        if found is None and node_name:
            found = self.graph.find(node_name)
        if found is None:
            raise ConfigError(f"Cannot find device='{device}' nor node-name='{node_name}'")
        return found

    def add_node(self, options: NodeOptions) -> BlockNode:
        """Make a node."""
        self.drain()
        return self.graph.add(options)

    def delete_node(self, name: str) -> None:
        """Delete a node."""
        self.drain()
        self.graph.delete(name)

    def reopen(self, wanted: Iterable[NodeOptions]) -> None:
        """Give nodes other options, all or none."""
        self.drain()
        self.graph.reopen(wanted)

    def resize(self, node: BlockNode, size: int) -> None:
        """Change a node's size; devices learn of it."""
        if size < 0:
            raise ConfigError("Parameter 'size' expects a >0 size")
        if size > MAX_SIZE:
            raise ConfigError(f"offset({size}) exceeds maximum({MAX_SIZE})")
        self.drain()
        link = Link(_Command(), "root", node)
        node.users.insert(0, link)
        try:
            link.set(Permission.RESIZE, Permission.ALL)
            if node.is_really_read_only:
                raise ConfigError("Image is read-only")
            node.resize(size)
        finally:
            link.remove()

    @contextmanager
    def used(self, drive: Drive | None, node: BlockNode, uses: Permission) -> Iterator[None]:
        """Let a command use a node meanwhile: as the drive that it is in, if that may, else as a
        user of its own. Raises `ConfigError`.
        """
        if not all(disk.active for disk in self.disks.values()):
            raise ConfigError("the images belong to another machine: the guest has moved")
        self.drain()
        if any(link.user is drive and not uses & ~link.uses for link in node.users):
            yield
            return
        link = Link(_Command(), "root", node)
        node.users.insert(0, link)
        try:
            link.set(uses, Permission.ALL)
            yield
        finally:
            link.remove()

    def _threshold_passed(self, node: BlockNode, exceeded: int, threshold: int) -> None:
        """On a worker thread."""
        self._loop.post(lambda: self.on_threshold(node, exceeded, threshold))

    # -- limits

    def set_limits(self, drive: Drive, limits: Limits, group: str | None, default: str) -> None:
        """Limit what a drive does, in a group with others. Without a group it stays in its own, or
        gets one named `default`.
        """
        limits.check()
        if not limits:
            self._leave_group(drive)
            return
        name = group or (drive.throttle.name if drive.throttle is not None else default)
        if drive.throttle is None or drive.throttle.name != name:
            self._leave_group(drive)
            found = self._groups.get(name)
            if found is None:
                found = self._groups[name] = ThrottleGroup(name, self._loop, monotonic_ns)
            found.members.add(drive)
            drive.throttle = found
        drive.throttle.set(limits)

    def make_group(self, name: str) -> ThrottleGroup:
        """A group that stays until `drop_group`, with members or without. Raises `ConfigError` if
        there is one of that name.
        """
        if name in self._groups:
            raise ConfigError("A group with this name already exists")
        found = self._groups[name] = ThrottleGroup(name, self._loop, monotonic_ns)
        found.stays = True
        return found

    def drop_group(self, group: ThrottleGroup) -> None:
        """Forget a group of `make_group`, once its members are gone."""
        group.stays = False
        if not group.members:
            del self._groups[group.name]

    def join_group(self, drive: Drive, name: str) -> None:
        """Have a drive share the limits of a group of `make_group`, if there is one."""
        group = self._groups.get(name)
        if group is not None and group.stays:
            group.members.add(drive)
            drive.throttle = group

    def _leave_group(self, drive: Drive) -> None:
        group = drive.throttle
        if group is None:
            return
        group.release(drive)
        group.members.discard(drive)
        drive.throttle = None
        if not (group.members or group.stays):
            del self._groups[group.name]

    # -- all of it

    def drain(self) -> None:
        """Wait until no drive has a request in flight."""
        for drive in tuple(self.drives):
            drive.drain()

    def resume(self) -> None:
        """The machine runs, with its images claimed: do again what errors have stopped."""
        self.active = True
        for drive in tuple(self.drives):
            drive.resume()

    def close(self) -> None:
        """Finish and close everything. Calls after the first do nothing."""
        self.drain()
        for drive in tuple(self.drives):
            self.remove_drive(drive)
        self.graph.close()
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _ignore_threshold(node: BlockNode, exceeded: int, threshold: int) -> None:
    """Nobody wants to know."""


def _ignore_failure(drive: Drive, is_write: bool, code: int, action: ErrorAction) -> None:
    """Nobody wants to know."""


class Commit:
    """The content of a temporary overlay on its way to the image below, while the overlay is used.
    Raises `ConfigError`, `HostError` or OSError, with nothing lost. All but `copy` happens on the
    main loop.
    """

    def __init__(self, layer: BlockLayer, overlay: OverlayNode) -> None:
        self._layer = layer
        self._overlay = overlay
        overlay.begin_commit()
        self._base, self._link = overlay.base, overlay.children["backing"]
        self._before = self._link.uses, self._link.shares
        self._was_read_only = self._base.read_only
        try:
            layer.drain()
            layer.graph.set_read_only(self._base, False)
            uses = Permission.CONSISTENT_READ | Permission.WRITE | Permission.RESIZE
            self._link.set(uses, self._link.shares)
            self._grow()
        except BaseException:
            self.end()
            raise

    def _grow(self) -> None:
        if self._overlay.size > self._base.size:
            self._base.resize(self._overlay.size)

    def copy(self) -> None:
        """Write most of it, on any thread."""
        self._overlay.copy_down()

    def finish(self) -> None:
        """Write the rest: the image below is what the guest sees at this moment."""
        if not self._overlay.committing:
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
        self._layer.drain()
        self._grow()
        self._overlay.commit()

    def end(self) -> None:
        """However it went: the image below is as it was to others."""
        self._overlay.end_commit()
        if self._overlay.children.get("backing") is self._link:
            self._link.set(*self._before)
            self._layer.graph.set_read_only(self._base, self._was_read_only)
