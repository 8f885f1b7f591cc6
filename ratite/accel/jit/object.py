"""Tier 0's object code in this process: from the cache on disk, or generated now."""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
from pathlib import Path

from ratite.native.cache import ObjectCache, key_of
from ratite.native.compile import LoadedObject, compile_text, compiler_identity

_SOURCES = ("native", "isa", "cpu", "accel/jit")


@functools.cache
def source_digest() -> str:
    """A digest of every source file that the generated code can depend on."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for part in _SOURCES:
        for path in sorted((root / part).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def build_object(target: str) -> bytes:
    """Generate the object code for an instruction set, named by its package below `ratite.isa`."""
    module = importlib.import_module(f"ratite.accel.jit.targets.{target}")
    text: str = module.llvm_text()
    keep = os.environ.get("RATITE_KEEP_LLVM")
    if keep:
        Path(keep).write_text(text, encoding="utf-8")
    return compile_text(text)


@functools.cache
def tier0_object(target: str) -> LoadedObject:
    """The loaded object; built at most once per process, and per host and version if the cache
    works.
    """
    cache = ObjectCache()
    key = key_of(("tier0", target, source_digest(), compiler_identity()))
    return LoadedObject(cache.get_or_build(key, lambda: build_object(target)))
