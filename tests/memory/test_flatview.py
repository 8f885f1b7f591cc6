"""Rendering the tree."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from ratite.memory import AddressSpace, FlatView, Gpa, MemoryRegion, RamList


class Silent:
    """I/O operations that answer 0."""

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, value: int, size: int) -> None:
        pass


def shape(space: AddressSpace) -> list[tuple[int, int, str, int]]:
    return [
        (r.start, r.size, r.region.region_name, r.offset_in_region) for r in space.flatview.ranges
    ]


def io(name: str, size: int) -> MemoryRegion:
    return MemoryRegion.io(name, size, Silent())


def test_disjoint_regions_appear_in_order(system: MemoryRegion, space: AddressSpace) -> None:
    system.add_subregion(0x2000, io("b", 0x100))
    system.add_subregion(0x1000, io("a", 0x100))
    assert shape(space) == [(0x1000, 0x100, "a", 0), (0x2000, 0x100, "b", 0)]


def test_higher_priority_hides_what_it_covers(system: MemoryRegion, space: AddressSpace) -> None:
    system.add_subregion(0x1000, io("under", 0x1000))
    system.add_subregion(0x1400, io("over", 0x400), priority=1)
    assert shape(space) == [
        (0x1000, 0x400, "under", 0),
        (0x1400, 0x400, "over", 0),
        (0x1800, 0x800, "under", 0x800),
    ]


def test_negative_priority_is_background(system: MemoryRegion, space: AddressSpace) -> None:
    system.add_subregion(0, io("background", 0x3000), priority=-1000)
    system.add_subregion(0x1000, io("device", 0x1000))
    assert [name for _, _, name, _ in shape(space)] == ["background", "device", "background"]


def test_of_equal_priorities_the_latest_shows(system: MemoryRegion, space: AddressSpace) -> None:
    system.add_subregion(0, io("first", 0x1000))
    system.add_subregion(0x800, io("second", 0x1000))
    assert shape(space) == [(0, 0x800, "first", 0), (0x800, 0x1000, "second", 0)]


def test_a_containers_priority_counts_for_all_in_it(
    system: MemoryRegion, space: AddressSpace
) -> None:
    box = MemoryRegion.container("box", 0x1000)
    box.add_subregion(0, io("inner", 0x1000), priority=100)
    system.add_subregion(0, box, priority=1)
    system.add_subregion(0, io("outer", 0x1000), priority=2)
    assert shape(space) == [(0, 0x1000, "outer", 0)]


def test_holes_in_a_container_show_what_is_below(system: MemoryRegion, space: AddressSpace) -> None:
    box = MemoryRegion.container("box", 0x3000)
    box.add_subregion(0x1000, io("inner", 0x1000))
    system.add_subregion(0, io("below", 0x3000))
    system.add_subregion(0, box, priority=1)
    assert [(s, n) for s, _, n, _ in shape(space)] == [
        (0, "below"),
        (0x1000, "inner"),
        (0x2000, "below"),
    ]


def test_an_io_region_shows_where_its_children_do_not(
    system: MemoryRegion, space: AddressSpace
) -> None:
    window = io("window", 0x3000)
    window.add_subregion(0x1000, io("bar", 0x1000))
    system.add_subregion(0x8000, window)
    assert shape(space) == [
        (0x8000, 0x1000, "window", 0),
        (0x9000, 0x1000, "bar", 0),
        (0xA000, 0x1000, "window", 0x2000),
    ]


def test_children_are_cut_to_their_container(system: MemoryRegion, space: AddressSpace) -> None:
    box = MemoryRegion.container("box", 0x1000)
    box.add_subregion(0x800, io("long", 0x1000))
    system.add_subregion(0x4000, box)
    assert shape(space) == [(0x4800, 0x800, "long", 0)]


def test_an_alias_shows_a_window_of_its_target(
    system: MemoryRegion, space: AddressSpace, ram_list: RamList
) -> None:
    ram = MemoryRegion.ram("ram", ram_list.alloc("ram", 0x10000))
    system.add_subregion(0x8000_0000, ram)
    alias = MemoryRegion.alias("low", ram, 0x4000, 0x2000)
    system.add_subregion(0, alias)
    assert shape(space)[0] == (0, 0x2000, "ram", 0x4000)
    alias.set_alias_offset(0x8000)
    assert shape(space)[0] == (0, 0x2000, "ram", 0x8000)


def test_an_alias_follows_its_target_wherever_that_changes(
    system: MemoryRegion, space: AddressSpace
) -> None:
    pci = MemoryRegion.container("pci", 1 << 64)
    system.add_subregion(0x4000_0000, MemoryRegion.alias("window", pci, 0x4000_0000, 0x1000_0000))
    bar = io("bar", 0x1000)
    pci.add_subregion(0x4800_0000, bar)
    assert shape(space) == [(0x4800_0000, 0x1000, "bar", 0)]
    bar.set_address(0x4900_0000)
    assert shape(space) == [(0x4900_0000, 0x1000, "bar", 0)]
    pci.del_subregion(bar)
    assert shape(space) == []


def test_pieces_that_continue_each_other_are_joined(
    system: MemoryRegion, space: AddressSpace
) -> None:
    target = io("target", 0x4000)
    system.add_subregion(0, MemoryRegion.alias("a", target, 0, 0x1000))
    system.add_subregion(0x1000, MemoryRegion.alias("b", target, 0x1000, 0x1000))
    assert shape(space) == [(0, 0x2000, "target", 0)]


def test_hidden_resized_and_read_only_regions(
    system: MemoryRegion, space: AddressSpace, ram_list: RamList
) -> None:
    ram = MemoryRegion.ram("ram", ram_list.alloc("ram", 0x2000))
    system.add_subregion(0, ram)
    ram.set_enabled(False)
    assert shape(space) == []
    ram.set_enabled(True)
    ram.set_size(0x1000)
    assert shape(space) == [(0, 0x1000, "ram", 0)]
    ram.set_readonly(True)
    assert space.flatview.ranges[0].readonly and not space.flatview.ranges[0].writable


def test_a_view_ends_at_the_top_of_the_address_space(
    system: MemoryRegion, space: AddressSpace
) -> None:
    system.add_subregion((1 << 64) - 0x1000, io("top", 0x1000))
    assert space.flatview.ranges[0].end == 1 << 64
    assert space.lookup(Gpa((1 << 64) - 1)) is space.flatview.ranges[0]


def test_lookup_finds_the_range_of_an_address_or_nothing(
    system: MemoryRegion, space: AddressSpace
) -> None:
    system.add_subregion(0x1000, io("a", 0x1000))
    assert space.lookup(Gpa(0xFFF)) is None
    assert space.lookup(Gpa(0x2000)) is None
    found = space.lookup(Gpa(0x1FFF))
    assert found is not None and found.region.region_name == "a"


class Listener:
    def __init__(self) -> None:
        self.commits: list[tuple[FlatView | None, FlatView]] = []

    def commit(self, old: FlatView | None, new: FlatView) -> None:
        self.commits.append((old, new))


def test_listeners_hear_of_changes_that_show(system: MemoryRegion, space: AddressSpace) -> None:
    listener = Listener()
    space.add_listener(listener)
    assert listener.commits == [(None, space.flatview)]
    region = io("a", 0x1000)
    system.add_subregion(0, region)
    assert len(listener.commits) == 2 and listener.commits[1][1] is space.flatview
    system.add_subregion(0, io("hidden", 0x1000), priority=-1)
    assert len(listener.commits) == 2
    space.remove_listener(listener)
    system.del_subregion(region)
    assert len(listener.commits) == 2


def test_a_transaction_renders_once_at_its_outermost_end(
    system: MemoryRegion, space: AddressSpace
) -> None:
    listener = Listener()
    space.add_listener(listener)
    before = space.render_count
    with space.transaction():
        with system.transaction():
            system.add_subregion(0, io("a", 0x1000))
        system.add_subregion(0x1000, io("b", 0x1000))
        assert space.flatview.ranges == []
    assert space.render_count == before + 1
    assert len(listener.commits) == 2


def test_ten_thousand_changes_in_a_transaction_cost_one_render(
    system: MemoryRegion, space: AddressSpace
) -> None:
    before = space.render_count
    started = time.monotonic()
    with space.transaction():
        for number in range(10_000):
            system.add_subregion(number * 0x800, io(f"d{number}", 0x1000), priority=number % 3)
    assert space.render_count == before + 1
    assert time.monotonic() - started < 20  # far above what it takes; a quadratic render is not
    assert len(space.flatview.ranges) > 6_000


def test_address_spaces_with_one_root_share_the_view(
    system: MemoryRegion, space: AddressSpace
) -> None:
    cpu = AddressSpace(system, "cpu-memory-0")
    system.add_subregion(0, io("a", 0x1000))
    assert cpu.flatview is space.flatview
    assert cpu.render_count + space.render_count == 1


def test_a_root_that_only_passes_through_shares_its_targets_view(
    system: MemoryRegion, space: AddressSpace
) -> None:
    system.add_subregion(0, io("a", 0x1000))
    system.add_subregion(0x1000, io("b", 0x1000))
    bus = MemoryRegion.container("bus master container", 1 << 64)
    master = MemoryRegion.alias("bus master", system, 0, 1 << 64)
    master.set_enabled(False)
    bus.add_subregion(0, master)
    device = AddressSpace(bus, "device")
    assert device.flatview.root is None and device.flatview.ranges == []
    master.set_enabled(True)
    assert device.flatview is space.flatview
    system.add_subregion(0x2000, io("c", 0x1000))
    assert device.flatview is space.flatview and len(device.flatview.ranges) == 3


def test_a_closed_address_space_follows_no_more(system: MemoryRegion, space: AddressSpace) -> None:
    space.close()
    system.add_subregion(0, io("a", 0x1000))
    assert space.flatview.ranges == []


placements = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 20), st.integers(-2, 2)), max_size=12
)


@given(placements)
def test_rendering_agrees_with_painting_address_by_address(
    regions: list[tuple[int, int, int]],
) -> None:
    root = MemoryRegion.container("root", 64)
    painted: dict[int, tuple[int, int]] = {}
    order = sorted(enumerate(regions), key=lambda item: (item[1][2], item[0]))
    for number, (start, size, _) in order:
        painted.update({at: (number, at - start) for at in range(start, min(start + size, 64))})
    for number, (start, size, priority) in enumerate(regions):
        root.add_subregion(start, io(str(number), size), priority)
    space = AddressSpace(root, "space")
    seen = {
        entry.start + index: (int(entry.region.region_name), entry.offset_in_region + index)
        for entry in space.flatview.ranges
        for index in range(entry.size)
    }
    assert seen == painted
    starts = [entry.start for entry in space.flatview.ranges]
    assert starts == sorted(starts)
