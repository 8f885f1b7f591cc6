"""Debian's riscv64 kernel, unmodified, from power-on to a shell and back to power-off."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import ratite
from ratite.cli.guest import GuestFiles
from tests.boot.harness import Linux, kernel_options

pytestmark = pytest.mark.boot


@pytest.mark.parametrize("harts", [1, 4])
@pytest.mark.parametrize("firmware", ["opensbi", "builtin"])
def test_the_kernel_boots_to_a_shell(
    boot: Callable[..., Linux], guest: GuestFiles, firmware: str, harts: int
) -> None:
    bios = guest.opensbi if firmware == "opensbi" else "builtin"
    linux = boot("-bios", bios, "-smp", harts)
    assert linux.run("nproc") == f"{harts}\n"
    assert linux.run("uname -m") == "riscv64\n"
    assert ("OpenSBI" in linux.vm.serial.text) == (firmware == "opensbi")
    # a loop on each hart, all at once
    loop = "n=0; while [ $n -lt 500 ]; do n=$((n + 1)); done"
    output = linux.run(f"for h in $(seq {harts}); do ({loop}; echo end $h) & done; wait")
    assert sorted(output.split("\n"))[-harts:] == [f"end {hart + 1}" for hart in range(harts)]
    linux.power_off()
    assert linux.vm.exit_status == 0


def test_a_reboot_starts_the_kernel_again_from_the_beginning(boot: Callable[..., Linux]) -> None:
    linux = boot()
    linux.run("echo left behind > /tmp/file")
    linux.send("reboot")
    linux.await_shell()
    assert linux.try_run("cat /tmp/file")[0] == 1
    assert linux.vm.serial.text.count("Linux version") == 2
    linux.power_off()


def test_no_reboot_ends_the_machine_where_the_guest_reboots(
    guest: GuestFiles, machine: Callable[..., ratite.Vm]
) -> None:
    # nothing to run: the kernel panics, and reboots at once
    options = kernel_options(guest, "rdinit=/nothing root=/dev/nothing panic=-1")
    vm = machine(*options, "-no-reboot")
    vm.start()
    assert vm.wait(30)
    assert vm.serial.text.count("Kernel panic") == 1
    assert vm.serial.text.count("Linux version") == 1


def test_two_machines_run_in_one_process_at_once(
    guest: GuestFiles, machine: Callable[..., ratite.Vm]
) -> None:
    names = ["first", "second"]
    vms = [machine(*kernel_options(guest, f"name={name}")) for name in names]
    for vm in vms:
        vm.start()
    for vm, name, other in zip(vms, names, reversed(names), strict=True):
        linux = Linux(vm).await_shell()
        assert linux.run("cat /proc/cmdline") == f"console=ttyS0 name={name}\n"
        assert f"name={other}" not in vm.serial.text
    Linux(vms[0]).power_off()
    assert Linux(vms[1]).run("echo still here") == "still here\n"
