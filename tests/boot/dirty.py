"""The guest that writes all over its memory: running it, and what it must say in the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import ratite

OPTIONS = ("-M", "virt", "-m", "128M", "-bios", "none")


def build(build_program: Callable[..., Path], steps: int) -> Path:
    """The program, made to take so many steps on each hart."""
    flags = ("-O2", "-fno-toplevel-reorder", "-ffreestanding", "-mcmodel=medany")
    return build_program("dirty.c", *flags, f"-DSTEPS={steps}UL")


def results(vm: ratite.Vm, harts: int, timeout: float = 60, earlier: str = "") -> set[str]:
    """What each hart says in the end: those that were done before said so in `earlier`, or in what
    was read already. A wrong result of a life that was given up counts, too.
    """
    for hart in range(harts):
        if not any(line.startswith(f"{hart}:") for line in found(earlier + vm.serial.text)):
            vm.serial.expect(rf"\n{hart}:[0-9a-f]{{16}}\r?\n", timeout=timeout, regex=True)
    return found(earlier + vm.serial.text)


def found(text: str) -> set[str]:
    """The results in an output."""
    return set(re.findall(r"^([01]:[0-9a-f]{16})\r?$", text, re.MULTILINE))
