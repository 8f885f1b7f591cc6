"""Character backends.

Source: QEMU's QMP reference, "Character devices".
"""

from __future__ import annotations

import base64
import binascii
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, ClassVar

from ratite.chardev import Chardev, PtyChardev, RingbufChardev, SocketChardev, chardev_kinds
from ratite.core.errors import ConfigError, HostError
from ratite.machines.config import ChardevConfig, PropertyValue
from ratite.monitor.command import command
from ratite.monitor.errors import DeviceNotActive, QmpError
from ratite.monitor.later import Later, Outcome
from ratite.monitor.session import Session
from ratite.monitor.vm import Vm
from ratite.qom import Doc, Named, Tagged


@dataclass(frozen=True)
class ChardevInfo:
    """One character backend."""

    label: Annotated[str, Doc("its id")]
    filename: Annotated[str, Doc("where the stream leads")]
    frontend_open: Annotated[bool, Doc("whether a device or monitor uses it")]


@command("query-chardev", preconfig=True)
def query_chardev(vm: Vm) -> list[ChardevInfo]:
    """All character backends."""
    return [
        ChardevInfo(id, chardev.filename, chardev.frontend_open)
        for id, chardev in vm.backends.chardevs.items()
    ]


@dataclass(frozen=True)
class ChardevBackendInfo:
    """One kind of character backend."""

    name: str


@command("query-chardev-backends")
def query_chardev_backends() -> list[ChardevBackendInfo]:
    """The kinds of character backends."""
    return [ChardevBackendInfo(kind) for kind in (*chardev_kinds(), "mux")]


# -- addresses of sockets


@dataclass(frozen=True)
class InetAddress:
    """A TCP port."""

    case: ClassVar[str] = "inet"
    host: str
    port: str
    to: Annotated[int | None, Doc("a server takes the first free port up to this one")] = None
    ipv4: bool | None = None
    ipv6: bool | None = None


@dataclass(frozen=True)
class UnixAddress:
    """A Unix socket."""

    case: ClassVar[str] = "unix"
    path: str
    abstract: bool | None = None


@dataclass(frozen=True)
class FdAddress:
    """A socket that was handed over."""

    case: ClassVar[str] = "fd"
    str: Annotated[str, Doc("a name that `getfd` gave, or a number")]


Address = Annotated[
    InetAddress | UnixAddress | FdAddress, Tagged("type", "SocketAddressLegacy", nested="data")
]

# -- what chardev-add takes


@dataclass(frozen=True)
class CommonBackend:
    """What every kind takes."""

    logfile: Annotated[str | None, Doc("copy the output to this file")] = None
    logappend: bool | None = None


@dataclass(frozen=True)
class NullBackend(CommonBackend):
    """Nobody."""

    case: ClassVar[str] = "null"


@dataclass(frozen=True)
class PtyBackend(CommonBackend):
    """A pseudo-terminal."""

    case: ClassVar[str] = "pty"


@dataclass(frozen=True)
class StdioBackend(CommonBackend):
    """The program's own standard input and output."""

    case: ClassVar[str] = "stdio"
    signal: bool | None = None


@dataclass(frozen=True, kw_only=True)
class FileBackend(CommonBackend):
    """A file."""

    case: ClassVar[str] = "file"
    out: str
    in_: Annotated[str | None, Named("in")] = None
    append: bool | None = None


@dataclass(frozen=True, kw_only=True)
class PipeBackend(CommonBackend):
    """Named pipes."""

    case: ClassVar[str] = "pipe"
    device: str


@dataclass(frozen=True)
class RingbufBackend(CommonBackend):
    """The last output, in memory."""

    case: ClassVar[str] = "ringbuf"
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class SocketBackend(CommonBackend):
    """A stream socket."""

    case: ClassVar[str] = "socket"
    addr: Address
    server: bool = True
    wait: bool = False
    nodelay: bool | None = None
    telnet: bool | None = None
    reconnect: int | None = None


