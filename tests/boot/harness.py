"""Machines for the boot tests: made from a command line, talked to as a person would."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import ratite
import ratite.cli.main
from ratite.cli.guest import MARKER, GuestFiles
from ratite.cli.options import parse
from ratite.vm import SERIAL_ID

DEMO = Path(ratite.cli.main.__file__).parent / "demo" / "demo.bin"
PROMPT = "~ # "


def program(name: str) -> list[str]:
    """The command that starts `ratite` ("main") or `ratite-system-riscv64` ("system")."""
    return [
        sys.executable,
        "-c",
        f"import sys; from ratite.cli.{name} import main; sys.exit(main())",
    ]


def make_vm(*words: object) -> ratite.Vm:
    """A machine from a command line; its first serial port is `vm.serial`."""
    config = parse(["-display", "none", *map(str, words)])
    return ratite.Vm(config=replace(config, serials=(SERIAL_ID,)))


def kernel_options(guest: GuestFiles, append: str = "") -> list[object]:
    """What boots Debian's kernel on the built-in SBI."""
    machine = ["-M", "virt", "-m", "512M", "-bios", "builtin"]
    files = ["-kernel", guest.kernel, "-initrd", guest.initrd]
    return [*machine, *files, "-append", f"console=ttyS0 {append}".strip()]


class Linux:
    """A Debian kernel with a shell on its first serial port."""

    def __init__(self, vm: ratite.Vm) -> None:
        self.vm = vm

    def start(self, *, timeout: float = 60) -> Linux:
        """Start the machine and wait for the shell."""
        self.vm.start()
        return self.await_shell(timeout=timeout)

    def await_shell(self, *, timeout: float = 60) -> Linux:
        """Wait for the shell of this boot, or after a reboot for the next one's."""
        self.vm.serial.expect(MARKER, timeout=timeout)
        self.vm.serial.expect(PROMPT)
        return self

    def send(self, command: str) -> None:
        """Type a line."""
        self.vm.serial.send(f"{command}\n")

    def run(self, command: str, *, timeout: float = 30) -> str:
        """The output of a command that succeeds."""
        status, output = self.try_run(command, timeout=timeout)
        assert status == 0, output
        return output

    def try_run(self, command: str, *, timeout: float = 30) -> tuple[int, str]:
        """Exit status and output of a command."""
        # What the terminal echoes names the variables; only the output has their values.
        self.send(f"B='<<' E='>'; echo $B; {command}; echo $B$?$E")
        output = self.vm.serial.expect(r"<<\r\n(?s:.*?)<<\d+>\r\n", timeout=timeout, regex=True)
        match = re.fullmatch(r"(?s).*?<<\r\n(.*)<<(\d+)>\r\n", output)
        assert match is not None, output
        self.vm.serial.expect(PROMPT)
        return int(match[2]), match[1].replace("\r\n", "\n")

    def power_off(self) -> None:
        """End the machine from inside."""
        self.send("poweroff")
        assert self.vm.wait(20)
