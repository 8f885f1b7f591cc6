"""Every line of the `.cases` files on every executor, and no instruction without a line."""

from __future__ import annotations

import pytest

from ratite.isa.riscv import RISCV
from tests.isa.cases import Case, chapters, check, load_cases
from tests.isa.harness import PARAMETERS, executor

CASES = [case for chapter in chapters() for case in load_cases(chapter)]


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.place} {case.text}")
def test_instruction(case: Case, name: str) -> None:
    check(case, executor(name))


def test_every_instruction_has_a_case() -> None:
    mentioned = {case.mnemonic for case in CASES}
    known = set(RISCV.insns) | {short.name for short in RISCV.shorts}
    aliases = {"csrr": "csrrs", "fence": "fence"}
    missing = {name for name in known if aliases.get(name, name) not in mentioned}
    assert not missing
