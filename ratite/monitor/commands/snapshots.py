"""Snapshots of the whole machine.

Source: QEMU's QMP reference, `snapshot-save`, `snapshot-load`, `snapshot-delete`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from ratite.block import Drive
from ratite.monitor.command import command
from ratite.monitor.errors import QmpError
from ratite.monitor.jobs import JobType
from ratite.monitor.vm import Vm
from ratite.qom import Doc

JobId = Annotated[str, Doc("what the job is called, until `job-dismiss`")]
Tag = Annotated[str, Doc("the snapshot's name")]
Place = Annotated[str, Doc("name of the node beside whose image the machine's state lies")]
Nodes = Annotated[list[str], Doc("names of the nodes whose content belongs to it")]


def _drives(vm: Vm, nodes: list[str]) -> list[Drive]:
    by_node = {drive.node_name: drive for drive in vm.backends.block.disks.values()}
    for name in nodes:
        if name not in by_node:
            raise QmpError(f"No block device node '{name}'")
    return [by_node[name] for name in nodes]


def _writable(vm: Vm, node: str) -> Drive:
    drive = _drives(vm, [node])[0]
    if vm.snapshots.home(drive) is None:
        raise QmpError(f"vmstate block device '{node}' does not exist")
    return drive


def _start(vm: Vm, id: str, type: JobType, work: Callable[[], object]) -> None:
    vm.hub.jobs.start(id, type, work)


@command("snapshot-save")
def snapshot_save(vm: Vm, job_id: JobId, tag: Tag, vmstate: Place, devices: Nodes) -> None:
    """Save the machine and the content of drives, as a job."""

    def work() -> None:
        drives = _drives(vm, devices)
        place = _writable(vm, vmstate)
        if vm.snapshots.find(tag, place) is not None:
            raise QmpError(f"Snapshot '{tag}' already exists in one or more devices")
        vm.snapshots.save(tag, drive=place, drives=drives)

    _start(vm, job_id, JobType.SNAPSHOT_SAVE, work)


@command("snapshot-load")
def snapshot_load(vm: Vm, job_id: JobId, tag: Tag, vmstate: Place, devices: Nodes) -> None:
    """Go back to a snapshot, as a job; a guest that runs goes on from there."""

    def work() -> None:
        _drives(vm, devices)
        vm.snapshots.load(tag, drive=_writable(vm, vmstate))

    _start(vm, job_id, JobType.SNAPSHOT_LOAD, work)


@command("snapshot-delete")
def snapshot_delete(vm: Vm, job_id: JobId, tag: Tag, devices: Nodes) -> None:
    """Forget a snapshot, as a job. Nothing happens if there is none of this name."""

    def work() -> None:
        for drive in _drives(vm, devices):
            vm.snapshots.delete(tag, drive=drive)

    _start(vm, job_id, JobType.SNAPSHOT_DELETE, work)
