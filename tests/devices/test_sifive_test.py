"""The test finisher."""

from __future__ import annotations

from typing import Any

import pytest

from ratite.devices.misc.sifive_test import SifiveTest
from ratite.devices.power import PowerAction
from ratite.memory import AddressSpace, Gpa, MemoryRegion, MemTxResult


@pytest.mark.parametrize(
    ("value", "request_made"),
    [
        (0x5555, (PowerAction.SHUTDOWN, 0)),
        (0x3333, (PowerAction.SHUTDOWN, 0)),
        (0x0007_3333, (PowerAction.SHUTDOWN, 7)),
        (0xFFFF_3333, (PowerAction.SHUTDOWN, 0xFFFF)),
        (0x7777, (PowerAction.RESET, 0)),
    ],
)
def test_commands_become_requests(
    power: Any, value: int, request_made: tuple[PowerAction, int]
) -> None:
    SifiveTest(power).write(0, value)
    assert power.requests == [request_made]


def test_anything_else_does_nothing(power: Any) -> None:
    device = SifiveTest(power)
    device.write(0, 0x1234)
    device.write(4, 0x5555)
    assert device.read(0) == 0
    assert power.requests == []


def test_a_half_word_is_enough(power: Any, system: MemoryRegion, space: AddressSpace) -> None:
    device = SifiveTest(power)
    system.add_subregion(0x10_0000, device.mmio)
    assert space.write(Gpa(0x10_0000), 2, 0x5555) is MemTxResult.OK
    assert space.write(Gpa(0x10_0000), 1, 0x55) is MemTxResult.DECODE_ERROR
    assert power.requests == [(PowerAction.SHUTDOWN, 0)]
