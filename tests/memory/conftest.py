"""Shared parts of the memory tests."""

from __future__ import annotations

import pytest

from ratite.memory import AddressSpace, MemoryRegion, RamList


@pytest.fixture
def ram_list() -> RamList:
    return RamList()


@pytest.fixture
def system() -> MemoryRegion:
    return MemoryRegion.container("system", 1 << 64)


@pytest.fixture
def space(system: MemoryRegion) -> AddressSpace:
    return AddressSpace(system, "memory")
