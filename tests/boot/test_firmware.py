"""Firmware, and the forms in which a kernel may come."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

import ratite
from ratite.cli.guest import GuestFiles
from tests.boot.harness import DEMO

pytestmark = pytest.mark.boot

HELLO = "Hello from inside the machine"


def test_u_boot_greets_and_answers_at_its_prompt(
    machine: Callable[..., ratite.Vm], guest: GuestFiles
) -> None:
    vm = machine("-M", "virt", "-m", "256M", "-bios", guest.u_boot)
    vm.run(until="U-Boot 20", timeout=30)
    vm.serial.expect("DRAM:  256 MiB")
    vm.serial.expect("Hit any key to stop autoboot")
    vm.serial.send("\n")
    vm.serial.expect("=> ")
    vm.serial.send("echo $((6 * 7)) ${arch}\n")
    vm.serial.expect("\n=> ")
    vm.serial.send("reset\n")
    vm.serial.expect("U-Boot 20", timeout=30)
    vm.serial.expect("Hit any key to stop autoboot")
    vm.serial.send("\n")
    vm.serial.expect("=> ")
    vm.serial.send("poweroff\n")
    assert vm.wait(10)


@pytest.mark.parametrize("form", ["fw_dynamic.bin", "fw_jump.bin", "fw_jump.elf"])
def test_every_form_of_opensbi_starts_the_kernel(
    machine: Callable[..., ratite.Vm], guest: GuestFiles, form: str
) -> None:
    vm = machine("-M", "virt", "-bios", guest.directory / form, "-kernel", DEMO)
    output = vm.run(until=HELLO, timeout=30)
    assert "OpenSBI v" in output


def test_opensbi_greets_through_htif_on_spike(
    machine: Callable[..., ratite.Vm], guest: GuestFiles
) -> None:
    vm = machine("-M", "spike", "-bios", guest.directory / "fw_dynamic.bin")
    vm.run(until="OpenSBI v", timeout=30)
    vm.serial.expect("htif")


def test_a_kernel_boots_on_spike_and_prints_through_the_firmware(
    machine: Callable[..., ratite.Vm], guest: GuestFiles
) -> None:
    options = ["-M", "spike", "-m", "512M", "-bios", guest.directory / "fw_dynamic.bin"]
    options += ["-kernel", guest.kernel, "-initrd", guest.initrd]
    vm = machine(*options, "-append", "earlycon=sbi keep_bootcon")
    vm.run(until="Linux version", timeout=60)
    vm.serial.expect("Run /init as init process", timeout=60)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_compressed_kernel_is_unpacked(
    machine: Callable[..., ratite.Vm], tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(compress(DEMO.read_bytes()))
    machine("-M", "virt", "-bios", "builtin", "-kernel", kernel).run(until=HELLO, timeout=30)


@pytest.mark.parametrize("bios", [(), ("-bios", "none"), ("-bios", "default")])
def test_a_machine_with_an_image_in_flash_starts_from_it(
    machine: Callable[..., ratite.Vm], tmp_path: Path, bios: tuple[str, ...]
) -> None:
    # lui t0, 0x100; li t1, 0x5555 (lui t1, 5; addi t1, t1, 0x555); sw t1, (t0): power off
    code = (0x001002B7, 0x00005337, 0x55530313, 0x0062A023, 0x0000006F)
    flash = tmp_path / "flash"
    image = b"".join(word.to_bytes(4, "little") for word in code)
    flash.write_bytes(image.ljust(32 << 20, b"\xff"))
    vm = machine("-M", "virt", "-pflash", flash, *bios)
    vm.start()
    assert vm.wait(10) and vm.exit_status == 0
