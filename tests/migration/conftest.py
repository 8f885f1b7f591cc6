"""Small machines to save and load."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ratite.vm import Vm
from tests.boot.harness import make_vm

SMALL = "-M virt -m 2M -bios none -nodefaults".split()


@pytest.fixture
def machine() -> Iterator[Callable[..., Vm]]:
    """Makes machines from options, and closes them."""
    made: list[Vm] = []

    def make(*words: object) -> Vm:
        made.append(make_vm(*SMALL, *words))
        return made[-1]

    yield make
    for vm in made:
        vm.close()
