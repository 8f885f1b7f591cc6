"""What a drive has done."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class RequestStats:
    """Requests of one kind. The time is from asking to being done, summed."""

    operations: int = 0
    bytes: int = 0
    total_time_ns: int = 0
    failed: int = 0
    invalid: int = 0


@dataclass(slots=True)
class DriveStats:
    """All kinds. Used with the machine lock held."""

    read: RequestStats = field(default_factory=RequestStats)
    write: RequestStats = field(default_factory=RequestStats)
    flush: RequestStats = field(default_factory=RequestStats)
    unmap: RequestStats = field(default_factory=RequestStats)
    account_invalid: bool = True
    account_failed: bool = True
    last_access_ns: int = 0  # of the host's monotonic clock; 0: none yet

    def done(self, kind: RequestStats, size: int, start_ns: int, end_ns: int) -> None:
        """Count a request that was done. Runs: per request."""
        kind.operations += 1
        kind.bytes += size
        kind.total_time_ns += end_ns - start_ns
        self.last_access_ns = end_ns

    def failed(self, kind: RequestStats, start_ns: int, end_ns: int) -> None:
        """Count a request that the host could not do."""
        kind.failed += 1
        if self.account_failed:
            kind.total_time_ns += end_ns - start_ns
            self.last_access_ns = end_ns

    def invalid(self, kind: RequestStats, now_ns: int) -> None:
        """Count a request that cannot be done on this disk."""
        kind.invalid += 1
        if self.account_invalid:
            self.last_access_ns = now_ns
