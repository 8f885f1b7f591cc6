"""`-trace` and `-d trace:`: which events a machine begins with, and where they are written."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratite.cli.options import parse
from ratite.core import ConfigError, HostError
from ratite.core.trace import event_names
from ratite.vm import Vm
from tests.isa.assembler import assemble

from .test_log_options import SYSTEM

MACHINE = ["-M", "none", "-display", "none", "-serial", "null", "-accel", "qtest"]


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events"
    path.write_text("# a comment\n\nserial_*\n-serial_update_parameters\n")
    return path


def started(*words: object) -> Iterator[Vm]:
    with Vm(config=parse([*MACHINE, *map(str, words)])) as vm:
        yield vm


def on(*words: object) -> list[str]:
    """The events that are on."""
    for vm in started(*words):
        return [name for name in event_names() if vm.log.traces(name)]
    raise AssertionError


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", []),
        ("-trace serial_read", ["serial_read"]),
        ("-trace enable=goldfish_rtc_*", ["goldfish_rtc_read", "goldfish_rtc_write"]),
        ("-trace goldfish_rtc_* -trace -goldfish_rtc_read", ["goldfish_rtc_write"]),
        ("-trace events={events}", ["serial_read", "serial_write"]),
        ("-trace -serial_read,events={events}", ["serial_read", "serial_write"]),
        ("-trace events={events} -trace -serial_read", ["serial_write"]),
        ("-d trace:serial_read,int,trace:virtio_notify", ["serial_read", "virtio_notify"]),
        ("-trace file={events}.log", []),
    ],
)
def test_what_is_on(events: Path, words: str, wanted: list[str]) -> None:
    assert on(*words.format(events=events).split()) == wanted


def test_an_event_that_does_not_exist_is_warned_of(
    events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events.write_text("nosuch2\n")
    on(
        "-trace",
        "nosuch1",
        "-trace",
        "nosuch*",
        "-trace",
        f"events={events}",
        "-d",
        "trace:nosuch3",
    )
    warning = "warning: trace event '{}' does not exist"
    assert capsys.readouterr().err.splitlines() == [
        f"ratite: {option}: {warning.format(option[-7:])}"
        for option in ("-d trace:nosuch3", "-trace nosuch1", "-trace nosuch2")
    ]


def test_trace_file_takes_the_place_of_the_log_file(tmp_path: Path) -> None:
    log, traces = tmp_path / "log", tmp_path / "traces"
    for words in (["-D", log], ["-D", log, "-trace", f"file={traces}"]):
        for vm in started("-trace", "runstate_set", *words):
            vm.start()
    text = "runstate_set current_run_state prelaunch new_state running\n"
    assert log.read_text() == traces.read_text() == text


def test_a_file_of_events_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=f"-trace: cannot read '{tmp_path}/no'"):
        on("-trace", f"events={tmp_path}/no")
    with pytest.raises(ConfigError, match="'trce:x' is no log item; did you mean"):
        parse(["-d", "trce:x"])


def test_the_program_lists_events() -> None:
    listed = [
        subprocess.run(
            [*SYSTEM, *words], capture_output=True, text=True, timeout=60, check=True
        ).stdout.splitlines()
        for words in (["-trace", "help"], ["-d", "trace:help"])
    ]
    assert listed == [event_names()] * 2


def test_traps_are_traced(tmp_path: Path) -> None:
    handler = 0x20
    lines = ["auipc x5, 0", f"addi x5, x5, {handler}", "csrrw x0, mtvec, x5", "ecall"]
    start = b"".join(assemble(line) for line in lines).ljust(handler, b"\0")
    ends = ["lui x5, 0x100", "lui x6, 0x5", "addi x6, x6, 0x555", "sw x6, 0(x5)", "jal x0, 0"]
    image, log = tmp_path / "firmware.bin", tmp_path / "log"
    image.write_bytes(start + b"".join(assemble(line) for line in ends))
    words = f"-M virt -m 32M -display none -serial null -bios {image} -trace riscv_trap -D {log}"
    with Vm(config=parse(words.split())) as vm:
        vm.start()
        assert vm.wait(60)
    assert log.read_text() == (
        "riscv_trap hart:0, async:0, cause:11, epc:0x8000000c, tval:0x0, desc=machine_ecall\n"
    )
