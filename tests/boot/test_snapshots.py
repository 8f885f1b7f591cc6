"""Snapshots of a guest at work: nothing that it knows is lost, however often it goes back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import ratite
from tests.boot import dirty
from tests.boot.harness import Linux

pytestmark = pytest.mark.boot
TIMES = int(os.environ.get("RATITE_SNAPSHOT_TIMES", "20"))
STEPS = 600_000 * TIMES


@pytest.fixture(scope="module")
def image(build_program: Callable[..., Path]) -> Path:
    return dirty.build(build_program, STEPS)


@pytest.mark.parametrize("harts", [1, 2])
@pytest.mark.parametrize(
    "accel",
    ["-accel tcg", "-accel tcg,tier=0", "-accel tcg -icount shift=0,sleep=off"],
    ids=["tier 1", "tier 0", "icount"],
)
def test_a_guest_that_goes_back_many_times_comes_to_the_same_result(
    machine: Callable[..., ratite.Vm], image: Path, tmp_path: Path, harts: int, accel: str
) -> None:
    options = [*dirty.OPTIONS, "-smp", harts, *accel.split(), "-kernel", image]
    plain = machine(*options)
    plain.start()
    expected = dirty.results(plain, harts)
    plain.close()
    vm = machine(*options)
    vm.start()
    vm.serial.expect("..")
    for turn in range(TIMES):
        vm.save_snapshot(path=tmp_path / str(turn))
        vm.serial.expect(".")
        vm.load_snapshot(path=tmp_path / str(turn))
        if turn % 4 == 3:  # a little way on
            vm.serial.expect(".")
    assert dirty.results(vm, harts) == expected


def test_linux_goes_on_from_a_snapshot_of_its_boot_with_its_disk(
    boot: Callable[..., Linux], tmp_path: Path
) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(16 << 20))
    drive = ["-drive", f"file={disk},format=raw,if=none,id=d0"]
    linux = boot("-smp", 2, *drive, "-device", "virtio-blk-device,drive=d0")
    linux.run("echo before > /tmp/mark; echo before | dd of=/dev/vda conv=sync 2>/dev/null; sync")
    linux.vm.save_snapshot("one")
    linux.run("echo after > /tmp/mark; echo after | dd of=/dev/vda conv=sync 2>/dev/null; sync")
    for _ in range(3):
        linux.vm.load_snapshot("one")
        look = "cat /tmp/mark; dd if=/dev/vda count=1 iflag=direct 2>/dev/null | head -n 1"
        assert linux.run(look).split() == ["before", "before"]
        linux.run("echo later > /tmp/mark; echo later | dd of=/dev/vda conv=sync 2>/dev/null; sync")
        assert linux.run(look).split() == ["later", "later"]
    linux.power_off()


def test_a_snapshot_amid_a_boot_boots_on(
    boot: Callable[..., Linux], guest: object, machine: Callable[..., ratite.Vm], tmp_path: Path
) -> None:
    from tests.boot.harness import kernel_options

    vm = machine(*kernel_options(guest))  # type: ignore[arg-type]
    vm.start()
    for turn, text in enumerate(("Linux version", "SLUB", "clocksource", "workingset", "Run /")):
        vm.serial.expect(text, timeout=60)
        vm.save_snapshot(path=tmp_path / str(turn))
        vm.load_snapshot(path=tmp_path / str(turn))
    linux = Linux(vm).await_shell()
    assert "riscv64" in linux.run("uname -m")
    for turn in (0, 3, 4):
        vm.load_snapshot(path=tmp_path / str(turn))
        assert "riscv64" in linux.await_shell().run("uname -m")
