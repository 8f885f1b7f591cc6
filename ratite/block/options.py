"""What can be asked of a block node: the one declaration of it, for QMP, `-blockdev` and `-drive`.

Source: QEMU's QMP reference, "BlockdevOptions", for the names. `None` means that nothing was said:
a node described inside another takes it over from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, ClassVar, Self

from ratite.core.choice import OnOffAuto
from ratite.qom import Doc, Either, Tagged


class Discard(Enum):
    """What becomes of a guest's discards."""

    IGNORE = "ignore"
    UNMAP = "unmap"


class DetectZeroes(Enum):
    """What becomes of writes of zeroes."""

    OFF = "off"
    ON = "on"
    UNMAP = "unmap"


class Aio(Enum):
    """How the host does requests. All are done by threads; the words are for command lines."""

    THREADS = "threads"
    NATIVE = "native"
    IO_URING = "io_uring"


@dataclass(frozen=True)
class CacheOptions:
    """How the host's page cache is used."""

    direct: Annotated[bool | None, Doc("bypass it (O_DIRECT)")] = None
    no_flush: Annotated[bool | None, Doc("skip flushes: a host crash loses data")] = None

    def or_from(self, other: CacheOptions) -> CacheOptions:
        """These, or the other's where nothing is said."""
        return CacheOptions(
            other.direct if self.direct is None else self.direct,
            other.no_flush if self.no_flush is None else self.no_flush,
        )


NO_CACHE_OPTIONS = CacheOptions()


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """What every block node takes."""

    case: ClassVar[str] = ""

    node_name: Annotated[str | None, Doc("what others call it by; needed unless inside a node")] = (
        None
    )
    discard: Annotated[Discard | None, Doc("pass discards on (default: ignore)")] = None
    cache: CacheOptions | None = None
    read_only: Annotated[bool | None, Doc("refuse writes (default: false)")] = None
    auto_read_only: Annotated[bool | None, Doc("be read-only where the host refuses more")] = None
    force_share: Annotated[bool | None, Doc("let others write; read-only nodes only")] = None
    detect_zeroes: Annotated[DetectZeroes | None, Doc("write zeroes as such")] = None

    @property
    def direct(self) -> bool:
        """Whether the page cache is bypassed."""
        return bool(self.cache and self.cache.direct)

    @property
    def no_flush(self) -> bool:
        """Whether flushes are skipped."""
        return bool(self.cache and self.cache.no_flush)

    def children(self) -> Mapping[str, NodeOptions | str]:
        """The nodes below, by role: described, or by name."""
        return {}

    def inside(self, above: NodeOptions) -> Self:
        """These options for a node that is described inside `above`. Discards are passed on:
        whether they come is for the node above to say."""
        cache = (self.cache or NO_CACHE_OPTIONS).or_from(above.cache or NO_CACHE_OPTIONS)
        return replace(
            self,
            discard=self.discard or Discard.UNMAP,
            cache=cache,
            read_only=above.read_only if self.read_only is None else self.read_only,
            auto_read_only=(
                above.auto_read_only if self.auto_read_only is None else self.auto_read_only
            ),
            force_share=above.force_share if self.force_share is None else self.force_share,
        )


@dataclass(frozen=True, kw_only=True)
class FileOptions(NodeOptions):
    """A file."""

    case: ClassVar[str] = "file"
    features: ClassVar[tuple[str, ...]] = ("dynamic-auto-read-only",)

    filename: str
    locking: Annotated[OnOffAuto | None, Doc("keep others off the file (default: auto)")] = None
    aio: Annotated[Aio | None, Doc("accepted; native needs cache.direct")] = None
    aio_max_batch: Annotated[int | None, Doc("accepted")] = None


@dataclass(frozen=True, kw_only=True)
class HostDeviceOptions(FileOptions):
    """A block device of the host."""

    case: ClassVar[str] = "host_device"


@dataclass(frozen=True, kw_only=True)
class NullOptions(NodeOptions):
    """A disk that loses what is written."""

    size: Annotated[int | None, Doc("bytes (default: 1 GiB)")] = None
    latency_ns: Annotated[int | None, Doc("how long each request takes")] = None
    read_zeroes: Annotated[bool | None, Doc("reads give zeroes, not anything")] = None


@dataclass(frozen=True, kw_only=True)
class NullCoOptions(NullOptions):
    """A disk that loses what is written."""

    case: ClassVar[str] = "null-co"


@dataclass(frozen=True, kw_only=True)
class NullAioOptions(NullOptions):
    """The same."""

    case: ClassVar[str] = "null-aio"


@dataclass(frozen=True, kw_only=True)
class RawOptions(NodeOptions):
    """A disk whose bytes are those of the node below, or a part of them."""

    case: ClassVar[str] = "raw"

    file: Annotated[BlockdevRef, Doc("the node below: its name, or what it is")]
    offset: Annotated[int | None, Doc("where in the node below it begins")] = None
    size: Annotated[int | None, Doc("bytes (default: to the end)")] = None

    def children(self) -> Mapping[str, NodeOptions | str]:
        """The node below."""
        return {"file": self.file}


BlockdevOptions = Annotated[
    FileOptions | HostDeviceOptions | NullAioOptions | NullCoOptions | RawOptions,
    Tagged("driver", "BlockdevOptions"),
]
BlockdevRef = Annotated[BlockdevOptions | str, Either("BlockdevRef")]
"""A node's name, or the description of a node that exists for the one above only."""


@dataclass(frozen=True, kw_only=True)
class OverlayOptions(NodeOptions):
    """A temporary overlay. Only `snapshot=on` of a drive makes one."""

    case: ClassVar[str] = "overlay"

    backing: NodeOptions

    def children(self) -> Mapping[str, NodeOptions | str]:
        """The image below."""
        return {"backing": self.backing}
