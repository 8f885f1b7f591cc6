"""`info`: trees of memory, objects and devices.

The orders and forms are those of QEMU's monitor; scripts read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from ratite.devices import Bus, Device
from ratite.memory import MemoryRegion, mtree_flat
from ratite.memory import mtree as mtree_text
from ratite.monitor import type_help
from ratite.monitor.commands import reports
from ratite.monitor.hmp.command import Completed, Flag, Shell, hmp
from ratite.qom import Object

UNMAPPED = (1 << 64) - 1


@hmp(
    "info mtree",
    "show memory tree (-f: dump flat view for address spaces;-d: dump dispatch tree, valid with -f "
    "only);-o: dump region owners/parents;-D: dump disabled regions",
)
def mtree(
    shell: Shell,
    flat: Annotated[bool, Flag("f")] = False,
    dispatch: Annotated[bool, Flag("d")] = False,
    owner: Annotated[bool, Flag("o")] = False,
    disabled: Annotated[bool, Flag("D")] = False,
) -> str:
    """The memory tree, or what it comes to. There is no dispatch tree: `-d` adds nothing here."""
    remark = _owner_text if owner else _nothing
    with shell.vm.machine.address_spaces() as spaces:
        if flat:
            return mtree_flat(spaces, remark=remark)
        return mtree_text(spaces, show_disabled=disabled, remark=remark)


def _nothing(region: MemoryRegion) -> str:
    return ""


def _owner_text(region: MemoryRegion) -> str:
    parent = region.parent
    if parent is None:
        return " orphan"
    if isinstance(parent, Device):
        which = f"id={parent.id}" if parent.id else f"path={parent.path}"
        return f" owner:{{dev {which}}}"
    # A container only holds what nobody owns.
    role = "parent" if parent.type_name == "container" else "owner"
    return f" {role}:{{obj path={parent.path}}}"


@hmp("info ramblock", "Display system ramblock information")
def ramblock(shell: Shell) -> str:
    """The blocks of guest memory."""
    return reports.query_ramblock(shell.vm).human_readable_text


@hmp("info roms", "show roms")
def roms(shell: Shell) -> str:
    """What is loaded into the guest's memory before it starts."""
    return reports.query_roms(shell.vm).human_readable_text


# -- objects


def _paths(shell: Shell) -> Iterable[str]:
    return (node.path for node in shell.vm.root.walk())


@hmp("info qom-tree", "show QOM composition tree", preconfig=True)
def qom_tree(shell: Shell, path: Annotated[str, Completed(_paths)] = "") -> str:
    """The objects below a path, or below the machine."""
    start = shell.vm.root.resolve(path or "/machine")
    if start is None:
        return f"Path '{path}' could not be resolved.\n"
    return "".join(_objects(start, 0, f"/{start.path.rpartition('/')[2]}"))


def _objects(node: Object, depth: int, shown: str) -> Iterator[str]:
    yield f"{'  ' * depth}{shown} ({node.type_name})\n"
    for name in sorted(node.children):
        yield from _objects(node.children[name], depth + 1, f"/{name}")


# -- devices


@hmp("info qdm", "show qdev device model list")
def qdm(shell: Shell) -> str:
    """Every type of device, those that only boards make too."""
    return type_help.devices_text(with_internal=True)


@hmp("info qtree", "show device tree")
def qtree(shell: Shell) -> str:
    """Buses and the devices on them."""
    return "".join(_bus(shell.vm.machine.system_bus, 0))


def _bus(bus: Bus, depth: int) -> Iterator[str]:
    pad = "  " * depth
    yield f"{pad}bus: {bus.bus_name}\n"
    yield f"{pad}  type {bus.type_name}\n"
    for device in bus.devices:
        yield from _device(device, depth + 1)


def _device(device: Device, depth: int) -> Iterator[str]:
    pad = "  " * depth
    yield f'{pad}dev: {device.type_name}, id "{device.id}"\n'
    pad += "  "
    for line in _pins(device):
        yield f"{pad}{line}\n"
    for entry in device.properties().values():
        yield f"{pad}{entry.name} = {entry.to_text(entry.get(device))}\n"
    for region in device.regions:
        address = _address(region)
        yield f"{pad}mmio {address:016x}/{region.size:016x}\n"
    for bus in device.buses:
        yield from _bus(bus, depth + 1)


def _address(region: MemoryRegion) -> int:
    """Where a region is, in the address space of the CPUs."""
    address = UNMAPPED if region.container_region is None else 0
    node: MemoryRegion | None = region
    while node is not None and node.container_region is not None:
        address += node.addr
        node = node.container_region
    return address


def _pins(device: Device) -> Iterator[str]:
    if device.inputs:
        yield f'gpio-in "" {device.inputs}'
    if device.outputs:
        yield f'gpio-out "" {device.outputs}'
    if device.wires:
        yield f'gpio-out "sysbus-irq" {len(device.wires)}'
