"""What `info mtree`, `info mtree -f` and `info ramblock` print."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ratite.memory.flatview import FlatRange, FlatView
from ratite.memory.ram import RamList
from ratite.memory.region import MemoryRegion
from ratite.memory.space import AddressSpace

Remark = Callable[[MemoryRegion], str]


def _no_remark(region: MemoryRegion) -> str:
    return ""


def mtree(
    spaces: Sequence[AddressSpace], *, show_disabled: bool = False, remark: Remark = _no_remark
) -> str:
    """The trees of the address spaces, one for those that share a root, then the targets of
    aliases. What `remark` says of a region ends its line.
    """
    roots: dict[MemoryRegion, list[str]] = {}
    for space in spaces:
        roots.setdefault(space.root, []).append(space.name)
    targets: dict[MemoryRegion, None] = {}
    lines: list[str] = []
    for root, names in roots.items():
        lines += [f"address-space: {name}" for name in sorted(names)]
        lines += [*_tree(root, 1, 0, targets, show_disabled, remark), ""]
    shown = 0
    while shown < len(targets):
        region = list(targets)[shown]
        shown += 1
        lines.append(f"memory-region: {region.region_name}")
        lines += [*_tree(region, 1, 0, targets, show_disabled, remark), ""]
    return "\n".join([*lines, ""])


def mtree_flat(spaces: Sequence[AddressSpace], *, remark: Remark = _no_remark) -> str:
    """The rendered views, each with the address spaces that share it. `remark` as in `mtree`."""
    views: dict[int, list[AddressSpace]] = {}
    for space in spaces:
        views.setdefault(id(space.flatview), []).append(space)
    lines: list[str] = []
    for number, sharing in enumerate(views.values()):
        lines.append(f"FlatView #{number}")
        lines += [f' AS "{space.name}", root: {_root_text(space.root)}' for space in sharing]
        lines += [*_view_lines(sharing[0].flatview, remark), ""]
    return "\n".join([*lines, ""])


def ramblock_info(ram_list: RamList) -> str:
    """The RAM blocks, largest first."""
    lines = [f"{'Block Name':>24} {'PSize':>8}  {'Offset':>18} {'Used':>18} {'Total':>18}"]
    for block in sorted(ram_list.blocks, key=lambda block: -block.size):
        page = f"{block.page_size >> 10} KiB"
        numbers = f"{block.offset:#018x} {block.size:#018x} {block.size:#018x}"
        lines.append(f"{block.idstr:>24} {page:>8}  {numbers}")
    return "\n".join([*lines, ""])


def _span(start: int, size: int) -> str:
    return f"{start:016x}-{start + max(size - 1, 0):016x}"


def _tree(
    region: MemoryRegion,
    level: int,
    base: int,
    targets: dict[MemoryRegion, None],
    show_disabled: bool,
    remark: Remark,
) -> Iterator[str]:
    start = base + region.addr
    if region.target is not None:
        targets.setdefault(region.target)
    if region.enabled or show_disabled:
        text = f"(prio {region.priority}, {region.type_text}): "
        if region.target is not None:
            window = _span(region.target_offset, region.size)
            text += f"alias {region.region_name} @{region.target.region_name} {window}"
        else:
            text += region.region_name
        suffix = "" if region.enabled else " [disabled]"
        yield f"{'  ' * level}{_span(start, region.size)} {text}{suffix}{remark(region)}"
    # By address, and where two start alike the one that shows first.
    for child in sorted(region.subregions, key=lambda child: (child.addr, -child.priority)):
        yield from _tree(child, level + 1, start, targets, show_disabled, remark)


def _root_text(root: MemoryRegion) -> str:
    if root.target is None:
        return root.region_name
    return f"{root.region_name}, alias {root.target.region_name}"


def _view_lines(view: FlatView, remark: Remark) -> Iterator[str]:
    yield f" Root memory region: {view.root.region_name if view.root else '(none)'}"
    if not view.ranges:
        yield "  No rendered FlatView"
    for entry in view.ranges:
        yield f"  {_range_text(entry)}{remark(entry.region)}"


def _range_text(entry: FlatRange) -> str:
    region = entry.region
    kind = "rom" if entry.readonly and not entry.romd else region.type_text
    offset = f" @{entry.offset_in_region:016x}" if entry.offset_in_region else ""
    span = _span(entry.start, entry.size)
    return f"{span} (prio {region.priority}, {kind}): {region.region_name}{offset}"
