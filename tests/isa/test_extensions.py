"""Extensions can be off: their instructions are then illegal, and the others are not."""

from __future__ import annotations

import random

import pytest

from ratite.isa.decoder import Leaf
from ratite.isa.riscv.state import EXTENSION_BIT
from ratite.native import u64
from tests.isa.harness import CODE, HANDLER, Executor
from tests.isa.streams import Generator, name_of, rows

OPTIONAL = sorted(
    {extension for leaf in rows(lambda leaf: True) for extension in leaf.extensions} - {"i"}
)


def switch(executor: Executor, extension: str, *, on: bool) -> None:
    bit = 1 << EXTENSION_BIT[extension]
    extensions = int(executor.hart.extensions)
    executor.hart.extensions = u64(extensions | bit if on else extensions & ~bit)


def is_illegal(executor: Executor, code: bytes) -> bool:
    hart = executor.hart
    executor.load(CODE, code)
    hart.pc, hart.mcause = u64(CODE), u64(0)
    executor.run(1)
    return hart.pc == HANDLER and hart.mcause == 2


def example(leaf: Leaf) -> bytes:
    """An encoding that is legal while everything is on."""
    generator = Generator(random.Random(name_of(leaf)))
    while True:
        code = generator.encode(leaf)
        encoding = int.from_bytes(code, "little")
        fields = leaf.insn.decode(encoding) if leaf.short is None else {}
        if fields.get("rm", 0) in (5, 6):
            continue
        if "csr" in fields:
            encoding = encoding & ~(0xFFF << 20) | 0x340 << 20  # mscratch
        return encoding.to_bytes(len(code), "little")


@pytest.mark.parametrize("extension", OPTIONAL)
def test_instructions_of_an_absent_extension_are_illegal(
    executor: Executor, extension: str
) -> None:
    hints = extension == "zicbop"  # which are then what they look like: ori to x0
    for leaf in rows(lambda leaf: extension in leaf.extensions):
        executor.reset()
        code = example(leaf)
        assert not is_illegal(executor, code), name_of(leaf)
        executor.reset()
        switch(executor, extension, on=False)
        assert is_illegal(executor, code) != hints, name_of(leaf)


def test_decoding_follows_the_floating_point_unit(executor: Executor) -> None:
    for leaf in rows(lambda leaf: leaf.insn.extension in ("f", "d")):
        executor.reset()
        code = example(leaf)
        executor.set({"mstatus": 0})
        assert is_illegal(executor, code), name_of(leaf)
        executor.set({"mstatus": 1 << 13})
        assert not is_illegal(executor, code), name_of(leaf)
