"""The block nodes of a machine, by name, and how they come, change and go.

Used with the machine lock held and no request in flight. Error texts are those of QEMU 7.2, on
which management programs act.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from ratite.block.file_node import FileNode, HostDeviceNode, ResolvePath, as_written
from ratite.block.node import BlockNode, OnThreshold, check_options
from ratite.block.null_node import NullAioNode, NullNode
from ratite.block.options import (
    FileOptions,
    HostDeviceOptions,
    NodeOptions,
    NullAioOptions,
    NullCoOptions,
    OverlayOptions,
    RawOptions,
)
from ratite.block.overlay import OverlayNode
from ratite.block.permission import Permission
from ratite.block.raw_node import RawNode, check_part
from ratite.core.errors import ConfigError, InternalError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9\-._]*")
_LONGEST_NAME = 31
_HIGHEST = 64
"""As many nodes may be on top of each other: a request passes through all of them."""


class BlockGraph:
    """All nodes. `is_taken` says whether a drive has a name."""

    def __init__(
        self,
        resolve_path: ResolvePath = as_written,
        *,
        is_taken: Callable[[str], bool] = lambda name: False,
        find_drive: Callable[[str], BlockNode | None] = lambda name: None,
    ) -> None:
        self.nodes: dict[str, BlockNode] = {}
        """By name, in the order of making."""
        self.on_threshold: OnThreshold | None = None
        self._resolve_path = resolve_path
        self._is_taken = is_taken
        self._find_drive = find_drive
        self._numbers = 0

    def find(self, name: str) -> BlockNode | None:
        """The node with a name."""
        return self.nodes.get(name)

    def find_any(self, name: str) -> BlockNode:
        """The node with a name, or in the drive with it. Raises `ConfigError`."""
        found = self._find_drive(name) or self.nodes.get(name)
        if found is None:
            raise ConfigError(f"Cannot find device='{name}' nor node-name='{name}'")
        return found

    # -- making

    def add(self, options: NodeOptions) -> BlockNode:
        """Make a node that a user names. Raises `ConfigError` or `HostError`."""
        if options.node_name is None:
            raise ConfigError("'node-name' must be specified for the root node")
        node = self.open(options)
        node.owned = True
        return node

    def open(self, options: NodeOptions) -> BlockNode:
        """Make a node for a user that is about to use it; `forget` it when nobody does any more.
        Raises `ConfigError` or `HostError`, with nothing left open.
        """
        opened: list[BlockNode] = []
        try:
            below = {
                role: self._below(wanted, options, opened)
                for role, wanted in options.children().items()
            }
            self._check_name(options.node_name)
            _check_height(below.values())
            node = self._make(options, below)
        except BaseException:
            for left in opened:
                self.forget(left)
            raise
        node.name = options.node_name or self._free_name()
        self.nodes[node.name] = node
        if self.on_threshold is not None:
            node.on_threshold = self.on_threshold
        return node

    def _below(
        self, wanted: NodeOptions | str, above: NodeOptions, opened: list[BlockNode]
    ) -> BlockNode:
        if isinstance(wanted, str):
            return self.find_any(wanted)
        node = self.open(wanted.inside(above))
        opened.append(node)
        return node

    def _make(self, options: NodeOptions, below: dict[str, BlockNode]) -> BlockNode:
        name = options.node_name or ""
        match options:
            case HostDeviceOptions():
                return HostDeviceNode(name, options, self._resolve_path)
            case FileOptions():
                return FileNode(name, options, self._resolve_path)
            case NullCoOptions():
                return NullNode(name, options)
            case NullAioOptions():
                return NullAioNode(name, options)
            case RawOptions():
                return RawNode(name, options, below["file"])
            case OverlayOptions():
                return OverlayNode(name, options, below["backing"])
        raise InternalError(f"no driver for {type(options).__name__}")

    def _check_name(self, name: str | None) -> None:
        if name is None:
            return
        if not _NAME.fullmatch(name):
            raise ConfigError(f"Invalid node-name: '{name}'")
        if self._is_taken(name):
            raise ConfigError(f"node-name={name} is conflicting with a device id")
        if name in self.nodes:
            raise ConfigError(f"Duplicate nodes with node-name='{name}'")
        if len(name) > _LONGEST_NAME:
            raise ConfigError("Node name too long")

    def _free_name(self) -> str:
        self._numbers += 1
        return f"#block{self._numbers - 1:03}"

    # -- deleting

    def delete(self, name: str) -> None:
        """Delete a node that a user made. Raises `ConfigError`."""
        node = self.nodes.get(name)
        if node is None:
            raise ConfigError(f"Failed to find node with node-name='{name}'")
        if any(link.role == "root" for link in node.users):
            raise ConfigError(f"Node {name} is in use")
        if not node.owned:
            raise ConfigError(f"Node {name} is not owned by the monitor")
        if node.users:
            raise ConfigError(f"Block device {name} is in use")
        node.owned = False
        self.forget(node)

    def forget(self, node: BlockNode) -> None:
        """Close a node, and those below that were there for it only, unless somebody uses it or a
        user made it.
        """
        if node.owned or node.users:
            return
        if self.nodes.get(node.name) is node:
            del self.nodes[node.name]
        links = list(node.children.values())
        node.children.clear()
        node.close()
        for link in links:
            link.remove()
            self.forget(link.node)

    def close(self) -> None:
        """Close all that nobody uses."""
        for node in reversed(list(self.nodes.values())):
            node.owned = False
            self.forget(node)

    # -- changing

    def reopen(self, wanted: Iterable[NodeOptions]) -> None:
        """Give nodes other options, all or none: those not given have their defaults. Raises
        `ConfigError` or `HostError`.
        """
        changes: list[_Change] = []
        try:
            for options in wanted:
                name = options.node_name
                if name is None:
                    raise ConfigError("node-name not specified")
                node = self.nodes.get(name)
                if node is None:
                    raise ConfigError(f"Failed to find node with node-name='{name}'")
                self._change(node, options, changes)
            _check_height(self.nodes.values(), _HIGHEST + 1)
            for change in changes:
                change.check()
                change.refresh()
        except BaseException:
            for change in reversed(changes):
                change.undo()
            for change in changes:
                change.refresh()
            raise
        for change in changes:
            change.finish()
            for old in change.replaced:
                self.forget(old)

    def _change(self, node: BlockNode, options: NodeOptions, changes: list[_Change]) -> None:
        """Enter the change of a node, and of a node described inside it."""
        _check_unchanged(node, options)
        change = _Change(node)
        changes.append(change)
        if isinstance(options, RawOptions):
            below = node.children["file"].node
            if isinstance(options.file, str):
                change.replace_child("file", self._reference(node, options.file))
            elif below.owned:
                raise ConfigError("Cannot change the option 'file'")
            else:
                self._change(below, options.file.inside(options), changes)
            check_part(options, node.children["file"].node)
        check_options(options)
        node.options = replace(options, node_name=node.options.node_name)
        node.read_only = node.is_read_only_with(options)

    def _reference(self, user: BlockNode, name: str) -> BlockNode:
        found = self.nodes.get(name)
        if found is None:
            raise ConfigError(f"Cannot find device='' nor node-name='{name}'")
        if user in _all_below(found):
            raise ConfigError(f"Making '{name}' a file child of '{user.name}' would create a cycle")
        return found

    def set_read_only(self, node: BlockNode, read_only: bool) -> None:
        """Switch a node and those below it that only it uses. Raises `ConfigError`, `HostError`."""
        node.options = replace(node.options, read_only=read_only)
        node.read_only = read_only
        for link in node.children.values():
            if not link.node.owned:
                self.set_read_only(link.node, read_only)
        node.refresh()


class _Change:
    """A node's options as they were, to return to."""

    def __init__(self, node: BlockNode) -> None:
        self.node = node
        self.replaced: list[BlockNode] = []
        self._options = node.options
        self._read_only = node.read_only
        self._size = node.size
        self._others: list[BlockNode] = []

    def replace_child(self, role: str, child: BlockNode) -> None:
        """Use another node in this role; the one before stays open, to return to."""
        old = self.node.children[role].node
        if child is not old:
            self.replaced.append(old)
            self._others += (old, child)
            self.node.replace_child(role, child)

    def check(self) -> None:
        """Raise `ConfigError` if users write who may not any more."""
        node = self.node
        if node.read_only and not self._read_only and node.used & Permission.WRITE:
            raise ConfigError(f"Read-only block node '{node.name}' cannot support read-write users")

    def refresh(self) -> None:
        """Have permissions follow. Raises `ConfigError` or `HostError`."""
        for node in (self.node, *self._others):
            node.refresh()

    def undo(self) -> None:
        """Return to what was, but for permissions."""
        self.node.options = self._options
        self.node.read_only = self._read_only
        for old in reversed(self.replaced):
            self.node.replace_child("file", old)

    def finish(self) -> None:
        """It is settled: tell users if the size is another."""
        if self.node.size != self._size:
            self.node.resized()


def _check_height(nodes: Iterable[BlockNode], limit: int = _HIGHEST) -> None:
    """Raise `ConfigError` if any is as high as the limit."""
    if any(node.height >= limit for node in nodes):
        raise ConfigError(f"More than {_HIGHEST} nodes on top of each other")


def _all_below(node: BlockNode) -> Iterable[BlockNode]:
    yield node
    for link in node.children.values():
        yield from _all_below(link.node)


_FIXED = ("filename", "locking", "aio", "aio_max_batch", "latency_ns", "read_zeroes")


def _check_unchanged(node: BlockNode, options: NodeOptions) -> None:
    """Raise `ConfigError` for options that a node keeps for life."""
    if options.case != node.driver:
        raise ConfigError("Cannot change the option 'driver'")
    if options.node_name is not None and options.node_name != node.name:
        raise ConfigError("Cannot change the option 'node-name'")
    fixed = _FIXED if isinstance(options, RawOptions) else (*_FIXED, "size")
    for name in fixed:
        wanted = getattr(options, name, None)
        if wanted is not None and wanted != getattr(node.options, name):
            raise ConfigError(f"Cannot change the option '{name.replace('_', '-')}'")
