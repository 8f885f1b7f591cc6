"""The booted guest's root file system with Debian's Lua beside busybox, and with programs of ours.

The packages come through apt, as the guest's own do, once; the archive that holds it all is
appended to the guest's initial RAM disk, as Linux allows.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.side_by_side import Plan
from ratite.cli.guest import GuestFiles, Progress, deb
from ratite.cli.guest.cpio import Archive
from ratite.cli.guest.store import open_archive

PACKAGES = ("lua5.4", "libreadline8t64", "libtinfo6", "libc6")
FILES = re.compile(
    r"usr/(bin/lua5\.4|lib/(riscv64-linux-gnu/)?(ld-linux-riscv64-lp64d|lib(c|m|dl|readline|tinfo))"
    r"\.so\.\d+)(?P<minor>[.\d]*)"
)
"""What is wanted of them. Without the minor version it has the name that it is linked by."""
PROGRAMS = Path(__file__).parent / "programs" / "guest"
LUA = "lua5.4 /bench.lua"
"""The command that runs the script in the guest."""


def with_programs(
    plan: Plan, files: GuestFiles, progress: Progress, more: Mapping[str, bytes] | None = None
) -> Path:
    """The guest's initial RAM disk with Lua, the script, and `more`: executables by name. Raises
    `ConfigError` where apt or the network is not up to it.
    """
    ours = {"bench.lua": (PROGRAMS / "bench.lua").read_bytes(), **(more or {})}
    plan.work.mkdir(parents=True, exist_ok=True)
    content = files.initrd.read_bytes() + archive({**_packages(plan, progress), **ours})
    path = plan.work / f"initrd-{hashlib.sha256(content).hexdigest()[:12]}.cpio"
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.replace(path)
    return path


def _packages(plan: Plan, progress: Progress) -> dict[str, bytes]:
    """The wanted files by their names in the guest; fetched once."""
    recipe = hashlib.sha256(repr((PACKAGES, FILES.pattern)).encode()).hexdigest()[:12]
    kept = plan.work / f"packages-{recipe}"
    if not kept.is_dir():
        found = _fetch(progress)
        with tempfile.TemporaryDirectory(dir=plan.work) as directory:
            part = Path(directory) / "files"
            for name, content in found.items():
                place = part / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
            part.rename(kept)
    return {
        str(path.relative_to(kept)): path.read_bytes()
        for path in sorted(kept.rglob("*"))
        if path.is_file()
    }


def _fetch(progress: Progress) -> dict[str, bytes]:
    found = {}
    with tempfile.TemporaryDirectory(prefix="ratite-bench-") as directory:
        work = Path(directory)
        apt, _ = open_archive(work, progress)
        debs = work / "packages"
        debs.mkdir()
        for package in apt.download(PACKAGES, debs, progress.percent).values():
            contents = deb.extract(package, lambda name: FILES.fullmatch(name) is not None)
            for name, content in contents.items():
                found[linked_name(name)] = content
    return found


def linked_name(name: str) -> str:
    """Where a file of a package goes: by the name that programs are linked with."""
    match = FILES.fullmatch(name)
    assert match is not None
    return match[1] if match[1].startswith("bin/") else f"lib/{Path(match[1]).name}"


def archive(contents: Mapping[str, bytes]) -> bytes:
    """A cpio archive of executables."""
    made = Archive()
    for name, content in sorted(contents.items()):
        made.file(name, content, 0o755)
    return made.getvalue()
