"""Debian packages and an apt of our own making, so that no test needs the network."""

import io
import lzma
import os
import struct
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

RELEASE = "6.0.0-riscv64"


def make_deb(path: Path, files: Mapping[str, bytes], *, compression: str = "xz") -> None:
    """Write a Debian package that holds these files."""
    tar_bytes = io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    plain = tar_bytes.getvalue()
    if compression == "zst":
        import zstandard

        data = zstandard.ZstdCompressor().compress(plain)
    else:
        data = lzma.compress(plain)
    with path.open("wb") as package:
        package.write(b"!<arch>\n")
        for name, content in (
            ("debian-binary", b"2.0\n"),
            ("control.tar.xz", lzma.compress(b"x")),  # of odd or even size: padded below
            (f"data.tar.{compression}", data),
        ):
            header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
            package.write(header.encode() + content + b"\n" * (len(content) % 2))


def make_module(depends: str = "", *aliases: str) -> bytes:
    """An ELF file with nothing in it but a `.modinfo` section, compressed."""
    info = b"".join(f"alias={alias}".encode() + b"\0" for alias in aliases)
    info += f"depends={depends}".encode() + b"\0"
    names = b"\0.modinfo\0.shstrtab\0"
    offset = 64 + len(info) + len(names)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 1, 243, 1, 0, 0, offset, 0, 64, 0, 0, 64, 3, 2)

    def section(name: int, kind: int, start: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, start, size, 0, 0, 1, 0)

    sections = section(0, 0, 0, 0)
    sections += section(1, 1, 64, len(info))
    sections += section(10, 3, 64 + len(info), len(names))
    return lzma.compress(header + info + names + sections)


KERNEL_FILES = {
    f"boot/vmlinux-{RELEASE}": b"kernel",
    f"usr/lib/modules/{RELEASE}/kernel/drivers/virtio/virtio_mmio.ko.xz": make_module(
        "", "of:N*T*Cvirtio,mmio"
    ),
    f"usr/lib/modules/{RELEASE}/kernel/drivers/net/virtio_net.ko.xz": make_module(
        "net_failover", "virtio:d00000001v*"
    ),
    f"usr/lib/modules/{RELEASE}/kernel/drivers/net/net_failover.ko.xz": make_module("failover"),
    f"usr/lib/modules/{RELEASE}/kernel/net/core/failover.ko.xz": make_module(),
    f"usr/lib/modules/{RELEASE}/kernel/drivers/other.ko.xz": make_module(),
}

OPENSBI = "usr/lib/riscv64-linux-gnu/opensbi/generic"
U_BOOT = "usr/lib/u-boot"

_FAKE_APT = """\
#!/bin/sh
echo "$@" >> {log}
config=$2
for word; do
    case $word in
        update) exec {update} "$@" ;;
        download) cp {packages}/*.deb . ; exit 0 ;;
        show) echo "Package: linux-image-riscv64"
              echo "Depends: linux-base (= 1), linux-image-6.0-riscv64 (= 1)"; exit 0 ;;
        shell) echo "LIST='{root}/sources.list'"; echo "PARTS='{root}/parts'"; exit 0 ;;
    esac
done
"""

SOURCES = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm
Components: main
"""


@pytest.fixture
def fake_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put an apt on the path whose `update` runs a shell command; answers the log of its calls."""

    def make(update: str = "true", *, sources: str = SOURCES, kernel: bool = True) -> Path:
        root = tmp_path / "fake"
        packages, parts, programs = root / "packages", root / "parts", root / "bin"
        for directory in (packages, parts, programs):
            directory.mkdir(parents=True)
        (parts / "debian.sources").write_text(sources)
        files = KERNEL_FILES if kernel else {}
        make_deb(packages / "linux-image-6.0-riscv64_1_riscv64.deb", files)
        make_deb(packages / "busybox-static_1%3a1_riscv64.deb", {"usr/bin/busybox": b"busybox"})
        firmware = {
            f"{OPENSBI}/{name}": name.encode()
            for name in ("fw_dynamic.bin", "fw_jump.bin", "fw_jump.elf")
        }
        make_deb(packages / "opensbi_1_all.deb", firmware)
        u_boot = {f"{U_BOOT}/qemu-riscv64{s}/u-boot.bin": b"u-boot" for s in ("", "_smode")}
        make_deb(packages / "u-boot-qemu_1_all.deb", u_boot)
        (root / "update").write_text(f"#!/bin/sh\n{update}\n")
        (root / "update").chmod(0o755)
        log = root / "log"
        script = _FAKE_APT.format(log=log, update=root / "update", packages=packages, root=root)
        for name in ("apt-get", "apt-cache", "apt-config"):
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        return log

    return make
