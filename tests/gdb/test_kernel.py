"""Debian's kernel under gdb, from its first instruction to the shell."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import ratite
from ratite.cli.guest import MARKER, find_guest
from ratite.cli.options import parse
from ratite.vm import SERIAL_ID

pytestmark = pytest.mark.boot
GDB, AS, LD = "gdb-multiarch", "riscv64-linux-gnu-as", "riscv64-linux-gnu-ld"


def symbols(vm: ratite.Vm, path: Path) -> Path:
    """A program file with the running kernel's own symbols."""
    names = "start_kernel|kernel_init|ret_from_fork|ret_from_fork_kernel_asm|schedule|linux_banner"
    vm.serial.send(f'grep -E " ({names}|jiffies)$" /proc/kallsyms; echo EN""D\n')
    text = vm.serial.expect("\r\nEND", timeout=20)
    found = sorted(re.findall(r"([0-9a-f]{16}) (\w) (\w+)\r", text))
    functions = [(int(address, 16), name) for address, kind, name in found if kind in "tT"]
    base = functions[0][0]
    source = '.option norelax\n.section .text,"ax",@nobits\n'
    for address, name in functions:
        source += f".org {address - base:#x}\n.globl {name}\n.type {name}, @function\n{name}:\n"
    source += ".skip 4096\n"
    for address, kind, name in found:
        if kind not in "tT":
            source += f".globl {name}\n.type {name}, @object\n{name} = 0x{address}\n"
    parts, whole = path / "kernel.o", path / "kernel"
    subprocess.run([AS, "-o", str(parts), "-"], input=source, text=True, check=True)
    subprocess.run([LD, f"-Ttext={base:#x}", "-e0", "-o", str(whole), str(parts)], check=True)
    return whole


def test_the_kernel_is_debugged_from_start_kernel_to_the_shell(tmp_path: Path) -> None:
    guest = find_guest()
    if guest is None:
        pytest.skip("no guest software: see `ratite fetch`")
    for tool in (GDB, AS, LD):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    options = f"-M virt -m 512M -smp 2 -bios builtin -display none -gdb unix:{tmp_path}/gdb"
    files = ["-kernel", str(guest.kernel), "-initrd", str(guest.initrd)]
    config = parse([*options.split(), *files, "-append", "console=ttyS0 nokaslr"])
    with ratite.Vm(config=replace(config, serials=(SERIAL_ID,))) as vm:
        vm.run(MARKER, timeout=90)
        table = symbols(vm, tmp_path)
        vm.loop.call(vm.stop)
        vm.loop.call(vm.reset)
        commands = f"""
            set pagination off
            target remote {tmp_path}/gdb
            symbol-file {table}
            hbreak *&start_kernel
            continue
            info threads
            print/x $satp >> 60
            x/s &linux_banner
            hbreak *&kernel_init
            continue
            backtrace 2
            delete
            watch *(unsigned long *)&jiffies
            continue
            delete
            monitor info status
            detach
        """
        script = tmp_path / "script"
        script.write_text(commands.replace("            ", ""))
        done = subprocess.run(
            [GDB, "-nx", "-q", "-batch", "-ex", "set confirm off", "-x", str(script)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        output = done.stdout + done.stderr
        assert "hit Breakpoint 1, 0x" in output and "in start_kernel ()" in output, output
        assert "Thread 1.2 (CPU#1 [halted ])" in output, output
        assert "$1 = 0xa" in output and "Linux version" in output, output
        assert (
            "#0  0x" in output and "in kernel_init ()" in output and "in ret_from_fork" in output
        ), output
        assert "Hardware watchpoint 3" in output and "New value" in output, output
        vm.serial.expect(MARKER, timeout=90)
