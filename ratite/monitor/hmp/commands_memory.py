"""Memory, registers and expressions."""

from __future__ import annotations

from collections.abc import Callable

from ratite.core.errors import ConfigError
from ratite.cpu.inspect import Inspector, inspector
from ratite.memory import Gpa, Hva
from ratite.monitor.commands import memory
from ratite.monitor.commands.memory import read_physical, read_virtual
from ratite.monitor.errors import QmpError
from ratite.monitor.hmp import dump
from ratite.monitor.hmp.command import Number, Refusal, Shell, Slash, hmp
from ratite.monitor.hmp.dump import Format
from ratite.monitor.session import DumpFormat
from ratite.monitor.vm import halted

NO_CPU = "No CPU available"


def current(shell: Shell) -> Inspector:
    """The inspector of the current CPU. Raises `QmpError`."""
    if not shell.vm.machine.vcpus:
        raise QmpError(NO_CPU)
    return inspector(shell.vm.machine.vcpus[shell.session.cpu_index])


@hmp("cpu", "set the default CPU")
def cpu(shell: Shell, index: Number) -> str | None:
    """Choose the CPU that registers and addresses are about."""
    if index >= len(shell.vm.machine.vcpus):
        return "invalid CPU index\n"
    shell.session.cpu_index = index
    return None


def settle(shell: Shell, wanted: Format) -> DumpFormat:
    """The format as wanted, and else as it was last; it is kept for the next."""
    kept = shell.session.dump_format
    kept.letter = wanted.letter or kept.letter
    if kept.letter != "i":
        kept.size = wanted.size or kept.size
    return kept


def _dump(
    shell: Shell, read: Callable[[int, int], bytes | None], wanted: Format, address: int
) -> str:
    form = settle(shell, wanted)
    if form.letter == "i":
        lines = dump.instructions(read, address, wanted.count, current(shell))
    else:
        lines = dump.numbers(read, address, wanted.count, form.letter, form.size)
    return "".join(f"{line}\n" for line in lines)


@hmp("x", "virtual memory dump starting at 'addr'")
def x(shell: Shell, fmt: Slash, addr: Number) -> str:
    """Show memory as the current CPU sees it."""
    index = shell.session.cpu_index
    current(shell)
    with halted(shell.vm):
        return _dump(shell, lambda at, n: read_virtual(shell.vm, index, at, n), fmt, addr)


@hmp("xp", "physical memory dump starting at 'addr'")
def xp(shell: Shell, fmt: Slash, addr: Number) -> str:
    """Show guest-physical memory."""
    return _dump(shell, lambda at, n: read_physical(shell.vm, at, n), fmt, addr)


@hmp("print|p", "print expression value (use $reg for CPU register access)")
def print_(shell: Shell, fmt: Slash, expr: Number) -> str:
    """Show what an expression comes to."""
    letter = settle(shell, fmt).letter
    if letter == "i":
        letter = "d"
    if letter == "c":
        return dump.character(expr & 0xFFFF_FFFF) + "\n"
    return dump.number(expr, letter, 8, padded=False) + "\n"


@hmp("memsave", "save to disk virtual memory dump starting at 'addr' of size 'size'")
def memsave(shell: Shell, addr: Number, size: Number, file: str) -> None:
    """Save memory as the current CPU sees it."""
    memory.memsave(shell.vm, shell.session, addr, size, file)


@hmp("pmemsave", "save to disk physical memory dump starting at 'addr' of size 'size'")
def pmemsave(shell: Shell, addr: Number, size: Number, file: str) -> None:
    """Save guest-physical memory."""
    memory.pmemsave(shell.vm, addr, size, file)


@hmp("sum", "compute the checksum of a memory region")
def sum_(shell: Shell, addr: Number, size: Number) -> str:
    """The 16-bit sum of guest-physical bytes, rotated after each, as the BSD program `sum`."""
    total = 0
    for at in range(addr, addr + min(size, 1 << 20)):
        byte = read_physical(shell.vm, at, 1) or b"\0"
        total = (total >> 1) | (total << 15)
        total = (total + byte[0]) & 0xFFFF
    return f"{total:05d}\n"


@hmp("gva2gpa", "print the guest physical address corresponding to a guest virtual address")
def gva2gpa(shell: Shell, addr: Number) -> str:
    """Translate a guest-virtual address."""
    view = current(shell)
    with halted(shell.vm):
        gpa = view.translate(addr)
    return "Unmapped\n" if gpa is None else f"gpa: {gpa:#x}\n"


def _host_address(shell: Shell, gpa: int) -> tuple[str, Hva]:
    found = shell.vm.machine.memory.lookup(Gpa(gpa))
    if found is None:
        raise Refusal(f"No memory is mapped at address 0x{gpa:x}")
    block = found.region.block
    if block is None:
        raise Refusal(f"Memory at address 0x{gpa:x} is not RAM")
    inside = found.offset_in_region + gpa - found.start
    return found.region.region_name, Hva(block.host + inside)


@hmp("gpa2hva", "print the host virtual address corresponding to a guest physical address")
def gpa2hva(shell: Shell, addr: Number) -> str:
    """Where guest memory is in this process."""
    name, hva = _host_address(shell, addr)
    return f"Host virtual address for 0x{addr:x} ({name}) is 0x{hva:x}\n"


@hmp("gpa2hpa", "print the host physical address corresponding to a guest physical address")
def gpa2hpa(shell: Shell, addr: Number) -> str:
    """Where guest memory is in the host's memory. The host tells root only."""
    name, hva = _host_address(shell, addr)
    try:
        with open("/proc/self/pagemap", "rb") as file:
            file.seek(hva // memory.PAGE * 8)
            entry = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise ConfigError(f"Cannot read pagemap: {error.strerror}") from None
    if not entry >> 63:
        raise Refusal("Page not present")
    frame = entry & ((1 << 55) - 1)
    hpa = frame * memory.PAGE + hva % memory.PAGE
    return f"Host physical address for 0x{addr:x} ({name}) is 0x{hpa:x}\n"
