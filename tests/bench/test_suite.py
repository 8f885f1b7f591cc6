"""The measured programs compute the same everywhere: natively, on tier 0 and on tier 1."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from bench.cpu import NATIVE, TIER_0, WARM, contestants
from bench.report import Section
from bench.side_by_side import Plan, alternate, medians
from bench.suite import CROSS, SOURCES, Program, build

NAMES = sorted(source.stem for source in SOURCES.glob("*.c"))


def plan_for(work: Path, *only: str) -> Plan:
    return Plan(runs=1, only=only, work=work, console=Console(quiet=True), rounds=1)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Program]:
    if shutil.which(CROSS) is None:
        pytest.skip(f"no {CROSS}")
    built = build(plan_for(tmp_path_factory.mktemp("suite")))
    return {program.name: program for program in built}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_executor_computes_what_the_host_does(
    programs: dict[str, Program], name: str
) -> None:
    runners = contestants(programs[name])
    outcomes = {who: runners[who]() for who in (NATIVE, TIER_0, WARM)}
    assert len({outcome.checksum for outcome in outcomes.values()}) == 1
    assert outcomes[TIER_0].instructions == outcomes[WARM].instructions


def test_contestants_take_turns(tmp_path: Path) -> None:
    order: list[str] = []

    def runner(name: str, value: float) -> float:
        order.append(name)
        return value

    plan = Plan(runs=3, only=(), work=tmp_path, console=Console(quiet=True))
    found = alternate(plan, {"a": lambda: runner("a", 1.0), "b": lambda: runner("b", 2.0)})
    assert order == ["a", "b"] * 3
    assert medians(found) == {"a": 1.0, "b": 2.0}


def test_a_section_is_a_table_in_the_document() -> None:
    section = Section("Title", ["", "s"], [["ratite", "0.1"]], ["a note"])
    assert section.markdown().splitlines() == [
        "## Title",
        "",
        "|  | s |",
        "| --- | ---: |",
        "| ratite | 0.1 |",
        "",
        "- a note",
    ]
