"""The optimiser's rules hold: folding and identities against CPython's typed integers, whole
functions against their own meaning before.
"""

from __future__ import annotations

import itertools
import random

import pytest

from ratite.native import i8, i64, u8, u64
from ratite.native.ir import COMPARES, Function, Op, Value, verify
from ratite.native.optimize import FOLDS, fold, optimize, remove_dead_stores, simplify
from ratite.native.text import parse, show

PYTHON = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "shl": lambda a, b: a << b,
    "lshr": lambda a, b: a >> b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "ult": lambda a, b: a < b,
    "ule": lambda a, b: a <= b,
}
SIGNED = {
    "ashr": lambda a, b: a >> b,
    "slt": lambda a, b: a < b,
    "sle": lambda a, b: a <= b,
}


def meaning(name: str, a: int, b: int, width: int) -> int:
    unsigned, signed = (u8, i8) if width == 8 else (u64, i64)
    if name in SIGNED:
        result = SIGNED[name](signed(a), signed(b))
    else:
        result = PYTHON[name](unsigned(a), unsigned(b))
    return int(result) & ((1 << width) - 1)


@pytest.mark.parametrize("name", FOLDS)
def test_folding_is_exact_for_every_pair_of_bytes(name: str) -> None:
    for a, b in itertools.product(range(256), repeat=2):
        if name in ("shl", "lshr", "ashr") and b >= 8:
            continue
        assert fold(name, "i8", (a, b)) == meaning(name, a, b, 8), (a, b)


@pytest.mark.parametrize("name", FOLDS)
def test_folding_is_exact_for_random_words(name: str) -> None:
    source = random.Random(name)
    for _ in range(200):
        a, b = source.getrandbits(64), source.getrandbits(64)
        if name in ("shl", "lshr", "ashr"):
            b %= 64
        assert fold(name, "i64", (a, b)) == meaning(name, a, b, 64)


@pytest.mark.parametrize("name", FOLDS)
@pytest.mark.parametrize("constant", [0, 1, 255])
@pytest.mark.parametrize("side", [0, 1])
def test_identities_hold_for_every_byte(name: str, constant: int, side: int) -> None:
    x = Value("i8", 0)
    args = (x, constant) if side else (constant, x)
    kind = "i1" if name in COMPARES else "i8"
    found = simplify(Op(name, "i8", args, Value(kind, 1)))
    if found is None:
        return
    for number in range(256):
        if name in ("shl", "lshr", "ashr") and (constant if side else number) >= 8:
            continue
        a, b = (number, constant) if side else (constant, number)
        expected = number if found is x else found
        assert meaning(name, a, b, 8) == expected


@pytest.mark.parametrize("name", FOLDS)
def test_identities_of_a_value_with_itself_hold(name: str) -> None:
    x = Value("i8", 0)
    found = simplify(Op(name, "i8", (x, x), Value("i8", 1)))
    if found is not None:
        for number in range(256):
            assert meaning(name, number, number, 8) == (number if found is x else found)


def optimized(text: str) -> str:
    function = parse(text)
    optimize(function)
    verify(function)
    return show(function)


def test_constants_run_through_variables_and_decide_branches() -> None:
    text = """native @"f"(%0: i64) -> i64 {
var 0: i64
entry1:
  setvar i64 3 {"var": 0}
  %1 = getvar i64 {"var": 0}
  %2 = eq i64 %1, 3
  cbr void %2 -> yes2, no3
yes2:
  %3 = add i64 %0, %1
  ret void %3
no3:
  ret void 0
}
"""
    assert optimized(text) == (
        'native @"f"(%0: i64) -> i64 {\nvar 0: i64\nentry1:\n  %3 = add i64 %0, 3\n'
        "  ret void %3\n}\n"
    )


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_conversion_of_what_becomes_a_constant_keeps_the_type_that_it_had(place: str) -> None:
    convert = "  %3 = sext i64 %2\n  ret void %3\n"
    define = '  setvar i8 255 {"var": 0}\n  %2 = getvar i8 {"var": 0}\n'
    if place == "before":
        body = f"entry1:\n{define}{convert}"
    else:  # in the list of blocks, not in the order of execution
        body = f"entry1:\n  br void -> later3\nuse2:\n{convert}later3:\n{define}  br void -> use2\n"
    text = optimized(f'native @"f"(%0: i64, %1: i64) -> i64 {{\nvar 0: i8\n{body}}}\n')
    assert f"ret void {(1 << 64) - 1}" in text


def dead_stores(text: str) -> Function:
    function = parse(text)
    remove_dead_stores(function)
    verify(function)
    return function


STORES = """{kind} @"f"(%0: ptr, %1: ptr, %2: i64, %3: i64) {{
entry1:
  st i64 %0, %2 {{"offset": 8, "scale": 0}}
{between}  st i64 %0, %3 {{"offset": 8, "scale": 0}}
  next void
}}
"""


@pytest.mark.parametrize(
    ("kind", "between", "left"),
    [
        ("handler", "", 1),
        ("handler", '  %4 = ld i64 %0 {"offset": 8, "scale": 0}\n', 2),
        ("handler", '  %4 = ld i8 %0 {"offset": 15, "scale": 0}\n', 2),
        ("handler", '  %4 = ld i64 %0 {"offset": 16, "scale": 0}\n', 1),
        ("handler", '  %4 = ld i64 %1 {"offset": 8, "scale": 0}\n', 1),
        ("native", '  %4 = ld i64 %1 {"offset": 8, "scale": 0}\n', 2),
        ("handler", "  %4 = guest_ld i64 %2\n", 2),
        ("handler", '  %4 = ld i64 %0, %2 {"offset": 0, "scale": 8}\n', 2),
    ],
)
def test_a_store_dies_only_if_nobody_can_see_it(kind: str, between: str, left: int) -> None:
    function = dead_stores(STORES.format(kind=kind, between=between))
    assert sum(op.name == "st" for op in function.values()) == left


def test_a_store_that_one_path_does_not_overwrite_stays() -> None:
    text = """handler @"f"(%0: ptr, %1: i64) {
entry1:
  st i64 %0, %1 {"offset": 8, "scale": 0}
  %2 = eq i64 %1, 0
  cbr void %2 -> one2, two3
one2:
  st i64 %0, 5 {"offset": 8, "scale": 0}
  next void
two3:
  next void
}
"""
    assert sum(op.name == "st" for op in dead_stores(text).values()) == 2
