"""Machines that are built but whose harts do not execute."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import ratite
from ratite.cli.options import parse


@pytest.fixture
def idle() -> Iterator[Callable[..., ratite.Vm]]:
    """Makes machines from the words of a command line: whatever they load, nothing runs."""
    made: list[ratite.Vm] = []

    def make(*words: object) -> ratite.Vm:
        quiet = ["-display", "none", "-serial", "null", "-accel", "qtest"]
        made.append(ratite.Vm(config=parse([*quiet, *map(str, words)])))
        return made[-1]

    yield make
    for vm in made:
        vm.close()
