"""Starting: how long until the program answers, and until the guest's first instructions run."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.report import Section
from bench.side_by_side import (
    Plan,
    alternate,
    have_qemu,
    medians,
    qemu,
    ratite,
    seconds_until,
    with_cache,
)
from bench.suite import BARE, CROSS, LINK, RUNTIME

FIRST = """\
	.section .text.start, "ax"
	.globl _start
_start:	li	t0, 0x10000000
	li	t1, '!'
	sb	t1, 0(t0)
	li	t0, 0x100000
	li	t1, 0x5555
	sw	t1, 0(t0)
1:	j	1b
"""


def assemble(plan: Plan, name: str, text: str) -> Path:
    """Build a bare guest from assembly language."""
    directory = plan.work / "programs"
    directory.mkdir(parents=True, exist_ok=True)
    source, output = directory / f"{name}.S", directory / f"{name}.elf"
    source.write_text(text, encoding="ascii")
    link = f"{LINK},{RUNTIME / 'bare.ld'}"
    subprocess.run([CROSS, *BARE, link, "-o", output, source], check=True)
    return output


def bare_options(kernel: Path) -> list[object]:
    """A machine that runs a bare guest, its serial line on stdio."""
    terminal = ["-display", "none", "-serial", "stdio"]
    return ["-M", "virt", "-bios", "none", *terminal, "-kernel", kernel]


def start_options(plan: Plan) -> list[object]:
    """The machine that is started: it sends one character with its third instruction, and ends."""
    return bare_options(assemble(plan, "first", FIRST))


def first_start(plan: Plan, cache: Path) -> float:
    """Seconds that the first start ever takes; `cache` holds afterwards what it has made."""
    cache.mkdir(parents=True, exist_ok=True)
    return seconds_until(ratite(*start_options(plan)), b"", environment=with_cache(cache))


def measure(plan: Plan) -> Section:
    """Start everything."""
    options = start_options(plan)
    with tempfile.TemporaryDirectory(prefix="ratite-bench-") as directory:
        warm = Path(directory) / "warm"
        first_start(plan, warm)
        number = iter(range(1000))

        def ever() -> float:
            cache = Path(directory) / f"empty{next(number)}"
            return seconds_until(ratite(*options), b"!", environment=with_cache(cache))

        found: dict[str, Callable[[], float]] = {}
        if have_qemu():
            found["QEMU -version"] = lambda: seconds_until(qemu("-version"), b"")
            found["QEMU, first guest instruction"] = lambda: seconds_until(qemu(*options), b"!")
        found |= {
            "ratite -version": lambda: seconds_until(ratite("-version"), b""),
            "ratite, first guest instruction": lambda: seconds_until(
                ratite(*options), b"!", environment=with_cache(warm)
            ),
            "ratite, first guest instruction, first start ever": ever,
        }
        time = medians(alternate(plan, found))
    return Section(
        "Start",
        ["", "seconds"],
        [[name, f"{value:.3f}"] for name, value in time.items()],
        (
            f"median of {plan.runs}; from starting the process to the end of its answer, or to the "
            "guest's first character",
            "first start ever: with an empty cache directory, so that all generated code is made",
        ),
    )
