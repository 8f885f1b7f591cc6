"""Snapshots, for people."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated

from ratite.core.size import human_size
from ratite.migration.snapshot import NO_PLACE
from ratite.monitor.commands import blocks
from ratite.monitor.hmp.command import Completed, Shell, hmp
from ratite.monitor.hmp.progress import shown_progress

_ROW = "{:<9} {:<16} {:>8}{:>20}{:>13}{:>11}\n"


def _tags(shell: Shell) -> list[str]:
    return [info.tag for info in shell.vm.snapshots.list()]


@hmp("savevm", "save a VM snapshot. If no tag is provided, a new snapshot is created")
def savevm(shell: Shell, tag: Annotated[str, Completed(_tags)] = "") -> None:
    """Save the machine and its drives."""
    with shown_progress("savevm", shell.session.show) as progress:
        shell.vm.snapshots.save(tag, progress=progress)


@hmp("loadvm", "restore a VM snapshot from its tag")
def loadvm(shell: Shell, tag: Annotated[str, Completed(_tags)]) -> None:
    """Go back to a snapshot."""
    shell.vm.snapshots.load(tag)


@hmp("delvm", "delete a VM snapshot from its tag")
def delvm(shell: Shell, tag: Annotated[str, Completed(_tags)]) -> None:
    """Forget a snapshot."""
    shell.vm.snapshots.delete(tag)


@hmp("info snapshots", "show the currently saved VM snapshots")
def snapshots(shell: Shell) -> str:
    """The snapshots beside the first writable drive."""
    if shell.vm.snapshots.home() is None:
        return f"{NO_PLACE}\n"
    found = shell.vm.snapshots.list()
    if not found:
        return "There is no snapshot available.\n"
    head = "List of snapshots present on all disks:\n"
    return head + snapshot_table((blocks.snapshot_info(kept) for kept in found), ids=False)


def snapshot_table(found: Iterable[blocks.SnapshotInfo], *, ids: bool) -> str:
    """Snapshots, a line for each; with their ids where they are those of one image."""
    lines = [_ROW.format("ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT")]
    for info in found:
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info.date_sec))
        seconds, ns = info.vm_clock_sec, info.vm_clock_nsec
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ns // 10**6:03}"
        id = info.id if ids else "--"
        lines.append(_ROW.format(id, info.name, human_size(info.vm_state_size), date, clock, ""))
    return "".join(lines)
