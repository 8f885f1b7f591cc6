"""The device model: registers, state, wires, reset, migration."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from ratite.core import ConfigError, Log, LogCategory
from ratite.devices import (
    Bus,
    Device,
    Register,
    State,
    SystemBus,
    Wire,
    find_bus,
    find_free_bus,
)
from ratite.memory import AddressSpace, Gpa, MemoryRegion
from ratite.qom import PropertyError, PropertyInfo, UInt32, reset_tree


class Pl031(Device):
    """Arm's real-time clock: the example of the style guide."""

    type_name = "test-pl031"
    mmio_size = 0x1000

    DR = Register(0x00, "ro")
    MR = Register(0x04)
    LR = Register(0x08)
    CR = Register(0x0C, mask=0, reset=1)
    IMSC = Register(0x10, mask=1)
    RIS = Register(0x14, "ro")
    MIS = Register(0x18, "ro")
    ICR = Register(0x1C, "wo", mask=1)

    offset = State(0, kept=True)
    ticks = State[list[int]](factory=lambda rtc: [rtc.first])

    def __init__(self, seconds: Callable[[], int], *, first: UInt32 = 5) -> None:
        self.seconds = seconds
        self.first = first
        super().__init__()

    @DR.on_read
    def _counter(self) -> int:
        return (self.seconds() + self.offset) & 0xFFFF_FFFF

    @LR.on_write
    def _load(self, value: int) -> None:
        self.offset = value - self.seconds()

    @MIS.on_read
    def _masked_status(self) -> int:
        return self.RIS & self.IMSC

    @ICR.on_write
    def _clear(self, value: int) -> None:
        self.RIS &= ~value

    @Wire
    def irq(self) -> bool:
        """High while an unmasked match is pending."""
        return self.MIS != 0

    def tick(self) -> None:
        if self.DR == self.MR:
            self.RIS = 1
            self.update_wires()


@pytest.fixture
def rtc() -> Pl031:
    return Pl031(lambda: 1000)


def test_match_raises_irq_only_when_unmasked(rtc: Pl031) -> None:
    rtc.write(0x04, 1000)
    rtc.tick()
    assert rtc.read(0x14) == 1 and not rtc.irq.level
    rtc.write(0x10, 1)
    assert rtc.irq.level


def test_a_write_changes_only_the_bits_of_the_mask(rtc: Pl031) -> None:
    rtc.write(0x10, 0xFFFF_FFFF)
    rtc.write(0x0C, 0)
    assert rtc.read(0x10) == 1 and rtc.read(0x0C) == 1


def test_read_only_and_write_only_registers_refuse_and_say_so(rtc: Pl031) -> None:
    out = io.StringIO()
    rtc.log = Log(LogCategory.GUEST_ERRORS, out)
    rtc.write(0x00, 5)
    assert rtc.read(0x1C) == 0
    assert rtc.read(0x20) == 0
    rtc.write(0x20, 1)
    assert "read-only DR" in out.getvalue() and "write-only ICR" in out.getvalue()
    assert out.getvalue().count("where no register is") == 8


def test_partial_accesses_meet_the_bytes_they_name(rtc: Pl031) -> None:
    rtc.write(0x04, 0x11223344)
    assert rtc.read(0x05, 1) == 0x33 and rtc.read(0x06, 2) == 0x1122
    rtc.write(0x05, 0xAA, 1)
    assert rtc.read(0x04) == 0x1122AA44
    rtc.write(0x08, 0x55, 1)
    assert rtc.read(0x04, 8) == 0x00000055_1122AA44


def test_wires_call_their_pins_on_changes_only(rtc: Pl031) -> None:
    levels: list[bool] = []
    rtc.irq.connect(levels.append)
    rtc.RIS = 1
    rtc.write(0x10, 1)
    rtc.write(0x10, 1)
    rtc.write(0x1C, 1)
    assert levels == [True, False]
    rtc.RIS = 1
    rtc.update_wires()
    late: list[bool] = []
    rtc.irq.connect(late.append)
    assert late == [True] and rtc.irq.connected


def test_reset_restores_power_on_values_and_lowers_wires(rtc: Pl031) -> None:
    rtc.write(0x08, 2000)
    rtc.write(0x10, 1)
    rtc.RIS = 1
    rtc.ticks.append(9)
    rtc.update_wires()
    rtc.reset()
    assert (rtc.IMSC, rtc.RIS, rtc.CR, rtc.ticks) == (0, 0, 1, [5])
    assert not rtc.irq.level
    assert rtc.offset == 1000  # kept


def test_saved_state_restores_another_device_and_its_wires(rtc: Pl031) -> None:
    rtc.write(0x08, 1234)
    rtc.write(0x10, 1)
    rtc.RIS = 1
    saved = rtc.save()
    assert saved == {
        "MR": 0,
        "LR": 1234,
        "CR": 1,
        "IMSC": 1,
        "RIS": 1,
        "offset": 234,
        "ticks": [5],
    }
    other = Pl031(lambda: 1000)
    other.load(saved)
    assert other.save() == saved and other.irq.level
    other.ticks.append(1)
    assert saved["ticks"] == [5]


