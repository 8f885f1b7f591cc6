"""Opening a character backend by the word and the options that `-chardev` gives it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from ratite.chardev.chardev import Chardev, NullChardev
from ratite.chardev.file import FileChardev, PipeChardev
from ratite.chardev.pty import PtyChardev
from ratite.chardev.ringbuf import RingbufChardev
from ratite.chardev.socket import SocketChardev
from ratite.chardev.stdio import StdioChardev
from ratite.core.errors import ConfigError
from ratite.core.loop import Loop
from ratite.qom import keyword_arguments

_KINDS: dict[str, type[Chardev]] = {
    cls.kind: cls
    for cls in (
        NullChardev,
        StdioChardev,
        FileChardev,
        PipeChardev,
        PtyChardev,
        RingbufChardev,
        SocketChardev,
    )
}


def chardev_kinds() -> list[str]:
    """The words that `open_chardev` takes, sorted. A mux is made by its class."""
    return sorted(_KINDS)


def open_chardev(
    kind: str,
    id: str,
    loop: Loop,
    options: Mapping[str, object],
    on_wait: Callable[[str], None] = lambda _: None,
    connection: socket.socket | None = None,
) -> Chardev:
    """Open a backend; `options` are text or JSON by the names of the command line.

    `on_wait` gets a line for the user before a server waits for its first client; a client socket
    may have its `connection` already. Raises ConfigError for a wrong kind or option, HostError for
    what the host refuses.
    """
    cls = _KINDS.get(kind)
    if cls is None:
        raise ConfigError(
            f"there is no kind {kind!r}; there are {', '.join(chardev_kinds())} and mux"
        )
    arguments = keyword_arguments(cls, options)
    if cls is SocketChardev:
        return SocketChardev(id, loop, on_wait, connection, **arguments)
    return _make(cls, id, loop, arguments)


def _make(
    cls: Callable[..., Chardev], id: str, loop: Loop, arguments: Mapping[str, object]
) -> Chardev:
    return cls(id, loop, **arguments)
