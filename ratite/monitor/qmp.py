"""The monitor for programs: QMP over any character backend.

Source: QEMU's QMP specification. Greeting, negotiation, requests with ids, one answer each in
order, events in between. A request is handled per turn of the main loop, so that a client which
sends many does not keep the guest from its devices. Out-of-band requests (`exec-oob`) are answered
in order like all others: none of them waits for anything.
"""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from ratite.chardev import Chardev
from ratite.core.char import CharEvent
from ratite.core.errors import ConfigError, HostError
from ratite.core.trace import TraceEvent
from ratite.monitor.command import Command, load
from ratite.monitor.errors import CommandNotFound, QmpError
from ratite.monitor.event import Message
from ratite.monitor.json_stream import Fault, JsonStream
from ratite.monitor.later import Later, Outcome
from ratite.monitor.outlet import Outlet
from ratite.monitor.session import Session
from ratite.monitor.turns import Turns
from ratite.monitor.version import version_info
from ratite.monitor.vm import Vm

if TYPE_CHECKING:
    from ratite.monitor.hub import MonitorHub

READ_SIZE = 4096
NEGOTIATE = "qmp_capabilities"
_MEMBERS = ("execute", "exec-oob", "arguments", "id")


@TraceEvent
def handle_qmp_command(mon: str, req: str) -> str:
    """A client has sent a request."""
    return f"mon {mon} req: {req}"


@TraceEvent
def monitor_qmp_respond(mon: str, json: str) -> str:
    """A client is answered, or told of an event."""
    return f"mon {mon} resp: {json}"