def test_saved_state_must_fit(rtc: Pl031) -> None:
    saved = rtc.save()
    with pytest.raises(ConfigError, match="unknown 'XX'"):
        rtc.load({**saved, "XX": 1})
    del saved["RIS"]
    with pytest.raises(ConfigError, match="lacks 'RIS'"):
        rtc.load(saved)


def test_state_added_later_loads_with_its_default() -> None:
    class Newer(Device):
        old = State(1)
        new = State(7, since="0.4")

    device = Newer()
    device.new = 9
    device.load({"old": 3})
    assert (device.old, device.new) == (3, 7)


def test_two_devices_of_a_class_share_nothing() -> None:
    one, two = Pl031(lambda: 1), Pl031(lambda: 2)
    one.write(0x04, 77)
    one.ticks.append(1)
    assert two.read(0x04) == 0 and two.ticks == [5] and one.read(0) != two.read(0)


def test_the_region_leads_to_the_registers(rtc: Pl031) -> None:
    system = MemoryRegion.container("system", 1 << 64)
    space = AddressSpace(system, "memory")
    system.add_subregion(0x1000, rtc.mmio)
    space.write(Gpa(0x1004), 4, 42)
    assert space.read(Gpa(0x1004), 4)[0] == 42
    assert rtc.children["test-pl031[0]"] is rtc.mmio


def test_properties_follow_the_signature_and_freeze_at_realize(rtc: Pl031) -> None:
    assert rtc.get_property("first") == 5
    rtc.set_property("first", "8")
    assert rtc.first == 8
    rtc.realize()
    assert rtc.get_property("realized") is True
    with pytest.raises(PropertyError, match="anonymous device"):
        rtc.set_property("first", "9")
    with pytest.raises(PropertyError, match="not writable"):
        rtc.set_property("realized", False)
    names = [info.name for info in rtc.list_properties()]
    assert names[:5] == ["type", "parent_bus", "realized", "hotplugged", "hotpluggable"]
    assert PropertyInfo("test-pl031[0]", "child<memory-region>") in rtc.list_properties()


class CardBus(Bus):
    type_name = "test-card-bus"


class SlotBus(CardBus):
    type_name = "test-slot-bus"
    max_devices = 1


class Slot(Device):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_bus(SlotBus(name, self))


class Card(Device):
    type_name = "test-bus-card"
    bus_type = "test-card-bus"

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        super().__init__()

    def realize(self) -> None:
        if self.broken:
            raise ConfigError("broken")
        super().realize()


@pytest.fixture
def main_bus() -> SystemBus:
    bus = SystemBus("main-system-bus")
    for number in range(3):
        bus.plug(Slot(f"slot.{number}"))
    return bus


def test_the_latest_bus_is_filled_first(main_bus: SystemBus) -> None:
    names = []
    while (bus := find_free_bus(main_bus, "test-card-bus")) is not None:
        names.append(bus.bus_name)
        bus.plug(Card())
    assert names == ["slot.2", "slot.1", "slot.0"]


def test_buses_are_found_by_name(main_bus: SystemBus) -> None:
    found = find_bus(main_bus, "slot.1")
    assert found is not None and found.bus_name == "slot.1"
    assert find_bus(main_bus, "nope") is None


def test_a_bus_refuses_what_does_not_fit(main_bus: SystemBus) -> None:
    slot = find_free_bus(main_bus, "test-card-bus")
    assert slot is not None
    with pytest.raises(ConfigError, match="can't go on"):
        main_bus.plug(Card())
    slot.plug(Card())
    with pytest.raises(ConfigError, match="is full"):
        slot.plug(Card())


def test_a_device_that_fails_to_realize_is_not_on_the_bus(main_bus: SystemBus) -> None:
    slot = find_free_bus(main_bus, "test-card-bus")
    assert slot is not None
    card = Card(broken=True)
    with pytest.raises(ConfigError, match="broken"):
        slot.plug(card)
    assert slot.devices == [] and card.parent_bus is None and not card.realized


def test_unplugging_undoes_plugging(main_bus: SystemBus) -> None:
    slot = find_free_bus(main_bus, "test-card-bus")
    assert slot is not None
    card = Card()
    slot.plug(card)
    assert card.realized
    slot.unplug(card)
    assert not card.realized and slot.devices == []


def test_reset_reaches_devices_below_buses(main_bus: SystemBus, rtc: Pl031) -> None:
    slot = main_bus.devices[0]
    slot.buses[0].add_child("card", rtc)
    rtc.MR = 5
    reset_tree(slot)
    assert rtc.MR == 0
