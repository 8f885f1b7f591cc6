"""Linux's drivers against our devices. One machine with everything serves most of the tests."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ratite.cli.guest import GuestFiles
from ratite.machines.machine import RunState
from tests.boot.harness import PROMPT, Linux, kernel_options, make_vm

pytestmark = pytest.mark.boot

MIB = 1 << 20


@dataclass
class Furnished:
    """A running Linux, and the host's side of its devices."""

    linux: Linux
    disk: Path
    untouchable: Path
    template: Path
    node: Path
    console: Path


@pytest.fixture(scope="module")
def furnished(guest: GuestFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Furnished]:
    directory = tmp_path_factory.mktemp("furnished")
    names = ("disk", "untouchable", "template", "node", "console")
    paths = {name: directory / name for name in names}
    for name in names[:-1]:
        paths[name].write_bytes(name.encode().ljust(MIB, b"\xee"))
    flash = directory / "flash"
    flash.write_bytes(b"flash content".ljust(32 * MIB, b"\xff"))
    disks = {"disk": "discard=unmap", "untouchable": "readonly=on", "template": "snapshot=on"}
    words: list[object] = ["-smp", 2, "-pflash", flash]
    for name, how in disks.items():
        words += ["-drive", f"file={paths[name]},format=raw,if=none,id={name},{how}"]
    words += ["-blockdev", f"file,node-name=file,filename={paths['node']}"]
    words += ["-blockdev", "raw,node-name=node,file=file"]
    words += ["-device", "virtio-blk-device,drive=node,serial=node-1,werror=stop"]
    for name in reversed(disks):  # Linux numbers them as the device tree lists them
        words += ["-device", f"virtio-blk-device,drive={name},serial={name}-1"]
    words += ["-object", "rng-builtin,id=rng", "-device", "virtio-rng-device,rng=rng"]
    words += ["-chardev", f"socket,id=console,path={paths['console']},server=on,wait=off"]
    words += ["-device", "virtio-serial-device", "-device", "virtconsole,chardev=console"]
    vm = make_vm(*kernel_options(guest), *words)
    try:
        yield Furnished(Linux(vm).start(), **paths)
    finally:
        vm.close()


def block_device(linux: Linux, serial: str) -> str:
    """The guest's name of a disk."""
    found = linux.run(f"grep -l '^{serial}$' /sys/block/vd*/serial")
    return "/dev/" + found.split("/")[3]


def test_a_disk_keeps_what_was_written_for_the_next_boot(
    boot: Callable[..., Linux], tmp_path: Path
) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(4 * MIB))
    options = ["-drive", f"file={disk},format=raw,if=none,id=d", "-device"]
    options += ["virtio-blk-device,drive=d"]
    linux = boot(*options)
    linux.run("mke2fs /dev/vda >/dev/null && modprobe ext4 && mount /dev/vda /mnt")
    linux.run("echo from the first boot > /mnt/note && umount /mnt")
    linux.power_off()
    linux.vm.close()
    linux = boot(*options)
    linux.run("modprobe ext4 && mount /dev/vda /mnt")
    assert linux.run("cat /mnt/note") == "from the first boot\n"
    linux.power_off()


def test_a_disk_may_have_a_thread_and_the_platforms_addresses(
    boot: Callable[..., Linux], tmp_path: Path
) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(4 * MIB))
    options = ["-drive", f"file={disk},format=raw,if=none,id=d", "-object", "iothread,id=io"]
    options += ["-object", "throttle-group,id=t,x-iops-total=1000000"]
    options[1] += ",throttling.group=t"
    options += ["-global", "virtio-mmio.force-legacy=off", "-device"]
    options += ["virtio-blk-device,drive=d,iothread=io,iommu_platform=on"]
    linux = boot(*options)
    assert linux.run("cut -c 34 /sys/bus/virtio/devices/virtio0/features") == "1\n"
    linux.run("mke2fs /dev/vda >/dev/null && modprobe ext4 && mount /dev/vda /mnt")
    linux.run("dd if=/dev/urandom of=/mnt/data bs=64k count=16 2>/dev/null && umount /mnt")
    linux.run("mount /dev/vda /mnt && echo 3 > /proc/sys/vm/drop_caches")
    assert linux.run("wc -c < /mnt/data") == f"{MIB}\n"
    linux.power_off()


def test_the_guest_sees_a_disks_serial_number_and_size(furnished: Furnished) -> None:
    name = block_device(furnished.linux, "disk-1")
    assert furnished.linux.run(f"blockdev --getsize64 {name}") == f"{MIB}\n"
    assert furnished.linux.run(f"head -c 4 {name}") == "disk"


def test_a_read_only_disk_is_read_only_in_the_guest(furnished: Furnished) -> None:
    name = block_device(furnished.linux, "untouchable-1")
    assert furnished.linux.run(f"blockdev --getro {name}") == "1\n"
    status, _ = furnished.linux.try_run(f"echo changed | dd of={name} conv=notrunc 2>/dev/null")
    assert status != 0
    assert furnished.untouchable.read_bytes().startswith(b"untouchable\xee")


