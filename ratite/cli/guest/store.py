"""The guest software in the user's cache: fetched and built once, whole or not there at all.

Layout below `$XDG_CACHE_HOME/ratite/guest` (default `~/.cache`): `lock`, and one directory for each
recipe, which appears by rename when it is complete. Nothing in it is worth a backup.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ratite.cli.guest import deb, initramfs
from ratite.cli.guest.apt import Apt, NotCarriedError, private_apt
from ratite.cli.guest.modules import is_module, load_order
from ratite.core import ConfigError, HostError

_ARCH = "riscv64"
_SUITES = ("trixie", "sid")  # the first that the mirror carries for this architecture
_META_PACKAGE = "linux-image-riscv64"
_PACKAGES = ("busybox-static", "opensbi", "u-boot-qemu")
_SPACE_NEEDED = 400 << 20  # bytes: packages, index and result

_FIRMWARE = {
    "fw_dynamic.bin": ("opensbi", "opensbi/generic/fw_dynamic.bin"),
    "fw_jump.bin": ("opensbi", "opensbi/generic/fw_jump.bin"),
    "fw_jump.elf": ("opensbi", "opensbi/generic/fw_jump.elf"),
    "u-boot.bin": ("u-boot-qemu", "u-boot/qemu-riscv64/u-boot.bin"),
    "u-boot-smode.bin": ("u-boot-qemu", "u-boot/qemu-riscv64_smode/u-boot.bin"),
}


class Progress(Protocol):
    """Told what goes on, on the caller's thread."""

    def step(self, text: str) -> None:
        """A new step begins."""

    def percent(self, value: float) -> None:
        """How far the step is, 0 to 100. Steps that cannot tell never call it."""


@dataclass(frozen=True, slots=True)
class GuestFiles:
    """A complete set of guest software; every file exists."""

    directory: Path

    @property
    def kernel(self) -> Path:
        """Debian's kernel, as shipped."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Busybox and modules for that kernel, a cpio archive."""
        return self.directory / "initrd.cpio"

    @property
    def opensbi(self) -> Path:
        """OpenSBI as `-bios` takes it by default (fw_dynamic)."""
        return self.directory / "fw_dynamic.bin"

    @property
    def opensbi_jump(self) -> Path:
        """OpenSBI that jumps to a fixed address, as ELF."""
        return self.directory / "fw_jump.elf"

    @property
    def u_boot(self) -> Path:
        """U-Boot that starts in machine mode, for `-bios`."""
        return self.directory / "u-boot.bin"


def cache_directory() -> Path:
    """Where guest software is kept."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(configured) if configured.startswith("/") else Path.home() / ".cache"
    return base / "ratite" / "guest"


def find_guest(cache: Path | None = None) -> GuestFiles | None:
    """The guest software if it is in the cache. Fetches nothing."""
    directory = (cache or cache_directory()) / _recipe_name()
    return GuestFiles(directory) if directory.is_dir() else None


def fetch_guest(progress: Progress, cache: Path | None = None) -> GuestFiles:
    """The guest software, fetched and built if it is not in the cache.

    Several processes may ask at once: one works, the others wait. Raises ConfigError in one line if
    apt, the network or the disk is not up to it; what is in the cache is then as it was.
    """
    root = cache or cache_directory()
    found = find_guest(root)
    if found is not None:
        return found
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root / "lock", progress):
            found = find_guest(root)
            return found if found is not None else _build(root, progress)
    except OSError as error:
        raise HostError.from_os(
            "prepare the guest's software in", error, error.filename or root
        ) from error


def _recipe_name() -> str:
    """The directory's name: changes whenever the same packages would give another result."""
    recipe = (initramfs.INIT, initramfs.PROFILE, initramfs.SHIPPED_MODULES)
    text = repr((recipe, _SUITES, _PACKAGES, sorted(_FIRMWARE.items())))
    return f"debian-{_ARCH}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@contextmanager
def _lock(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.step("waiting for another ratite that fetches the same")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(root: Path, progress: Progress) -> GuestFiles:
    for leftover in root.glob("work-*"):  # of a run that was cut off: we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    free = shutil.disk_usage(root).free
    if free < _SPACE_NEEDED:
        raise ConfigError(
            f"{root} has {free >> 20} MiB free, the guest's packages need {_SPACE_NEEDED >> 20} MiB"
        )
    with tempfile.TemporaryDirectory(prefix="work-", dir=root) as work:
        packages = _download(Path(work), progress)
        progress.step("unpacking the kernel and building the initramfs")
        result = Path(work) / "result"
        result.mkdir()
        try:
            _assemble(packages, result)
        except (ValueError, tarfile.TarError) as error:
            raise ConfigError(f"a guest package is not as expected: {error}") from error
        final = root / _recipe_name()
        result.rename(final)
    for other in root.glob(f"debian-{_ARCH}-*"):
        if other != final:
            shutil.rmtree(other, ignore_errors=True)
    return GuestFiles(final)


def _download(work: Path, progress: Progress) -> dict[str, Path]:
    apt, depends = open_archive(work, progress)
    match = re.search(r"\blinux-image-\d\S*", depends)
    if match is None:
        raise ConfigError(f"{_META_PACKAGE} names no kernel package: {depends}")
    kernel = match[0].rstrip(",")
    names = [kernel, *_PACKAGES]
    progress.step(f"fetching {kernel} and {len(_PACKAGES)} more")
    debs = work / "packages"
    debs.mkdir()
    found = apt.download(names, debs, progress.percent)
    return {"kernel": found[kernel], **{name: found[name] for name in _PACKAGES}}


def open_archive(work: Path, progress: Progress) -> tuple[Apt, str]:
    """An apt, with its state below `work`, on the first suite that has a kernel for the guest, and
    what the kernel depends on. Raises `ConfigError`.
    """
    failure: NotCarriedError | None = None
    for suite in _SUITES:
        progress.step(f"fetching the package index of Debian {suite}")
        apt = private_apt(work / f"apt-{suite}", suite=suite, arch=_ARCH)
        try:
            apt.update(progress.percent)
            return apt, apt.fields(_META_PACKAGE).get("Depends", "")
        except NotCarriedError as error:
            failure = failure or error
    assert failure is not None  # there is at least one suite
    raise failure


def _assemble(packages: dict[str, Path], result: Path) -> None:
    contents = deb.extract(
        packages["kernel"],
        lambda name: name.startswith(("boot/vmlinu", "usr/lib/modules/", "lib/modules/")),
    )
    image = next((name for name in contents if name.startswith("boot/vmlinu")), None)
    if image is None:
        raise ValueError("no kernel image in its package")
    release = image.partition("-")[2]
    modules = {
        name.partition(f"lib/modules/{release}/")[2]: content
        for name, content in contents.items()
        if is_module(name)
    }
    busybox = deb.extract(packages["busybox-static"], lambda name: name.endswith("bin/busybox"))
    if not busybox:
        raise ValueError("no busybox in its package")
    ordered = load_order(modules, initramfs.SHIPPED_MODULES)
    initrd = initramfs.build(next(iter(busybox.values())), release, ordered)
    (result / "vmlinuz").write_bytes(contents[image])
    (result / "initrd.cpio").write_bytes(initrd)
    for name, (package, suffix) in _FIRMWARE.items():
        found = deb.extract(
            packages[package],
            lambda path, suffix=suffix: path.endswith(suffix) and "riscv32" not in path,  # type: ignore[misc]
        )
        if not found:
            raise ValueError(f"no {suffix} in {package}")
        (result / name).write_bytes(next(iter(found.values())))
