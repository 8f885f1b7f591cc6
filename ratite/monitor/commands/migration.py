"""Migration to another machine, and from there.

Source: QEMU's QMP reference, "Migration". Not modelled: post-copy, multifd, COLO, TLS, migration of
storage, compression: switching them on fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from ratite.memory import PAGE_SIZE
from ratite.migration.outgoing import Outgoing, Status
from ratite.migration.settings import Capability, MultiFDCompression, Parameters
from ratite.monitor.command import command
from ratite.monitor.errors import QmpError
from ratite.monitor.session import Session
from ratite.monitor.vm import Vm
from ratite.qom import Doc


@dataclass(frozen=True)
class MigrationStats:
    """How much memory has been sent. What is of migration's other forms is 0."""

    transferred: Annotated[int, Doc("bytes sent")]
    remaining: Annotated[int, Doc("bytes of memory still to be sent")]
    total: Annotated[int, Doc("bytes of memory")]
    duplicate: Annotated[int, Doc("pages of zeros")]
    skipped: int
    normal: Annotated[int, Doc("pages sent whole")]
    normal_bytes: int
    dirty_pages_rate: Annotated[int, Doc("pages a second that the guest writes")]
    mbps: Annotated[float, Doc("megabits a second")]
    dirty_sync_count: Annotated[int, Doc("rounds begun")]
    postcopy_requests: int
    page_size: int
    multifd_bytes: int
    pages_per_second: int
    precopy_bytes: Annotated[int, Doc("bytes sent while the guest ran")]
    downtime_bytes: Annotated[int, Doc("bytes sent while it stood still")]
    postcopy_bytes: int
    dirty_sync_missed_zero_copy: int


@dataclass(frozen=True)
class MigrationInfo:
    """Answer to `query-migrate`. Times are milliseconds."""

    status: Status | None = None
    ram: MigrationStats | None = None
    total_time: int | None = None
    expected_downtime: int | None = None
    downtime: int | None = None
    setup_time: int | None = None
    cpu_throttle_percentage: int | None = None
    error_desc: Annotated[str | None, Doc("why it failed")] = None
    socket_address: Annotated[list[Any] | None, Doc("where a destination listens")] = None


def _stats(outgoing: Outgoing) -> MigrationStats:
    done = outgoing.progress
    end = done.ended if done.ended >= 0 else time.monotonic()
    spent = max(end - done.active, 1e-3)
    rate = done.transferred / spent
    return MigrationStats(
        transferred=done.transferred,
        remaining=max(0, done.remaining),
        total=done.total,
        duplicate=done.counts.zeros,
        skipped=0,
        normal=done.counts.data,
        normal_bytes=done.counts.data * PAGE_SIZE,
        dirty_pages_rate=done.dirty_rate,
        mbps=rate * 8 / 1e6,
        dirty_sync_count=done.syncs,
        postcopy_requests=0,
        page_size=PAGE_SIZE,
        multifd_bytes=0,
        pages_per_second=int((done.counts.data + done.counts.zeros) / spent),
        precopy_bytes=done.precopy_bytes if done.stopped >= 0 else done.transferred,
        downtime_bytes=max(0, done.downtime_bytes),
        postcopy_bytes=0,
        dirty_sync_missed_zero_copy=0,
    )


def _ms(start: float, end: float) -> int:
    return int((end - start) * 1000)


def _outgoing_info(vm: Vm, outgoing: Outgoing) -> MigrationInfo:
    done, status = outgoing.progress, outgoing.status
    if status in (Status.NONE, Status.SETUP):
        return MigrationInfo(status)
    if status is Status.CANCELLED:
        return MigrationInfo(status)
    if status is Status.FAILED:
        return MigrationInfo(status, error_desc=outgoing.error or None)
    over = status is Status.COMPLETED
    bandwidth = done.bandwidth
    expected = vm.migration.parameters.downtime_limit
    if bandwidth and done.syncs > 1:
        expected = int(max(0, done.remaining) / bandwidth * 1000)
    return MigrationInfo(
        status,
        _stats(outgoing) if done.active >= 0 else None,
        total_time=_ms(done.begun, done.ended if over else time.monotonic()),
        expected_downtime=None if over else expected,
        downtime=_ms(done.stopped, done.ended) if over else None,
        setup_time=_ms(done.begun, done.active) if done.active >= 0 else None,
        cpu_throttle_percentage=outgoing.throttle or None,
    )


@command("query-migrate")
def query_migrate(vm: Vm) -> MigrationInfo:
    """How the migration goes, or how the last one went."""
    migration = vm.migration
    if migration.incoming is not None and migration.status is Status.NONE:
        status = migration.incoming.status
        if status is Status.NONE:
            return MigrationInfo(socket_address=migration.incoming.addresses or None)
        return MigrationInfo(status, error_desc=migration.incoming.error or None)
    if migration.outgoing is None:
        failed = migration.status is Status.FAILED
        return MigrationInfo(Status.FAILED) if failed else MigrationInfo()
    return _outgoing_info(vm, migration.outgoing)


def _fds(session: Session) -> Callable[[str], int]:
    """Takes the descriptor that `fd:NAME` means."""

    def take(name: str) -> int:
        try:
            return session.fds.take(name)
        except QmpError:
            from ratite.migration.channel import inherited_fd

            return inherited_fd(name)

    return take


