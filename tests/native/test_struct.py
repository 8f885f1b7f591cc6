"""The two Python views of a struct show one memory."""

from __future__ import annotations

from ratite.native import u8, u32, u64
from tests.native.native_examples import Outer


def test_the_plain_view_is_the_same_memory() -> None:
    typed = Outer.allocate()
    plain = typed.plain()
    typed.byte, typed.total = u8(0x12), u64(1 << 63)
    typed.table[7] = u32(0xDEADBEEF)
    assert (plain.byte, plain.total, plain.table[7]) == (0x12, 1 << 63, 0xDEADBEEF)
    plain.word, plain.total = 0xFFFF, 5
    plain.table[0] = 3
    assert (typed.word, typed.total, typed.table[0], typed.byte) == (0xFFFF, 5, 3, 0x12)
    for name in ("byte", "word", "total", "table"):
        assert getattr(type(plain), name).offset == getattr(Outer, name).offset
