"""Hubs: a frame that comes in at one port goes out at all others."""

from __future__ import annotations

from collections import deque

from ratite.net.netdev import Buffers, Netdev, NetHost

QUEUE_FRAMES = 256
"""What waits at one port for its user, at most; more is lost, as on a cable."""


class Hub:
    """Ports that hear each other.

    What comes in while a frame goes round is lost: hubs are connected in a circle then.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.ports: list[HubPort] = []
        self._busy = False

    def pass_on(self, source: HubPort, buffers: Buffers) -> None:
        """Send a frame out at all ports but its own. Runs: per frame."""
        if self._busy:
            return
        self._busy = True
        try:
            frame = b"".join(buffers)
            for port in self.ports:
                if port is not source:
                    port.put(frame)
        finally:
            self._busy = False

    def flush(self, port: HubPort) -> None:
        """Send what waits at a port."""
        if not self._busy:
            self._busy = True
            try:
                port.empty_queue()
            finally:
                self._busy = False


class HubPort(Netdev):
    """One port. Frames go to its user, or to the netdev behind it, which it is the user of."""

    kind = "hubport"

    def __init__(self, id: str, host: NetHost, hub: Hub, behind: Netdev | None = None) -> None:
        super().__init__(id, host)
        self.hub = hub
        self.behind = behind
        self._queue: deque[bytes] = deque()
        hub.ports.insert(0, self)
        if behind is not None:
            self.claim()
            behind.attach(self)

    def _send(self, buffers: Buffers) -> bool:
        self.hub.pass_on(self, buffers)
        return True

    def put(self, frame: bytes) -> None:
        """Take a frame from the hub. Runs: per frame."""
        if len(self._queue) < QUEUE_FRAMES and (self._queue or not self._give(frame)):
            self._queue.append(frame)

    def _give(self, frame: bytes) -> bool:
        if self.behind is not None and self.link_up:
            return self.behind.send([frame])
        return self._deliver(memoryview(frame))

    def empty_queue(self) -> None:
        """Hand out what waits, as far as it is taken."""
        while self._queue and self._give(self._queue[0]):
            self._queue.popleft()

    def _resume(self) -> None:
        self.hub.flush(self)

    # -- as the user of the netdev behind

    def receive(self, frame: memoryview, /) -> bool:
        """A frame from the netdev behind."""
        if self.link_up:
            self.hub.pass_on(self, [frame])
        return True

    def writable(self) -> None:
        """The netdev behind takes frames again."""
        self.hub.flush(self)

    def link_changed(self, up: bool, /) -> None:
        """The link of the netdev behind is its own matter."""

    def lose_behind(self) -> None:
        """The netdev behind is deleted."""
        self.behind = None
        self._queue.clear()
        self.release()

    def close(self) -> None:
        """Leave the hub."""
        self.hub.ports.remove(self)
        if self.behind is not None:
            self.behind.release()
