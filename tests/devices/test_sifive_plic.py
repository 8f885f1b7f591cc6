"""The platform-level interrupt controller."""

from __future__ import annotations

from typing import Any

import pytest

from ratite.core import ConfigError
from ratite.devices.intc.sifive_plic import SifivePlic

MEIP, SEIP = 1 << 11, 1 << 9
PENDING, ENABLE, CONTEXT = 0x1000, 0x2000, 0x20_0000
M0, S0, M1, S1 = range(4)  # contexts


def priority(source: int) -> int:
    return 4 * source


def enable(context: int, word: int = 0) -> int:
    return ENABLE + 0x80 * context + 4 * word


def threshold(context: int) -> int:
    return CONTEXT + 0x1000 * context


def claim(context: int) -> int:
    return threshold(context) + 4


@pytest.fixture
def plic(harts: list[Any]) -> SifivePlic:
    plic = SifivePlic(harts, hart_config="MS,MS")
    plic.realize()
    plic.reset()
    return plic


def ready(plic: SifivePlic, context: int, *sources: int) -> None:
    """Give sources priority 1 and enable them."""
    for source in sources:
        plic.write(priority(source), 1)
        word = plic.read(enable(context, source // 32))
        plic.write(enable(context, source // 32), word | 1 << source % 32)


def test_an_enabled_source_interrupts_is_claimed_and_completed(
    plic: SifivePlic, harts: list[Any]
) -> None:
    ready(plic, S0, 10)
    pin = plic.input(10)
    pin(True)
    assert harts[0].mip == SEIP and plic.read(PENDING) == 1 << 10
    assert plic.read(claim(S0)) == 10
    assert harts[0].mip == 0 and plic.read(PENDING) == 0
    assert plic.read(claim(S0)) == 0
    pin(False)
    plic.write(claim(S0), 10)
    assert harts[0].mip == 0


def test_a_source_still_high_at_completion_interrupts_again(
    plic: SifivePlic, harts: list[Any]
) -> None:
    ready(plic, S0, 10)
    plic.input(10)(True)
    plic.read(claim(S0))
    plic.write(claim(S0), 10)
    assert harts[0].mip == SEIP and plic.read(claim(S0)) == 10


def test_a_request_that_was_forwarded_cannot_be_taken_back(
    plic: SifivePlic, harts: list[Any]
) -> None:
    ready(plic, S0, 10)
    plic.input(10)(True)
    plic.input(10)(False)
    assert harts[0].mip == SEIP and plic.read(claim(S0)) == 10


def test_no_further_request_passes_before_completion(plic: SifivePlic) -> None:
    ready(plic, S0, 10)
    pin = plic.input(10)
    pin(True)
    plic.read(claim(S0))
    pin(False)
    pin(True)
    assert plic.read(PENDING) == 0
    plic.write(claim(S0), 10)
    assert plic.read(PENDING) == 1 << 10


def test_priority_decides_and_then_the_lower_number(plic: SifivePlic) -> None:
    ready(plic, M0, 3, 5, 7)
    plic.write(priority(7), 6)
    for source in (3, 5, 7):
        plic.input(source)(True)
    assert [plic.read(claim(M0)) for _ in range(4)] == [7, 3, 5, 0]


def test_priority_zero_never_interrupts(plic: SifivePlic, harts: list[Any]) -> None:
    ready(plic, M0, 3)
    plic.write(priority(3), 0)
    plic.input(3)(True)
    assert harts[0].mip == 0 and plic.read(claim(M0)) == 0
    assert plic.read(PENDING) == 1 << 3


def test_only_priorities_above_the_threshold_pass(plic: SifivePlic, harts: list[Any]) -> None:
    ready(plic, M1, 3)
    plic.write(priority(3), 4)
    plic.input(3)(True)
    plic.write(threshold(M1), 4)
    assert harts[1].mip == 0
    plic.write(threshold(M1), 3)
    assert harts[1].mip == MEIP


def test_each_context_has_its_own_enables(plic: SifivePlic, harts: list[Any]) -> None:
    ready(plic, S1, 40)
    plic.input(40)(True)
    assert [hart.mip for hart in harts] == [0, SEIP]
    ready(plic, M0, 40)
    assert [hart.mip for hart in harts] == [MEIP, SEIP]
    assert plic.read(claim(M0)) == 40
    assert [hart.mip for hart in harts] == [0, 0]


def test_completion_by_a_context_without_the_source_is_ignored(plic: SifivePlic) -> None:
    ready(plic, S0, 10)
    plic.input(10)(True)
    plic.read(claim(S0))
    plic.write(claim(S1), 10)
    assert plic.read(PENDING) == 0
    plic.write(claim(S0), 4000)
    plic.write(claim(S0), 10)
    assert plic.read(PENDING) == 1 << 10


def test_registers_hold_what_they_can_hold(plic: SifivePlic) -> None:
    plic.write(priority(1), 0xFFFF_FFFF)
    assert plic.read(priority(1)) == 7
    plic.write(threshold(S0), 9)
    assert plic.read(threshold(S0)) == 1
    plic.write(enable(S0), 0xFFFF_FFFF)
    assert plic.read(enable(S0)) == 0xFFFF_FFFE
    plic.write(enable(S0, 2), 0xFFFF_FFFF)
    assert plic.read(enable(S0, 2)) == 0xFFFF_FFFF
    plic.write(PENDING, 0xFFFF_FFFF)
    assert plic.read(PENDING) == 0


def test_reset_keeps_what_the_sources_drive(plic: SifivePlic, harts: list[Any]) -> None:
    ready(plic, S0, 10)
    plic.input(10)(True)
    plic.reset()
    assert harts[0].mip == 0 and plic.read(PENDING) == 1 << 10
    ready(plic, S0, 10)
    assert harts[0].mip == SEIP


def test_reset_drives_the_harts_anew(plic: SifivePlic, harts: list[Any]) -> None:
    harts[0].mip = harts[1].mip = MEIP | SEIP
    plic.reset()
    assert [hart.mip for hart in harts] == [0, 0]


def test_saved_state_drives_the_outputs_again(plic: SifivePlic, harts: list[Any]) -> None:
    ready(plic, S0, 10)
    plic.input(10)(True)
    saved = plic.save()
    plic.reset()
    plic.load(saved)
    assert harts[0].mip == SEIP and plic.read(claim(S0)) == 10


def test_the_last_source_works_like_any_other(plic: SifivePlic, harts: list[Any]) -> None:
    ready(plic, S0, 96)
    plic.write(priority(96), 3)
    plic.write(priority(97), 3)
    assert (plic.read(priority(96)), plic.read(priority(97))) == (3, 0)
    plic.input(96)(True)
    assert harts[0].mip == SEIP and plic.read(PENDING + 12) == 1
    assert plic.read(claim(S0)) == 96
    plic.write(enable(S0, 3), 0xFFFF_FFFF)
    assert plic.read(enable(S0, 3)) == 1


def test_a_source_that_does_not_exist_has_no_pin(plic: SifivePlic) -> None:
    for source in (0, 97):
        with pytest.raises(ConfigError, match="num-sources"):
            plic.input(source)


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        ({"hart_config": "MS,MS,MS"}, "names more than 2 harts"),
        ({"hart_config": "MX"}, "has a mode 'X'"),
        ({"num_sources": 5000}, "num-sources must be 1 to 1023"),
        ({"aperture_size": 0x20_0000}, "aperture-size is too small"),
    ],
)
def test_wrong_properties_are_refused(
    harts: list[Any], properties: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        SifivePlic(harts, **properties).realize()
