"""Migration, for people."""

from __future__ import annotations

from typing import Annotated, Any

from ratite.core.errors import ConfigError
from ratite.core.size import parse_size
from ratite.migration.outgoing import Status
from ratite.migration.settings import Capability, MultiFDCompression, Parameters
from ratite.monitor.commands import migration
from ratite.monitor.commands.migration import MigrationStats
from ratite.monitor.errors import QmpError
from ratite.monitor.hmp.command import Completed, Flag, Shell, hmp

_NAMES = [name.replace("_", "-") for name in Parameters.__dataclass_fields__]
_SIZES_IN_MEGABYTES = ("max-bandwidth",)
_NOT_A_NUMBER = (
    "Parameter '{}' expects a non-negative number below 2^64\n"
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
    "and exabytes, respectively."
)


@hmp(
    "migrate",
    "migrate to URI (using -d to not wait for completion)\n"
    "\t\t\t -b for migration without shared storage with full copy of disk\n"
    "\t\t\t -i for migration without shared storage with incremental copy of disk "
    "(base image shared between src and destination)\n"
    "\t\t\t -r to resume a paused migration",
)
def migrate(
    shell: Shell,
    uri: str,
    detach: Annotated[bool, Flag("d")] = False,
    blk: Annotated[bool, Flag("b")] = False,
    inc: Annotated[bool, Flag("i")] = False,
    resume: Annotated[bool, Flag("r")] = False,
) -> str:
    """Send the guest to another machine."""
    migration.migrate(shell.vm, shell.session, uri, blk, inc, detach, resume)
    if detach:
        return ""
    return "terminal does not allow synchronous migration, continuing detached\n"


@hmp("migrate_cancel", "cancel the current VM migration")
def migrate_cancel(shell: Shell) -> None:
    """Let the guest go on here."""
    migration.migrate_cancel(shell.vm)


@hmp("migrate_continue", "Continue migration from the given paused state")
def migrate_continue(shell: Shell, state: Status) -> None:
    """Go on after the pause before the switchover."""
    migration.migrate_continue(shell.vm, state)


@hmp("migrate_incoming", "Continue an incoming migration from an -incoming defer")
def migrate_incoming(shell: Shell, uri: str) -> None:
    """Wait for a guest there."""
    migration.migrate_incoming(shell.vm, shell.session, uri)


@hmp("migrate_pause", "Pause an ongoing migration (postcopy-only)")
def migrate_pause(shell: Shell) -> None:
    """There is no post-copy."""
    migration.migrate_pause(shell.vm)


@hmp("migrate_recover", "Continue a paused incoming postcopy migration")
def migrate_recover(shell: Shell, uri: str) -> None:
    """There is no post-copy."""
    migration.migrate_recover(shell.vm, uri)


@hmp(
    "migrate_start_postcopy",
    "Followup to a migration command to switch the migration to postcopy mode. The postcopy-ram "
    "capability must be set on both source and destination before the original migration command .",
)
def migrate_start_postcopy(shell: Shell) -> None:
    """There is no post-copy."""
    migration.migrate_start_postcopy(shell.vm)


@hmp("migrate_set_capability", "Enable/Disable the usage of a capability for migration")
def migrate_set_capability(
    shell: Shell,
    capability: Annotated[str, Completed(lambda shell: [entry.value for entry in Capability])],
    state: bool,
) -> None:
    """Switch one capability."""
    try:
        found = Capability(capability)
    except ValueError:
        raise QmpError(f"invalid parameter value: {capability}") from None
    shell.vm.migration.set_capabilities({found: state})


@hmp("migrate_set_parameter", "Set the parameter for migration")
def migrate_set_parameter(
    shell: Shell, parameter: Annotated[str, Completed(lambda shell: _NAMES)], value: str
) -> None:
    """Change one parameter."""
    if parameter not in _NAMES:
        raise QmpError(f"invalid parameter value: {parameter}")
    if parameter == "block-bitmap-mapping":
        raise QmpError("The block-bitmap-mapping parameter can only be set through QMP")
    name = parameter.replace("-", "_")
    default = getattr(Parameters(), name)
    shell.vm.migration.set_parameters({name: _read(parameter, default, value)})


def _read(parameter: str, default: Any, text: str) -> Any:
    """A value as people write it, of the default's type."""
    if isinstance(default, bool):
        if text not in ("on", "off"):
            raise QmpError(f"Parameter '{parameter}' expects 'on' or 'off'")
        return text == "on"
    if isinstance(default, MultiFDCompression):
        try:
            return MultiFDCompression(text)
        except ValueError:
            raise QmpError(f"invalid parameter value: {text}") from None
    if isinstance(default, str):
        return text
    megabytes = parameter in _SIZES_IN_MEGABYTES
    try:
        return parse_size(text, default_suffix="M" if megabytes else "b")
    except ConfigError:
        wrong = f"Invalid size {text}" if megabytes else _NOT_A_NUMBER.format(parameter)
        raise QmpError(wrong) from None


