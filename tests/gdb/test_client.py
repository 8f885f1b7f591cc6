"""gdb itself, driven by script."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

GDB = "gdb-multiarch"

pytestmark = pytest.mark.skipif(shutil.which(GDB) is None, reason=f"{GDB} is not installed")


def gdb(debugged, program, *commands: str, timeout: float = 60) -> str:
    """What gdb prints for the commands, and says of errors."""
    first = ("set pagination off", "set confirm off", f"target remote {debugged.path}")
    arguments = [word for command in (*first, *commands) for word in ("-ex", command)]
    done = subprocess.run(
        [GDB, "-nx", "-q", "-batch", *arguments, str(program.path)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.stdout + done.stderr


def test_breakpoints_backtraces_and_variables(machine, program) -> None:
    output = gdb(
        machine(),
        program,
        "break add if a > 5",
        "continue",
        "backtrace",
        "print a",
        "up",
        "print i",
        "info registers pc sp mstatus misa priv",
        "delete",
        "down",
        "finish",
        "detach",
    )
    assert "Breakpoint 1, add (a=6, b=b@entry=4)" in output
    assert "#1" in output and "in work (rounds=rounds@entry=20)" in output and "start_c" in output
    assert "$1 = 6" in output and "$2 = 4" in output
    assert "mstatus" in output and "RV64" in output and "priv" in output
    assert "Value returned is $3 = 10" in output
    assert "warning" not in output.lower().replace("warning: no executable", "")


def test_lines_are_stepped_and_functions_stepped_over(machine, program) -> None:
    output = gdb(
        machine(),
        program,
        "hbreak work",
        "continue",
        "next",
        "next",
        "next",
        "step",
        "stepi",
        "info line",
        "print counter",
        "kill",
    )
    assert "Hardware assisted breakpoint 1" in output
    assert "$1 = 1" in output
    assert "Error" not in output and "Cannot" not in output


def test_watchpoints_of_all_kinds(machine, program) -> None:
    output = gdb(
        machine(),
        program,
        "break work",
        "continue",
        "watch table[2]",
        "continue",
        "print counter",
        "delete",
        "rwatch table[3]",
        "continue",
        "delete",
        "awatch counter",
        "continue",
        "detach",
    )
    assert "Hardware watchpoint 2: table[2]" in output
    assert "Old value = 0\nNew value = 3" in output
    assert "$1 = 3" in output
    assert "Hardware read watchpoint 3: table[3]" in output
    assert "Hardware access (read/write) watchpoint 4: counter" in output


def test_every_hart_is_a_thread(machine, program) -> None:
    output = gdb(
        machine(cpus=3),
        program,
        "break endless",
        "continue",
        "info threads",
        "thread 2",
        "print $mhartid",
        "stepi",
        "thread apply all -q print $mhartid",
        "detach",
    )
    assert "Thread 1.3 (CPU#2 [running])" in output
    assert "$1 = 1" in output
    assert all(f"= {hart}" in output for hart in range(3))


def test_memory_is_loaded_and_compared(machine, program) -> None:
    output = gdb(
        machine(), program, "load", "compare-sections", "set var counter = 77", "p counter"
    )
    assert "Transfer rate" in output
    assert "MIS-MATCHED" not in output
    assert "$1 = 77" in output


def test_float_registers_are_shown_as_numbers(machine, program) -> None:
    output = gdb(machine(), program, "set var $fa0.double = 1.5", "p $fa0", "p $fcsr")
    assert "double = 1.5" in output


def test_a_script_of_several_connections_survives_kill(machine, program, tmp_path: Path) -> None:
    debugged = machine()
    gdb(debugged, program, "kill")
    assert debugged.vm.wait(10)
