"""Tier 0's object code in this process: from the cache on disk, or generated now."""

from __future__ import annotations

import functools
import importlib
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ratite.native import ir
from ratite.native.cache import ObjectCache, key_of
from ratite.native.identity import compiler_identity, source_digest
from ratite.native.loader import LoadedObject
from ratite.native.subset import note_checked

if TYPE_CHECKING:
    from ratite.accel.jit.tier1 import Templates


class Tier0:
    """Tier 0's code in this process, and the functions of it that compiled regions call."""

    def __init__(self, payload: bytes) -> None:
        names, _, code = payload.partition(b"\0")
        self.object = LoadedObject(code)
        self.helpers = {name: self.object.address(name) for name in names.decode().split()}

    def address(self, symbol: str) -> int:
        """Address of an exported symbol. Raises `KeyError`."""
        return self.object.address(symbol)


def _templates_key(target: str) -> str:
    return key_of(("templates", target, source_digest()))


def build_payload(target: str) -> bytes:
    """Generate tier 0 for an instruction set, named by its package below `ratite.isa`."""
    from ratite.native.compile import compile_text  # LLVM: not needed when the cache has the code

    module = importlib.import_module(f"ratite.accel.jit.targets.{target}")
    helpers, text = module.tier0_source()
    payload = " ".join(helpers).encode() + b"\0" + compile_text(text)
    note_checked()
    # Tier 1 wants them soon, and the functions have just been lifted.
    ObjectCache().put(_templates_key(target), _pack(module.templates()))
    return payload


@functools.cache
def load_templates(target: str) -> Templates:
    """What regions are made of. Lifting it takes a while, so that it is in the cache too."""
    from ratite.accel.jit.tier1 import Templates

    cache = ObjectCache()
    key = _templates_key(target)

    def build() -> bytes:
        module = importlib.import_module(f"ratite.accel.jit.targets.{target}")
        return _pack(module.templates())

    found = pickle.loads(cache.get_or_build(key, build))
    assert isinstance(found, Templates)
    return found


class _Packed(Mapping[str, ir.Function]):
    """Functions of which each is unpacked when it is first wanted; most never are."""

    def __init__(self, functions: Mapping[str, ir.Function]) -> None:
        self._packed = {name: pickle.dumps(body, 5) for name, body in functions.items()}
        self._found: dict[str, ir.Function] = {}

    def __getitem__(self, name: str) -> ir.Function:
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = pickle.loads(self._packed[name])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def _pack(templates: Templates) -> bytes:
    packed = replace(
        templates,
        handlers=_Packed(templates.handlers),
        functions=_Packed(templates.functions),
    )
    return pickle.dumps(packed, 5)


@functools.cache
def load_tier0(target: str) -> Tier0:
    """The loaded code; built at most once per process, and per host and version if the cache
    works.
    """
    cache = ObjectCache()
    key = key_of(("tier0", target, source_digest(), compiler_identity()))
    return Tier0(cache.get_or_build(key, lambda: build_payload(target)))
