"""The words that disks and their drives share.

Source: QEMU's QMP reference, "BlockdevOnError", "BlockErrorAction", "BlockDeviceIoStatus".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class OnError(Enum):
    """What shall become of an error of the host's."""

    REPORT = "report"
    IGNORE = "ignore"
    ENOSPC = "enospc"  # stop if the host's file system is full, else report
    STOP = "stop"
    AUTO = "auto"  # what the drive says


class ErrorAction(Enum):
    """What was done about an error."""

    IGNORE = "ignore"
    REPORT = "report"
    STOP = "stop"


class IoStatus(Enum):
    """Whether a drive has stopped the machine, and why."""

    OK = "ok"
    FAILED = "failed"
    NO_SPACE = "nospace"


class Access(Enum):
    """Kinds of requests that are counted apart."""

    READ = "read"
    WRITE = "write"
    UNMAP = "unmap"


class JobRunner(Protocol):
    """What makes calls that wait for the host."""

    def run(self, job: Callable[[], None], /) -> None:
        """Call `job`, which does not raise, on a thread of its own. Returns at once."""


@dataclass(frozen=True, slots=True)
class DiskTerms:
    """How a device uses its drive; None leaves it to the drive."""

    share_rw: bool = False  # let others write
    may_resize: bool = False  # the device can follow a change of size
    on_read_error: OnError = OnError.AUTO
    on_write_error: OnError = OnError.AUTO
    account_invalid: bool | None = None  # requests that cannot be count as accesses
    account_failed: bool | None = None  # the time of those that fail counts
    runner: JobRunner | None = None  # makes the host's calls; None: the drives' own threads


DEFAULT_TERMS = DiskTerms()
