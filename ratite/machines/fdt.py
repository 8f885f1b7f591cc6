"""Device trees, built node by node and flattened with libfdt.

Source: Devicetree Specification, release 0.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ratite.core.errors import ConfigError
from ratite.devices.fdt import FdtValue


class Node:
    """A node: properties and children in the order in which they were added."""

    def __init__(self, tree: Fdt, name: str) -> None:
        self._tree = tree
        self.name = name
        self.properties: dict[str, FdtValue] = {}
        self.children: dict[str, Node] = {}

    def set(self, name: str, value: FdtValue = None, /) -> None:
        """Give the node a property; a later value replaces an earlier one."""
        self.properties[name] = value

    def reg(self, *spans: tuple[int, int]) -> None:
        """The `reg` property: address and size pairs of two cells each."""
        self.set("reg", cells(*spans))

    def child(self, name: str) -> Node:
        """The child of that name, made if there is none."""
        if name not in self.children:
            self.children[name] = Node(self._tree, name)
        return self.children[name]

    def phandle(self) -> int:
        """The node's handle, given on first use."""
        value = self.properties.get("phandle")
        if value is None:
            value = self._tree.new_phandle()
            self.properties["phandle"] = value
        assert isinstance(value, int)
        return value

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for child in self.children.values():
            yield from child.walk()


def cells(*spans: tuple[int, int]) -> list[int]:
    """Addresses and sizes as cells of 32 bits, high halves first."""
    return [
        part for span in spans for number in span for part in (number >> 32, number & 0xFFFF_FFFF)
    ]


class Fdt:
    """A tree."""

    def __init__(self, *, first_phandle: int = 0, compatible: str = "") -> None:
        """`compatible` is that of the root, where it is not the board's."""
        self._phandles = max(first_phandle - 1, 0)
        self.root = Node(self, "")
        self._compatible = compatible

    def new_phandle(self) -> int:
        """The next free handle."""
        self._phandles += 1
        return self._phandles

    def flatten(self) -> bytes:
        """The tree as a flattened device tree blob, version 17."""
        import libfdt

        if self._compatible:
            self.root.set("compatible", self._compatible)
        writer = libfdt.FdtSw()
        writer.INC_SIZE = 16384
        writer.finish_reservemap()
        self._write(writer, self.root)
        blob: bytes = bytes(writer.as_fdt().as_bytearray())
        tree = libfdt.Fdt(bytearray(blob))
        return bytes(tree.as_bytearray()[: tree.totalsize()])

    def _write(self, writer: object, node: Node) -> None:
        writer.begin_node(node.name)  # type: ignore[attr-defined]
        for name, value in node.properties.items():
            writer.property(name, encode(value))  # type: ignore[attr-defined]
        for child in node.children.values():
            self._write(writer, child)
        writer.end_node()  # type: ignore[attr-defined]


def encode(value: FdtValue) -> bytes:
    """A property's bytes."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode() + b"\0"
    if isinstance(value, int):
        return value.to_bytes(4, "big")
    return b"".join(encode(part) for part in value)


def patched(blob: bytes, chosen: Mapping[str, FdtValue], path: Path) -> bytes:
    """A user's device tree with properties of /chosen set, as the boot loader of a real machine
    would. Raises `ConfigError`, which names `path`, if it is none.
    """
    import libfdt

    try:
        tree = libfdt.Fdt(bytearray(blob))
        tree.resize(tree.totalsize() + 4096 + sum(len(encode(value)) for value in chosen.values()))
        node = tree.path_offset("/chosen", libfdt.QUIET_NOTFOUND)
        if node < 0:
            node = tree.add_subnode(0, "chosen")
        for name, value in chosen.items():
            tree.setprop(node, name, encode(value))
        tree.pack()
    except libfdt.FdtException as error:
        raise ConfigError(f"-dtb: {path} is not a usable device tree: {error}") from None
    return bytes(tree.as_bytearray()[: tree.totalsize()])
