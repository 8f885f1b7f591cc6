"""The gdb server: one client at a time on a character backend, and one client after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ratite.core.char import CharEvent
from ratite.core.log import Log
from ratite.core.trace import TraceEvent
from ratite.cpu.riscv import RiscvVcpu
from ratite.cpu.vcpu import Runner, Vcpu
from ratite.gdb.control import Host, Loop, RunControl, Stop
from ratite.gdb.memory import DebugMemory
from ratite.gdb.packet import PACKET_SIZE, Packet, PacketReader, Signal, frame
from ratite.gdb.points import Engine
from ratite.gdb.registers import RegisterFile
from ratite.gdb.riscv import register_file as riscv_registers
from ratite.gdb.session import Output, Session
from ratite.memory import AddressSpace

_INPUT = 4096
_REGISTER_FILES: dict[type[Vcpu], Callable[..., RegisterFile]] = {RiscvVcpu: riscv_registers}


class Stream(Protocol):
    """A character backend."""

    def write(self, data: bytes, /) -> int:
        """Send; returns how many bytes were taken."""

    def attach(self, frontend: GdbServer, /) -> None:
        """Connect a frontend."""

    def release(self) -> None:
        """Disconnect it."""

    def accept_input(self) -> None:
        """Deliver what was held back."""


@TraceEvent
def gdbstub_io_command(command: bytes) -> str:
    """gdb has sent a packet."""
    return f"Received: {repr(command)[2:-1]}"


@TraceEvent
def gdbstub_io_reply(message: bytes) -> str:
    """gdb is answered, or told that the guest has stopped."""
    return f"Sent: {repr(message)[2:-1]}"


class Machine(Protocol):
    """The board."""

    @property
    def vcpus(self) -> Sequence[Vcpu]:
        """Its vCPUs."""

    @property
    def log(self) -> Log:
        """Where it is traced."""

    @property
    def memory(self) -> AddressSpace:
        """Guest-physical memory."""

    @property
    def engine(self) -> Engine:
        """The accelerator."""


def registers_of(vcpu: Vcpu) -> RegisterFile:
    """What a debugger sees of a vCPU."""
    return _REGISTER_FILES[type(vcpu)](vcpu)


class GdbServer:
    """Serves clients of one machine. Everything is called on the main loop, with the machine lock
    held.
    """

    def __init__(
        self, machine: Machine, runner: Runner, loop: Loop, host: Host, stream: Stream
    ) -> None:
        self.monitor: Callable[[str], str] | None = None
        """Runs a command of `monitor CMD` and returns its output; None: there is no monitor."""
        self._control = RunControl(machine.vcpus, runner, machine.engine, loop, host)
        self._control.on_stop = self._stopped
        self._memory = DebugMemory(machine.memory)
        self._log = machine.log
        self._stream: Stream | None = stream
        self._session: Session | None = None
        self._reader = PacketReader()
        self._output = bytearray()
        self._unacknowledged = b""
        stream.attach(self)

    @property
    def connected(self) -> bool:
        """Whether a client debugs the machine."""
        return self._session is not None

    def close(self, status: int = 0) -> None:
        """The machine ends, with this exit status: tell the client and serve no more."""
        if self._stream is None:
            return
        if self._session is not None and not self._session.closing:
            self._send(b"W%02x" % (status & 0xFF))
        self._session = None
        self._stream.release()
        self._stream = None

    def shut(self) -> None:
        """Serve no more, and let the machine go on."""
        if self._session is not None:
            self._leave()
        self.close()

    def machine_stopped(self) -> None:
        """The machine was paused, by whomever."""
        if self._session is not None:
            self._control.machine_stopped()

    # -- what the backend calls

    def can_receive(self) -> int:
        """A client that does not read its answers is not heard."""
        return 0 if self._output else _INPUT

    def receive(self, data: bytes) -> None:
        """Take input."""
        for item in self._reader.feed(data):
            if self._session is None:
                self._join()
            if isinstance(item, Packet):
                self._packet(item.payload)
            else:
                self._signal(item)

    def event(self, event: CharEvent) -> None:
        """A client comes or goes."""
        if event is CharEvent.OPENED:
            self._reader = PacketReader()
            self._join()
        elif event is CharEvent.CLOSED:
            self._output.clear()
            if self._session is not None:
                self._leave()
        elif event is CharEvent.WRITABLE:
            self._flush()
            if not self._output and self._stream is not None:
                self._stream.accept_input()

    # -- sessions

    def _join(self) -> Session:
        self._unacknowledged = b""
        self._session = Session(self._control, self._memory, registers_of, self.monitor)
        self._control.attach()
        return self._session

    def _leave(self) -> None:
        assert self._session is not None
        left = self._session.closing
        self._session = None
        if not left:
            self._control.detach()

    def _signal(self, signal: Signal) -> None:
        match signal:
            case Signal.INTERRUPT:
                self._control.interrupt()
            case Signal.BAD:
                self._write(b"-")
            case Signal.NAK:
                self._write(self._unacknowledged)
            case Signal.ACK:
                self._unacknowledged = b""

    def _packet(self, payload: bytes) -> None:
        assert self._session is not None
        if trace := self._log.trace:
            trace(gdbstub_io_command, payload)
        if not self._session.no_ack:
            self._write(b"+")
        session = self._join() if self._session.closing else self._session
        self._control.interrupt()  # nothing can be asked of a machine that runs
        reply = session.handle(payload)
        if self._session is not session:  # a monitor command ended the server
            return
        if isinstance(reply, Output):
            chunk = PACKET_SIZE // 2 - 8
            for start in range(0, len(reply.text), chunk):
                self._send(b"O" + reply.text[start : start + chunk].hex().encode())
            reply = reply.reply
        if reply is not None:
            self._send(reply)

    def _stopped(self, stop: Stop) -> None:
        if self._session is not None:
            self._send(self._session.stop_reply(stop))

    # -- output

    def _send(self, payload: bytes) -> None:
        packet = frame(payload)
        if trace := self._log.trace:
            trace(gdbstub_io_reply, payload)
        assert self._session is not None
        self._unacknowledged = b"" if self._session.no_ack else packet
        self._write(packet)

    def _write(self, data: bytes) -> None:
        self._output += data
        self._flush()

    def _flush(self) -> None:
        if self._stream is not None and self._output:
            taken = self._stream.write(bytes(self._output))
            del self._output[:taken]


__all__ = ["GdbServer", "Machine", "Stream", "registers_of"]
