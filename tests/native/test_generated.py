"""Generated code means what the same function means in CPython."""

from __future__ import annotations

import ctypes
import importlib.util
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ratite.native import i8, i16, i32, i64, u8, u16, u32, u64
from ratite.native.compile import compile_text
from ratite.native.frontend import Program
from ratite.native.ir import verify
from ratite.native.loader import LoadedObject
from ratite.native.lower import lower_module
from ratite.native.optimize import optimize

_path = Path(__file__).with_name("native_examples.py")
_spec = importlib.util.spec_from_file_location("native_examples", _path)
assert _spec is not None and _spec.loader is not None
examples = importlib.util.module_from_spec(_spec)
sys.modules["native_examples"] = examples
_spec.loader.exec_module(examples)

EDGES = [0, 1, 2, 3, 5, 31, 32, 63, 64, 127, 128, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**32]
EDGES += [2**63 - 1, 2**63, 2**64 - 1, 0x8000_0000_0000_0001]
UNSIGNED, SIGNED = (u8, u16, u32, u64), (i8, i16, i32, i64)

Native = Callable[..., int]


def generate(function: Any, constants: tuple[tuple[str, Any], ...], *, optimise: bool) -> Native:
    program = Program()
    lifted = program.require(function.__native__, constants, exported=True)
    for each in program.functions.values():
        verify(each)
        if optimise:
            optimize(each)
            verify(each)
    loaded = LoadedObject(compile_text(lower_module(program.functions.values(), {})))
    pointers = [ctypes.c_void_p if p.type == "ptr" else ctypes.c_uint64 for p in lifted.params]
    call = ctypes.CFUNCTYPE(ctypes.c_uint64, *pointers)(loaded.address(lifted.name))
    call.keep = loaded  # type: ignore[attr-defined]
    return call


def inputs(seed: str) -> list[tuple[int, int]]:
    source = random.Random(seed)
    pairs = [(a, b) for a in EDGES for b in EDGES[::3]]
    return pairs + [(source.getrandbits(64), source.getrandbits(64)) for _ in range(150)]


CASES = [(f, k) for f in examples.FUNCTIONS for k in (*UNSIGNED, *SIGNED)]
CASES += [(examples.division, k) for k in UNSIGNED]
CASES += [(examples.signed_division, k) for k in SIGNED]


@pytest.mark.parametrize("optimise", [False, True], ids=["plain", "optimised"])
@pytest.mark.parametrize(("function", "kind"), CASES)
def test_generated_code_agrees(function: Any, kind: Any, optimise: bool) -> None:
    if function is examples.table and kind is not u64:
        pytest.skip("does not depend on the type")
    call = generate(function, (("kind", kind),), optimise=optimise)
    for a, b in inputs(function.__name__):
        assert call(a, b) == function(u64(a), u64(b), kind), (hex(a), hex(b))


@pytest.mark.parametrize("optimise", [False, True], ids=["plain", "optimised"])
def test_state_and_atomics_agree(optimise: bool) -> None:
    call = generate(examples.memory, (), optimise=optimise)
    here, there = examples.Outer.allocate(), examples.Outer.allocate()
    for a, b in inputs("memory"):
        assert call(here.address, a, b) == examples.memory(there, u64(a), u64(b))
        size = examples.Outer.SIZE
        assert ctypes.string_at(here.address, size) == ctypes.string_at(there.address, size)
