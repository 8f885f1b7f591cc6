"""Sources of random bytes for virtio-rng: the host's generator, or a device or file of the user's.

They live beside the character backends because they are the same kind of thing: byte streams from
the host.
"""

from __future__ import annotations

import contextlib
import os
from typing import Annotated

from ratite.core.errors import HostError
from ratite.qom import Doc, Fact, Object, PropertyInfo


class RngBackend(Object):
    """Base of the sources."""

    type_name = "rng-backend"
    abstract = True

    @classmethod
    def fact_infos(cls) -> list[PropertyInfo]:
        """What `facts` names."""
        return [*super().fact_infos(), PropertyInfo("opened", "bool")]

    def facts(self) -> list[Fact]:
        """What clients can read: it is open from the start."""
        return [*super().facts(), Fact("opened", "bool", True)]


class RngBuiltin(RngBackend):
    """The host's random generator."""

    type_name = "rng-builtin"

    def request(self, size: int, /) -> bytes:
        """Return `size` random bytes."""
        return os.urandom(size)

    def complete(self) -> None:
        """Do nothing: there is nothing to open."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class RngRandom(RngBackend):
    """Bytes read from a character device or a file. `complete` opens it, before the first use."""

    type_name = "rng-random"

    def __init__(
        self, *, filename: Annotated[str, Doc("device to read from")] = "/dev/urandom"
    ) -> None:
        super().__init__()
        self.filename = filename
        self._fd = -1

    @property
    def frozen(self) -> bool:
        """True once the file is open."""
        return self._fd >= 0

    def complete(self) -> None:
        """Open the file. Raises HostError."""
        if self._fd >= 0:
            return
        try:
            self._fd = os.open(self.filename, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            text = f"Could not open '{self.filename}': {error.strerror}"
            raise HostError(text, error.errno or 0) from error

    def request(self, size: int, /) -> bytes:
        """Return up to `size` bytes; fewer, or none, if the source has no more at the moment."""
        with contextlib.suppress(OSError):
            return os.read(self._fd, size)
        return b""

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
