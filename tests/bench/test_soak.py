"""The soak: what it hears, and what it makes of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from bench.guest_initrd import PROGRAMS, archive, linked_name
from bench.side_by_side import Plan, Session
from bench.soak import ALLOWED_MIB, WORKERS, Sample, Watch, _build, report, soak, verdict
from bench.suite import CROSS


def samples(mib: Callable[[int], float], *, stuck: str = "") -> list[Sample]:
    """Thirty of them, five seconds apart."""
    return [
        Sample(
            number * 5.0,
            mib(number),
            1000,
            number,
            0,
            {name: 3 if name == stuck else number for name in WORKERS},
        )
        for number in range(30)
    ]


def test_what_grows_in_the_warm_up_only_is_well() -> None:
    assert verdict(samples(lambda number: 100 + min(number, 9) * 20), []) == []


def test_what_grows_after_it_is_not() -> None:
    found = verdict(samples(lambda number: 100 + number * ALLOWED_MIB / 10), [])
    assert len(found) == 1 and "memory grew by" in found[0]


def test_a_worker_that_stands_still_is_named() -> None:
    assert verdict(samples(lambda number: 100, stuck="shell"), []) == [
        "shell got no further than round 3"
    ]


def test_what_the_guest_complains_of_is_told() -> None:
    assert verdict(samples(lambda number: 100), ["soak FAIL pack"]) == ["the guest: soak FAIL pack"]
    assert "too short" in verdict([], [])[0]


def test_lines_are_put_together_of_what_comes() -> None:
    watch = Watch()
    watch.hear("soak pa")
    watch.hear("ck 3\nsoak other 9\nsoak pack 2\r\n[ 1.0] rcu: INFO: rcu_sched self-detected stall")
    assert watch.rounds["pack"] == 3 and not watch.trouble
    watch.hear(" on CPU\nsoak FAIL code\n")
    assert len(watch.trouble) == 2 and watch.trouble[1] == "soak FAIL code"


def test_the_report_has_the_last_sample() -> None:
    rows = report(samples(lambda number: number)).rows
    assert 10 <= len(rows) <= 12 and rows[0][1] == "0" and rows[-1][1] == "29"


def test_a_session_is_listened_to_until_it_ends() -> None:
    heard: list[str] = []
    with Session(["sh", "-c", "echo one; read x; echo two"]) as session:
        session.until(b"one")
        assert not session.listen(heard.append, until=0)
        session.send("")
        while not session.listen(heard.append, until=session.started + 60):
            continue
    assert "".join(heard).endswith("two\n")


# -- what goes into the guest


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("usr/bin/lua5.4", "bin/lua5.4"),
        ("usr/lib/ld-linux-riscv64-lp64d.so.1", "lib/ld-linux-riscv64-lp64d.so.1"),
        ("usr/lib/riscv64-linux-gnu/libreadline.so.8.2", "lib/libreadline.so.8"),
        ("usr/lib/riscv64-linux-gnu/libc.so.6", "lib/libc.so.6"),
    ],
)
def test_libraries_are_where_programs_look_for_them(name: str, place: str) -> None:
    assert linked_name(name) == place


def test_an_archive_of_executables_can_follow_another() -> None:
    made = archive({"bin/one": b"1", "two": b"22"})
    assert made.startswith(b"070701") and b"bin/one\0" in made and b"TRAILER!!!" in made
    assert len(made) % 4 == 0


@pytest.mark.slow
def test_the_worker_that_writes_code_finds_what_it_wrote(tmp_path: Path) -> None:
    for program in (CROSS, "qemu-riscv64"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")
    _build(Plan(1, (), tmp_path, Console(quiet=True)))
    assert subprocess.run(["qemu-riscv64", tmp_path / "soak_code"], check=False).returncode == 0


def test_the_script_of_the_guest_is_a_shell_script() -> None:
    script = PROGRAMS / "soak.sh"
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    text = script.read_text()
    assert all(f"round {worker} " in text for worker in WORKERS)


@pytest.mark.boot
@pytest.mark.slow
def test_a_short_soak_is_well(tmp_path: Path) -> None:
    if shutil.which(CROSS) is None:
        pytest.skip(f"no {CROSS}")
    found, trouble = soak(Plan(1, (), tmp_path, Console(quiet=True)), 0.5, 2)
    assert trouble == []
    assert len(found) > 3 and all(one.mib > 0 and one.blocks > 0 for one in found)
    assert found[-1].rounds["pack"] > 0
