"""What the host provides to one machine: character backends, drives, and the user's objects."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from ratite.block import BlockLayer, Drive, Limits
from ratite.block.throttle_object import ThrottleGroupObject
from ratite.chardev import (
    CTRL_A,
    Chardev,
    FileChardev,
    MovableFrontend,
    MuxActions,
    MuxChardev,
    SocketChardev,
    SocketOptions,
    dialling,
    open_chardev,
)
from ratite.core.char import CharEvent
from ratite.core.disk import OnError
from ratite.core.errors import ConfigError, blaming
from ratite.core.events import EventLoop
from ratite.core.keyval import IDENTIFIER_RULE, is_identifier
from ratite.devices.notice import IoFailed, Notify, ThresholdPassed, ignore
from ratite.machines.config import (
    BlockdevConfig,
    ChardevConfig,
    DriveConfig,
    DriveInterface,
    NetdevConfig,
    ObjectConfig,
    PropertyValue,
)
from ratite.net import NetHost, Network
from ratite.qom import Container, Object, Required, find_type, keyword_arguments


class ResolvePath(Protocol):
    """Answers the path to open for a path as users write it."""

    def __call__(self, path: str, writes: bool, /, *, reads: bool = True) -> str:
        """`writes` and `reads`: what it is opened for. Raises `HostError`."""


def _check_names(cls: type[Object], wanted: ObjectConfig) -> None:
    """Raise `ConfigError` for a wrong id, and properties that are not there or must be."""
    known = cls.properties()
    for name in wanted.properties:
        if name not in known:
            raise ConfigError(f"Parameter '{name}' is unexpected")
    for entry in known.values():
        if entry.default is Required.REQUIRED and entry.name not in wanted.properties:
            raise ConfigError(f"Parameter '{entry.name}' is missing")
    if not is_identifier(wanted.id):
        raise ConfigError("Parameter 'id' expects an identifier", hint=IDENTIFIER_RULE)


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
        resolve_path: ResolvePath,
        *,
        escape: int = CTRL_A,
        on_wait: Callable[[str], None] = lambda _: None,
        on_notice: Notify = ignore,
        network: NetHost | None = None,
        active: bool = True,
    ) -> None:
        """`on_wait` gets a line for the user before a server waits for a client, `on_notice` what
        block nodes notice; netdevs turn to `network`. Images are not claimed unless `active`:
        another machine has them until `Drive.activate`."""
        self.chardevs: dict[str, Chardev] = {}
        self.block = BlockLayer(loop, resolve_path, active=active)
        self.block.on_threshold = lambda node, exceeded, threshold: on_notice(
            ThresholdPassed(node.name, exceeded, threshold)
        )
        self.block.on_failure = lambda drive, is_write, code, action: on_notice(
            IoFailed(drive.name, drive.node_name, is_write, code, action, drive.tells_status)
        )
        self.objects: dict[str, Any] = {}
        self.chardev_root = Container()
        self.object_root = Container()
        self._loop = loop
        self._actions = actions
        self._escape = escape
        self._resolve_path = resolve_path
        self._on_wait = on_wait
        self.net = Network(network or NetHost(loop, lambda: True))
        self._closers: list[Callable[[], None]] = [self.block.close, self.net.close]

    def resolve(self, kind: str, id: str) -> object | None:
        """Claim a backend for a device. Raises `ConfigError` if another has it."""
        if kind == "chardev":
            chardev = self.chardevs.get(id)
            return None if chardev is None else chardev.claim()
        if kind == "drive":
            return self.block.claim(id)
        if kind == "netdev":
            return self.net.claim(id)
        return self.objects.get(id)

    def add_chardev(
        self, wanted: ChardevConfig, connection: socket.socket | None = None
    ) -> Chardev:
        """Open a character backend; a client socket may have its connection already."""
        self.check_new(wanted.id)
        chardev = self._open(wanted, connection)
        self.adopt(chardev)
        return chardev

    def _open(self, wanted: ChardevConfig, connection: socket.socket | None) -> Chardev:
        chardev: Chardev
        if wanted.backend == MuxChardev.kind:
            chardev = self._share(wanted)
        else:
            id = f"{wanted.id}-base" if wanted.mux else wanted.id
            properties = self._with_paths(wanted)
            kind, on_wait = wanted.backend, self._on_wait
            chardev = open_chardev(kind, id, self._loop, properties, on_wait, connection)
            if wanted.mux:
                chardev = MuxChardev(wanted.id, self._loop, chardev, self._actions, self._escape)
        return chardev

    def check_new(self, id: str) -> None:
        """Raises `ConfigError` if there is a character backend with this id."""
        if id in self.chardevs:
            raise ConfigError(f"Chardev with id '{id}' already exists")

    def dialling(self, wanted: ChardevConfig) -> Callable[[], socket.socket] | None:
        """What must be waited for before `plug_chardev` or `change_chardev`, on any thread, if
        anything: a client's connection. Raises `ConfigError`; the work `HostError`.
        """
        if wanted.backend != SocketChardev.kind:
            return None
        return dialling(_plugged_socket(wanted)[1])

    def plug_chardev(
        self, wanted: ChardevConfig, connection: socket.socket | None = None
    ) -> Chardev:
        """Open a character backend for a machine that is there, with what `dialling` gave: a server
        does not wait for its first client, since the machine would wait with it.
        """
        return self.add_chardev(self._plugged(wanted), connection)

    def change_chardev(
        self, wanted: ChardevConfig, connection: socket.socket | None = None
    ) -> Chardev:
        """Open a backend in place of that with the same id; its frontend goes on with the new one.
        If that cannot be opened, all is as before.
        """
        old = self.check_changeable(wanted.id)
        if wanted.mux or wanted.backend == MuxChardev.kind:
            raise ConfigError("Mux device hotswap not supported yet")
        new = self._open(self._plugged(wanted), connection)
        user, guest_open, claimed = old.frontend, old.guest_open, old.claimed
        old.release()
        if isinstance(user, MovableFrontend):
            if old.is_open:
                user.event(CharEvent.CLOSED)
            user.change_backend(new.claim() if claimed else new)
            new.guest_open = guest_open
            user.event(CharEvent.WRITABLE)  # what the old one had no room for
        ids = list(self.chardevs)
        self.remove_chardev(wanted.id)
        self.adopt(new)
        self.chardevs = {id: self.chardevs[id] for id in ids}
        return new

    def check_changeable(self, id: str) -> Chardev:
        """The backend with this id, if another can take its place. Raises `ConfigError`."""
        old = self.chardevs.get(id)
        if old is None:
            raise ConfigError(f"Chardev '{id}' does not exist")
        if isinstance(old, MuxChardev):
            raise ConfigError("Mux device hotswap not supported yet")
        if old.claimed and not isinstance(old.frontend, MovableFrontend):
            raise ConfigError("Chardev user does not support chardev hotswap")
        return old

    @staticmethod
    def _plugged(wanted: ChardevConfig) -> ChardevConfig:
        """What is opened for a machine that is there."""
        if wanted.backend == SocketChardev.kind:
            wanted, _ = _plugged_socket(wanted)
        return wanted

    def _with_paths(self, wanted: ChardevConfig) -> dict[str, PropertyValue]:
        """The properties, with the paths to open for those that users write."""
        properties = dict(wanted.properties)
        outputs = ("path", "logfile") if wanted.backend == FileChardev.kind else ("logfile",)
        for name in outputs:
            if isinstance(path := properties.get(name), str):
                properties[name] = self._resolve_path(path, True, reads=False)
        if isinstance(path := properties.get("input-path"), str):
            properties["input-path"] = self._resolve_path(path, False)
        return properties

    def _share(self, wanted: ChardevConfig) -> MuxChardev:
        """Open a mux over a backend that has an id of its own, and was there before."""
        arguments = keyword_arguments(MuxChardev, wanted.properties)
        base = arguments["options"].chardev if arguments else ""
        if not base:
            raise ConfigError("mux: no chardev given")
        backend = self.chardevs.get(base)
        if backend is None:
            raise ConfigError(f"mux: base chardev {base!r} not found; it must come before the mux")
        return MuxChardev(
            wanted.id, self._loop, backend, self._actions, self._escape, owned=False, **arguments
        )

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
        if found is None or not found.is_user_creatable():
            raise ConfigError(
                f"Parameter 'qom-type' does not accept value '{wanted.type_name}'",
                hint="`-object help` lists what there is",
            )
        _check_names(found, wanted)
        given = keyword_arguments(
            found, dict(wanted.properties), self.resolve, strict=wanted.strict
        )
        if wanted.id in self.objects:
            raise ConfigError(
                f"attempt to add duplicate property '{wanted.id}' to object (type 'container')"
            )
        made: Any = found(**given)
        made.id = wanted.id
        if isinstance(made, ThrottleGroupObject):
            made.group = self.block.make_group(wanted.id)
        try:
            made.complete()
        except BaseException:
            self._forget(made)
            raise
        self.object_root.add_child(wanted.id, made)
        self.objects[wanted.id] = made

    def remove_object(self, id: str) -> None:
        """Forget a user's object, which nobody uses."""
        gone = self.objects.pop(id)
        gone.unparent()
        self._forget(gone)

    def _forget(self, gone: Any) -> None:
        if isinstance(gone, ThrottleGroupObject) and gone.group is not None:
            self.block.drop_group(gone.group)
        close = getattr(gone, "close", None)
        if close is not None:
            close()

    def add_drive(self, wanted: DriveConfig) -> Drive:
        """Make a drive, with its nodes."""
        from ratite import drives  # loads the monitor's types, which a run without disks can spare

        option = "-pflash" if wanted.interface is DriveInterface.PFLASH else "-drive"
        with blaming(option):
            drive = self.block.add_drive(
                wanted.id,
                drives.node_options(wanted),
                write_cache=drives.has_write_cache(wanted),
                read_only=drives.is_read_only(wanted),
            )
            try:
                limits = Limits.of(wanted.limits)
                self.block.set_limits(drive, limits, wanted.limits_group, wanted.id)
                if wanted.limits_group is not None and not limits:
                    self.block.join_group(drive, wanted.limits_group)
            except ConfigError:
                self.block.remove_drive(drive)
                raise
        if wanted.on_read_error is not OnError.AUTO:
            drive.on_read_error = wanted.on_read_error
        if wanted.on_write_error is not OnError.AUTO:
            drive.on_write_error = wanted.on_write_error
        drive.stats.account_invalid = wanted.account_invalid
        drive.stats.account_failed = wanted.account_failed
        return drive

    def add_blockdev(self, wanted: BlockdevConfig) -> None:
        """Make a block node."""
        from ratite import drives

        with blaming("-blockdev"):
            self.block.add_node(drives.blockdev_options(wanted))

    def add_netdev(self, wanted: NetdevConfig) -> None:
        """Make a netdev."""
        from ratite.monitor.netdev_text import netdev_options  # likewise

        with blaming(f"-netdev {wanted.options['id']}"):
            self.net.add(netdev_options(wanted.options))

    def close(self) -> None:
        """Close all, the latest first."""
        closers, self._closers = self._closers, []
        for close in reversed(closers):
            close()
        for id in reversed(tuple(self.objects)):
            self.remove_object(id)
        for chardev in reversed(tuple(self.chardevs.values())):
            chardev.close()


def _plugged_socket(wanted: ChardevConfig) -> tuple[ChardevConfig, SocketOptions]:
    """A socket for a machine that is there. Raises `ConfigError`."""
    properties = {"wait": False, **wanted.properties}
    options: SocketOptions = keyword_arguments(SocketChardev, properties)["options"]
    if options.server and options.wait:
        raise ConfigError(
            "wait=on is for the command line: a machine that is there cannot wait for "
            "a client; use wait=off"
        )
    return replace(wanted, properties=properties), options
