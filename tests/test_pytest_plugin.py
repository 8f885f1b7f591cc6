"""The pytest plugin: machines for tests, and what is told of them when a test fails."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ratite.testing import DEMO, GuestVm

pytest_plugins = "pytester"

CACHE = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
CONFTEST = f"""
import pytest

@pytest.fixture
def vm_arguments():
    return {{"kernel": {str(DEMO)!r}, "bios": "builtin", "memory": "64M"}}
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with tests of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)  # generated code is kept where it always is
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:cacheprovider")
    pytester.makeconftest(CONFTEST)
    return pytester


def run(suite: pytest.Pytester, code: str, *words: str) -> pytest.RunResult:
    """Run tests in a process of their own."""
    suite.makepyfile("import pytest\n" + code)
    return suite.runpytest_subprocess(*words, timeout=120)


def test_machines_run_as_they_are_described(suite: pytest.Pytester) -> None:
    code = """
@pytest.mark.vm("-name 'a guest'", "-uuid 12345678-1234-1234-1234-123456789abc", cpus=2)
class TestMarkers:
    def test_all_count(self, vm):
        vm.expect("demo>")
        vm.send("uptime\\n")
        assert "up" in vm.expect("demo>")
        assert vm.monitor("info name") == "a guest\\n"
        assert len(vm.cpus) == 2 and vm.machine.memory_size == 64 << 20

    @pytest.mark.vm("-S", memory="128M", cpus=1)
    def test_the_nearest_counts_most(self, vm):
        assert vm.machine.memory_size == 128 << 20 and len(vm.cpus) == 1
        assert not vm.runner.running
        vm.start()
        assert vm.expect_event("RESUME")["event"] == "RESUME"

def test_as_many_as_are_needed(make_vm):
    first, second = make_vm(), make_vm(start=False)
    first.expect("demo>", timeout=30)
    assert second.serial.text == ""
    assert first.runner.running and not second.runner.running

@pytest.mark.parametrize("vm", [{"cpus": 1}, {"cpus": 3}], indirect=True)
def test_parameters(vm, request):
    assert len(vm.cpus) == request.node.callspec.params["vm"]["cpus"]

@pytest.mark.vm("-S")
def test_defaults(vm):
    assert vm.serial.timeout == 20
    vm.log.guest_error("test", "hello")
    assert vm.log_text == "test: hello\\n"
    with pytest.raises(TimeoutError, match="no event STOP; there were: none"):
        vm.expect_event("STOP", timeout=0)
"""
    done = run(suite, code, "-o", "vm_timeout=20", "--vm-log", "guest_errors")
    done.assert_outcomes(passed=6)


def test_a_machine_that_fails_a_test_has_last_words_and_always_ends(
    suite: pytest.Pytester,
) -> None:
    code = """
import threading

@pytest.mark.vm(log="guest_errors")
def test_fails(vm):
    vm.expect("demo>")
    vm.log.guest_error("uart", "odd write")
    vm.stop()
    vm.expect("never", timeout=0.1)

@pytest.fixture
def broken(make_vm):
    make_vm("-S")
    make_vm("-S", "-name second")
    raise RuntimeError("of the test's own")

def test_setup_fails(broken):
    pass

@pytest.mark.vm("-S")
def test_crash(vm):
    vm._on_crash(ZeroDivisionError("a bug in a device"))

@pytest.mark.vm("-S")
def test_passes(vm):
    pass

def test_nothing_is_left():
    assert [t.name for t in threading.enumerate()] == ["MainThread"]
"""
    done = run(suite, code)
    done.assert_outcomes(passed=3, failed=1, errors=2)
    output = done.stdout
    output.re_match_lines_random(
        [
            r"E +ratite.chardev.expect.ExpectTimeout: 'never' did not appear; the last output .*",
            r"-+ vm: last lines of .*/vm0\.serial -+",
            r"demo>.*",
            r"-+ vm: events -+",
            r"\d+\.\d{6} RESUME",
            r"\d+\.\d{6} STOP",
            r"-+ vm: run state -+",
            r"VM status: paused",
            r"-+ vm: registers -+",
            r" pc +[0-9a-f]{16}",
            r"-+ vm: last lines of .*/vm0\.log -+",
            r"uart: odd write",
            r"-+ vm 1: run state -+",
            r"E +ZeroDivisionError: a bug in a device",
        ]
    )
    assert output.str().count(": run state -") == 3
    assert "demo>" in next(suite.path.glob("*/test_fails0/vm0.serial")).read_text()


def test_a_machine_that_cannot_be_made_is_one_line(suite: pytest.Pytester) -> None:
    code = """
@pytest.mark.vm(kernel="/nonexistent")
def test_file(vm): pass

@pytest.mark.vm("-device nope")
def test_option(vm): pass

@pytest.mark.vm(kernal="x")
def test_argument(vm): pass

@pytest.mark.vm("-machine help")
def test_help(vm): pass
"""
    done = run(suite, code)
    done.assert_outcomes(errors=4)
    reasons = [
        "-kernel: cannot read '/nonexistent': No such file or directory",
        "-device nope: 'nope' is not a valid device model name*",
        "no argument 'kernal'; there are machine, *",
        "-machine help: help is for the command line to give",
    ]
    done.stdout.fnmatch_lines([f"the machine cannot be made: {reason}" for reason in reasons])
    assert "Traceback" not in done.stdout.str() and "vm.py" not in done.stdout.str()


@pytest.mark.slow
def test_workers_of_xdist_each_have_their_machines(suite: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    code = """
@pytest.mark.parametrize("number", range(4))
def test_it(vm, number):
    vm.expect("demo>")
    assert number != 3
"""
    done = run(suite, code, "-n", "2")
    done.assert_outcomes(passed=3, failed=1)
    done.stdout.re_match_lines_random([r"-+ vm: run state -+", r"VM status: running"])


def test_nothing_is_imported_where_no_machine_is_asked_for(suite: pytest.Pytester) -> None:
    code = """
import sys

def test_it(request):
    assert request.config.pluginmanager.hasplugin("ratite")
    ours = {name for name in sys.modules if name.partition(".")[0] == "ratite"}
    assert ours == {"ratite", "ratite.version", "ratite.pytest_plugin"}
    assert not {"llvmlite", "msgspec", "elftools", "qemu"} & set(sys.modules)
"""
    run(suite, code).assert_outcomes(passed=1)


def test_the_marker_explains_itself(request: pytest.FixtureRequest) -> None:
    assert any(line.startswith("vm(*options, ") for line in request.config.getini("markers"))


def test_a_machine_that_is_stuck_does_not_hold_up_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratite.testing.PATIENCE", 0.1)
    vm = GuestVm(tmp_path / "vm", {"bios": "none", "memory": "64M"})
    try:
        with vm.machine.lock:
            words = dict(vm.last_words())
        assert "does not answer 'info status'" in words["run state"]
    finally:
        vm.close()
    start = time.monotonic()
    assert dict(vm.last_words())["run state"] == "the machine is closed"
    assert time.monotonic() - start < 1
