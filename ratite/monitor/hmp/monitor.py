"""The monitor for people, on any character backend."""

from __future__ import annotations

from ratite.chardev import Chardev, MuxPort
from ratite.core.char import CharEvent
from ratite.core.trace import TraceEvent
from ratite.monitor.hmp.line_editor import LineEditor
from ratite.monitor.later import Later, Outcome
from ratite.monitor.outlet import Outlet
from ratite.monitor.session import Session
from ratite.monitor.turns import Turns
from ratite.monitor.version import PACKAGE
from ratite.monitor.vm import Vm

PROMPT = "(qemu) "
"""What clients that drive the monitor wait for."""
INPUT_LIMIT = 4096


@TraceEvent
def handle_hmp_command(mon: str, cmdline: str) -> str:
    """A line was entered into the monitor."""
    return f"mon {mon} cmdline: {cmdline}"


class HmpMonitor:
    """One monitor: the frontend of a character backend, which it has claimed."""

    def __init__(self, vm: Vm, chardev: Chardev) -> None:
        self.session = Session(chardev)
        self._vm = vm
        self._chardev = chardev
        self._outlet = Outlet(chardev)
        self.session.show = self._show
        self._editor = LineEditor(PROMPT, self.session.history, self._show, self._completions)
        self._keys = bytearray()
        self._turns = Turns(vm, chardev, self._outlet, self._work)
        self._has_input = not isinstance(chardev, MuxPort)  # else it comes with MUX_IN
        self._greeted = False

    def open(self) -> None:
        """Begin."""
        self._chardev.attach(self)

    def close(self) -> None:
        """Say the last words and let the backend go."""
        self._outlet.flush()
        self.session.fds.close()
        self._chardev.release()

    # -- the frontend

    def can_receive(self) -> int:
        """Nothing while a line waits to be done, or while the client does not read."""
        return 0 if self._turns.busy or self.session.ended else INPUT_LIMIT - len(self._keys)

    def receive(self, data: bytes) -> None:
        """Take keys."""
        self._keys += data
        self._turns.take()

    def event(self, event: CharEvent) -> None:
        """Greet, once for each client; step aside while another frontend of a mux has the input."""
        match event:
            case CharEvent.OPENED:
                self._editor.reset()
                self._greeted = False
                self._greet()
            case CharEvent.CLOSED:
                self._keys.clear()
                self._outlet.clear()
            case CharEvent.MUX_IN:
                self._has_input = True
                if self._greeted:
                    self._editor.start()
                self._greet()
            case CharEvent.MUX_OUT:
                if self._greeted:
                    self._show("\r\n")
                self._has_input = False
            case CharEvent.WRITABLE:
                self._turns.go_on(pending=bool(self._keys))

    def _greet(self) -> None:
        if self._has_input and not self._greeted and self._chardev.is_open:
            self._greeted = True
            self._show(f"{PACKAGE} monitor - type 'help' for more information\r\n")
            self._editor.start()

    # -- lines

    def _work(self) -> bool:
        """Do one line; whether there are more keys."""
        line, used = self._editor.feed(bytes(self._keys))
        del self._keys[:used]
        if line is not None:
            if self._run(line):
                return False
            if self.session.ended:
                self._keys.clear()
                return False
            self._editor.start()
        return bool(self._keys)

    def _run(self, line: str) -> bool:
        """Do a line; whether it is not over yet."""
        from ratite.monitor.hmp.command import Shell
        from ratite.monitor.hmp.shell import run_line

        if trace := self._vm.log.trace:
            trace(handle_hmp_command, self._chardev.id, line)
        found = run_line(Shell(self._vm, self.session), line)
        if isinstance(found, Later):
            self._turns.wait_for(found, self._over)
            return True
        self._show(found.replace("\n", "\r\n"))
        return False

    def _over(self, outcome: Outcome) -> None:
        self._show(outcome().replace("\n", "\r\n"))
        self._editor.start()

    def _completions(self, line: str) -> list[str]:
        from ratite.monitor.hmp.command import Shell
        from ratite.monitor.hmp.shell import completions

        return completions(Shell(self._vm, self.session), line)

    def _show(self, text: str) -> None:
        self._outlet.write(text.encode())
