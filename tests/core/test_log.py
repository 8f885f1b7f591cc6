"""The log."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ratite.core import QUIET, ConfigError, HostError, Log, LogCategory
from ratite.core.log import DESCRIPTIONS, help_text, parse_items


def test_only_wanted_categories_are_written() -> None:
    out = io.StringIO()
    log = Log(LogCategory.INT, out)
    log.write(LogCategory.INT, "trap")
    log.write(LogCategory.UNIMP, "walk")
    assert out.getvalue() == "trap\n"
    assert log.enabled(LogCategory.INT) and not log.enabled(LogCategory.UNIMP)


def test_guest_errors_name_their_source_and_are_limited() -> None:
    out = io.StringIO()
    log = Log(LogCategory.GUEST_ERRORS, out)
    for _ in range(1000):
        log.guest_error("uart0", "nonsense")
    lines = out.getvalue().splitlines()
    assert lines[0] == "uart0: nonsense"
    assert 1 <= len(lines) <= 150
    log.guest_error("plic", "other")
    assert out.getvalue().endswith("plic: other\n")


def test_the_quiet_log_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    QUIET.guest_error("x", "y")
    QUIET.unimplemented("x", "y")
    QUIET.write(LogCategory.INT, "z")
    assert capsys.readouterr().err == ""


def test_words_become_categories() -> None:
    wanted, events = parse_items("in_asm,guest_errors,trace:serial_*,int,trace:-serial_read")
    assert wanted == LogCategory.IN_ASM | LogCategory.GUEST_ERRORS | LogCategory.INT
    assert events == ["serial_*", "-serial_read"]


@pytest.mark.parametrize("word", ["nosuch", "INT", "none"])
def test_an_unknown_word_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse_items(f"int,{word}")


def test_help_has_a_line_for_each_category() -> None:
    assert set(DESCRIPTIONS) == set(LogCategory) - {LogCategory.NONE}
    assert "guest_errors" in help_text()


def test_watchers_hear_of_each_choice() -> None:
    log, seen = Log(), list[int]()
    log.watchers.append(lambda: seen.append(log.mask))
    log.choose(LogCategory.EXEC | LogCategory.CPU)
    log.choose(LogCategory.NONE)
    assert seen == [int(LogCategory.EXEC | LogCategory.CPU), 0]


def test_a_full_disk_ends_the_log_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log.to_file(LogCategory.INT, "/dev/full")
    log.write(LogCategory.INT, "line")
    log.write(LogCategory.INT, "line")
    assert log.mask == 0
    assert capsys.readouterr().err.count("-D: cannot write to the log") == 1


def test_a_log_file_that_cannot_be_opened_is_a_host_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="open the log file"):
        Log.to_file(LogCategory.INT, str(tmp_path / "no" / "log"))
    log = Log.to_file(LogCategory.INT, str(tmp_path / "log"))
    log.write(LogCategory.INT, "line")
    log.close()
    assert (tmp_path / "log").read_text() == "line\n"
