"""The programs that measure growth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from bench import growth
from bench.generated_code import BLOCK, generate
from bench.growth import Program, everywhere, run
from bench.report import Section, save, write_document
from bench.side_by_side import BenchError, Plan
from bench.suite import CROSS
from ratite.isa.decoder import Decoder
from ratite.isa.riscv import RISCV
from ratite.native import u64
from tests.isa.harness import CODE, Executor, executor


def plan_for(work: Path) -> Plan:
    return Plan(runs=1, only=(), work=work, console=Console(quiet=True))


# -- generated code


@pytest.mark.parametrize("size", [40, 1000])
def test_generated_code_has_the_size_asked_for_and_a_branch_in_every_block(size: int) -> None:
    code = generate(size)
    decoder = Decoder(RISCV)
    words = [int.from_bytes(code[at : at + 4], "little") for at in range(0, len(code), 4)]
    rows = [decoder.find(word, 32, lambda name: name == "i") for word in words]
    names = [row.insn.name for row in rows if row is not None]
    assert len(names) == size and names[-1] == "jalr"
    branches = [number for number, name in enumerate(names) if name == "beq"]
    assert all(number % BLOCK == BLOCK - 1 for number in branches)
    assert len(branches) >= (size - 20) // BLOCK - 1
    assert generate(size) == code


def result(which: Executor, size: int) -> tuple[int, ...]:
    which.reset()
    which.load(CODE, generate(size))
    which.hart.pc, which.hart.x[1] = u64(CODE), u64(CODE)
    which.run(size)
    assert which.hart.pc == CODE
    return tuple(int(value) for value in which.hart.x)


def test_generated_code_runs_through_to_its_end() -> None:
    assert result(executor("tier0"), 2000) == result(executor("reference"), 2000)


# -- programs


def test_a_program_that_fails_is_no_measurement() -> None:
    with pytest.raises(BenchError, match="complaint"):
        run(["sh", "-c", "echo complaint; exit 3"], 1)
    with pytest.raises(BenchError, match="no result"):
        run(["echo", "1 2"], 1)


def test_a_line_is_read_for_each_phase() -> None:
    found = run(["echo", "aa 989680 1\nbb 1312d00 2"], 2)
    assert [phase.seconds for phase in found.phases] == [1.0, 2.0]
    assert [phase.checksum for phase in found.phases] == ["aa", "bb"]
    assert found.peak_mib > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "options"),
    [
        (Program("memory", "small", {"SET": "65536", "PATTERN": "0"}, (1, 1)), ()),
        (Program("memory", "lines", {"SET": "65536", "PATTERN": "1"}, (1, 1)), ()),
        (Program("harts", "own", {"HARTS": "2", "SHARED": "0"}, (1,)), ("-smp", "2")),
        (Program("harts", "lock", {"HARTS": "2", "SHARED": "1"}, (1,)), ("-smp", "2")),
    ],
    ids=lambda value: getattr(value, "tag", ""),
)
def test_every_emulator_computes_the_same(
    tmp_path: Path, program: Program, options: tuple[str, ...]
) -> None:
    if shutil.which(CROSS) is None:
        pytest.skip(f"no {CROSS}")
    found = everywhere(plan_for(tmp_path), program, *options)
    assert "ratite" in found and all(len(runs) == 1 for runs in found.values())


@pytest.mark.slow
def test_the_table_of_code_has_a_row_for_each_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which(CROSS) is None:
        pytest.skip(f"no {CROSS}")
    monkeypatch.setattr(growth, "CODE_SIZES", (1000, 2000))
    monkeypatch.setattr(growth, "CODE_TOTAL", 100_000)
    section = growth.code_growth(plan_for(tmp_path))
    assert [row[0] for row in section.rows] == ["1,000", "2,000"]
    assert all(len(row) == len(section.columns) for row in section.rows)


# -- results


def test_a_mode_may_have_several_tables(tmp_path: Path) -> None:
    tables = [Section(title, ["", "s"], [["ratite", "1"]]) for title in ("One", "Two")]
    save(tmp_path, "both", tables, {"host": "h"})
    old = {"section": {"title": "Old", "columns": ["", "s"], "rows": []}, "facts": {}}
    (tmp_path / "results" / "old.json").write_text(json.dumps(old))
    text = write_document(tmp_path, ["both", "old"], tmp_path / "out.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## One", "## Two", "## Old",
    ]  # fmt: skip
    assert text.count("*host h*") == 1


def test_what_was_not_measured_here_stays_in_the_document(tmp_path: Path) -> None:
    path = tmp_path / "out.md"
    for mode in ("one", "two"):
        table = Section(mode, ["", "s"], [["ratite", "1"]])
        save(tmp_path, mode, [table], {})
        write_document(tmp_path, ["one", "two"], path)
        (tmp_path / "results" / f"{mode}.json").unlink()
    first = path.read_text()
    assert "## one\n" in first and "## two\n" in first
    assert write_document(tmp_path, ["one", "two"], path).read_text() == first
    assert "## one" not in write_document(tmp_path, ["two"], path).read_text()
