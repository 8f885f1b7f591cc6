"""The guest's initial root file system: busybox, a few kernel modules and an `/init` of ours.

Devices that show up on the virtio bus get their driver by alias, as udev would do it: a guest
without disks does not spend its boot on linking a disk driver.
"""

from __future__ import annotations

from collections.abc import Iterable

from ratite.cli.guest.cpio import Archive
from ratite.cli.guest.modules import Module, indexes

MARKER = "ratite: shell ready"
"""What the guest prints on its console when the shell is about to start."""

BOOT_MODULES = ("virtio_mmio",)
"""Loaded by `/init` before it looks at the virtio bus."""

SHIPPED_MODULES = (
    *BOOT_MODULES,
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "ext4",
    "crc32c_generic",
)
"""In the initramfs, with what they need. ext4 asks for its checksum by alias, not by dependency."""

INIT = f"""\
#!/bin/busybox sh
# process 1 of the guest
export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root TERM="${{TERM:-linux}}"
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev 2>/dev/null
busybox --install -s
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
hostname ratite
ip link set lo up

for module in {" ".join(BOOT_MODULES)}; do
    modprobe "$module"
done
for alias in /sys/bus/virtio/devices/*/modalias; do
    [ -e "$alias" ] && modprobe -q "$(cat "$alias")"
done

read -r uptime rest </proc/uptime
echo
echo "{MARKER} (${{uptime}} s after power-on, Linux $(uname -r), $(nproc) harts)"
# the signals by which busybox's commands ask process 1; there are no services to wait for
stop() {{
    sync
    umount -a -r 2>/dev/null
    busybox "$1" -f
}}
trap 'stop poweroff' USR2
trap 'stop reboot' TERM
trap 'stop halt' USR1
cd /root
while :; do
    setsid cttyhack sh -l </dev/console >/dev/console 2>&1 &
    wait $!
    echo "the shell has ended: here is another; poweroff ends the machine"
done
"""

PROFILE = """\
PS1='\\w # '
alias ll='ls -l'
"""


def build(busybox: bytes, release: str, modules: Iterable[Module]) -> bytes:
    """The initramfs as an uncompressed cpio archive, `release` being the kernel's `uname -r`."""
    archive = Archive()
    for directory in ("dev", "proc", "sys", "run", "mnt", "usr/bin", "usr/sbin", "sbin", "etc"):
        archive.directory(directory)
    archive.directory("root", 0o700)
    archive.directory("tmp", 0o1777)
    archive.device("dev/console", 5, 1)
    archive.device("dev/null", 1, 3, 0o666)
    archive.file("init", INIT.encode(), 0o755)
    archive.file("bin/busybox", busybox, 0o755)
    archive.file("etc/profile", PROFILE.encode())
    archive.file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n")
    archive.file("etc/group", b"root:x:0:\n")
    listed = list(modules)
    base = f"lib/modules/{release}"
    for module in listed:
        archive.file(f"{base}/{module.path}", module.content)
    dependencies, aliases = indexes(listed)
    archive.file(f"{base}/modules.dep", dependencies.encode())
    archive.file(f"{base}/modules.alias", aliases.encode())
    archive.file(f"{base}/modules.symbols", b"")
    return archive.getvalue()
