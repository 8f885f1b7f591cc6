"""The base of all netdevs: one user, a link that can be down, and flow control both ways.

A netdev is used under the machine lock only, by devices on vCPU threads and by the event loop. It
never waits, and keeps at most what its kind says. Who cannot take a frame now says so, and says
later that he can: until then the frame stays where it comes from, at last in the host's own queues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from ratite.core.loop import Loop
from ratite.net.options import FdSocketAddress, InetSocketAddress, UnixSocketAddress
from ratite.qom import InUse

Buffers = Sequence[memoryview | bytes]
Place = InetSocketAddress | UnixSocketAddress | FdSocketAddress


class NetUser(Protocol):
    """The device, or the hub's port, that uses a netdev."""

    def receive(self, frame: memoryview, /) -> bool:
        """Take a frame, or lose it; the memory is the caller's again afterwards. False: not now;
        the same frame comes again after `accept_input`.
        """

    def writable(self) -> None:
        """After `send` answered False: now may be better."""

    def link_changed(self, up: bool, /) -> None:
        """The netdev's link is up or down now."""


@dataclass(frozen=True)
class NetHost:
    """What netdevs need of the machine that they belong to."""

    loop: Loop
    running: Callable[[], bool]
    """Whether the guest runs: while it does not, nothing reaches it. `Network.resume` follows."""
    warn: Callable[[str], None] = lambda _: None
    """Gets a line for the user."""
    stream_changed: Callable[[str, Place | None], None] = lambda *_: None
    """Called when a stream netdev is connected, with the address, and when it is no longer."""


class Netdev:
    """A network backend.

    A kind of netdev overrides `_send`, and what else it needs of `_resume` and `close`; it calls
    `_deliver` with frames from the host, and `_writable` when `_send` may be called again.
    """

    kind: ClassVar[str] = ""  # the word after -netdev

    def __init__(self, id: str, host: NetHost) -> None:
        self.id = id
        self.link_up = True
        self.user: NetUser | None = None
        self._host = host
        self._claimed = False
        self._refused = False  # the user's last frame

    @property
    def info(self) -> str:
        """Where frames go, in the words of `info network`."""
        return ""

    @property
    def claimed(self) -> bool:
        """Whether a card or a hub's port has it."""
        return self._claimed

    # -- for the user

    def claim(self) -> Netdev:
        """Reserve it for one user. Raises `InUse`."""
        if self._claimed:
            raise InUse(f"netdev '{self.id}' is in use")
        self._claimed = True
        return self

    def release(self) -> None:
        """Detach the user and give up the claim."""
        self.user = None
        self._claimed = self._refused = False

    def attach(self, user: NetUser, /) -> None:
        """Serve this user from now on."""
        self.user = user
        self._resume()

    def send(self, buffers: Buffers, /) -> bool:
        """Take a frame, in pieces, or lose it. False: not now; `writable` follows. Runs: per
        frame.
        """
        taken = not self.link_up or self._send(buffers)
        self._refused = not taken
        return taken

    def accept_input(self) -> None:
        """The user can take frames again."""
        if self._host.running():
            self._resume()

    # -- for the machine

    def set_link(self, up: bool) -> None:
        """Plug the cable in, or pull it out: frames are lost then."""
        self.link_up = up
        if self.user is not None:
            self.user.link_changed(up)
        if up:
            self._resume()

    def resume(self) -> None:
        """The guest runs again."""
        self._resume()
        self._writable()

    def close(self) -> None:
        """Give everything back to the host."""

    # -- for kinds of netdevs

    def _send(self, buffers: Buffers) -> bool:
        return True

    def _resume(self) -> None:
        """Deliver what was held back, and read on."""

    def _deliver(self, frame: memoryview) -> bool:
        """Give a frame to the user; False: it must be held back. Runs: per frame."""
        user = self.user
        if user is None or not self.link_up:
            return True
        return self._host.running() and user.receive(frame)

    def _writable(self) -> None:
        if self._refused and self.user is not None and self._host.running():
            self._refused = False
            self.user.writable()
