"""Nodes on files, and what drives need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ratite.block import IoPool
from tests.block.nodes import MIB, Loop


@pytest.fixture
def pool() -> Iterator[IoPool]:
    pool = IoPool()
    yield pool
    pool.close()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(range(256)) * (MIB // 256))
    return path
