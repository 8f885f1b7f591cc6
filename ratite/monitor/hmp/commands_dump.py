"""Dumps of guest memory, for people."""

from __future__ import annotations

from typing import Annotated

from ratite.monitor.commands import dump
from ratite.monitor.commands.dump import DumpGuestMemoryFormat
from ratite.monitor.dump import DumpStatus
from ratite.monitor.errors import QmpError
from ratite.monitor.hmp.command import File, Flag, Number, Shell, hmp
from ratite.monitor.later import Later


@hmp(
    "dump-guest-memory",
    "dump guest memory into file 'filename'.\n"
    "\t\t\t-p: do paging to get guest's memory mapping.\n"
    "\t\t\t-d: return immediately (do not wait for completion).\n"
    "\t\t\t-z: dump in kdump-compressed format, with zlib compression.\n"
    "\t\t\t-l: dump in kdump-compressed format, with lzo compression.\n"
    "\t\t\t-s: dump in kdump-compressed format, with snappy compression.\n"
    "\t\t\t-w: dump in Windows crashdump format\n"
    "\t\t\tbegin: the starting physical address.\n"
    "\t\t\tlength: the memory size, in bytes.",
)
def dump_guest_memory(
    shell: Shell,
    filename: File,
    begin: Number | None = None,
    length: Number | None = None,
    paging: Annotated[bool, Flag("p")] = False,
    detach: Annotated[bool, Flag("d")] = False,
    zlib: Annotated[bool, Flag("z")] = False,
    lzo: Annotated[bool, Flag("l")] = False,
    snappy: Annotated[bool, Flag("s")] = False,
    windows: Annotated[bool, Flag("w")] = False,
) -> Later | None:
    """Write guest memory and the CPUs' registers to an ELF core. The other formats are refused."""
    formats = {
        DumpGuestMemoryFormat.KDUMP_ZLIB: zlib,
        DumpGuestMemoryFormat.KDUMP_LZO: lzo,
        DumpGuestMemoryFormat.KDUMP_SNAPPY: snappy,
        DumpGuestMemoryFormat.WIN_DMP: windows,
    }
    chosen = [format for format, wanted in formats.items() if wanted]
    if len(chosen) > 1:
        raise QmpError("only one of '-z|-l|-s|-w' can be set")
    return dump.dump_guest_memory(
        shell.vm,
        shell.session,
        paging,
        f"file:{filename}",
        detach,
        begin,
        length,
        chosen[0] if chosen else None,
    )


@hmp("info dump", "Display the latest dump status")
def info_dump(shell: Shell) -> str:
    """How far the dump is that goes on, or was the last."""
    found = dump.query_dump(shell.vm)
    text = f"Status: {found.status.value}\n"
    if found.status is DumpStatus.ACTIVE and found.total:
        text += f"Finished: {100.0 * found.completed / found.total:.2f} %\n"
    return text
