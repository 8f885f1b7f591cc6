"""Machines that boot: Debian's kernel with busybox, or a bare program of ours."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ratite
from ratite.cli.guest import GuestFiles, fetch_guest
from ratite.core import RatiteError
from tests.boot.harness import Linux, kernel_options, make_vm

CROSS = "riscv64-linux-gnu-gcc"
HERE = Path(__file__).parent


class Silent:
    """Progress for nobody."""

    def step(self, text: str) -> None:
        """Ignore it."""

    def percent(self, value: float) -> None:
        """Ignore it."""


@pytest.fixture(scope="session")
def guest() -> GuestFiles:
    """Debian's kernel, busybox and firmware, fetched if they are not in the cache."""
    try:
        return fetch_guest(Silent())
    except RatiteError as error:
        pytest.skip(f"no guest software: {error}")


@pytest.fixture
def machine() -> Iterator[Callable[..., ratite.Vm]]:
    """Makes machines from the words of a command line, and closes them."""
    made: list[ratite.Vm] = []

    def make(*words: object) -> ratite.Vm:
        made.append(make_vm(*words))
        return made[-1]

    yield make
    for vm in made:
        vm.close()


@pytest.fixture
def boot(guest: GuestFiles, machine: Callable[..., ratite.Vm]) -> Callable[..., Linux]:
    """Boots Debian's kernel to the shell, with further options."""

    def start(*words: object, append: str = "") -> Linux:
        return Linux(machine(*kernel_options(guest, append), *words)).start()

    return start


@pytest.fixture(scope="session")
def build_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles a bare program from the directory `programs`; skips where there is no compiler."""
    compiler = shutil.which(CROSS)

    def build(source: str, *flags: str) -> Path:
        if compiler is None:
            pytest.skip(f"no {CROSS}")
        output = tmp_path_factory.mktemp("program") / f"{Path(source).stem}.elf"
        bare = ["-march=rv64gc", "-mabi=lp64d", "-mcmodel=medany", "-nostdlib", "-static"]
        command: list[Any] = [
            compiler,
            *bare,
            "-Wl,-N,-Ttext=0x80000000,--build-id=none,--no-warn-rwx-segments",
            *flags,
        ]
        subprocess.run([*command, "-o", output, HERE / "programs" / source], check=True)
        return output

    return build