def test_snapshot_keeps_writes_from_the_image(furnished: Furnished) -> None:
    linux = furnished.linux
    name = block_device(linux, "template-1")
    linux.run(f"echo changed | dd of={name} conv=notrunc,fsync 2>/dev/null")
    linux.run("echo 3 > /proc/sys/vm/drop_caches")
    assert linux.run(f"head -c 8 {name}") == "changed\n"
    assert furnished.template.read_bytes().startswith(b"template\xee")


def test_a_discard_gives_the_images_storage_back(furnished: Furnished) -> None:
    linux = furnished.linux
    name = block_device(linux, "disk-1")
    linux.run(f"blkdiscard -o {MIB // 2} -l {MIB // 2} {name}")
    image = furnished.disk.read_bytes()
    assert image[: MIB // 2].endswith(b"\xee") and not image[MIB // 2 :].strip(b"\0")
    assert furnished.disk.stat().st_blocks * 512 <= 3 * MIB // 4


def test_linux_follows_the_size_of_a_disk(furnished: Furnished) -> None:
    linux = furnished.linux
    name = block_device(linux, "node-1")
    with linux.vm.machine.lock:
        layer = linux.vm.backends.block
        layer.resize(layer.find("", "node"), 3 * MIB)
    wait = f"until [ $(blockdev --getsize64 {name}) = {3 * MIB} ]; do sleep 0.05; done"
    linux.run(wait)
    linux.run(f"echo grown | dd of={name} bs=1M seek=2 conv=fsync 2>/dev/null")
    assert furnished.node.read_bytes()[2 * MIB :].startswith(b"grown\n")


def test_linux_does_not_learn_of_an_error_that_stops_the_machine(
    furnished: Furnished, monkeypatch: pytest.MonkeyPatch
) -> None:
    linux, vm = furnished.linux, furnished.linux.vm
    name = block_device(linux, "node-1")

    def fail(offset: int, buffers: Sequence[memoryview]) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(vm.backends.block.graph.nodes["file"], "_writev", fail)
    command = f"echo again | dd of={name} conv=fsync 2>/dev/null"
    linux.send(f"({command}; echo written: $?)")
    deadline = time.monotonic() + 30
    while vm.machine.run_state is not RunState.IO_ERROR:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    monkeypatch.undo()
    vm.start()
    vm.serial.expect("written: 0\r\n")
    vm.serial.expect(PROMPT)
    assert furnished.node.read_bytes().startswith(b"again\n")
    assert "error" not in linux.run("dmesg | tail -n 3")


def test_the_guest_gets_entropy_from_the_host(furnished: Furnished) -> None:
    linux = furnished.linux
    assert linux.run("cat /sys/class/misc/hw_random/rng_current") == "virtio_rng.0\n"
    read = "dd if=/dev/hwrng bs=64 count=1 2>/dev/null | md5sum"
    assert linux.run(read) != linux.run(read)


def test_a_virtio_console_carries_text_both_ways(furnished: Furnished) -> None:
    linux = furnished.linux
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(furnished.console))
        time.sleep(0.2)  # the guest learns that somebody is there
        linux.run("stty raw -echo -F /dev/hvc0")
        linux.run("echo guest speaks > /dev/hvc0")
        received = b""
        while b"\n" not in received:
            received += peer.recv(100)
        assert received.startswith(b"guest speaks")
        linux.run("head -n 1 < /dev/hvc0 > /tmp/heard & sleep 0.2")
        peer.sendall(b"host speaks\n")
        assert linux.run("wait; cat /tmp/heard") == "host speaks\n"


def test_the_flash_shows_its_image(furnished: Furnished) -> None:
    word = furnished.linux.run("devmem 0x20000000 32").strip()
    assert int(word, 16).to_bytes(4, "little") == b"flas"
    tree = furnished.linux.run("cat /proc/device-tree/flash@20000000/compatible")
    assert tree.rstrip("\0") == "cfi-flash"


def test_the_clock_of_day_is_the_hosts(furnished: Furnished) -> None:
    assert furnished.linux.run("cat /sys/class/rtc/rtc0/name").startswith("goldfish_rtc")
    for command in ("cat /sys/class/rtc/rtc0/since_epoch", "date +%s"):
        assert abs(int(furnished.linux.run(command)) - time.time()) < 5


def test_a_second_passes_in_a_second(furnished: Furnished) -> None:
    start = time.monotonic()
    furnished.linux.run("sleep 1")
    assert 0.95 <= time.monotonic() - start < 10  # the host may be busy


def test_a_hart_goes_offline_and_comes_back(furnished: Furnished) -> None:
    linux = furnished.linux
    switch = "/sys/devices/system/cpu/cpu1/online"
    for _ in range(3):
        linux.run(f"echo 0 > {switch}")
        assert linux.run("nproc") == "1\n"
        linux.run(f"echo 1 > {switch}")
        assert linux.run("nproc") == "2\n"
    assert linux.run("taskset 2 echo on the second").endswith("on the second\n")
