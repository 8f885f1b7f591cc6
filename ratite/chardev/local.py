"""A stream whose other end is Python code in this process: what the API's `vm.serial` rests on."""

from __future__ import annotations

from collections.abc import Callable

from ratite.chardev.chardev import Bytes, Chardev
from ratite.chardev.options import DEFAULTS, CommonOptions
from ratite.core.loop import Loop


class LocalChardev(Chardev):
    """Calls `on_output` with every piece of output, under the machine lock: it must not wait.

    Input comes by `feed` and waits in memory, without limit, until the frontend takes it.
    """

    type_name = "chardev-local"
    kind = "local"

    def __init__(
        self,
        id: str,
        loop: Loop,
        on_output: Callable[[bytes], None],
        *,
        options: CommonOptions = DEFAULTS,
    ) -> None:
        super().__init__(id, loop, options)
        self._on_output = on_output
        self._input = bytearray()
        self.is_open = True

    def feed(self, data: bytes) -> None:
        """Send input. Any thread may call it; delivery happens on the loop."""
        self._loop.post(lambda: self._feed(data))

    def _feed(self, data: bytes) -> None:
        self._input += data
        self._resume()

    def _resume(self) -> None:
        while self._input and (room := self._receive_room()) > 0:
            piece = bytes(self._input[:room])
            del self._input[:room]
            self._deliver(piece)

    def _send(self, data: Bytes) -> int:
        self._on_output(bytes(data))
        return len(data)
