"""What one client asks, and the answers.

Source: "Debugging with GDB", appendix E; the `qqemu` packets are described in QEMU's manual,
"GDB usage".
Not modelled: non-stop mode, reverse execution, tracepoints, file transfer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ratite.cpu.vcpu import Vcpu
from ratite.gdb.control import Continue, Plan, RunControl, Step, Stop
from ratite.gdb.memory import DebugMemory
from ratite.gdb.packet import PACKET_SIZE, escape
from ratite.gdb.points import Point, PointType
from ratite.gdb.registers import Register, RegisterFile

OK, EMPTY = b"OK", b""
MALFORMED, NO_MEMORY = b"E22", b"E14"
_HEX = re.compile("[0-9a-fA-F]{1,16}")
_FEATURES = (
    f"PacketSize={PACKET_SIZE:x}",
    "qXfer:features:read+",
    "QStartNoAckMode+",
    "vContSupported+",
    "multiprocess+",
    "swbreak+",
    "hwbreak+",
)
STEP_FLAGS = 7
"""A step executes one instruction, interrupts and timers wait."""


class Malformed(Exception):
    """A packet that cannot be read."""


@dataclass(frozen=True, slots=True)
class Output:
    """A reply that text for the user goes before."""

    text: bytes
    reply: bytes


Reply = bytes | Output | None
"""None: the answer comes when the machine stops, or never."""


def number(text: str) -> int:
    """A hex number of at most 64 bits. Raises `Malformed`."""
    if not _HEX.fullmatch(text):
        raise Malformed(f"{text!r} is no number")
    return int(text, 16)


def octets(digits: str) -> bytes:
    """Bytes from pairs of hex digits. Raises `Malformed`."""
    if not re.fullmatch("(?:[0-9a-fA-F]{2})*", digits):
        raise Malformed("these are no bytes")
    return bytes.fromhex(digits)


class Session:
    """One connection's state and commands. Called on the main loop, with the machine lock held."""

    def __init__(
        self,
        control: RunControl,
        memory: DebugMemory,
        registers: Callable[[Vcpu], RegisterFile],
        monitor: Callable[[str], str] | None,
    ) -> None:
        self.no_ack = False
        self.closing = False  # the client has taken its leave
        self._control = control
        self._memory = memory
        self._make_registers = registers
        self._monitor = monitor
        self._files: dict[Vcpu, RegisterFile] = {}
        self._general = control.vcpus[0]  # what registers and memory are read of
        self._resumed: Vcpu | None = None  # what `c` and `s` are about; None: all
        self._multiprocess = False
        self._tells_breakpoints = (False, False)  # software, hardware
        self._physical = False
        self._commands: dict[str, Callable[[str], Reply]] = {
            "!": lambda text: OK,
            "?": self._status,
            "D": self._detach,
            "g": self._read_registers,
            "G": self._write_registers,
            "H": self._select,
            "k": self._kill,
            "m": self._read_memory,
            "M": self._write_memory,
            "p": self._read_register,
            "P": self._write_register,
            "T": self._alive,
            "z": self._remove_point,
            "Z": self._add_point,
            "c": lambda text: self._resume_simply(text, Continue()),
            "C": lambda text: self._resume_simply(text, Continue(), signal=True),
            "s": lambda text: self._resume_simply(text, Step()),
            "S": lambda text: self._resume_simply(text, Step(), signal=True),
        }
        self._named: dict[str, Callable[[str], Reply]] = {
            "qSupported": self._supported,
            "QStartNoAckMode": self._stop_acks,
            "qXfer:features:read": self._read_features,
            "qC": lambda text: f"QC{self._id(self._general)}".encode(),
            "qfThreadInfo": self._threads,
            "qsThreadInfo": lambda text: b"l",
            "qThreadExtraInfo": self._describe_thread,
            "qAttached": lambda text: b"1",
            "qRcmd": self._run_monitor,
            "qqemu.Supported": lambda text: b"sstepbits;sstep;PhyMemMode",
            "qqemu.sstepbits": lambda text: b"ENABLE=1,NOIRQ=2,NOTIMER=4",
            "qqemu.sstep": lambda text: b"0x%x" % STEP_FLAGS,
            "Qqemu.sstep": self._set_step_flags,
            "qqemu.PhyMemMode": lambda text: b"%d" % self._physical,
            "Qqemu.PhyMemMode": self._set_physical,
            "vCont": self._resume_each,
            "vCont?": lambda text: b"vCont;c;C;s;S;r",
            "vKill": self._kill,
            "vAttach": self._status,
        }

    def handle(self, payload: bytes) -> Reply:
        """Answer a packet."""
        try:
            if payload[:1] == b"X":
                return self._write_binary(payload[1:])
            text = payload.decode("latin-1")
            if text[:1] in ("q", "Q", "v"):
                found = re.match(r"qXfer:features:read|vCont\?|[\w.]+", text)
                name = found[0] if found else ""
                handler = self._named.get(name)
                return EMPTY if handler is None else handler(text[len(name) :])
            command = self._commands.get(text[:1])
            return EMPTY if command is None else command(text[1:])
        except (Malformed, ValueError):
            return MALFORMED

    def stop_reply(self, stop: Stop) -> bytes:
        """What the client is told of a stop; its vCPU becomes the current one."""
        self._general = self._resumed = stop.vcpu
        reason = stop.reason
        if stop.breakpoint is PointType.SOFTWARE and self._tells_breakpoints[0]:
            reason += "swbreak:;"
        elif stop.breakpoint is PointType.HARDWARE and self._tells_breakpoints[1]:
            reason += "hwbreak:;"
        return f"T{stop.signal:02x}thread:{self._id(stop.vcpu)};{reason}".encode()

    # -- negotiation

    def _supported(self, text: str) -> bytes:
        wanted = text.removeprefix(":").split(";")
        self._multiprocess = "multiprocess+" in wanted
        self._tells_breakpoints = "swbreak+" in wanted, "hwbreak+" in wanted
        return ";".join(_FEATURES).encode()

    def _stop_acks(self, text: str) -> bytes:
        self.no_ack = True
        return OK

    def _set_step_flags(self, text: str) -> bytes:
        return OK if number(text.removeprefix("=").removeprefix("0x")) == STEP_FLAGS else MALFORMED

    def _set_physical(self, text: str) -> bytes:
        if text not in (":0", ":1"):
            raise Malformed("0 or 1")
        self._physical = text == ":1"
        return OK

    def _read_features(self, text: str) -> bytes:
        _, annex, place = text.split(":")
        start, size = map(number, place.split(","))
        if annex != "target.xml":
            return b"E00"
        data = self._file(self._general).description().encode()
        size = min(size, PACKET_SIZE // 2)
        more = b"m" if start + size < len(data) else b"l"
        return more + escape(data[start : start + size])

    # -- threads

    def _id(self, vcpu: Vcpu) -> str:
        return f"p01.{vcpu.index + 1:02x}" if self._multiprocess else f"{vcpu.index + 1:02x}"

    def _selected(self, text: str) -> Sequence[Vcpu]:
        """The vCPUs that a thread id means: one, or all. Raises `Malformed` if there is none."""
        found = re.fullmatch(r"(?:p(-1|[0-9a-f]{1,8})(?:\.|$))?(-1|[0-9a-f]{1,8})?", text)
        if found is None or not text:
            raise Malformed("no thread id")
        process, thread = found[1], found[2]
        if process not in (None, "-1") and int(process, 16) > 1:
            raise Malformed("no such process")
        vcpus = self._control.vcpus
        if thread is None or thread == "-1":
            return vcpus
        wanted = int(thread, 16)
        if wanted > len(vcpus):
            raise Malformed("no such thread")
        return (vcpus[wanted - 1],) if wanted else (self._general,)

    def _select(self, text: str) -> bytes:
        vcpus = self._selected(text[1:])
        if text[:1] == "c":
            self._resumed = vcpus[0] if len(vcpus) == 1 else None
        elif text[:1] == "g":
            self._general = vcpus[0]
        else:
            raise Malformed("for what?")
        return OK

    def _alive(self, text: str) -> bytes:
        self._selected(text)
        return OK

    def _threads(self, text: str) -> bytes:
        return f"m{','.join(map(self._id, self._control.vcpus))}".encode()

    def _describe_thread(self, text: str) -> bytes:
        (vcpu,) = self._selected(text.removeprefix(","))[:1]
        what = "halted " if vcpu.state.halted else "running"
        return f"CPU#{vcpu.index} [{what}]".encode().hex().encode()

    # -- registers

    def _file(self, vcpu: Vcpu) -> RegisterFile:
        if vcpu not in self._files:
            self._files[vcpu] = self._make_registers(vcpu)
        return self._files[vcpu]

    def _read_registers(self, text: str) -> bytes:
        file = self._file(self._general)
        return "".join(map(file.read, file.general)).encode()

    def _write_registers(self, text: str) -> bytes:
        file = self._file(self._general)
        octets(text)
        for register in file.general:
            digits, text = text[: register.size * 2], text[register.size * 2 :]
            if digits:
                file.write(register, digits)
        return OK

    def _register(self, digits: str) -> Register:
        register = self._file(self._general).find(number(digits))
        if register is None:
            raise Malformed("no such register")
        return register

    def _read_register(self, text: str) -> bytes:
        return self._file(self._general).read(self._register(text)).encode()

    def _write_register(self, text: str) -> bytes:
        place, _, digits = text.partition("=")
        octets(digits)
        self._file(self._general).write(self._register(place), digits)
        return OK

    # -- memory

    def _translator(self) -> Vcpu | None:
        return None if self._physical else self._general

    def _read_memory(self, text: str) -> bytes:
        address, size = map(number, text.split(","))
        data = self._memory.read(self._translator(), address, min(size, PACKET_SIZE // 2))
        return data.hex().encode() if data or not size else NO_MEMORY

    def _write_memory(self, text: str) -> bytes:
        place, _, digits = text.partition(":")
        return self._store(place, octets(digits))

    def _write_binary(self, payload: bytes) -> bytes:
        place, _, data = payload.partition(b":")
        return self._store(place.decode("latin-1"), data)

    def _store(self, place: str, data: bytes) -> bytes:
        address, size = map(number, place.split(","))
        if size != len(data):
            raise Malformed("not as many bytes as said")
        return OK if self._memory.write(self._translator(), address, data) else NO_MEMORY

    # -- breakpoints and watchpoints

    def _point(self, text: str) -> Point:
        type_, address, size = text.split(";")[0].split(",")
        return Point(PointType(number(type_)), number(address), number(size))

    def _add_point(self, text: str) -> bytes:
        if text[:1] not in "01234":
            return EMPTY
        self._control.points.add(self._point(text))
        return OK

    def _remove_point(self, text: str) -> bytes:
        if text[:1] not in "01234":
            return EMPTY
        self._control.points.remove(self._point(text))
        return OK

    # -- running

    def _status(self, text: str) -> bytes:
        if text.startswith(";") and number(text[1:]) != 1:
            raise Malformed("no such process")
        if not text:
            self._control.points.clear()
        return self.stop_reply(Stop(5, self._general))

    def _resume_simply(self, text: str, action: Step | Continue, *, signal: bool = False) -> Reply:
        if signal:  # a vCPU takes no signals
            _, _, text = text.partition(";")
        if text:
            file = self._file(self._general)
            next(r for r in file.general if r.name == "pc").write(number(text))
        if isinstance(action, Continue):
            return self._resume(dict.fromkeys(self._control.vcpus, action))
        return self._resume({self._resumed or self._general: action})

    def _resume_each(self, text: str) -> Reply:
        plan: dict[Vcpu, Step | Continue] = {}
        for part in text.removeprefix(";").split(";"):
            what, _, thread = part.partition(":")
            vcpus = self._selected(thread) if thread else self._control.vcpus
            action = _action(what)
            for vcpu in vcpus:
                plan.setdefault(vcpu, action)
        return self._resume(plan)

    def _resume(self, plan: Plan) -> Reply:
        self._control.resume(plan)
        return None

    # -- the end, and the monitor

    def _detach(self, text: str) -> bytes:
        if text.startswith(";") and number(text[1:]) != 1:
            raise Malformed("no such process")
        self._control.detach(resume=True)
        self.closing = True
        return OK

    def _kill(self, text: str) -> Reply:
        self._control.end()
        self.closing = True
        return OK if text.startswith(";") else None

    def _run_monitor(self, text: str) -> Reply:
        if self._monitor is None:
            return EMPTY
        command = octets(text.removeprefix(",")).decode("utf-8", "replace")
        return Output(self._monitor(command).encode(), OK)


def _action(what: str) -> Step | Continue:
    """One action of `vCont`."""
    match what[:1]:
        case "c":
            if what == "c":
                return Continue()
        case "C":
            number(what[1:])
            return Continue()
        case "s":
            if what == "s":
                return Step()
        case "S":
            number(what[1:])
            return Step()
        case "r":
            first, end = map(number, what[1:].split(","))
            return Step(first, end - 1) if end else Step()
    raise Malformed(f"no action {what!r}")


__all__ = ["Output", "Reply", "Session"]
