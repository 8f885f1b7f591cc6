"""`x-query-virtio*`, `info virtio*`: the same questions as to QEMU on devices set up alike."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.qtest.client import Qtest

from .conftest import MakeVm, QmpClient

DEVICES = (
    "-device virtio-rng-device,id=r -device virtio-serial-device,id=s "
    "-drive if=none,id=d,driver=null-co,size=1048576 -device virtio-blk-device,drive=d,id=b"
)
RNG = "/machine/peripheral/r"
BLK = "/machine/peripheral/b"
SLOT = 0x1000_8000  # the transport that the first device has
TABLE, AVAILABLE, USED = 0x8000_1000, 0x8000_1080, 0x8000_2000
LEGACY_ONLY = 1 << 24 | 1 << 27
STATUS, FEATURES, FEATURES_SEL, ACCEPTED, ACCEPTED_SEL = 0x70, 0x10, 0x14, 0x20, 0x24


def set_up(qtest: Qtest, *, modern: bool) -> None:
    """What a driver does before it notifies: two chains are available, one by an indirect table."""

    def write(offset: int, value: int) -> None:
        qtest.command(f"writel {SLOT + offset:#x} {value:#x}")

    for status in (0, 1, 3):
        write(STATUS, status)
    for half in range(1 + modern):
        write(FEATURES_SEL, half)
        offered = int(qtest.command(f"readl {SLOT + FEATURES:#x}").split()[-1], 16)
        write(ACCEPTED_SEL, half)
        write(ACCEPTED, offered & ~LEGACY_ONLY if modern and not half else offered)
    if modern:
        write(STATUS, 0xB)
    write(0x38, 8)
    if modern:
        for offset, address in ((0x80, TABLE), (0x90, AVAILABLE), (0xA0, USED)):
            write(offset, address)
        write(0x44, 1)
    else:
        for offset, value in ((0x28, 4096), (0x3C, 4096), (0x40, TABLE // 4096)):
            write(offset, value)
    direct = ((0x8001_0000, 100, 3, 1), (0x8002_0000, 200, 2, 0), (0x8003_0000, 32, 4, 0))
    indirect = ((0x8004_0000, 300, 1, 1), (0x8005_0000, 400, 0, 0))
    for place, rows in ((TABLE, direct), (0x8003_0000, indirect)):
        data = b"".join(struct.pack("<QIHH", *row) for row in rows)
        qtest.command(f"write {place:#x} {len(data)} 0x{data.hex()}")
    qtest.command(f"write {AVAILABLE:#x} 8 0x{struct.pack('<HHHH', 1, 2, 0, 2).hex()}")
    write(STATUS, 0xF if modern else 7)


def without_texts(found: Any) -> Any:
    """An answer with names of features only; bit 40 has a name here and none in QEMU 7.2."""
    if isinstance(found, dict):
        return {key: without_texts(item) for key, item in found.items() if "unknown-" not in key}
    if isinstance(found, list):
        found = [item for item in found if "RING_RESET" not in item]
        return [without_texts(item) for item in found]
    return found.split(":")[0] if isinstance(found, str) else found


def names_of(text: str) -> list[str]:
    """The lines of a text for people without what is prose in them."""
    return [
        line.split(": ")[0].rstrip(",") if line.startswith("\t") else line
        for line in text.splitlines()
        if "RING_RESET" not in line and "unknown-features" not in line
    ]


Pair = tuple[QmpClient, QmpClient]


@pytest.fixture(params=["legacy", "modern"])
def pair(
    request: pytest.FixtureRequest,
    make_vm: MakeVm,
    make_qemu: Callable[..., QmpClient],
    tmp_path: Path,
) -> Iterator[Pair]:
    modern = request.param == "modern"
    legacy = "off" if modern else "on"
    clients = []
    for name in ("ours", "qemu"):
        more = f"{DEVICES} -global virtio-mmio.force-legacy={legacy} -qtest-log none "
        more += f"-qtest unix:{tmp_path}/{name},server=on,wait=off"
        clients.append(make_vm(more).client() if name == "ours" else make_qemu(more))
        set_up(Qtest(f"{tmp_path}/{name}"), modern=modern)
    yield clients[0], clients[1]


def test_a_device_that_is_set_up_is_shown_as_by_qemu(pair: Pair) -> None:
    ours, qemu = pair
    for answer in ("x-query-virtio",):
        assert ours.result(answer) == qemu.result(answer)
    status, peer = (client.result("x-query-virtio-status", path=RNG) for client in pair)
    assert without_texts(status) == without_texts(peer)
    assert status["status"]["statuses"][0].startswith("VIRTIO_CONFIG_S_ACKNOWLEDGE: ")
    for index in (None, 0, 1, 2, 9):
        given = {} if index is None else {"index": index}
        element, peer = (
            client.result("x-query-virtio-queue-element", path=RNG, queue=0, **given)
            for client in pair
        )
        assert element == peer and len(element["descs"]) == 2
    queue, peer = (
        client.result("x-query-virtio-queue-status", path=RNG, queue=0) for client in pair
    )
    assert queue["vring-desc"] == TABLE and queue["last-avail-idx"] == 0
    assert {**queue, "shadow-avail-idx": 2} == {**peer, "shadow-avail-idx": 2}
    for line in (
        "info virtio",
        f"info virtio-status {RNG}",
        f"info virtio-queue-status {RNG} 0",
        f"info virtio-queue-element {RNG} 0",
        f"info virtio-queue-element {RNG} 0 1",
    ):
        assert names_of(ours.hmp(line)) == names_of(qemu.hmp(line)), line


def test_what_is_not_there_is_refused_as_by_qemu(pair: Pair) -> None:
    ours, qemu = pair
    for name, arguments in (
        ("x-query-virtio-status", {"path": "/machine"}),
        ("x-query-virtio-queue-status", {"path": "/machine", "queue": 0}),
        ("x-query-virtio-queue-status", {"path": BLK, "queue": 77}),
        ("x-query-virtio-queue-element", {"path": BLK, "queue": 0}),
        ("x-query-virtio-queue-element", {"path": BLK, "queue": 77}),
        ("x-query-virtio-queue-element", {"path": "/nope", "queue": 0}),
        ("x-query-virtio-vhost-queue-status", {"path": BLK, "queue": 0}),
        ("x-query-virtio-vhost-queue-status", {"path": "/nope", "queue": 0}),
    ):
        assert ours.error(name, **arguments) == qemu.error(name, **arguments)
    for line in (
        "info virtio-status",
        "info virtio-status /nope",
        f"info virtio-queue-status {BLK}",
        f"info virtio-queue-element {BLK} 0",
        f"info virtio-vhost-queue-status {BLK} 0",
    ):
        assert ours.hmp(line) == qemu.hmp(line)


def test_the_features_of_a_disk_have_names(make_vm: MakeVm) -> None:
    client = make_vm(DEVICES).client()
    found = client.result("x-query-virtio-status", path=BLK)["host-features"]
    names = {text.split(":")[0] for text in found["dev-features"]}
    assert {"VIRTIO_BLK_F_FLUSH", "VIRTIO_BLK_F_SEG_MAX", "VIRTIO_BLK_F_BLK_SIZE"} <= names
    assert "unknown-dev-features" not in found


def test_a_machine_without_devices_says_so(qmp: QmpClient) -> None:
    assert qmp.result("x-query-virtio") == []
    assert qmp.hmp("info virtio") == "No VirtIO devices\n"


def test_nonsense_in_a_ring_is_shown_and_breaks_nothing(make_vm: MakeVm, tmp_path: Path) -> None:
    machine = make_vm(f"{DEVICES} -qtest-log none -qtest unix:{tmp_path}/q,server=on,wait=off")
    client = machine.client()
    qtest = Qtest(f"{tmp_path}/q")
    set_up(qtest, modern=False)

    def chain(head: int, *rows: tuple[int, int, int, int]) -> Any:
        data = b"".join(struct.pack("<QIHH", *row) for row in rows)
        qtest.command(f"write {TABLE:#x} {len(data)} 0x{data.hex()}")
        qtest.command(f"write {AVAILABLE + 4:#x} 2 0x{struct.pack('<H', head).hex()}")
        return client.result("x-query-virtio-queue-element", path=RNG, queue=0)["descs"]

    assert chain(0xFFFF, (0, 0, 0, 0)) == []
    assert len(chain(0, (5, 7, 1, 0))) == 1024  # a loop
    assert chain(0, (0xFFFF_FFFF_FFFF_FFF0, 16, 4, 0)) == [{"addr": 0, "len": 0, "flags": []}]
    assert chain(0, (0x1000_0000, 15, 4, 0)) == []
    assert not client.result("x-query-virtio-status", path=RNG)["broken"]