@dataclass(frozen=True, kw_only=True)
class MuxBackend(CommonBackend):
    """Another character backend, shared."""

    case: ClassVar[str] = "mux"
    chardev: Annotated[str, Doc("its id")]


Backend = Annotated[
    NullBackend
    | PtyBackend
    | StdioBackend
    | FileBackend
    | PipeBackend
    | RingbufBackend
    | SocketBackend
    | MuxBackend,
    Tagged("type", "ChardevBackend", nested="data"),
]


@dataclass(frozen=True)
class ChardevReturn:
    """Answer to `chardev-add`."""

    pty: Annotated[str | None, Doc("the pseudo-terminal's name")] = None


@command("chardev-add")
def chardev_add(vm: Vm, session: Session, id: str, backend: Backend) -> ChardevReturn | Later:
    """Open a character backend."""
    if id in vm.backends.chardevs:
        raise QmpError(f"Chardev with id '{id}' already exists")
    return _answer(vm, session, id, backend, plug)


@command("chardev-change")
def chardev_change(vm: Vm, session: Session, id: str, backend: Backend) -> ChardevReturn | Later:
    """Open another character backend in place of one. The device that uses it goes on with the new
    one; if that cannot be opened, all stays as it was."""
    vm.backends.check_changeable(id)
    return _answer(vm, session, id, backend, change)


Opener = Callable[[ChardevConfig, socket.socket | None], Chardev]


def plug(vm: Vm, wanted: ChardevConfig) -> Chardev | Later:
    """Open a character backend. Raises `ConfigError` or `HostError`."""
    vm.backends.check_new(wanted.id)
    return _connected(vm, wanted, vm.backends.plug_chardev)


def change(vm: Vm, wanted: ChardevConfig) -> Chardev | Later:
    """Open another one in place of that with the same id. Raises as `plug`."""
    vm.backends.check_changeable(wanted.id)
    return _connected(vm, wanted, vm.backends.change_chardev)


def _connected(vm: Vm, wanted: ChardevConfig, open: Opener) -> Chardev | Later:
    dial = vm.backends.dialling(wanted)
    if dial is None:
        return open(wanted, None)
    return Later(dial, lambda outcome: open(wanted, outcome()))


def _answer(
    vm: Vm,
    session: Session,
    id: str,
    backend: Any,
    open: Callable[[Vm, ChardevConfig], Chardev | Later],
) -> ChardevReturn | Later:
    with _failure_named(id), ExitStack() as taken:
        options = {k: v for k, v in _options(session, taken, backend).items() if v is not None}
        found = open(vm, ChardevConfig(backend.case, id, properties=options))
    if isinstance(found, Later):
        return found.then(lambda outcome: _returned(id, outcome))
    return _returned(id, lambda: found)


def _returned(id: str, outcome: Outcome) -> ChardevReturn:
    with _failure_named(id):
        made = outcome()
    pty = made.filename.removeprefix("pty:") if isinstance(made, PtyChardev) else None
    return ChardevReturn(pty)


@contextmanager
def _failure_named(id: str) -> Iterator[None]:
    try:
        yield
    except (QmpError, ConfigError, HostError) as error:
        raise QmpError(f"Failed to add chardev '{id}': {error}") from None


def _options(session: Session, taken: ExitStack, backend: Any) -> dict[str, PropertyValue]:
    """A backend's options, by the names of the command line."""
    options: dict[str, PropertyValue] = {
        "logfile": backend.logfile,
        "logappend": backend.logappend,
    }
    match backend:
        case StdioBackend():
            options["signal"] = backend.signal
        case FileBackend():
            options |= {"path": backend.out, "append": backend.append}
            options["input-path"] = backend.in_
        case PipeBackend():
            options["path"] = backend.device
        case RingbufBackend():
            options["size"] = backend.size
        case MuxBackend():
            options["chardev"] = backend.chardev
        case SocketBackend():
            options |= {"server": backend.server, "nodelay": backend.nodelay}
            options |= {"telnet": backend.telnet, "reconnect": backend.reconnect}
            options["wait"] = backend.wait if backend.server else None
            options |= _address(session, taken, backend.addr)
    return options


