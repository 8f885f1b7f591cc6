"""The IR's text form parses back, for everything that tier 0 is made of."""

from __future__ import annotations

import pytest

from ratite.accel.jit.targets.riscv import build
from ratite.native.ir import IrError, verify
from ratite.native.text import parse, show

SMALL = """native @"f"(%0: ptr, %1: i64) -> i64 raises {
var 0: i64
entry1:
  setvar i64 -1 {"var": 0}
  %2 = ult i64 %1, 7
  cbr void %2 -> then2, end3 {"likely": "no"}
then2:
  st i64 %0, %1 {"offset": 8, "scale": 0}
  br void -> end3
end3:
  %3 = getvar i64 {"var": 0}
  ret void %3
}
"""


def test_text_of_every_function_parses_back() -> None:
    for function in build().functions.values():
        text = show(function)
        again = parse(text)
        assert show(again) == text
        assert (again.kind, again.returns, again.raises) == (
            function.kind,
            function.returns,
            function.raises,
        )


def test_every_function_keeps_the_rules_of_the_ir() -> None:
    for function in build().functions.values():
        verify(function)


def test_a_comparison_has_a_one_bit_result() -> None:
    function = parse(SMALL)
    verify(function)
    assert function.blocks[0].ops[1].result is not None
    assert function.blocks[0].ops[1].result.type == "i1"
    assert show(function) == SMALL


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("ult i64", "frobnicate i64", "line 5"),
        ("%1, 7", "%9, 7", "line 5"),
        ('native @"f"', "nothing", "line 1"),
    ],
)
def test_what_is_not_ir_is_refused_with_its_line(old: str, new: str, line: str) -> None:
    with pytest.raises(IrError, match=line):
        parse(SMALL.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("-> then2, end3", "-> then2, nowhere", "unknown label"),
        ("setvar i64", "setvar i32", "variable 0"),
        ("  br void -> end3\n", "", "terminator"),
        ("  %3 = get", '  %3 = getvar i64 {"var": 0}\n  %3 = get', "assigned twice"),
        ("ret void %3", "ret void %2\n  ret void %3", "terminator out of place"),
    ],
)
def test_the_verifier_refuses(old: str, new: str, reason: str) -> None:
    with pytest.raises(IrError, match=reason):
        verify(parse(SMALL.replace(old, new)))


def test_the_verifier_refuses_a_value_that_one_path_does_not_set() -> None:
    text = SMALL.replace("  br void -> end3\n", "  %4 = add i64 %1, 1\n  br void -> end3\n")
    with pytest.raises(IrError, match="before it is set"):
        verify(parse(text.replace("ret void %3", "ret void %4")))
