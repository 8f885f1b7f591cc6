"""`-d` and `-dfilter` on runs of small programs."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.isa.assembler import assemble
from tests.isa.assembler import program as assemble_program

SYSTEM = [sys.executable, "-c", "from ratite.cli.system import main; raise SystemExit(main())"]
RAM = 0x8000_0000
FAR = 0x100


def program() -> bytes:
    """Jump ahead, then power off through the test device."""
    return assemble(f"jal x0, {FAR}").ljust(FAR, b"\0") + POWER_OFF


POWER_OFF = b"".join(
    assemble(line)
    for line in ("lui x5, 0x100", "lui x6, 0x5", "addi x6, x6, 0x555", "sw x6, 0(x5)", "jal x0, 0")
)
HANDLER = 0x40
TIMER = """
    auipc x5, 0
    addi x5, x5, 0x40
    csrrw x0, mtvec, x5
    lui x6, 0x2004
    lui x7, 0x200c
    ld x8, -8(x7)
    addi x8, x8, 20
    sd x8, 0(x6)
    addi x9, x0, 0x80
    csrrw x0, mie, x9
    csrrsi x0, mstatus, 8
    addi x1, x1, 1
    jal x0, -4
"""
"""Counts while the timer interrupts every 20 ticks."""
ON_TIMER = """
    addi x10, x10, 1
    ld x8, -8(x7)
    addi x8, x8, 20
    sd x8, 0(x6)
    addi x11, x0, 5
    beq x10, x11, 8
    mret
"""
"""The fifth time it powers off."""


def timer_program() -> bytes:
    return assemble_program(TIMER).ljust(HANDLER, b"\0") + assemble_program(ON_TIMER) + POWER_OFF


def log_of(tmp_path: Path, image: bytes, items: str, *words: str) -> str:
    """What a program's run leaves in the log."""
    firmware, log = tmp_path / "firmware.bin", tmp_path / "log"
    firmware.write_bytes(image)
    command = [*SYSTEM, "-bios", str(firmware), "-display", "none", "-serial", "null"]
    done = subprocess.run(
        [*command, "-m", "32M", "-d", items, "-D", str(log), *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return log.read_text()


@pytest.mark.parametrize(
    ("words", "near", "far"),
    [
        ([], True, True),
        (["-dfilter", f"{RAM:#x}+0x10"], True, False),
        (["-dfilter", f"{RAM + FAR:#x}..{RAM + FAR + 0x20:#x}"], False, True),
    ],
)
def test_dfilter_chooses_the_code_that_is_logged(
    tmp_path: Path, words: list[str], near: bool, far: bool
) -> None:
    text = log_of(tmp_path, program(), "in_asm", *words)
    assert (f"{RAM:#x}" in text or f"{RAM:016x}" in text) is near, text
    assert "lui" in text if far else "lui" not in text


def entered(log: str) -> list[int]:
    return [int(pc, 16) for pc in re.findall(r"^Trace 0: 0x\w+ \[0{16}/(\w{16})/", log, re.M)]


@pytest.mark.parametrize(
    ("words", "far"), [([], [0]), (["-accel", "tcg,one-insn-per-tb=on"], [0, 4, 8, 12])]
)
def test_exec_shows_blocks(tmp_path: Path, words: list[str], far: list[int]) -> None:
    text = log_of(tmp_path, program(), "exec,nochain,cpu_reset", *words)
    shown = [pc for pc in entered(text) if pc >= RAM]
    assert shown[: len(far) + 1] == [RAM, *(RAM + FAR + offset for offset in far)]
    assert text.startswith("CPU Reset (CPU 0)\n pc       0000000000000000\n")


def test_an_exactly_repeating_run_is_the_same_while_it_is_shown(tmp_path: Path) -> None:
    words = ("-icount", "shift=3,sleep=off")
    plain = log_of(tmp_path, timer_program(), "int", *words)
    shown = log_of(tmp_path, timer_program(), "int,exec,cpu,mmu,nochain", *words)
    traps = [line for line in shown.splitlines() if line.startswith("riscv_cpu_do_interrupt")]
    assert len(traps) == 5 and "async:1, cause:0000000000000007" in traps[0]
    assert traps == plain.splitlines()


def test_a_timer_set_by_an_access_fires_at_its_instruction(tmp_path: Path) -> None:
    """20 ticks are 2000 ns, and 250 instructions, of which the loop has two."""
    text = log_of(tmp_path, timer_program(), "exec,nochain", "-icount", "shift=3,sleep=off")
    pcs = entered(text)
    handled = [number for number, pc in enumerate(pcs) if pc == RAM + HANDLER]
    assert len(handled) == 5
    assert all(120 <= after - before <= 126 for before, after in itertools.pairwise(handled))


PING = """
    auipc x6, 0
    csrrs x5, mhartid, x0
    bne x5, x0, 20
    addi x1, x1, 1
    lw x7, 0x80(x6)
    beq x7, x0, -8
    jal x0, 16
    addi x7, x0, 1
    sw x7, 0x80(x6)
    jal x0, 0
"""
"""Hart 0 counts until another one tells it to power off."""


@pytest.mark.parametrize("items", ["exec", "exec,nochain", "cpu,nochain", "int,mmu"])
def test_harts_run_beside_each_other_while_all_is_shown(tmp_path: Path, items: str) -> None:
    text = log_of(tmp_path, assemble_program(PING) + POWER_OFF, items, "-smp", "2")
    if "exec" in items:
        for hart in (0, 1):
            assert re.search(rf"^Trace {hart}: .*/0000000080000000/", text, re.M)
    if "cpu" in items:
        assert "mhartid  0000000000000001" in text
    if "mmu" in items:
        assert "cpu 1\n" in text