def _address(session: Session, taken: ExitStack, address: Any) -> dict[str, PropertyValue]:
    match address:
        case InetAddress():
            options: dict[str, PropertyValue] = {"host": address.host, "port": address.port}
            return options | {"to": address.to, "ipv4": address.ipv4, "ipv6": address.ipv6}
        case UnixAddress():
            return {"path": address.path, "abstract": address.abstract}
    name = str(address.str)
    if name.isdecimal():
        return {"fd": name}
    fd = session.fds.take(name)
    taken.callback(os.close, fd)  # the backend has a duplicate
    return {"fd": str(fd)}


@command("chardev-remove")
def chardev_remove(vm: Vm, id: str) -> None:
    """Close a character backend that nobody uses."""
    vm.backends.remove_chardev(id)


@command("add_client")
def add_client(
    vm: Vm,
    session: Session,
    protocol: Annotated[str, Doc("the id of a socket backend")],
    fdname: Annotated[str, Doc("a connected socket, of `getfd`")],
    skipauth: bool | None = None,
    tls: bool | None = None,
) -> None:
    """Hand a client to a server that has none: to a character backend of the kind `socket`. There
    are no servers of displays."""
    try:
        fd = session.fds.take(fdname)
    except QmpError:
        raise QmpError(f"File descriptor named '{fdname}' has not been found") from None
    try:
        chardev = vm.backends.chardevs.get(protocol)
        if protocol == "spice":
            raise DeviceNotActive("SPICE is not in use")
        if chardev is None:
            raise QmpError(f"protocol '{protocol}' is invalid")
        if not isinstance(chardev, SocketChardev):
            raise QmpError("failed to add client")
        chardev.add_client(fd)
    except (QmpError, ConfigError):
        os.close(fd)
        raise


@command("chardev-send-break")
def chardev_send_break(vm: Vm, id: str) -> None:
    """Send a break, as a terminal on the line could."""
    chardev = vm.backends.chardevs.get(id)
    if chardev is None:
        raise QmpError(f"Chardev '{id}' not found")
    chardev.send_break()


class DataFormat(Enum):
    """How bytes are in a JSON string."""

    UTF8 = "utf8"
    BASE64 = "base64"


def _ringbuf(vm: Vm, device: str) -> RingbufChardev:
    chardev = vm.backends.chardevs.get(device)
    if chardev is None:
        raise QmpError(f"Device '{device}' not found")
    if not isinstance(chardev, RingbufChardev):
        raise QmpError(f"{device} is not a ringbuf device")
    return chardev


@command("ringbuf-write")
def ringbuf_write(vm: Vm, device: str, data: str, format: DataFormat = DataFormat.UTF8) -> None:
    """Put bytes into a ring buffer."""
    ringbuf = _ringbuf(vm, device)
    try:
        raw = data.encode() if format is DataFormat.UTF8 else base64.b64decode(data, validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise QmpError("Base64 data is not valid") from None
    ringbuf.feed(raw)


@command("ringbuf-read")
def ringbuf_read(
    vm: Vm,
    device: str,
    size: Annotated[int, Doc("bytes, at most")],
    format: DataFormat = DataFormat.UTF8,
) -> str:
    """Take bytes out of a ring buffer. What is not UTF-8 is replaced in that format."""
    ringbuf = _ringbuf(vm, device)
    if size <= 0:
        raise QmpError("size must be greater than zero")
    data = ringbuf.read(size)
    if format is DataFormat.BASE64:
        return base64.b64encode(data).decode()
    return data.decode("utf-8", "replace")
