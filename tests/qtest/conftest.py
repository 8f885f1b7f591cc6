"""Machines whose devices a test drives, ours and QEMU's."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ratite
from ratite.cli.options import parse
from tests.qtest.client import Qtest


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., tuple[ratite.Vm, Qtest]]]:
    """Starts a machine with further options, and connects to it."""
    made: list[ratite.Vm] = []

    def start(*words: str) -> tuple[ratite.Vm, Qtest]:
        path = f"{tmp_path}/qtest{len(made)}"
        options = f"-display none -accel qtest -bios none -qtest-log none -qtest unix:{path}"
        config = parse([*f"{options},server=on,wait=off".split(), *words])
        vm = ratite.Vm(config=config)
        made.append(vm)
        if not config.start_paused:
            vm.start()
        return vm, Qtest(path)

    yield start
    for vm in made:
        vm.close()


@pytest.fixture
def qtest(machine: Callable[..., tuple[ratite.Vm, Qtest]]) -> Callable[..., Qtest]:
    """The same for those who need the connection alone."""
    return lambda *words: machine(*words)[1]


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Qtest]:
    """QEMU's `virt` board, paused: its binary may lack the qtest accelerator."""
    program = shutil.which("qemu-system-riscv64")
    if program is None:
        pytest.skip("qemu-system-riscv64 is not installed")
    path = f"{tmp_path}/peer"
    command = [program, "-M", "virt", "-display", "none", "-S", "-bios", "none"]
    command += ["-qtest-log", "none", "-qtest", f"unix:{path},server=on,wait=off"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield Qtest(path)
    finally:
        process.kill()
        process.wait()
