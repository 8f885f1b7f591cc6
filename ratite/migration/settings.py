"""What can be set for migrations: capabilities and parameters.

Source: QEMU 7.2's QMP reference, `migrate-set-capabilities`, `migrate-set-parameters`: names,
defaults, ranges and error texts are its. What ratite has no use for is kept and shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ratite.core.errors import ConfigError


class Capability(Enum):
    """What can be switched on."""

    XBZRLE = "xbzrle"
    RDMA_PIN_ALL = "rdma-pin-all"
    AUTO_CONVERGE = "auto-converge"
    ZERO_BLOCKS = "zero-blocks"
    COMPRESS = "compress"
    EVENTS = "events"
    POSTCOPY_RAM = "postcopy-ram"
    X_COLO = "x-colo"
    RELEASE_RAM = "release-ram"
    BLOCK = "block"
    RETURN_PATH = "return-path"
    PAUSE_BEFORE_SWITCHOVER = "pause-before-switchover"
    MULTIFD = "multifd"
    DIRTY_BITMAPS = "dirty-bitmaps"
    POSTCOPY_BLOCKTIME = "postcopy-blocktime"
    LATE_BLOCK_ACTIVATE = "late-block-activate"
    X_IGNORE_SHARED = "x-ignore-shared"
    VALIDATE_UUID = "validate-uuid"
    BACKGROUND_SNAPSHOT = "background-snapshot"
    ZERO_COPY_SEND = "zero-copy-send"
    POSTCOPY_PREEMPT = "postcopy-preempt"


SUPPORTED = frozenset(
    (
        Capability.AUTO_CONVERGE,
        Capability.EVENTS,
        Capability.RETURN_PATH,  # answers always come where the channel has two directions
        Capability.PAUSE_BEFORE_SWITCHOVER,
        Capability.LATE_BLOCK_ACTIVATE,
    )
)


class Capabilities:
    """Which are on."""

    def __init__(self) -> None:
        self._on: set[Capability] = set()

    def has(self, capability: Capability) -> bool:
        """Whether it is on."""
        return capability in self._on

    def set(self, wanted: Mapping[Capability, bool]) -> None:
        """Switch, all or none. Raises `ConfigError` for what ratite cannot do."""
        for capability, on in wanted.items():
            if on and capability not in SUPPORTED:
                raise ConfigError(f"Capability '{capability.value}' is not supported")
        for capability, on in wanted.items():
            (self._on.add if on else self._on.discard)(capability)


class MultiFDCompression(Enum):
    """Without effect."""

    NONE = "none"
    ZLIB = "zlib"
    ZSTD = "zstd"


@dataclass(frozen=True)
class Parameters:
    """All parameters. Sizes are bytes, rates bytes a second, times milliseconds."""

    announce_initial: int = 50
    announce_max: int = 550
    announce_rounds: int = 5
    announce_step: int = 100
    compress_level: int = 1
    compress_threads: int = 8
    compress_wait_thread: bool = True
    decompress_threads: int = 2
    throttle_trigger_threshold: int = 50
    cpu_throttle_initial: int = 20
    cpu_throttle_increment: int = 10
    cpu_throttle_tailslow: bool = False
    tls_creds: str = ""
    tls_hostname: str = ""
    tls_authz: str = ""
    max_bandwidth: int = 128 << 20
    downtime_limit: int = 300
    x_checkpoint_delay: int = 20_000
    block_incremental: bool = False
    multifd_channels: int = 2
    xbzrle_cache_size: int = 64 << 20
    max_postcopy_bandwidth: int = 0
    max_cpu_throttle: int = 99
    multifd_compression: MultiFDCompression = MultiFDCompression.NONE
    multifd_zlib_level: int = 1
    multifd_zstd_level: int = 1
    block_bitmap_mapping: list[Any] | None = None

    def changed(self, wanted: Mapping[str, Any]) -> Parameters:
        """These parameters with some changed. Raises `ConfigError`, in QEMU's words."""
        values = {name: _whole(name, value) for name, value in wanted.items()}
        for level in ("multifd_zlib_level", "multifd_zstd_level"):
            values.pop(level, None)  # as QEMU 7.2 has it
        made = dataclasses.replace(self, **values)
        for name in values:
            _check(made, name)
        return made


_RANGES: dict[str, tuple[int, int, str]] = {
    "announce_initial": (0, 100_000, "a value between 0 and 100000"),
    "announce_max": (0, 100_000, "a value between 0 and 100000"),
    "announce_rounds": (0, 1000, "a value between 0 and 1000"),
    "announce_step": (1, 10_000, "a value between 0 and 10000"),
    "compress_level": (0, 9, "a value between 0 and 9"),
    "compress_threads": (1, 255, "a value between 1 and 255"),
    "decompress_threads": (1, 255, "a value between 1 and 255"),
    "throttle_trigger_threshold": (1, 100, "an integer in the range of 1 to 100"),
    "cpu_throttle_initial": (1, 99, "an integer in the range of 1 to 99"),
    "cpu_throttle_increment": (1, 99, "an integer in the range of 1 to 99"),
    "downtime_limit": (0, 2_000_000, "an integer in the range of 0 to (2000 * 1000) ms"),
    "multifd_channels": (1, 255, "a value between 1 and 255"),
}
_UINT8 = frozenset(
    (
        "compress_level compress_threads decompress_threads throttle_trigger_threshold "
        "cpu_throttle_initial cpu_throttle_increment multifd_channels max_cpu_throttle "
        "multifd_zlib_level multifd_zstd_level"
    ).split()
)
_PAGE = 4096


def _whole(name: str, value: Any) -> Any:
    """An integer as wide as the parameter; QEMU takes a negative one as its two's complement."""
    if type(value) is not int:
        return value
    wire = name.replace("_", "-")
    value &= (1 << 64) - 1
    if name in _UINT8 and value > 0xFF:
        raise ConfigError(f"Parameter '{wire}' expects uint8_t")
    if name == "x_checkpoint_delay" and value > 0xFFFF_FFFF:
        raise ConfigError(f"Parameter '{wire}' expects uint32_t")
    return value


def _check(made: Parameters, name: str) -> None:
    value = getattr(made, name)
    if name in _RANGES:
        low, high, text = _RANGES[name]
        if not low <= value <= high:
            raise ConfigError(f"Parameter '{name}' expects {text}")
    elif name == "xbzrle_cache_size" and (value < _PAGE or value & (value - 1)):
        raise ConfigError(
            "Parameter 'xbzrle_cache_size' expects a power of two no less than the target page size"
        )
    elif name == "max_cpu_throttle" and not made.cpu_throttle_initial <= value <= 99:
        raise ConfigError(
            "Parameter 'max_cpu_throttle' expects an integer in the range of "
            "cpu_throttle_initial to 99"
        )
