"""Machines for the gdb server's tests: a small guest of ours on a bare board, and a client that
speaks the protocol.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import ratite
from ratite.cli.debugging import gdb_chardev
from ratite.machines.config import (
    AccelConfig,
    BootConfig,
    IcountConfig,
    MachineConfig,
    MemoryConfig,
    SmpConfig,
)

HERE = Path(__file__).parent
COMPILER = "riscv64-linux-gnu-gcc"
FLAGS = (
    "-g -O1 -nostdlib -ffreestanding -static -no-pie -mcmodel=medany -march=rv64gc -mabi=lp64d "
    "-Wl,--build-id=none -Wl,--no-warn-rwx-segments"
).split()
LINKER_SCRIPT = """
ENTRY(_start)
SECTIONS {
    . = 0x80000000;
    .text : { *(.text.start) *(.text*) }
    .data : { *(.data*) *(.sdata*) *(.rodata*) *(.srodata*) }
    .bss : { *(.sbss*) *(.bss*) *(COMMON) }
}
"""


class Program:
    """The guest as an ELF file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            table = ELFFile(file).get_section_by_name(".symtab")
            self._symbols = {
                entry.name: int(entry["st_value"]) for entry in table.iter_symbols() if entry.name
            }

    def address(self, symbol: str) -> int:
        """Where a symbol is."""
        return self._symbols[symbol]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The guest, compiled."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"{COMPILER} is not installed")
    path = tmp_path_factory.mktemp("guest") / "program.elf"
    script = path.with_suffix(".ld")
    script.write_text(LINKER_SCRIPT)
    command = [COMPILER, *FLAGS, "-T", str(script), "-o", str(path), str(HERE / "program.c")]
    subprocess.run(command, check=True)
    return Program(path)


class Debugged:
    """A machine that waits for gdb on a Unix socket."""

    def __init__(self, vm: ratite.Vm, path: Path) -> None:
        self.vm = vm
        self.path = path

    def connect(self) -> Client:
        """A new client."""
        return Client(self.path)


MakeMachine = Callable[..., Debugged]


@pytest.fixture
def machine(program: Program, tmp_path: Path) -> Iterator[MakeMachine]:
    """Makes machines that run the guest; they start paused."""
    made: list[ratite.Vm] = []

    def make(
        *,
        cpus: int = 1,
        accel: str = "tcg",
        device: str | None = None,
        icount: IcountConfig | None = None,
    ) -> Debugged:
        path = tmp_path / f"gdb{len(made)}"
        chardev = gdb_chardev(device or f"unix:{path}")
        assert chardev is not None
        config = MachineConfig(
            memory=MemoryConfig(16 << 20),
            smp=SmpConfig(cpus, cpus, 1, cpus, 1),
            boot=BootConfig(kernel=program.path, bios="none"),
            accels=(AccelConfig(accel),),
            icount=icount,
            default_devices=False,
            chardevs=(chardev,),
        )
        vm = ratite.Vm(config=replace(config, gdb="gdb"))
        made.append(vm)
        return Debugged(vm, path)

    yield make
    for vm in made:
        vm.close()


class Client:
    """Speaks gdb's protocol, plainly."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self._input = b""
        self.acks = True

    def send(self, payload: bytes | str) -> None:
        """Send a packet."""
        data = payload.encode("latin-1") if isinstance(payload, str) else payload
        self.socket.sendall(b"$%b#%02x" % (data, sum(data) & 0xFF))

    def byte(self) -> bytes:
        """One byte of input."""
        if not self._input:
            self._input = self.socket.recv(65536)
            if not self._input:
                raise EOFError
        first, self._input = self._input[:1], self._input[1:]
        return first

    def receive(self) -> str:
        """The next packet's payload, acknowledged."""
        while self.byte() != b"$":
            continue
        data = b""
        while (byte := self.byte()) != b"#":
            data += byte
        assert int(self.byte() + self.byte(), 16) == sum(data) & 0xFF
        if self.acks and not data.startswith(b"W"):
            self.socket.sendall(b"+")
        return data.decode("latin-1")

    def ask(self, payload: bytes | str) -> str:
        """Send a packet and return the answer."""
        self.send(payload)
        return self.receive()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.socket.sendall(b"\x03")

    def register(self, number: int) -> int:
        """A register's value."""
        return int.from_bytes(bytes.fromhex(self.ask(f"p{number:x}")), "little")

    def close(self) -> None:
        """Vanish."""
        self.socket.close()
