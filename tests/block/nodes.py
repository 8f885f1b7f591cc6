"""Nodes on files, and small ways to read and write them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ratite.block import BlockNode, FileNode, FileOptions, Permission
from ratite.block.permission import Link

MIB = 1 << 20
READ = Permission.CONSISTENT_READ
WRITE = Permission.WRITE
ALONE = Permission.CONSISTENT_READ | Permission.WRITE_UNCHANGED


def open_file(path: Path, **options: Any) -> FileNode:
    """A node on a file."""
    return FileNode("f", FileOptions(filename=str(path), **options))


def read(node: BlockNode, offset: int, size: int) -> bytes:
    data = bytearray(size)
    node.readv(offset, [memoryview(data)])
    return bytes(data)


def write(node: BlockNode, offset: int, data: bytes) -> None:
    node.writev(offset, [memoryview(data)])


class NodeUser:
    """Somebody who uses nodes."""

    def __init__(self, name: str = "somebody") -> None:
        self.name = name
        self.resizes = 0

    def describe(self) -> str:
        return self.name

    def resized(self) -> None:
        self.resizes += 1

    def use(self, node: BlockNode, uses: Permission, shares: Permission = Permission.ALL) -> Link:
        """Use a node from now on."""
        link = Link(self, "root", node)
        node.users.insert(0, link)
        try:
            link.set(uses, shares)
        except BaseException:
            link.remove()
            raise
        return link


class Loop:
    """An event loop that runs when the test says so."""

    def __init__(self) -> None:
        self.posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.timers: list[tuple[int, Callable[[], object]]] = []

    def post(self, callback: Callable[[], None], /) -> None:
        self.posted.put(callback)

    def post_after(self, delay_ns: int, callback: Callable[[], object], /) -> None:
        self.timers.append((delay_ns, callback))

    def run_one(self) -> None:
        self.posted.get(timeout=10)()

    def run_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not done():
            assert time.monotonic() < deadline
            self.run_one()
