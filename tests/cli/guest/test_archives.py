"""Packages taken apart, and the initramfs put together."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ratite.cli.guest import MARKER, deb, initramfs
from ratite.cli.guest.cpio import Archive
from ratite.cli.guest.modules import indexes, load_order, module_name

from .conftest import make_deb, make_module


@pytest.mark.parametrize("compression", ["xz", "zst"])
def test_wanted_files_come_out_of_a_package(tmp_path: Path, compression: str) -> None:
    package = tmp_path / "a.deb"
    files = {"usr/bin/a": b"program", "usr/share/doc/a": b"text"}
    make_deb(package, files, compression=compression)
    assert deb.extract(package, lambda name: "/bin/" in name) == {"usr/bin/a": b"program"}


@pytest.mark.parametrize("content", [b"", b"!<arch>\n", b"not a package at all", b"\x7fELF"])
def test_what_is_no_package_is_refused(tmp_path: Path, content: bytes) -> None:
    package = tmp_path / "a.deb"
    package.write_bytes(content)
    with pytest.raises(ValueError, match="not a Debian package"):
        deb.extract(package, lambda name: True)


def test_an_archive_has_its_parents_before_their_children() -> None:
    archive = Archive()
    archive.file("a/b/c", b"x")
    text = archive.getvalue()
    assert text.index(b"a\0") < text.index(b"a/b\0") < text.index(b"a/b/c\0")
    assert text.index(b"a/b/c\0") < text.index(b"TRAILER!!!\0")


def test_a_name_can_be_used_once() -> None:
    archive = Archive()
    archive.file("a", b"")
    with pytest.raises(ValueError, match="a is in the archive already"):
        archive.symlink("a", "b")


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio")
def test_cpio_reads_what_we_write() -> None:
    archive = Archive()
    archive.directory("d", 0o1777)
    archive.file("d/odd", b"12345", 0o755)
    archive.symlink("d/link", "odd")
    result = subprocess.run(
        ["cpio", "-tv", "--quiet"], input=archive.getvalue(), capture_output=True, check=True
    )
    lines = result.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["drwxrwxrwt", "-rwxr-xr-x", "lrwxrwxrwx"]
    assert lines[1].split()[4] == "5" and lines[2].endswith("d/link -> odd")


MODULES = {
    "kernel/net/virtio_net.ko.xz": make_module("net_failover", "virtio:d1"),
    "kernel/net/net-failover.ko.xz": make_module("failover"),
    "kernel/net/failover.ko.xz": make_module(),
    "kernel/other.ko.xz": make_module("failover"),
}


def test_a_module_comes_after_those_it_needs() -> None:
    ordered = load_order(MODULES, ["virtio_net", "built_in"])
    assert [module.name for module in ordered] == ["failover", "net_failover", "virtio_net"]


def test_the_indexes_are_those_that_modprobe_reads() -> None:
    dependencies, aliases = indexes(load_order(MODULES, ["virtio_net"]))
    assert "kernel/net/virtio_net.ko: kernel/net/net-failover.ko kernel/net/failover.ko\n" in (
        dependencies
    )
    assert aliases == "alias virtio:d1 virtio_net\n"


def test_dashes_in_a_module_name_are_underscores() -> None:
    assert module_name("kernel/drivers/char/virtio-rng.ko.xz") == "virtio_rng"


def test_init_prints_the_marker_and_is_executable() -> None:
    image = initramfs.build(b"busybox", "6.0", load_order(MODULES, ["virtio_net"]))
    assert MARKER.encode() in image
    assert b"lib/modules/6.0/kernel/net/virtio_net.ko\0" in image
    at = image.index(b"init\0") - 110
    assert int(image[at + 14 : at + 22], 16) == 0o100755


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
def test_init_is_a_script_that_a_shell_can_read() -> None:
    subprocess.run(["sh", "-n"], input=initramfs.INIT.encode(), check=True)
