"""Texts for people that programs may ask for: `x-query-*` and `info`."""

from __future__ import annotations

import time

import pytest

from .conftest import MakeVm, QmpClient

LINES = (
    "Translation buffer state: / gen code size / TB count / TB avg target size / "
    "TB avg host size / cross page TB count / direct jump count / TB hash buckets / Statistics: / "
    "TB flush count / TB invalidate count / TLB full flushes / Regions: / Regions compiled / "
    "Regions from cache / Region compile time / Execution: / Guest instructions / vCPU time / "
    "Guest MIPS / Samples"
).split(" / ")


def test_both_monitors_show_the_same(make_vm: MakeVm) -> None:
    machine = make_vm()
    qmp = machine.client()
    answer = qmp.result("x-query-jit")
    assert list(answer) == ["human-readable-text"]
    text = answer["human-readable-text"]
    assert qmp.hmp("info jit") == text
    lines = iter(text.splitlines())
    for wanted in LINES:
        assert any(line.startswith(wanted) for line in lines), wanted


def test_a_guest_that_runs_is_measured(make_vm: MakeVm) -> None:
    machine = make_vm()
    qmp = machine.client()
    machine.vm.write_memory(0x8000_0000, (0x0000_006F).to_bytes(4, "little"))  # a jump to itself
    qmp.hmp("cont")
    deadline = time.monotonic() + 20
    while not (text := qmp.hmp("info jit")).rpartition("Samples")[2].strip().strip("0"):
        assert time.monotonic() < deadline
    shown = dict(
        line.strip().split(maxsplit=2)[1:] for line in text.splitlines() if "Guest " in line
    )
    assert int(shown["instructions"]) > 0 and float(shown["MIPS"]) > 0


def test_an_accelerator_that_does_not_translate_has_nothing_to_show(make_vm: MakeVm) -> None:
    qmp = make_vm("-accel qtest").client()
    message = "JIT information is only available with accel=tcg"
    assert qmp.error("x-query-jit") == ("GenericError", message)
    assert message in qmp.hmp("info jit")


@pytest.mark.parametrize("name", ["ramblock", "roms", "irq", "numa", "opcount"])
def test_programs_and_people_read_the_same_text(qmp: QmpClient, name: str) -> None:
    text = qmp.result(f"x-query-{name}")["human-readable-text"]
    assert text == qmp.hmp(f"info {name}") and (text or name == "irq")


def test_it_is_told_to_be_unstable(make_vm: MakeVm) -> None:
    schema = make_vm().client().result("query-qmp-schema")
    entry = next(entry for entry in schema if entry["name"] == "x-query-jit")
    assert entry["features"] == ["unstable"]
