"""A running event loop, a machine that can be paused, and a card that remembers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from ratite.core.events import EventLoop
from ratite.core.lock import MachineLock
from ratite.net import NetHost, Network
from ratite.net.netdev import Place


class Card:
    """Takes as many frames as it is told to, and remembers everything."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.frames: list[bytes] = []
        self.writables = 0
        self.links: list[bool] = []

    def receive(self, frame: memoryview, /) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.frames.append(bytes(frame))
        return True

    def writable(self) -> None:
        self.writables += 1

    def link_changed(self, up: bool, /) -> None:
        self.links.append(up)


class Bench:
    """A network with what it tells the machine."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.running = True
        self.warnings: list[str] = []
        self.streams: list[tuple[str, Place | None]] = []
        host = NetHost(
            loop,
            running=lambda: self.running,
            warn=self.warnings.append,
            stream_changed=lambda id, place: self.streams.append((id, place)),
        )
        self.network = Network(host)

    def add(self, options: object, card: Card | None = None) -> Card:
        """Make a netdev, with a card on it."""
        card = card or Card()

        def make() -> None:
            made = self.network.add(options)  # type: ignore[arg-type]
            made.claim()
            made.attach(card)

        self.loop.call(make)
        return card

    def send(self, id: str, *pieces: bytes) -> bool:
        """Send a frame as a card does."""
        buffers = [memoryview(piece) for piece in pieces]
        return self.loop.call(lambda: self.network.netdevs[id].send(buffers))

    def do(self, action: Callable[[], object]) -> None:
        """Do something on the loop."""
        self.loop.call(action)


def wait_for(condition: Callable[[], object], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.002)


@pytest.fixture
def bench() -> Iterator[Bench]:
    loop = EventLoop(MachineLock())
    loop.start()
    bench = Bench(loop)
    yield bench
    loop.call(bench.network.close)
    loop.stop()


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_for


@pytest.fixture
def make_card() -> type[Card]:
    return Card
