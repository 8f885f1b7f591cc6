"""Descriptors that come with messages.

Source: QEMU's QMP reference, `getfd`, `closefd`, `add-fd`, `remove-fd`, `query-fdsets`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ratite.monitor.command import command
from ratite.monitor.errors import QmpError
from ratite.monitor.session import Session
from ratite.monitor.vm import Vm
from ratite.qom import Doc


def _received(session: Session) -> int:
    fd = session.take_fd()
    if fd is None:
        raise QmpError("No file descriptor supplied via SCM_RIGHTS")
    return fd


@command("getfd")
def getfd(session: Session, fdname: Annotated[str, Doc("what it is called from now on")]) -> None:
    """Keep the descriptor that came with this command, under a name."""
    session.fds.put(fdname, _received(session))


@command("closefd")
def closefd(session: Session, fdname: str) -> None:
    """Close a descriptor that `getfd` kept."""
    session.fds.discard(fdname)


@dataclass(frozen=True)
class AddfdInfo:
    """Answer to `add-fd`."""

    fdset_id: Annotated[int, Doc("the set")]
    fd: Annotated[int, Doc("the descriptor's number here")]


@command("add-fd")
def add_fd(
    vm: Vm,
    session: Session,
    fdset_id: Annotated[int | None, Doc("the set to add to; a new one if not given")] = None,
    opaque: Annotated[str | None, Doc("a note for the client itself")] = None,
) -> AddfdInfo:
    """Add the descriptor that came with this command to a set, which `/dev/fdset/N` means."""
    return AddfdInfo(*vm.hub.fd_sets.add(_received(session), fdset_id, opaque))


@command("remove-fd")
def remove_fd(
    vm: Vm, fdset_id: int, fd: Annotated[int | None, Doc("all of the set if not given")] = None
) -> None:
    """Close descriptors of a set."""
    vm.hub.fd_sets.remove(fdset_id, fd)


@dataclass(frozen=True)
class FdsetFdInfo:
    """One descriptor of a set."""

    fd: int
    opaque: str | None = None


@dataclass(frozen=True)
class FdsetInfo:
    """One set."""

    fdset_id: int
    fds: list[FdsetFdInfo]


@command("query-fdsets")
def query_fdsets(vm: Vm) -> list[FdsetInfo]:
    """All sets of descriptors."""
    return [
        FdsetInfo(found.id, [FdsetFdInfo(entry.fd, entry.opaque) for entry in found.members])
        for found in vm.hub.fd_sets.sets.values()
    ]
