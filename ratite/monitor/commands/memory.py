"""Guest memory, written to files of the host.

Source: QEMU's QMP reference, `memsave`, `pmemsave`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from ratite.core.errors import HostError
from ratite.cpu.inspect import inspector
from ratite.memory import Gpa, MemTxResult
from ratite.monitor.command import command
from ratite.monitor.errors import QmpError
from ratite.monitor.session import Session
from ratite.monitor.vm import Vm, halted
from ratite.qom import Doc

PAGE = 0x1000
CHUNK = 1 << 20


def read_physical(vm: Vm, gpa: int, size: int) -> bytes | None:
    """Guest-physical memory; None where nothing answers."""
    data, result = vm.machine.memory.read_bytes(Gpa(gpa & (1 << 64) - 1), size)
    return data if result is MemTxResult.OK else None


def read_virtual(vm: Vm, cpu_index: int, gva: int, size: int) -> bytes | None:
    """Memory as a CPU sees it; None where nothing is mapped or nothing answers. The CPU does not
    execute.
    """
    view = inspector(vm.machine.vcpus[cpu_index])
    found = bytearray()
    while len(found) < size:
        address = gva + len(found) & (1 << 64) - 1
        length = min(size - len(found), PAGE - address % PAGE)
        gpa = view.translate(address)
        piece = None if gpa is None else read_physical(vm, gpa, length)
        if piece is None:
            return None
        found += piece
    return bytes(found)


def _pieces(read: Callable[[int, int], bytes | None], start: int, size: int) -> Iterator[bytes]:
    if size < 0:
        raise QmpError("Parameter 'size' expects a non-negative value")
    done = 0
    while done < size:
        length = min(CHUNK, size - done)
        piece = read(start + done, length)
        if piece is None:
            shown = start & (1 << 64) - 1
            raise QmpError(f"Invalid addr 0x{shown:016x}/size {size} specified")
        yield piece
        done += length


def _save(vm: Vm, filename: str, pieces: Iterator[bytes]) -> None:
    try:
        with open(filename, "wb") as file:
            for piece in pieces:
                with vm.machine.lock.unlocked():  # a slow disk does not hold up the guest
                    file.write(piece)
    except OSError as error:
        reason = error.strerror or str(error)
        raise HostError(f"Could not open '{filename}': {reason}", error.errno or 0) from error


@command("memsave")
def memsave(
    vm: Vm,
    session: Session,
    val: Annotated[int, Doc("guest-virtual address")],
    size: Annotated[int, Doc("bytes")],
    filename: Annotated[str, Doc("replaced if it exists")],
    cpu_index: Annotated[int | None, Doc("the CPU whose mapping counts")] = None,
) -> None:
    """Save guest memory as a CPU sees it."""
    index = session.cpu_index if cpu_index is None else cpu_index
    if not 0 <= index < len(vm.machine.vcpus):
        raise QmpError("Parameter 'cpu-index' expects a CPU number")
    with halted(vm):
        _save(vm, filename, _pieces(lambda at, n: read_virtual(vm, index, at, n), val, size))


@command("pmemsave")
def pmemsave(
    vm: Vm,
    val: Annotated[int, Doc("guest-physical address")],
    size: Annotated[int, Doc("bytes")],
    filename: Annotated[str, Doc("replaced if it exists")],
) -> None:
    """Save guest-physical memory."""
    _save(vm, filename, _pieces(lambda at, n: read_physical(vm, at, n), val, size))
