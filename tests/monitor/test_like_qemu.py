"""Questions that QEMU 7.2, where it is installed, answers on the same machine word for word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import MACHINE, QmpClient, peer_of

QMP: tuple[tuple[str, dict[str, Any]], ...] = (
    ("x-query-irq", {}),
    ("x-query-numa", {}),
    ("x-query-opcount", {}),
    ("x-query-profile", {}),
    ("x-query-ramblock", {}),
    ("x-query-usb", {}),
)
HMP = ("info profile", "info usb", "info opcount")


@pytest.fixture(scope="module")
def qemu() -> Iterator[QmpClient]:
    """A QEMU of the shared machine's options."""
    with peer_of(MACHINE) as client:
        yield client


@pytest.mark.parametrize(("name", "arguments"), QMP, ids=[f"{n}-{a}" for n, a in QMP])
def test_programs_are_answered_alike(
    qmp: QmpClient, qemu: QmpClient, name: str, arguments: dict[str, Any]
) -> None:
    request = {"execute": name, "arguments": arguments}
    assert qmp.ask(request) == qemu.ask(request)


@pytest.mark.parametrize("line", HMP)
def test_people_are_answered_alike(qmp: QmpClient, qemu: QmpClient, line: str) -> None:
    assert qmp.hmp(line) == qemu.hmp(line)
