"""Descriptors that clients hand over: named ones, and sets that paths can mean.

Source: QEMU's QMP reference, `getfd`, `closefd`, `add-fd`, `remove-fd`, `query-fdsets`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass, field

from ratite.core.errors import HostError
from ratite.monitor.errors import QmpError

PREFIX = "/dev/fdset/"


class NamedFds:
    """Descriptors under names, each owned until it is taken or closed."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def put(self, name: str, fd: int) -> None:
        """Keep `fd`; an earlier one of this name is closed. Raises `QmpError` for a name that looks
        like a number, with `fd` closed.
        """
        if name[:1].isdigit():
            os.close(fd)
            raise QmpError("Parameter 'fdname' expects a name not starting with a digit")
        old = self._fds.pop(name, None)
        if old is not None:
            os.close(old)
        self._fds[name] = fd

    def discard(self, name: str) -> None:
        """Close a descriptor. Raises `QmpError`."""
        os.close(self.take(name))

    def take(self, name: str) -> int:
        """Give a descriptor away. Raises `QmpError`."""
        if name not in self._fds:
            raise QmpError(f"File descriptor named '{name}' not found")
        return self._fds.pop(name)

    def close(self) -> None:
        """Close all."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


@dataclass
class SetMember:
    """One descriptor of a set."""

    fd: int
    opaque: str | None


@dataclass
class FdSet:
    """Descriptors of one file, opened in different ways."""

    id: int
    members: list[SetMember] = field(default_factory=list)


class FdSets:
    """All sets of a machine, by number. The path `/dev/fdset/N` means set N."""

    def __init__(self) -> None:
        self.sets: dict[int, FdSet] = {}

    def add(self, fd: int, set_id: int | None, opaque: str | None) -> tuple[int, int]:
        """Own `fd` as a member of a set, the first free number if none is given; returns the set's
        number and the descriptor. Raises `QmpError` for a negative number.
        """
        if set_id is None:
            set_id = next(n for n in range(len(self.sets) + 1) if n not in self.sets)
        if set_id < 0:
            os.close(fd)
            raise QmpError("Parameter 'fdset-id' expects a non-negative value")
        found = self.sets.setdefault(set_id, FdSet(set_id))
        found.members.append(SetMember(fd, opaque))
        return set_id, fd

    def remove(self, set_id: int, fd: int | None) -> None:
        """Close a descriptor of a set, or all of it. Raises `QmpError`."""
        found = self.sets.get(set_id)
        gone = [m for m in found.members if fd is None or m.fd == fd] if found else []
        if found is None or not gone:
            wanted = f"fdset-id:{set_id}" + (f", fd:{fd}" if fd is not None else "")
            raise QmpError(f"File descriptor named '{wanted}' not found")
        for entry in gone:
            found.members.remove(entry)
            os.close(entry.fd)
        if not found.members:
            del self.sets[set_id]

    def resolve(self, path: str, writes: bool, /, *, reads: bool = True) -> str:
        """A path that can be opened: itself, or for `/dev/fdset/N` that of a member that may be
        written if `writes`, and read if `reads`. Raises `HostError`.
        """
        if not path.startswith(PREFIX):
            return path
        number = path.removeprefix(PREFIX)
        known = number.isdecimal() and len(number) < 20
        found = self.sets.get(int(number)) if known else None
        wanted = os.O_RDONLY if not writes else os.O_RDWR if reads else os.O_WRONLY
        for entry in found.members if found else ():
            if fcntl.fcntl(entry.fd, fcntl.F_GETFL) & os.O_ACCMODE in (wanted, os.O_RDWR):
                return f"/proc/self/fd/{entry.fd}"
        raise HostError(f"cannot open '{path}': no descriptor of the set allows that")

    def close(self) -> None:
        """Close all."""
        for found in self.sets.values():
            for entry in found.members:
                with contextlib.suppress(OSError):
                    os.close(entry.fd)
        self.sets.clear()
