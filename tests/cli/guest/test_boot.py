"""The fetched guest under QEMU: kernel and initramfs are right before they judge us."""

import shutil
import time
from typing import Any

import pytest

from ratite.cli.guest import MARKER, GuestFiles, fetch_guest
from ratite.core import RatiteError

QEMU = "qemu-system-riscv64"


class Silent:
    """Progress for nobody."""

    def step(self, text: str) -> None:
        """Ignore it."""

    def percent(self, value: float) -> None:
        """Ignore it."""


@pytest.fixture(scope="module")
def files() -> GuestFiles:
    if shutil.which(QEMU) is None:
        pytest.skip(f"no {QEMU}")
    try:
        return fetch_guest(Silent())
    except RatiteError as error:
        pytest.skip(str(error))


@pytest.mark.boot
def test_the_guest_boots_to_a_shell_with_its_disk(files: GuestFiles, tmp_path: Any) -> None:
    pexpect = pytest.importorskip("pexpect")
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"hello disk".ljust(1 << 20, b"\0"))
    arguments = ["-M", "virt", "-m", "512M", "-nographic", "-append", "console=ttyS0"]
    arguments += ["-kernel", str(files.kernel), "-initrd", str(files.initrd)]
    arguments += ["-drive", f"file={disk},format=raw,if=none,id=d0"]
    arguments += ["-device", "virtio-blk-device,drive=d0"]
    start = time.monotonic()
    child = pexpect.spawn(QEMU, arguments, encoding="utf-8", timeout=120)
    child.expect(MARKER)
    print(f"{QEMU}: {time.monotonic() - start:.2f} s to the shell")
    for command, answer in [
        ("head -c 10 /dev/vda", "hello disk"),
        ("modprobe ext4 && grep ext4 /proc/filesystems", "\text4"),
        ("sleep 9 & jobs", "Running +sleep 9"),
        ("exit", "here is another"),
        ("tty", "/dev/ttyS0"),
    ]:
        child.expect("~ # ")
        child.sendline(command)
        child.expect(answer)
    child.expect("~ # ")
    child.sendline("reboot")
    child.expect(MARKER)
    child.expect("~ # ")
    child.sendline("poweroff")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
