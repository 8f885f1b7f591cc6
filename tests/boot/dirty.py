"""The guest that writes all over its memory: running it, and what it must say in the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import ratite

RESULT = r"(?:[\s\S]*?\n[01]:[0-9a-f]{16}\r?\n)"
OPTIONS = ("-M", "virt", "-m", "128M", "-bios", "none")


def build(build_program: Callable[..., Path], steps: int) -> Path:
    """The program, made to take so many steps on each hart."""
    flags = ("-O2", "-fno-toplevel-reorder", "-ffreestanding", "-mcmodel=medany")
    return build_program("dirty.c", *flags, f"-DSTEPS={steps}UL")


def results(vm: ratite.Vm, harts: int, timeout: float = 60) -> set[str]:
    """What each hart says in the end."""
    vm.serial.expect(RESULT * harts, timeout=timeout, regex=True)
    return found(vm.serial.text)


def found(text: str) -> set[str]:
    """The results in an output."""
    return set(re.findall(r"^([01]:[0-9a-f]{16})\r?$", text, re.MULTILINE))
