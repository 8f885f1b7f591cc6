"""What generated object code depends on besides its source: part of every cache key. Found out
without loading LLVM, so that a start from the cache need not load it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import platform
from pathlib import Path


@functools.cache
def compiler_identity() -> str:
    """The host's kind of CPU with its features, and the version of LLVM's Python package."""
    features = hashlib.sha256(_cpu_description().encode()).hexdigest()[:16]
    return f"{platform.machine()}/{features}/{_version('llvmlite')}"


def _version(package: str) -> str:
    """The version of an installed package, by the name of its metadata's directory if that is
    beside it: loading what reads metadata takes longer than all else here.
    """
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin is not None:
        for found in Path(spec.origin).parents[1].glob(f"{package}-*.dist-info"):
            return found.name.removeprefix(f"{package}-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version(package)


def _cpu_description() -> str:
    """The lines of the first processor in /proc/cpuinfo that say what it can do; elsewhere, what
    the platform says of it.
    """
    wanted = ("vendor_id", "cpu family", "model\t", "stepping", "flags", "CPU", "Features")
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
            first = info.read().split("\n\n", 1)[0]
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(line for line in first.splitlines() if line.startswith(wanted))


_SOURCES = ("native", "isa", "cpu", "accel/jit")
ROOT = Path(__file__).resolve().parents[1]
"""The package's directory."""


@functools.cache
def source_digest() -> str:
    """A digest of every source file that generated code can depend on."""
    digest = hashlib.sha256()
    for part in _SOURCES:
        for path in sorted((ROOT / part).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
