"""Dumps of guest memory, for debuggers.

Source: QEMU's QMP reference, "Dump guest memory". Not modelled: the formats that compress (kdump)
and that of Windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from ratite.monitor.command import command
from ratite.monitor.dump import DumpQueryResult, Target, create
from ratite.monitor.errors import QmpError, missing
from ratite.monitor.later import Later
from ratite.monitor.session import Session
from ratite.monitor.vm import Vm
from ratite.qom import Doc

_END = 1 << 64


class DumpGuestMemoryFormat(Enum):
    """Formats of dumps."""

    ELF = "elf"
    KDUMP_ZLIB = "kdump-zlib"
    KDUMP_LZO = "kdump-lzo"
    KDUMP_SNAPPY = "kdump-snappy"
    WIN_DMP = "win-dmp"


@dataclass(frozen=True)
class DumpGuestMemoryCapability:
    """Answer to `query-dump-guest-memory-capability`."""

    formats: Annotated[list[DumpGuestMemoryFormat], Doc("those that can be written")]


@command("query-dump-guest-memory-capability")
def query_dump_guest_memory_capability() -> DumpGuestMemoryCapability:
    """The formats that guest memory can be dumped in."""
    return DumpGuestMemoryCapability([DumpGuestMemoryFormat.ELF])


@command("query-dump")
def query_dump(vm: Vm) -> DumpQueryResult:
    """How far the dump is that goes on, or was the last."""
    return vm.hub.dump.progress()


@command("dump-guest-memory")
def dump_guest_memory(
    vm: Vm,
    session: Session,
    paging: Annotated[
        bool, Doc("by the virtual addresses that the CPUs have for memory, where they translate")
    ],
    protocol: Annotated[str, Doc("`file:PATH`, or `fd:NAME` of `getfd`")],
    detach: Annotated[bool | None, Doc("answer at once; `DUMP_COMPLETED` comes later")] = None,
    begin: Annotated[int | None, Doc("physical address; with `length`")] = None,
    length: Annotated[int | None, Doc("bytes")] = None,
    format: DumpGuestMemoryFormat | None = None,
) -> Later | None:
    """Write guest memory and the CPUs' registers to a file that gdb and crash read: an ELF core.
    The guest is paused meanwhile. If it cannot be written whole, there is no file."""
    vm.hub.dump.check()
    chosen = format or DumpGuestMemoryFormat.ELF
    _check_format(chosen, plain=not paging and begin is None and length is None)
    if begin is not None and length is None:
        raise missing("length")
    if length is not None and begin is None:
        raise missing("begin")
    target = _target(vm, session, protocol)
    if length is not None and length <= 0:
        target.discard()
        raise QmpError("Invalid parameter 'length'")
    first = (begin or 0) % _END
    end = _END if length is None else first + length
    going_on = vm.hub.dump.start(target, paging=paging, begin=first, end=end)
    return None if detach else going_on


def _check_format(format: DumpGuestMemoryFormat, *, plain: bool) -> None:
    match format:
        case DumpGuestMemoryFormat.ELF:
            return
        case DumpGuestMemoryFormat.WIN_DMP:
            raise QmpError("Windows dump is only available for x86-64")
        case _ if not plain:
            raise QmpError("kdump-compressed format doesn't support paging or filter")
    raise QmpError(f"{format.value} is not available now")


def _target(vm: Vm, session: Session, protocol: str) -> Target:
    kind, _, name = protocol.partition(":")
    match kind:
        case "file" if ":" in protocol:
            return create(vm.hub.fd_sets.resolve(name, True, reads=False))
        case "fd" if ":" in protocol:
            try:
                return Target(session.fds.take(name))
            except QmpError:
                raise QmpError(f"File descriptor named '{name}' has not been found") from None
    raise QmpError("Invalid parameter 'protocol'")
