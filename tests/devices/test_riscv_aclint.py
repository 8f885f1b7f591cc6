"""ACLINT: timers and software interrupts."""

from __future__ import annotations

from typing import Any

import pytest

from ratite.core import ConfigError, FakeClock
from ratite.devices.intc.riscv_aclint import AclintMtimer, AclintSwi
from ratite.memory import AddressSpace, Gpa, MemoryRegion

MTIP, MSIP, SSIP = 1 << 7, 1 << 3, 1 << 1
MTIME = 0x7FF8


@pytest.fixture
def mtimer(clock: FakeClock, harts: list[Any]) -> AclintMtimer:
    device = AclintMtimer(clock, harts, num_harts=2)
    device.realize()
    device.reset()
    return device


def test_mtime_counts_ten_million_a_second(mtimer: AclintMtimer, clock: FakeClock) -> None:
    clock.advance(1_000_000_000)
    assert mtimer.read(MTIME, 8) == 10_000_000
    clock.advance(99)
    assert mtimer.read(MTIME, 8) == 10_000_000
    clock.advance(1)
    assert mtimer.read(MTIME, 8) == 10_000_001


def test_mtip_rises_when_mtime_reaches_mtimecmp_and_not_before(
    mtimer: AclintMtimer, clock: FakeClock, harts: list[Any]
) -> None:
    mtimer.write(0, 1000, 8)
    assert not harts[0].mip & MTIP
    clock.advance(99_999)
    assert not harts[0].mip & MTIP
    clock.advance(1)
    assert harts[0].mip & MTIP


def test_mtip_falls_when_mtimecmp_is_moved_ahead(
    mtimer: AclintMtimer, clock: FakeClock, harts: list[Any]
) -> None:
    mtimer.write(8, 10, 8)
    clock.advance(10_000)
    assert harts[1].mip & MTIP
    mtimer.write(8, 1 << 63, 8)
    assert not harts[1].mip & MTIP
    clock.advance(1 << 62)
    assert not harts[1].mip & MTIP


def test_mtip_is_high_from_reset_since_mtimecmp_is_zero(
    mtimer: AclintMtimer, harts: list[Any]
) -> None:
    assert harts[0].mip & MTIP and harts[1].mip & MTIP


def test_halves_can_be_written_one_by_one(
    mtimer: AclintMtimer, clock: FakeClock, harts: list[Any]
) -> None:
    mtimer.write(4, 0xFFFF_FFFF, 4)
    mtimer.write(0, 500, 4)
    assert not harts[0].mip & MTIP
    mtimer.write(4, 0, 4)
    assert mtimer.read(0, 8) == 500
    clock.advance(50_000)
    assert harts[0].mip & MTIP


def test_mtime_can_be_written_and_moves_all_comparisons(
    mtimer: AclintMtimer, clock: FakeClock, harts: list[Any]
) -> None:
    mtimer.write(0, 1_000_000, 8)
    mtimer.write(8, 2_000_000, 8)
    mtimer.write(MTIME, 1_500_000, 8)
    assert harts[0].mip & MTIP and not harts[1].mip & MTIP
    assert mtimer.read(MTIME, 8) == 1_500_000
    mtimer.write(MTIME + 4, 1, 4)
    assert mtimer.read(MTIME, 8) == (1 << 32) + 1_500_000
    assert harts[1].mip & MTIP


def test_whoever_counts_time_too_is_told_of_a_new_offset(
    mtimer: AclintMtimer, clock: FakeClock
) -> None:
    told: list[int] = []
    mtimer.on_offset = told.append
    clock.advance(1_000_000)
    mtimer.write(0, 5, 8)
    assert told == []
    mtimer.write(MTIME, 0, 8)
    assert told == [(1 << 64) - 10_000]
    saved = mtimer.save()
    clock.advance(1_000_000)
    mtimer.reset()
    mtimer.load(saved)
    assert told == [(1 << 64) - 10_000, (1 << 64) - 20_000, (1 << 64) - 10_000]


def test_mtime_wraps_at_64_bits(mtimer: AclintMtimer, clock: FakeClock) -> None:
    mtimer.write(MTIME, (1 << 64) - 1, 8)
    clock.advance(100)
    assert mtimer.read(MTIME, 8) == 0


def test_reset_starts_the_counter_again_and_drives_the_harts_anew(
    mtimer: AclintMtimer, clock: FakeClock, harts: list[Any]
) -> None:
    clock.advance(12_345_600)
    harts[0].mip = 0
    mtimer.reset()
    assert mtimer.read(MTIME, 8) == 0
    assert harts[0].mip & MTIP


def test_saved_state_brings_the_timer_back(
    mtimer: AclintMtimer, clock: FakeClock, harts: list[Any]
) -> None:
    mtimer.write(0, 1000, 8)
    saved = mtimer.save()
    mtimer.write(0, 1 << 63, 8)
    mtimer.load(saved)
    clock.advance(100_000)
    assert harts[0].mip & MTIP


def test_the_two_devices_form_the_clint_map(
    clock: FakeClock, harts: list[Any], system: MemoryRegion, space: AddressSpace
) -> None:
    timer, swi = AclintMtimer(clock, harts, num_harts=2), AclintSwi(harts, num_harts=2)
    system.add_subregion(0x200_0000, swi.mmio)
    system.add_subregion(0x200_4000, timer.mmio)
    clock.advance(1_000_000_000)
    assert space.read(Gpa(0x200_BFF8), 8)[0] == 10_000_000
    space.write(Gpa(0x200_4008), 8, 5)
    assert timer.mtimecmp[1] == 5
    space.write(Gpa(0x200_0004), 4, 1)
    assert harts[1].mip & MSIP


def test_msip_follows_its_lowest_bit(harts: list[Any]) -> None:
    swi = AclintSwi(harts, num_harts=2)
    swi.write(4, 0xFFFF_FFFF)
    assert harts[1].mip & MSIP and swi.read(4) == 1
    swi.write(4, 0xFFFF_FFFE)
    assert not harts[1].mip & MSIP and swi.read(4) == 0
    swi.write(0, 1)
    swi.reset()
    assert not harts[0].mip & MSIP


def test_setssip_only_sets_and_reads_as_zero(harts: list[Any]) -> None:
    swi = AclintSwi(harts, num_harts=2, sswi=1)
    swi.write(0, 1)
    assert harts[0].mip & SSIP and swi.read(0) == 0
    swi.write(0, 0)
    assert harts[0].mip & SSIP


def test_more_harts_than_the_machine_has_are_refused(clock: FakeClock, harts: list[Any]) -> None:
    with pytest.raises(ConfigError, match="num-harts is 3"):
        AclintMtimer(clock, harts, num_harts=3).realize()
    with pytest.raises(ConfigError, match="num-harts"):
        AclintSwi(harts, num_harts=0).realize()
    with pytest.raises(ConfigError, match="timebase-freq"):
        AclintMtimer(clock, harts, timebase_freq=0).realize()
