"""Block nodes that come, change and go.

Source: QEMU's QMP reference, "Block devices".
"""

from __future__ import annotations

from typing import Annotated

from ratite.block import BlockdevOptions
from ratite.monitor.command import command
from ratite.monitor.errors import QmpError, wrong_type
from ratite.monitor.vm import Vm
from ratite.qom import Doc, UInt64


@command("blockdev-add", boxed=True, preconfig=True)
def blockdev_add(vm: Vm, options: BlockdevOptions) -> None:
    """Make a block node. Nodes described inside it go when it goes."""
    vm.backends.block.add_node(options)


@command("blockdev-del", preconfig=True)
def blockdev_del(vm: Vm, node_name: str) -> None:
    """Delete a block node that `blockdev-add` or `-blockdev` made. It must not be in use."""
    vm.backends.block.delete_node(node_name)


@command("blockdev-reopen", preconfig=True)
def blockdev_reopen(
    vm: Vm,
    options: Annotated[list[BlockdevOptions], Doc("nodes by name, each with all its options")],
) -> None:
    """Give block nodes other options, all or none of them. Options that are left out have their
    defaults, as if the node were made anew. Driver, file name, `locking` and `aio` stay.
    """
    vm.backends.block.reopen(options)


@command("block_resize", preconfig=True)
def block_resize(
    vm: Vm,
    size: Annotated[int, Doc("bytes")],
    device: Annotated[str | None, Doc("a drive")] = None,
    node_name: Annotated[str | None, Doc("or a node")] = None,
) -> None:
    """Change the size of an image. The guest is told."""
    if size >> 63 > 0:
        raise wrong_type("size", "integer")
    layer = vm.backends.block
    layer.resize(layer.find(device or "", node_name or ""), size)


@command("block-set-write-threshold", preconfig=True)
def block_set_write_threshold(
    vm: Vm, node_name: str, write_threshold: Annotated[UInt64, Doc("bytes; 0: none")]
) -> None:
    """Send the event `BLOCK_WRITE_THRESHOLD` once when the guest writes beyond this offset."""
    node = vm.backends.block.graph.find(node_name)
    if node is None:
        raise QmpError(f"Device '{node_name}' not found")
    node.write_threshold = write_threshold
