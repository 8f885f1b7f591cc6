"""`qemu-io` in the monitor. QEMU prints its answers on standard output, so that they are not
compared with ours live; the forms below are those that it was seen to print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import MakeVm, QmpClient


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.fixture
def client(make_vm: MakeVm, image: Path) -> QmpClient:
    image.with_name("image.2").write_bytes(bytes(4096))
    return make_vm(
        f"-drive if=none,id=d,file={image},format=raw,node-name=n "
        "-device virtio-blk-device,drive=d,id=disk -drive if=none,id=empty "
        f"-blockdev driver=file,filename={image}.2,node-name=other,read-only=on"
    ).client()


def test_bytes_are_written_and_read(client: QmpClient, image: Path) -> None:
    text = client.hmp('qemu-io d "write -P 0x5a 1k 5000"')
    assert re.fullmatch(
        r"wrote 5000/5000 bytes at offset 1024\n"
        r"4\.883 KiB, 1 ops; \d\d\.\d\d sec \([\d.]+ \w+/sec and [\d.]+ ops/sec\)\n",
        text,
    ), text
    assert image.read_bytes()[:7000] == bytes(1024) + b"Z" * 5000 + bytes(976)
    assert client.hmp('qemu-io d "read -q -P 0x5a 1024 5000"') == ""
    assert client.hmp('qemu-io n "read -q -P 0x5a 1024 5001"') == (
        "Pattern verification failed at offset 1024, 5001 bytes\n"
    )
    assert client.hmp('qemu-io -d disk "write -q -z 0 2k"') == ""
    assert client.hmp('qemu-io -d disk "write -q -f 4k 512"') == ""
    assert image.read_bytes()[:2048] == bytes(2048)
    assert image.read_bytes()[4096:4608] == b"\xcd" * 512
    assert client.hmp('qemu-io d "flush"') == ""
    assert client.hmp("qemu-io d length") == "1 MiB\n"
    assert client.hmp('qemu-io d "discard -q 0 4k"') == ""
    assert client.hmp('qemu-io d "read 0 0"').startswith("read 0/0 bytes at offset 0\n0 bytes, 1")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("qemu-io", 'qemu-io: block device name expected\nTry "help qemu-io" for more information'),
        ("qemu-io d", 'qemu-io: string expected\nTry "help qemu-io" for more information'),
        ('qemu-io zz "read 0 1"', "Error: Cannot find device='' nor node-name='zz'"),
        ('qemu-io -d zz "read 0 1"', "Error: Device 'zz' not found"),
        ('qemu-io empty "read 0 1"', "Error: Device 'empty' has no medium"),
        ('qemu-io d "zz"', 'command "zz" not found'),
        ('qemu-io d "read 0"', "bad argument count 1 to read, expected at least 2 arguments"),
        ('qemu-io d "flush x"', "bad argument count 1 to flush, expected 0 arguments"),
        ('qemu-io d "read -x 0 1"', "read: invalid option -- 'x'"),
        ('qemu-io d "read 5 -1"', "read: invalid option -- '1'"),
        (
            'qemu-io d "read zz 5"',
            "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- zz",
        ),
        ('qemu-io d "write -P 300 0 512"', "300 is not a valid pattern byte"),
        (
            'qemu-io d "write -z -P 3 0 512"',
            "Only one of -z, -P, and -s can be specified at the same time",
        ),
        ('qemu-io d "read 0 9G"', "length cannot exceed 2147483136, given 9G"),
        ('qemu-io d "write 0 99999999"', "write failed: Input/output error"),
        ('qemu-io d "discard 5 99999999"', "discard failed: Input/output error"),
        ('qemu-io d ""', ""),
    ],
)
def test_wrong_lines(client: QmpClient, line: str, answer: str) -> None:
    assert client.hmp(line) == (answer and answer + "\n")


def test_what_a_node_may_not_is_refused(client: QmpClient, image: Path) -> None:
    assert "Block node is read-only" in client.hmp('qemu-io other "write 0 512"')
    assert client.hmp('qemu-io other "read -q -P 0 0 4k"') == ""
    assert image.with_name("image.2").read_bytes() == bytes(4096)


def test_images_of_another_machine_are_left_alone(
    client: QmpClient, image: Path, tmp_path: Path
) -> None:
    client.result("migrate", uri=f"file:{tmp_path}/state")
    while client.result("query-migrate")["status"] not in ("completed", "failed"):
        pass
    assert "another machine" in client.hmp('qemu-io d "write 0 512"')
    assert image.read_bytes() == bytes(1 << 20)