class QmpMonitor:
    """One monitor: the frontend of a character backend, which it has claimed."""

    def __init__(self, vm: Vm, hub: MonitorHub, chardev: Chardev, *, pretty: bool = False) -> None:
        self.session = Session(chardev)
        self._vm = vm
        self._hub = hub
        self._chardev = chardev
        self._indent = 4 if pretty else None
        self._input = JsonStream()
        self._outlet = Outlet(chardev)
        self._turns = Turns(vm, chardev, self._outlet, self._work)
        self._ready = False  # capabilities are negotiated
        self._oob = False
        self._client = 0  # how many there were
        self._commands: dict[str, Command] = {}

    def open(self) -> None:
        """Begin: the greeting goes out when a client is there."""
        self._chardev.attach(self)

    def close(self) -> None:
        """Say the last words and let the backend go."""
        self._forget()
        self._outlet.flush()
        self.session.fds.close()
        self._chardev.release()

    # -- the frontend

    def can_receive(self) -> int:
        """Nothing while a request waits, or while the client does not read its answers."""
        return 0 if self._turns.busy else READ_SIZE

    def receive(self, data: bytes) -> None:
        """Take input."""
        self._input.feed(data)
        self._turns.take()

    def event(self, event: CharEvent) -> None:
        """Greet a client, forget one that left, go on with one that reads again."""
        match event:
            case CharEvent.OPENED:
                self._forget()
                version = {"version": version_info(), "capabilities": ["oob"]}
                self._send({"QMP": version})
            case CharEvent.CLOSED:
                self._forget()
                self._outlet.clear()
            case CharEvent.WRITABLE:
                self._turns.go_on(pending=self._input.pending > 0)

    def notify(self, message: Message) -> None:
        """Pass on an event of the machine's."""
        self._outlet.write_if_room(self._encode(message))

    # -- requests

    def _forget(self) -> None:
        self._input.clear()
        self._client += 1
        self._ready = self._oob = False
        if self.notify in self._hub.events.listeners:
            self._hub.events.listeners.remove(self.notify)

    def _work(self) -> bool:
        """Handle one request; whether there may be more."""
        request = self._input.next()
        if request is None:
            return False
        self._answer(request)
        return self._input.pending > 0

    def _answer(self, request: object) -> None:
        if trace := self._vm.log.trace:
            shown = request.text if isinstance(request, Fault) else json.dumps(request)
            trace(handle_qmp_command, self._chardev.id, shown)
        reply: dict[str, object] = {}
        if isinstance(request, dict) and "id" in request:
            reply["id"] = request["id"]
        self._reply(reply, lambda: self._dispatch(request))

    def _reply(self, reply: dict[str, object], outcome: Outcome) -> None:
        """Answer with what it comes to, at once or when that is known."""
        try:
            result = outcome()
            if isinstance(result, Later):
                client = self._client
                self._turns.wait_for(result, lambda known: self._reply_to(client, reply, known))
                return
            reply["return"] = result
        except QmpError as error:
            reply["error"] = {"class": error.error_class, "desc": str(error)}
        except (ConfigError, HostError) as error:
            reply["error"] = {"class": QmpError.error_class, "desc": error.text}
        except Exception as error:
            # One of the two places that may: a bug in one command is shown, and the guest runs on.
            print("ratite: error in a monitor command", file=sys.stderr)
            traceback.print_exc()
            reply["error"] = {"class": QmpError.error_class, "desc": f"internal error: {error}"}
        self._send(reply)

    def _reply_to(self, client: int, reply: dict[str, object], outcome: Outcome) -> None:
        """Answer the client that asked; if it has left, what is to be done is done nevertheless."""
        if client == self._client:
            self._reply(reply, outcome)
        else:
            with suppress(QmpError, ConfigError, HostError):
                outcome()

    def _dispatch(self, request: object) -> object:
        if isinstance(request, Fault):
            raise QmpError(request.text)
        if not isinstance(request, dict):
            raise QmpError("QMP input must be a JSON object")
        name, arguments = self._check(request)
        if not self._ready:
            return self._negotiate(name, arguments)
        if not self._commands:
            self._commands = load()
        if name == NEGOTIATE:
            raise CommandNotFound("Capabilities negotiation is already complete, command ignored")
        command = self._commands.get(name)
        if command is None:
            raise CommandNotFound(f"The command {name} has not been found")
        if "exec-oob" in request and not command.allow_oob:
            raise QmpError(f"The command {name} does not support OOB")
        if not (self._vm.initialized or command.preconfig):
            raise QmpError(
                f"The command '{name}' is permitted only after machine initialization has completed"
            )
        return command.execute(self._vm, self.session, arguments)

    def _check(self, request: dict[str, object]) -> tuple[str, dict[str, object]]:
        """The command's name and arguments, of a request of the right form."""
        for key in request:
            if key not in _MEMBERS or (key == "exec-oob" and not self._oob):
                raise QmpError(f"QMP input member '{key}' is unexpected")
        names = [key for key in ("execute", "exec-oob") if key in request]
        if not names:
            raise QmpError("QMP input lacks member 'execute'")
        if len(names) > 1:
            raise QmpError("QMP input member 'exec-oob' clashes with 'execute'")
        name = request[names[0]]
        if not isinstance(name, str):
            raise QmpError(f"QMP input member '{names[0]}' must be a string")
        arguments = request.get("arguments", {})
        if not isinstance(arguments, dict):
            raise QmpError("QMP input member 'arguments' must be an object")
        return name, arguments

    def _negotiate(self, name: str, arguments: dict[str, object]) -> object:
        if name != NEGOTIATE:
            raise CommandNotFound(f"Expecting capabilities negotiation with '{NEGOTIATE}'")
        if not self._commands:
            self._commands = load()
        self._commands[NEGOTIATE].parse(arguments)
        self._oob = bool(arguments.get("enable"))
        self._ready = True
        self._hub.events.listeners.append(self.notify)
        return {}

    # -- output

    def _send(self, message: Message) -> None:
        self._outlet.write(self._encode(message))

    def _encode(self, message: Message) -> bytes:
        text = json.dumps(message, indent=self._indent)
        if trace := self._vm.log.trace:
            trace(monitor_qmp_respond, self._chardev.id, text)
        return text.replace("\n", "\r\n").encode() + b"\r\n"
