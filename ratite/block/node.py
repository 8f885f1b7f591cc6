"""The base of block nodes: random-access bytes, joined to a graph by who uses whom."""

from __future__ import annotations

import errno
import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from ratite.block.options import DetectZeroes, Discard, NodeOptions
from ratite.block.permission import Link, Permission, check_conflicts
from ratite.core.errors import ConfigError

SECTOR = 512
_ZEROES = bytes(64 * 1024)
_KEY_ORDER = ("backing", "offset", "read-zeroes", "driver", "size", "file", "filename")

OnThreshold = Callable[["BlockNode", int, int], None]


class BlockNode(ABC):
    """One node. A driver overrides the underscore methods, which get ranges inside the node and no
    writes while it is read-only.

    Reads, writes and what is like them are called on any thread, concurrently; they raise OSError,
    with EINVAL for a range outside the node. Everything else is for the machine lock's holder, with
    no request in flight.
    """

    driver: ClassVar[str]
    is_protocol: ClassVar[bool] = False
    """True if the content is on the host, False if in other nodes."""

    def __init__(self, name: str, options: NodeOptions) -> None:
        self.name = name
        self.options = options
        self.read_only = bool(options.read_only)
        self.owned = False
        """True if a user made it by name, who must delete it."""
        self.users: list[Link] = []
        """Who uses it, the latest first."""
        self.children: dict[str, Link] = {}
        """What it uses, by role."""
        self.write_threshold = 0
        self.on_threshold: OnThreshold = _ignore
        self.highest_write = 0
        """The end of the write that went farthest."""
        self._statistics_lock = threading.Lock()
        check_options(options)

    # -- what a driver does

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes, a multiple of 512."""

    @property
    def allocated_size(self) -> int:
        """Bytes that the host keeps for it."""
        return sum(link.node.allocated_size for link in self.children.values())

    @abstractmethod
    def _readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill `buffers` from `offset` on."""

    @abstractmethod
    def _writev(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Write `buffers` at `offset`."""

    @abstractmethod
    def _discard(self, offset: int, size: int) -> None:
        """Free a range's storage."""

    @abstractmethod
    def _write_zeroes(self, offset: int, size: int, *, unmap: bool) -> None:
        """Make a range read as zero; with `unmap` it need not keep its storage."""

    @abstractmethod
    def _flush(self) -> None:
        """Return when everything written before is on stable storage."""

    def read_cached(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Fill `buffers` if that needs no waiting; False means that nothing useful was done."""
        return False

    def resize(self, size: int) -> None:
        """Change the size. Raises `ConfigError` or `HostError`."""
        raise ConfigError("Image format driver does not support resize")

    def describe_options(self) -> Mapping[str, object]:
        """What makes it what it is, as options."""
        below = {role: link.node.describe_options() for role, link in self.children.items()}
        return {"driver": self.driver, **below}

    @property
    def plain_filename(self) -> str:
        """A file name that says all, or empty."""
        return ""

    @property
    def host_path(self) -> str:
        """The path on the host of the content, or of most of it; empty if it has none."""
        return next((link.node.host_path for link in self.children.values()), "")

    @property
    def file(self) -> int:
        """The descriptor of a host's file that has exactly the content; -1 if there is none."""
        return -1

    def is_read_only_with(self, options: NodeOptions) -> bool:
        """Whether these options make it read-only."""
        return bool(options.read_only)

    def permit(  # noqa: B027 - most nodes have nothing to prepare
        self, uses: Permission, shares: Permission
    ) -> None:
        """Prepare for what all users together need and share. Raises `ConfigError`, `HostError`."""

    def needs_below(
        self, role: str, uses: Permission, shares: Permission
    ) -> tuple[Permission, Permission]:
        """What it needs of a child, and shares, for its own users to have these."""
        return uses, shares

    def close(self) -> None:  # noqa: B027 - most nodes hold nothing of the host's
        """Release what the host gives. Calls after the first do nothing."""

    # -- requests

    def readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill `buffers` from `offset` on."""
        self._check(offset, sum(map(len, buffers)))
        self._readv(offset, buffers)

    def writev(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Write `buffers` at `offset`."""
        size = sum(map(len, buffers))
        self._check_writable(offset, size)
        if self.write_threshold:
            self._check_threshold(offset + size)
        detect = self.options.detect_zeroes
        if detect not in (None, DetectZeroes.OFF) and size and _all_zero(buffers):
            self._write_zeroes(offset, size, unmap=detect is DetectZeroes.UNMAP)
        else:
            self._writev(offset, buffers)
        self._wrote(offset + size)

    def flush(self) -> None:
        """Return when everything written before is on stable storage."""
        self._check(0, 0)
        if not self.options.no_flush:
            self._flush()

    def discard(self, offset: int, size: int) -> None:
        """Declare that a range's content is no longer wanted; it may read as anything."""
        self._check_writable(offset, size)
        if size and self.discards:
            self._discard(offset, size)

    def write_zeroes(self, offset: int, size: int, *, unmap: bool = False) -> None:
        """Make a range read as zero; with `unmap` it need not keep its storage."""
        self._check_writable(offset, size)
        if self.write_threshold:
            self._check_threshold(offset + size)
        if size:
            self._write_zeroes(offset, size, unmap=unmap and self.discards)
        self._wrote(offset + size)

    @property
    def discards(self) -> bool:
        """Whether discards are passed on."""
        return self.options.discard is Discard.UNMAP

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise OSError(errno.EINVAL, "range outside the node")

    def _check_writable(self, offset: int, size: int) -> None:
        self._check(offset, size)
        if self.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def _check_threshold(self, end: int) -> None:
        with self._statistics_lock:
            threshold = self.write_threshold
            if not threshold or end <= threshold:
                return
            self.write_threshold = 0  # it tells once
        self.on_threshold(self, end - threshold, threshold)

    def _wrote(self, end: int) -> None:
        if end > self.highest_write:
            with self._statistics_lock:
                self.highest_write = max(self.highest_write, end)

    # -- the graph

    def use(self, role: str, node: BlockNode) -> Link:
        """Make a node a child, with what this node's users need of it."""
        link = self.children[role] = Link(self, role, node)
        node.users.insert(0, link)
        try:
            self.refresh()
        except BaseException:
            del self.children[role]
            link.remove()
            raise
        return link

    def replace_child(self, role: str, child: BlockNode) -> None:
        """Use another node in a role. Permissions follow when all three are refreshed."""
        link = self.children[role]
        link.node.users.remove(link)
        link.node = child
        child.users.insert(0, link)

    def refresh(self) -> None:
        """Follow a change of what users need and share, all the way down. Raises `ConfigError` or
        `HostError`; whoever made the change then takes it back, and calls this again.
        """
        check_conflicts(self.users)
        uses, shares = self.used, Permission.ALL
        for link in self.users:
            shares &= link.shares
        if uses & Permission.WRITE and self.read_only:
            raise ConfigError("Block node is read-only")
        if self.options.force_share:
            shares = Permission.ALL
        self.permit(uses, shares)
        for role, link in self.children.items():
            link.uses, link.shares = self.needs_below(role, uses, shares)
            link.node.refresh()

    @property
    def used(self) -> Permission:
        """What all users together need."""
        uses = Permission.NONE
        for link in self.users:
            uses |= link.uses
        return uses

    def describe(self) -> str:
        """Who this is, as the user of another node."""
        return f"node '{self.name}'"

    def resized(self) -> None:
        """The size has changed, here or below: tell the users."""
        for link in tuple(self.users):
            link.user.resized()

    @property
    def height(self) -> int:
        """Of how many nodes it is the top, itself counted."""
        return 1 + max((link.node.height for link in self.children.values()), default=0)

    @property
    def is_really_read_only(self) -> bool:
        """Whether it cannot be changed: by its own options, or those of the node below."""
        below = self.children.get("file")
        return self.read_only or (below is not None and below.node.is_really_read_only)

    @property
    def backing(self) -> BlockNode | None:
        """The node whose content shows where this one has none of its own."""
        link = self.children.get("backing")
        return link.node if link is not None else None

    @property
    def filename(self) -> str:
        """Where the content is: a file name, or options as JSON."""
        return self.plain_filename or f"json:{json.dumps(_ordered(self.describe_options()))}"


def check_options(options: NodeOptions) -> None:
    """Raise `ConfigError` for combinations that cannot be, of options that every node has."""
    if options.detect_zeroes is DetectZeroes.UNMAP and options.discard is not Discard.UNMAP:
        raise ConfigError(
            "setting detect-zeroes to unmap is not allowed without setting discard operation to "
            "unmap"
        )
    if options.force_share and not options.read_only:
        raise ConfigError("force-share=on can only be used with read-only images")


def _ignore(node: BlockNode, exceeded: int, threshold: int) -> None:
    """Nobody waits for a threshold."""


def _all_zero(buffers: Sequence[memoryview]) -> bool:
    for view in buffers:
        for start in range(0, len(view), len(_ZEROES)):
            part = bytes(view[start : start + len(_ZEROES)])
            if part != _ZEROES[: len(part)]:
                return False
    return True


def _ordered(options: Mapping[str, object]) -> dict[str, object]:
    """The same with keys in the order in which QEMU writes them."""
    return {
        key: _ordered(value) if isinstance(value, Mapping) else value
        for key, value in sorted(options.items(), key=lambda item: _KEY_ORDER.index(item[0]))
    }
