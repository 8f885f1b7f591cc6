"""What the host provides to one machine: character backends, drives, and the user's objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ratite.block import CacheMode, Drive, IoPool, open_image
from ratite.chardev import CTRL_A, Chardev, MuxActions, MuxChardev, open_chardev
from ratite.core.errors import ConfigError
from ratite.core.events import EventLoop
from ratite.machines.config import ChardevConfig, DriveConfig, ObjectConfig
from ratite.qom import Container, find_type, keyword_arguments

Resolve = Callable[[str, bool], str]


class Backends:
    """Backends and objects by kind and id. Those in the composition tree are children of
    `chardev_root` and `object_root`.

    Used with the machine lock held. What opens something raises `ConfigError` or `HostError`, with
    nothing left open.
    """

    def __init__(
        self,
        loop: EventLoop,
        actions: MuxActions,
        resolve_path: Resolve,
        *,
        escape: int = CTRL_A,
        on_wait: Callable[[str], None] = lambda _: None,
        active: bool = True,
    ) -> None:
        """`resolve_path` answers the path to open for a path as users write it, given whether it is
        to be written. `on_wait` gets a line for the user before a server waits for a client.
        Images are not claimed unless `active`: another machine has them until `Drive.activate`."""
        self.chardevs: dict[str, Chardev] = {}
        self.drives: dict[str, Drive] = {}
        self.objects: dict[str, Any] = {}
        self.chardev_root = Container()
        self.object_root = Container()
        self._loop = loop
        self._actions = actions
        self._escape = escape
        self._resolve_path = resolve_path
        self._on_wait = on_wait
        self._active = active
        self._pool: IoPool | None = None
        self._closers: list[Callable[[], None]] = []

    def resolve(self, kind: str, id: str) -> object | None:
        """Claim a backend for a device. Raises `ConfigError` if another has it."""
        if kind == "chardev":
            chardev = self.chardevs.get(id)
            return None if chardev is None else chardev.claim()
        if kind == "drive":
            drive = self.drives.get(id)
            return None if drive is None else drive.claim()
        return self.objects.get(id)

    def add_chardev(self, wanted: ChardevConfig) -> Chardev:
        """Open a character backend."""
        if wanted.id in self.chardevs:
            raise ConfigError(f"Chardev with id '{wanted.id}' already exists")
        chardev: Chardev
        if wanted.backend == MuxChardev.kind:
            chardev = self._share(wanted)
        else:
            id = f"{wanted.id}-base" if wanted.mux else wanted.id
            properties = wanted.properties
            chardev = open_chardev(wanted.backend, id, self._loop, properties, self._on_wait)
            self._closers.append(chardev.close)
            if wanted.mux:
                chardev = MuxChardev(wanted.id, self._loop, chardev, self._actions, self._escape)
                self._closers.append(chardev.close)
        self.adopt(chardev)
        return chardev

    def _share(self, wanted: ChardevConfig) -> MuxChardev:
        """Open a mux over a backend that has an id of its own, and was there before."""
        arguments = keyword_arguments(MuxChardev, wanted.properties)
        base = arguments["options"].chardev if arguments else ""
        if not base:
            raise ConfigError(f"character device {wanted.id!r}: mux: no chardev given")
        backend = self.chardevs.get(base)
        if backend is None:
            raise ConfigError(
                f"character device {wanted.id!r}: mux: base chardev {base!r} not found; "
                "it must come before the mux"
            )
        mux = MuxChardev(
            wanted.id, self._loop, backend, self._actions, self._escape, owned=False, **arguments
        )
        self._closers.append(mux.close)
        return mux

    def adopt(self, chardev: Chardev) -> None:
        """Enter a character backend that is open. Its id must be free."""
        self.chardevs[chardev.id] = chardev
        self.chardev_root.add_child(chardev.id, chardev)

    def remove_chardev(self, id: str) -> None:
        """Close a character backend that nobody uses. Raises `ConfigError`."""
        chardev = self.chardevs.get(id)
        if chardev is None:
            raise ConfigError(f"Chardev '{id}' not found")
        if chardev.claimed:
            raise ConfigError(f"Chardev '{id}' is busy")
        del self.chardevs[id]
        chardev.unparent()
        chardev.close()

    def add_object(self, wanted: ObjectConfig) -> None:
        """Make a user's object."""
        found = find_type(wanted.type_name)
        if found is None:
            raise ConfigError(f"invalid object type: {wanted.type_name}")
        if wanted.id in self.objects:
            raise ConfigError(
                f"attempt to add duplicate property '{wanted.id}' to object (type 'container')"
            )
        made = found(**keyword_arguments(found, dict(wanted.properties), self.resolve))
        complete = getattr(made, "complete", None)
        if complete is not None:
            complete()
        made.id = wanted.id
        self.object_root.add_child(wanted.id, made)
        self.objects[wanted.id] = made

    def remove_object(self, id: str) -> None:
        """Forget a user's object, which nobody uses."""
        gone = self.objects.pop(id)
        gone.unparent()
        close = getattr(gone, "close", None)
        if close is not None:
            close()

    def add_drive(self, wanted: DriveConfig) -> None:
        """Open an image."""
        if wanted.id in self.drives:
            raise ConfigError(f"-drive: duplicate id '{wanted.id}'")
        if wanted.file is None:
            raise ConfigError(f"-drive {wanted.id}: file= is missing")
        if self._pool is None:
            self._pool = IoPool()
            self._closers.append(self._pool.close)
        node = open_image(
            self._resolve_path(str(wanted.file), not wanted.read_only),
            read_only=wanted.read_only,
            snapshot=wanted.snapshot,
            cache=CacheMode(wanted.cache),
            discard=wanted.discard,
            locking=self._active,
        )
        drive = Drive(wanted.id, node, self._loop, self._pool, active=self._active)
        self._closers.append(drive.close)
        self.drives[wanted.id] = drive

    def close(self) -> None:
        """Close all, the latest first."""
        closers, self._closers = self._closers, []
        for close in reversed(closers):
            close()
