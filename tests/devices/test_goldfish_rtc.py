"""The Goldfish clock."""

from __future__ import annotations

from typing import Any

import pytest

from ratite.core import FakeClock
from ratite.devices.rtc.goldfish_rtc import GoldfishRtc

NOW = 1_700_000_000_123_456_789


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def rtc(clock: FakeClock) -> GoldfishRtc:
    return GoldfishRtc(clock)


def set_alarm(rtc: GoldfishRtc, when_ns: int) -> None:
    rtc.write(0x0C, when_ns >> 32)
    rtc.write(0x08, when_ns & 0xFFFF_FFFF)


def test_reading_the_low_half_latches_the_high_half(rtc: GoldfishRtc, clock: FakeClock) -> None:
    low = rtc.read(0x00)
    clock.advance(1 << 40)
    assert rtc.read(0x04) << 32 | low == NOW


def test_time_set_by_the_guest_goes_on_from_there(rtc: GoldfishRtc, clock: FakeClock) -> None:
    rtc.write(0x04, 5)
    rtc.write(0x00, 6)
    clock.advance(100)
    low = rtc.read(0x00)
    assert rtc.read(0x04) << 32 | low == (5 << 32) + 106
    rtc.reset()
    assert rtc.time_ns == (5 << 32) + 106


def test_the_alarm_raises_irq_until_cleared(rtc: GoldfishRtc, clock: FakeClock) -> None:
    rtc.write(0x10, 1)
    set_alarm(rtc, NOW + 1000)
    assert rtc.read(0x18) == 1 and not rtc.irq.level
    clock.advance(999)
    assert not rtc.irq.level
    clock.advance(1)
    assert rtc.irq.level and rtc.read(0x18) == 0
    rtc.write(0x1C, 1)
    assert not rtc.irq.level


def test_a_masked_alarm_waits_for_the_mask(rtc: GoldfishRtc, clock: FakeClock) -> None:
    set_alarm(rtc, NOW + 10)
    clock.advance(10)
    assert not rtc.irq.level
    rtc.write(0x10, 1)
    assert rtc.irq.level


def test_an_alarm_in_the_past_goes_off_at_once(rtc: GoldfishRtc) -> None:
    rtc.write(0x10, 1)
    set_alarm(rtc, NOW - 1)
    assert rtc.irq.level and rtc.read(0x18) == 0


def test_a_cleared_alarm_does_not_go_off(rtc: GoldfishRtc, clock: FakeClock) -> None:
    rtc.write(0x10, 1)
    set_alarm(rtc, NOW + 10)
    rtc.write(0x14, 1)
    assert rtc.read(0x18) == 0
    clock.advance(100)
    assert not rtc.irq.level


def test_setting_the_time_moves_the_alarm(rtc: GoldfishRtc, clock: FakeClock) -> None:
    rtc.write(0x10, 1)
    set_alarm(rtc, 100)
    rtc.write(0x1C, 1)
    rtc.write(0x04, 0)
    rtc.write(0x00, 50)
    set_alarm(rtc, 100)
    clock.advance(49)
    assert not rtc.irq.level
    rtc.write(0x00, 60)
    clock.advance(39)
    assert not rtc.irq.level
    clock.advance(1)
    assert rtc.irq.level


def test_saved_state_arms_the_alarm_again(rtc: GoldfishRtc, clock: FakeClock) -> None:
    rtc.write(0x10, 1)
    set_alarm(rtc, NOW + 10)
    other = GoldfishRtc(clock)
    other.load(rtc.save())
    clock.advance(10)
    assert other.irq.level


def test_byte_order_is_a_property(clock: FakeClock, system: Any, space: Any) -> None:
    rtc = GoldfishRtc(clock, big_endian=True)
    system.add_subregion(0, rtc.mmio)
    low = space.read(0, 4)[0]
    assert int.from_bytes(low.to_bytes(4, "little"), "big") == NOW & 0xFFFF_FFFF
