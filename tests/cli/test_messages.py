"""`-msg` and `-name`: what messages begin with, and what the host shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ratite.cli.system import launch

from .test_log_options import SYSTEM

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z "
QUIET = "-display none -serial null -bios none"


def message(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a program that cannot do as it is told says."""
    assert launch("prog", f"{QUIET} {words}".split()) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "head"),
    [
        ("-name vm -kernel no", ""),
        ("-msg timestamp=on -kernel no", TIME),
        ("-kernel no -msg timestamp=on", TIME),
        ("-msg timestamp=on -kernel", TIME),  # while the command line is read
        ("-msg timestamp=on -msg timestamp=off -kernel no", ""),
        ("-msg guest-name=on -kernel no", ""),
        ("-msg guest-name=on -name vm -kernel no", "vm "),
        ("-name guest=vm -msg guest-name=on,timestamp=on -kernel no", f"{TIME}vm "),
        ("-msg timestamp=on -msg guest-name=on -name vm -kernel no", f"{TIME}vm "),
    ],
)
def test_messages_begin_as_msg_says(
    words: str, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.fullmatch(rf"{head}prog: -kernel: .*\n", message(words, capsys))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's /proc")
@pytest.mark.parametrize("names", [True, False])
def test_process_and_threads_have_names(tmp_path: Path, names: bool) -> None:
    path = tmp_path / "qmp"
    words = f"-M none -name vm,process=p7,debug-threads={'on' if names else 'off'}"
    more = f"-display none -accel qtest -qmp unix:{path},server=on"
    process = subprocess.Popen([*SYSTEM, *words.split(), *more.split()], stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        assert b"waiting for connection" in process.stderr.readline()
        threads = Path(f"/proc/{process.pid}/task").glob("*/comm")
        shown = [thread.read_text().strip() for thread in threads]
        assert shown.count("p7") == (1 if names else len(shown))
        assert ("main loop" in shown) is names
    finally:
        process.kill()
        process.communicate()