@hmp("info migrate_capabilities", "show current migration capabilities")
def capabilities(shell: Shell) -> str:
    """All capabilities."""
    found = migration.query_migrate_capabilities(shell.vm)
    return "".join(f"{entry.capability.value}: {_word(entry.state)}\n" for entry in found)


def _word(on: bool) -> str:
    return "on" if on else "off"


@hmp("info migrate_parameters", "show current migration parameters")
def parameters(shell: Shell) -> str:
    """All parameters that QEMU shows, in its order."""
    p = shell.vm.migration.parameters
    lines = [
        f"announce-initial: {p.announce_initial} ms",
        f"announce-max: {p.announce_max} ms",
        f"announce-rounds: {p.announce_rounds}",
        f"announce-step: {p.announce_step} ms",
        f"compress-level: {p.compress_level}",
        f"compress-threads: {p.compress_threads}",
        f"compress-wait-thread: {_word(p.compress_wait_thread)}",
        f"decompress-threads: {p.decompress_threads}",
        f"throttle-trigger-threshold: {p.throttle_trigger_threshold}",
        f"cpu-throttle-initial: {p.cpu_throttle_initial}",
        f"cpu-throttle-increment: {p.cpu_throttle_increment}",
        f"cpu-throttle-tailslow: {_word(p.cpu_throttle_tailslow)}",
        f"max-cpu-throttle: {p.max_cpu_throttle}",
        f"tls-creds: '{p.tls_creds}'",
        f"tls-hostname: '{p.tls_hostname}'",
        f"max-bandwidth: {p.max_bandwidth} bytes/second",
        f"downtime-limit: {p.downtime_limit} ms",
        f"x-checkpoint-delay: {p.x_checkpoint_delay} ms",
        f"block-incremental: {_word(p.block_incremental)}",
        f"multifd-channels: {p.multifd_channels}",
        f"multifd-compression: {p.multifd_compression.value}",
        f"xbzrle-cache-size: {p.xbzrle_cache_size} bytes",
        f"max-postcopy-bandwidth: {p.max_postcopy_bandwidth}",
        f"tls-authz: '{p.tls_authz}'",
        *(["block-bitmap-mapping:"] if p.block_bitmap_mapping is not None else []),
    ]
    return "".join(f"{line}\n" for line in lines)


@hmp("info migrate", "show migration status")
def info_migrate(shell: Shell) -> str:
    """How the migration goes, after what QEMU shows of its own settings."""
    lines = [
        "globals:",
        "store-global-state: on",
        f"only-migratable: {_word(shell.vm.config.only_migratable)}",
        "send-configuration: on",
        "send-section-footer: on",
        "decompress-error-check: on",
        "clear-bitmap-shift: 18",
    ]
    info = migration.query_migrate(shell.vm)
    if info.status is not None:
        reason = f" ({info.error_desc})" if info.error_desc else ""
        lines.append(f"Migration status: {info.status.value}{reason}")
        lines.append(f"total time: {info.total_time or 0} ms")
        if info.expected_downtime is not None:
            lines.append(f"expected downtime: {info.expected_downtime} ms")
        if info.downtime is not None:
            lines.append(f"downtime: {info.downtime} ms")
        if info.setup_time is not None:
            lines.append(f"setup: {info.setup_time} ms")
    if info.ram is not None:
        lines += _ram(info.ram)
    if info.cpu_throttle_percentage is not None:
        lines.append(f"cpu throttle percentage: {info.cpu_throttle_percentage}")
    if info.socket_address:
        lines.append("socket address: [")
        lines += [f"\t{_address(entry)}" for entry in info.socket_address]
        lines.append("]")
    return "".join(f"{line}\n" for line in lines)


def _ram(ram: MigrationStats) -> list[str]:
    lines = [
        f"transferred ram: {ram.transferred >> 10} kbytes",
        f"throughput: {ram.mbps:.2f} mbps",
        f"remaining ram: {ram.remaining >> 10} kbytes",
        f"total ram: {ram.total >> 10} kbytes",
        f"duplicate: {ram.duplicate} pages",
        f"skipped: {ram.skipped} pages",
        f"normal: {ram.normal} pages",
        f"normal bytes: {ram.normal_bytes >> 10} kbytes",
        f"dirty sync count: {ram.dirty_sync_count}",
        f"page size: {ram.page_size >> 10} kbytes",
        f"multifd bytes: {ram.multifd_bytes >> 10} kbytes",
        f"pages-per-second: {ram.pages_per_second}",
    ]
    if ram.dirty_pages_rate:
        lines.append(f"dirty pages rate: {ram.dirty_pages_rate} pages")
    if ram.precopy_bytes:
        lines.append(f"precopy ram: {ram.precopy_bytes >> 10} kbytes")
    if ram.downtime_bytes:
        lines.append(f"downtime ram: {ram.downtime_bytes >> 10} kbytes")
    return lines


def _address(entry: dict[str, Any]) -> str:
    if entry["type"] == "inet":
        return f"tcp:{entry['host']}:{entry['port']}"
    return f"unix:{entry['path']}"
