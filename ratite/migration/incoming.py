"""Migration, the destination's side: memory is taken as it comes; the state of all parts is applied
when all of it is there and fits. The guest starts when the source has said that it lets go.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ratite.core.errors import ConfigError, HostError
from ratite.core.threads import NamedThread
from ratite.migration import pages
from ratite.migration.channel import Aborted, Channel, Listener
from ratite.migration.host import Host
from ratite.migration.outgoing import Status
from ratite.migration.settings import Capabilities, Capability
from ratite.migration.stream import Flag, Kind, Reader, StreamError, Writer, pack
from ratite.migration.vmstate import Arrival, apply_states, check_identity, check_states


class Answers:
    """What is said to a sender; nothing, not even a header, before it waits for it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._writer: Writer | None = None

    def say(self, error: str) -> None:
        """All is well so far, or why not."""
        if self._writer is None:
            self._writer = Writer(self._channel.write)
        self._writer.section(Kind.ANSWER, "answer", pack({"error": error} if error else {}))


def _silence(error: str) -> None:
    """Answer a sender that does not listen."""


class Incoming:
    """One migration to here, on a thread of its own."""

    def __init__(self, host: Host, listener: Listener, capabilities: Capabilities) -> None:
        self.status = Status.NONE
        self.error = ""
        self.run_guest = True
        """Whether the guest shall run when it is here, if it ran there."""
        self._host = host
        self._listener = listener
        self._capabilities = capabilities
        self._over = threading.Event()
        self._closed = False
        self._channel: Channel | None = None
        self._thread = NamedThread("incoming migration", self._run)

    @property
    def addresses(self) -> list[dict[str, Any]]:
        """Where it listens."""
        return self._listener.addresses

    def start(self) -> None:
        """Begin to wait for the source."""
        self._thread.start()

    def close(self) -> None:
        """Give up; without the machine lock."""
        self._closed = True
        self._listener.abort()
        with self._host.machine.lock.unlocked():
            self._thread.join()

    @property
    def connected(self) -> bool:
        """Whether a source is there, and the guest not yet."""
        return self._channel is not None and not self._over.is_set()

    def yank(self) -> None:
        """Have it fail, whatever the source does, if that is connected."""
        if self._channel is not None:
            self._channel.yank()

    # -- the thread

    def _run(self) -> None:
        try:
            channel = self._channel = self._listener.accept()
            with self._host.machine.lock:
                self._to(Status.ACTIVE)
            self._receive(channel)
        except Aborted:
            pass
        except (ConfigError, HostError, OSError) as failure:
            text = str(failure)
            if not self._closed:
                self._host.loop.post(lambda: self._fail(text))
        finally:
            self._listener.close()
            self._over.set()

    def _fail(self, text: str) -> None:
        self.error = text
        self._to(Status.FAILED)
        self._host.incoming_failed(text)

    def _receive(self, channel: Channel) -> None:
        reader = Reader(channel.read)
        say = _silence
        if Flag.ANSWERS in reader.flags and channel.answers:
            say = Answers(channel).say
        try:
            arrival = self._take(reader, say)
            if say is _silence and channel.goes_on:
                raise StreamError("section 'end': the stream goes on behind it")
            with self._host.machine.lock:
                self._apply(arrival)
        except (ConfigError, HostError) as error:
            self._let_go()
            try:
                say(str(error))
            except HostError:
                pass  # the source is gone, too
            channel.hang_up()
            raise
        say("")
        if Flag.ANSWERS in reader.flags:
            self._await_go(reader)
        self._host.loop.post(lambda: self._complete(arrival))

    def _await_go(self, reader: Reader) -> None:
        try:
            good = reader.section().kind is Kind.GO
        except (StreamError, HostError):
            good = False
        if not good:
            self._let_go()
            raise StreamError("section 'go' is missing: the source keeps the guest")

    def _let_go(self) -> None:
        """The images are the source's again."""
        with self._host.machine.lock:
            for disk in self._host.disks.values():
                disk.deactivate()

    def _take(self, reader: Reader, say: Callable[[str], None]) -> Arrival:
        machine = self._host.machine
        arrival = Arrival()
        for section in reader.sections():
            if section.kind is Kind.RAM and arrival.identity is not None:
                pages.apply(section, machine.ram)
                continue
            arrival.take(section)
            if section.kind is Kind.IDENTITY:
                with machine.lock:
                    check_identity(arrival, machine)
                say("")
        return arrival

    def _apply(self, arrival: Arrival) -> None:
        """With the machine lock held: all or nothing."""
        host = self._host
        check_identity(arrival, host.machine)
        check_states(arrival, host.machine)
        if not self._late:
            for disk in host.disks.values():
                disk.activate()
        apply_states(arrival, host.machine, host.runner.set_time)

    @property
    def _late(self) -> bool:
        """Whether images are claimed only when the guest is let run."""
        return self._capabilities.has(Capability.LATE_BLOCK_ACTIVATE) and not self.run_guest

    def _complete(self, arrival: Arrival) -> None:
        """The guest is here."""
        run = self.run_guest and arrival.running
        self._host.leave("running" if run else "paused", run=run)
        self._host.arrived()
        self._to(Status.COMPLETED)

    def _to(self, status: Status) -> None:
        self.status = status
        self._host.migrating(status.value)
