"""The two programs: what they print, how they end, and that they start quickly."""

import subprocess
import sys
from pathlib import Path

import pytest

from ratite.cli import main as front_door
from ratite.cli import system
from ratite.cli.options import OPTIONS
from ratite.version import VERSION


def test_version_names_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert system.main(["-version"]) == 0
    assert capsys.readouterr().out == f"ratite-system-riscv64 {VERSION}\n"


def test_help_lists_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert system.main(["-h"]) == 0
    out = capsys.readouterr().out
    for option in OPTIONS:
        assert f"-{option.names.split()[0]}" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        ("-device help", ""),
        ("-M virt,help", "virt-machine options:\n  accel=<string>"),
        ("-M spike,?", "spike-machine options:"),
        ("-M virt,aclint=on,help", "virt-machine options:"),
        ("-object help", "List of user creatable objects:"),
        ("-object rng-random,help", "rng-random options:"),
        ("-chardev help", "Available chardev backend types:"),
        ("-chardev ringbuf,help", "ringbuf options:"),
        ("-display help", "Available display backend types:"),
        ("-d help", "Log items (comma separated):"),
    ],
)
def test_help_as_a_value_lists_what_there_is(
    arguments: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert system.main(arguments.split()) == 0
    assert capsys.readouterr().out.startswith(first)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("-smp 0", "-smp: cpus: 0 is out of range: 1 to 512 for machine 'virt'"),
        ("-M vrit,help", "-machine: unsupported machine type 'vrit'; did you mean 'virt'?"),
        ("-device ns16550a,help", "-device: Device 'ns16550a' not found; `-device"),
        ("-krenel x", "-krenel: no such option; did you mean '-kernel'?"),
        (
            "-object rng-rondom,help",
            "-object: Parameter 'qom-type' does not accept value 'rng-rondom'; did you mean",
        ),
    ],
)
def test_a_wrong_option_is_one_line_and_status_1(
    arguments: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert system.main(arguments.split()) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"ratite-system-riscv64: {error}")
    assert captured.err.count("\n") == 1 and not captured.out


@pytest.mark.parametrize("module", ["main", "system"])
def test_ctrl_c_is_seen_to_before_anything_but_our_own_is_imported(module: str) -> None:
    code = (
        "import sys; before = {*sys.modules};"
        f"import ratite.cli.{module}; print(*{{*sys.modules}} - before)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(result.stdout.split())
    assert f"ratite.cli.{module}" in loaded
    foreign = {name for name in loaded if not name.startswith("ratite")}
    assert not foreign - {"__future__", "gc", "time", "_signal"}, foreign


def test_starting_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ratite.cli.system import main; main(['-version']);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.splitlines()[-1].split())
    assert not loaded & {"llvmlite", "msgspec", "rich", "prompt_toolkit", "asyncio", "libfdt"}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The options that the front door passes on."""
    calls: list[list[str]] = []

    def launch(program: str, arguments: list[str]) -> int:
        assert program == "ratite"
        calls.append(arguments)
        return 0

    monkeypatch.setattr(front_door, "launch", launch)
    return calls


@pytest.mark.parametrize("words", [[], ["run"]])
def test_nothing_asked_for_is_the_demo(words: list[str], launched: list[list[str]]) -> None:
    assert front_door.main(words) == 0
    (options,) = launched
    assert options[:5] == ["-M", "virt", "-m", "512M", "-kernel"]
    assert Path(options[5]).name == "demo.bin" and Path(options[5]).is_file()


def test_options_go_through_and_replace_defaults(launched: list[list[str]]) -> None:
    front_door.main(["run", "-m", "1G", "-kernel", "k"])
    front_door.main(["-smp", "2", "-M", "spike"])
    assert launched[0] == ["-M", "virt", "-m", "1G", "-kernel", "k"]
    assert launched[1][:2] == ["-m", "512M"] and launched[1][-4:] == ["-smp", "2", "-M", "spike"]


def test_the_front_door_has_help_and_a_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert front_door.main(["--help"]) == 0
    assert front_door.main(["--version"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: ratite") and out.endswith(f"ratite {VERSION}\n")


def test_cache_says_what_there_is_and_clears_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    objects = tmp_path / "ratite" / "objects"
    objects.mkdir(parents=True)
    (objects / "k.o").write_bytes(bytes(3 << 19))
    for word in ("info", "clear", "info"):
        assert front_door.main(["cache", word]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"1 objects, 1.5 MiB of 512 MiB, in {objects}",
        f"1 objects, 1.5 MiB removed from {objects}",
        f"0 objects, 0.0 MiB of 512 MiB, in {objects}",
    ]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["rnu"], "no command 'rnu'; there are: run, fetch, cache"),
        (["cache"], "cache: wants 'info' or 'clear', not ''"),
        (["fetch", "x"], "fetch: takes no arguments, not 'x'"),
    ],
)
def test_a_wrong_command_is_one_line(
    words: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert front_door.main(words) == 1
    assert capsys.readouterr().err == f"ratite: {error}\n"
