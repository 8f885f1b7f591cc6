"""`-d` and `-dfilter` on a run of a program with code in two places."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.isa.assembler import assemble

SYSTEM = [sys.executable, "-c", "from ratite.cli.system import main; raise SystemExit(main())"]
RAM = 0x8000_0000
FAR = 0x100


def program() -> bytes:
    """Jump ahead, then power off through the test device."""
    start = assemble(f"jal x0, {FAR}").ljust(FAR, b"\0")
    lines = ["lui x5, 0x100", "lui x6, 0x5", "addi x6, x6, 0x555", "sw x6, 0(x5)", "jal x0, 0"]
    return start + b"".join(assemble(line) for line in lines)


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
    image, log = tmp_path / "firmware.bin", tmp_path / "log"
    image.write_bytes(program())
    command = [*SYSTEM, "-bios", str(image), "-display", "none", "-serial", "null"]
    done = subprocess.run(
        [*command, "-m", "32M", "-d", "in_asm", "-D", str(log), *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    text = log.read_text()
    assert (f"{RAM:#x}" in text or f"{RAM:016x}" in text) is near, text
    assert "lui" in text if far else "lui" not in text
