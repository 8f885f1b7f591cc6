"""The guest that ships with ratite, under QEMU: it must be right before it judges us."""

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ratite.cli.main

BINARY = Path(ratite.cli.main.__file__).parent / "demo" / "demo.bin"
QEMU = "qemu-system-riscv64"


def test_it_is_a_kernel_image() -> None:
    image = BINARY.read_bytes()
    offset, size, flags, version = struct.unpack_from("<QQQI", image, 8)
    assert (offset, flags, version) == (0x200000, 0, 2)
    assert image[48:56] == b"RISCV\0\0\0" and image[56:60] == b"RSC\x05"
    assert len(image) <= size < 1 << 20


@pytest.fixture
def guest() -> Iterator[Any]:
    pexpect = pytest.importorskip("pexpect")
    if shutil.which(QEMU) is None:
        pytest.skip(f"no {QEMU}")
    arguments = ["-M", "virt", "-nographic", "-smp", "2", "-kernel", str(BINARY)]
    child = pexpect.spawn(QEMU, arguments, encoding="utf-8", timeout=30)
    child.expect("Hello from inside the machine: riscv-virtio,qemu")
    child.expect("demo> ")
    yield child
    child.close(force=True)


@pytest.mark.boot
def test_it_answers_its_commands(guest: Any) -> None:
    for command, answer in [
        ("help", "poweroff  *end"),
        ("mem", "0x0010000000 - 0x00100000ff     256 B    serial"),
        ("dt serial", 'compatible = "ns16550a"'),
        ("cpu", "2 harts"),
        ("echo one  two", "one  two"),
        ("nonsense", "nonsense: not a command"),
    ]:
        guest.sendline(command)
        guest.expect(answer)
        guest.expect("\ndemo> ")


@pytest.mark.boot
def test_its_lines_can_be_edited_and_recalled(guest: Any) -> None:
    left, erase, end, up = "\x1b[D", "\x7f", "\x05", "\x1b[A"
    guest.sendline(f"ecxho{left}{left}{erase}{end} fine")
    guest.expect("\nfine\r+\n")
    guest.sendline(up)
    guest.expect("\nfine\r+\n")


@pytest.mark.boot
def test_it_reboots_and_powers_off(guest: Any) -> None:
    import pexpect

    guest.sendline("reboot")
    guest.expect("Hello from inside")
    guest.expect("demo> ")
    guest.sendline("poweroff")
    guest.expect(pexpect.EOF)
    guest.close()
    assert guest.exitstatus == 0