@command("migrate")
def migrate(
    vm: Vm,
    session: Session,
    uri: Annotated[
        str,
        Doc("`tcp:HOST:PORT`, `unix:PATH`, `exec:COMMAND`, `fd:NAME`, or `file:PATH` to save it"),
    ],
    blk: Annotated[bool | None, Doc("must be false: storage is shared")] = None,
    inc: Annotated[bool | None, Doc("must be false")] = None,
    detach: Annotated[bool | None, Doc("without effect: it always goes on by itself")] = None,
    resume: Annotated[bool | None, Doc("must be false: there is no post-copy")] = None,
) -> None:
    """Send the running guest to another machine, which must be like this one. It goes on here if
    that fails or is cancelled."""
    if resume:
        raise QmpError("Cannot resume if there is no paused migration")
    if blk or inc:
        raise QmpError("Block migration is not supported: the machines share their storage")
    vm.migration.start(uri, _fds(session))


@command("migrate_cancel")
def migrate_cancel(vm: Vm) -> None:
    """Give up the migration that goes on, if one does."""
    vm.migration.cancel()


@command("migrate-continue")
def migrate_continue(
    vm: Vm, state: Annotated[Status, Doc("what it is believed to be in: `pre-switchover`")]
) -> None:
    """Go on after the pause before the switchover."""
    vm.migration.go_on(state)


@command("migrate-incoming")
def migrate_incoming(vm: Vm, session: Session, uri: str) -> None:
    """Wait for a guest there, after `-incoming defer`."""
    if vm.config.incoming is None:
        raise QmpError("'-incoming' was not specified on the command line")
    if vm.config.incoming != "defer":
        raise QmpError("The incoming migration has already been started")
    vm.listen(uri, _fds(session))


@command("migrate-pause", allow_oob=True)
def migrate_pause(vm: Vm) -> None:
    """Pause a post-copy migration: there is none, so that this fails."""
    raise QmpError("migrate-pause is currently only supported during postcopy-active state")


@command("migrate-recover", allow_oob=True)
def migrate_recover(vm: Vm, uri: str) -> None:
    """Go on with a paused post-copy migration: there is none, so that this fails."""
    raise QmpError("Migrate recover can only be run when postcopy is paused.")


@command("migrate-start-postcopy")
def migrate_start_postcopy(vm: Vm) -> None:
    """Switch to post-copy: it is not supported, so that this fails."""
    raise QmpError("Enable postcopy with migrate_set_capability before the start of migration")


@dataclass(frozen=True)
class MigrationCapabilityStatus:
    """Something that can be switched on or off for migrations."""

    capability: Capability
    state: bool


@command("query-migrate-capabilities")
def query_migrate_capabilities(vm: Vm) -> list[MigrationCapabilityStatus]:
    """What can be switched on for migrations, and whether it is."""
    has = vm.migration.capabilities.has
    return [MigrationCapabilityStatus(entry, has(entry)) for entry in Capability]


@command("migrate-set-capabilities")
def migrate_set_capabilities(vm: Vm, capabilities: list[MigrationCapabilityStatus]) -> None:
    """Switch capabilities on or off, all or none of those given."""
    vm.migration.set_capabilities({entry.capability: entry.state for entry in capabilities})


@command("query-migrate-parameters")
def query_migrate_parameters(vm: Vm) -> Parameters:
    """How migrations are done."""
    return vm.migration.parameters


@command("migrate-set-parameters")
def migrate_set_parameters(
    vm: Vm,
    announce_initial: int | None = None,
    announce_max: int | None = None,
    announce_rounds: int | None = None,
    announce_step: int | None = None,
    compress_level: int | None = None,
    compress_threads: int | None = None,
    compress_wait_thread: bool | None = None,
    decompress_threads: int | None = None,
    throttle_trigger_threshold: Annotated[
        int | None, Doc("percent of what is sent that the guest may write meanwhile")
    ] = None,
    cpu_throttle_initial: Annotated[int | None, Doc("percent, of auto-converge")] = None,
    cpu_throttle_increment: Annotated[int | None, Doc("percent")] = None,
    cpu_throttle_tailslow: bool | None = None,
    tls_creds: str | None = None,
    tls_hostname: str | None = None,
    tls_authz: str | None = None,
    max_bandwidth: Annotated[int | None, Doc("bytes a second; 0: no limit")] = None,
    downtime_limit: Annotated[int | None, Doc("ms that the guest may stand still")] = None,
    x_checkpoint_delay: int | None = None,
    block_incremental: bool | None = None,
    multifd_channels: int | None = None,
    xbzrle_cache_size: int | None = None,
    max_postcopy_bandwidth: int | None = None,
    max_cpu_throttle: Annotated[int | None, Doc("percent")] = None,
    multifd_compression: MultiFDCompression | None = None,
    multifd_zlib_level: int | None = None,
    multifd_zstd_level: int | None = None,
    block_bitmap_mapping: list[Any] | None = None,
) -> None:
    """Change how migrations are done, also of the one that goes on."""
    given = {name: value for name, value in locals().items() if name != "vm" and value is not None}
    vm.migration.set_parameters(given)
