"""Files as block nodes: opening, locking, reading, writing, freeing, changing size."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratite.block import (
    CacheOptions,
    Discard,
    FileNode,
    FileOptions,
    HostDeviceNode,
    HostDeviceOptions,
    Permission,
)
from ratite.block.options import Aio
from ratite.core.choice import OnOffAuto
from ratite.core.errors import ConfigError, HostError
from tests.block.nodes import ALONE, MIB, READ, WRITE, NodeUser, open_file, read, write


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"Could not open '.*none\.img': No such file or directory"):
        open_file(tmp_path / "none.img")


def test_a_directory_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"Could not open '.*': Is a directory"):
        open_file(tmp_path)
    with pytest.raises(ConfigError, match=r"'file' driver requires '.*' to be a regular file"):
        open_file(tmp_path, read_only=True)


def test_a_pipe_is_not_an_image_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for read_only in (False, True):
        with pytest.raises(ConfigError, match="to be a regular file"):
            open_file(tmp_path / "fifo", read_only=read_only)


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Nobody's rights for a while, where the tests run as root, who may write any file."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.fixture
def protected_image() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "disk.img"
        path.write_bytes(bytes(4096))
        path.chmod(0o444)
        yield path


def test_a_file_that_may_not_be_written_says_what_to_do(
    protected_image: Path, ordinary_user: None
) -> None:
    with pytest.raises(HostError, match="Permission denied; to use it read-only") as caught:
        open_file(protected_image)
    assert caught.value.text == f"Could not open '{protected_image}': Permission denied"
    open_file(protected_image, read_only=True).close()


def test_a_file_that_may_not_be_written_is_read_only_where_that_will_do(
    protected_image: Path, ordinary_user: None
) -> None:
    node = open_file(protected_image, auto_read_only=True)
    assert node.read_only
    with pytest.raises(ConfigError, match="Block node is read-only"):
        NodeUser().use(node, WRITE)
    assert node.is_read_only_with(node.options)
    node.close()


def test_auto_read_only_opens_for_writing_while_somebody_writes(image_path: Path) -> None:
    node = open_file(image_path, auto_read_only=True)

    def access() -> int:
        names = Path("/proc/self/fd").iterdir()
        mine = [fd for fd in names if fd.exists() and os.path.realpath(fd) == str(image_path)]
        flags = [Path(f"/proc/self/fdinfo/{fd.name}").read_text().split()[3] for fd in mine]
        return max(int(text, 8) & os.O_ACCMODE for text in flags)

    assert access() == os.O_RDONLY and not node.read_only
    link = NodeUser().use(node, READ | WRITE)
    assert access() == os.O_RDWR
    write(node, 0, b"now")
    link.remove()
    assert access() == os.O_RDONLY and read(node, 0, 3) == b"now"
    node.close()


def test_a_file_that_is_gone_can_still_be_opened_for_writing(image_path: Path) -> None:
    node = open_file(image_path, auto_read_only=True)
    image_path.unlink()
    NodeUser().use(node, READ | WRITE)
    write(node, 0, b"still")
    assert read(node, 0, 5) == b"still" and node.allocated_size > 0
    node.close()


def test_data_written_are_read_back(image_path: Path) -> None:
    image = open_file(image_path)
    assert image.size == MIB
    write(image, 1000, b"hello")
    assert read(image, 999, 7) == b"\xe7hello\xed"
    buffers = [memoryview(bytearray(3)), memoryview(bytearray(4))]
    image.readv(999, buffers)
    assert b"".join(buffers) == b"\xe7hello\xed"
    image.flush()
    image.close()
    assert image_path.read_bytes()[1000:1005] == b"hello"


def test_many_small_buffers_are_one_request(image_path: Path) -> None:
    views = [memoryview(bytearray([i & 0xFF])) for i in range(3000)]
    image = open_file(image_path)
    image.writev(100, views)
    back = [memoryview(bytearray(1)) for _ in views]
    image.readv(100, back)
    assert back == views
    assert not image.read_cached(100, back)
    image.close()


def test_the_size_is_rounded_up_to_a_sector_and_the_rest_reads_as_zero(tmp_path: Path) -> None:
    path = tmp_path / "odd.img"
    path.write_bytes(b"x" * 513)
    image = open_file(path)
    assert image.size == 1024
    assert read(image, 512, 512) == b"x" + bytes(511)
    write(image, 1020, b"tail")
    assert read(image, 1020, 4) == b"tail"
    image.close()


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (MIB, 1), (MIB - 1, 2), (1 << 63, 1)])
def test_a_range_outside_the_image_is_refused(image_path: Path, offset: int, size: int) -> None:
    image = open_file(image_path, discard=Discard.UNMAP)
    for call in (
        lambda: read(image, offset, size),
        lambda: write(image, offset, bytes(size)),
        lambda: image.discard(offset, size),
        lambda: image.write_zeroes(offset, size),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EINVAL
    image.close()


def test_an_image_that_shrinks_on_the_host_reads_as_zero_there(image_path: Path) -> None:
    image = open_file(image_path)
    os.truncate(image_path, 1000)
    assert read(image, 998, 4) == b"\xe6\xe7\0\0"
    write(image, 8192, b"back")
    assert read(image, 8190, 6) == b"\0\0back"
    image.close()


def test_a_read_only_image_refuses_writes(image_path: Path) -> None:
    image = open_file(image_path, read_only=True)
    with pytest.raises(OSError) as caught:
        write(image, 0, b"no")
    assert caught.value.errno == errno.EROFS
    image.flush()
    image.close()


def test_a_closed_image_answers_with_errors(image_path: Path) -> None:
    image = open_file(image_path)
    image.close()
    image.close()
    for call in (lambda: read(image, 0, 1), lambda: write(image, 0, b"x"), image.flush):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF


# -- locks


def test_nobody_is_kept_off_an_image_that_is_not_used(image_path: Path) -> None:
    first, second = open_file(image_path), open_file(image_path)
    NodeUser().use(second, READ | WRITE, ALONE)
    first.close()
    second.close()


def test_two_writers_conflict_even_in_one_process(image_path: Path) -> None:
    first, second = open_file(image_path), open_file(image_path)
    link = NodeUser().use(first, READ | WRITE, ALONE)
    with pytest.raises(HostError, match=r'Failed to get "write" lock; is another.*disk\.img'):
        NodeUser().use(second, READ | WRITE, ALONE)
    with pytest.raises(HostError, match='Failed to get shared "write" lock'):
        NodeUser().use(second, READ, ALONE)
    unlocked = open_file(image_path, locking=OnOffAuto.OFF)
    NodeUser().use(unlocked, READ | WRITE, ALONE)
    link.remove()
    NodeUser().use(second, READ | WRITE, ALONE)
    for node in (first, second, unlocked):
        node.close()


def test_readers_share_an_image_and_keep_writers_out(image_path: Path) -> None:
    first, second, third = (open_file(image_path) for _ in range(3))
    NodeUser().use(first, READ, ALONE)
    NodeUser().use(second, READ, ALONE)
    with pytest.raises(HostError, match='Failed to get "write" lock'):
        NodeUser().use(third, READ | WRITE, ALONE)
    third.close()
    forced = open_file(image_path, read_only=True, force_share=True)
    NodeUser().use(forced, READ, ALONE)
    first.close()
    second.close()
    writer = open_file(image_path)
    NodeUser().use(writer, READ | WRITE, Permission.ALL)
    writer.close()
    forced.close()


def test_writers_that_agree_share_an_image(image_path: Path) -> None:
    first, second, third = (open_file(image_path) for _ in range(3))
    NodeUser().use(first, READ | WRITE, ALONE | WRITE)
    NodeUser().use(second, READ | WRITE, ALONE | WRITE)
    with pytest.raises(HostError, match="Failed to get"):
        NodeUser().use(third, READ | WRITE, ALONE)
    for node in (first, second, third):
        node.close()


def test_a_lock_that_was_refused_leaves_those_before(image_path: Path) -> None:
    first, second = open_file(image_path), open_file(image_path)
    link = NodeUser().use(first, READ | WRITE)
    NodeUser().use(second, READ | WRITE)
    with pytest.raises(HostError, match='Failed to get shared "write" lock'):
        link.set(READ | WRITE, ALONE)
    third = open_file(image_path)
    NodeUser().use(third, READ | WRITE)
    for node in (first, second, third):
        node.close()


def test_another_process_holds_the_lock(image_path: Path) -> None:
    code = (
        "import sys; from tests.block.nodes import *; node = open_file(sys.argv[1]);"
        "NodeUser().use(node, READ | WRITE, ALONE); print('open', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(image_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin and process.stdout
    node = open_file(image_path)
    try:
        assert process.stdout.readline() == "open\n"
        with pytest.raises(HostError, match="Failed to get"):
            NodeUser().use(node, READ | WRITE, ALONE)
    finally:
        process.stdin.close()
        process.wait(timeout=20)
        process.stdout.close()
    NodeUser().use(node, READ | WRITE, ALONE)
    node.close()


@pytest.mark.skipif(not shutil.which("qemu-io"), reason="qemu-io is not installed")
def test_qemu_respects_our_lock(image_path: Path) -> None:
    node = open_file(image_path)
    NodeUser().use(node, READ | WRITE, ALONE)
    refused = subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "read 0 512", image_path],
        capture_output=True,
        text=True,
        check=False,
    )
    node.close()
    assert "lock" in refused.stderr


# -- freeing, zeroes, caches, size


def test_zeroes_and_discards_read_as_zero_and_free_storage(image_path: Path) -> None:
    image = open_file(image_path, discard=Discard.UNMAP)
    image.write_zeroes(4096, 8192)
    image.write_zeroes(65536, 65536, unmap=True)
    image.write_zeroes(200, 7)
    image.discard(131072, 65536)
    assert read(image, 4095, 8194) == b"\xff" + bytes(8192) + b"\0"
    assert read(image, 65536, 65536) == bytes(65536)
    assert read(image, 199, 9) == b"\xc7" + bytes(7) + b"\xcf"
    assert (image.discard_counts.done, image.discard_counts.done_bytes) == (1, 65536)
    image.flush()
    image.close()
    assert image_path.stat().st_size == MIB


def test_a_discard_is_ignored_unless_asked_for(image_path: Path) -> None:
    image = open_file(image_path)
    image.discard(0, 65536)
    assert read(image, 0, 256) == bytes(range(256))
    image.close()


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("no_flush", [False, True])
def test_every_cache_mode_reads_what_it_wrote(
    image_path: Path, direct: bool, no_flush: bool
) -> None:
    try:
        image = open_file(image_path, cache=CacheOptions(direct, no_flush))
    except HostError as error:
        pytest.skip(str(error))
    write(image, 3, b"unaligned")
    write(image, 4096, bytes(4096))
    image.flush()
    assert read(image, 0, 13) == b"\0\1\2unaligned\x0c"
    assert read(image, 4095, 2) == b"\xff\0"
    image.close()


def test_native_requests_need_a_bypassed_page_cache(image_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"aio=native was specified, but it requires cache\.dir"):
        open_file(image_path, aio=Aio.NATIVE)
    open_file(image_path, aio=Aio.IO_URING).close()


def test_a_file_takes_another_size(image_path: Path) -> None:
    node, user = open_file(image_path), NodeUser()
    user.use(node, READ | WRITE)
    node.resize(2 * MIB)
    assert (node.size, image_path.stat().st_size, user.resizes) == (2 * MIB, 2 * MIB, 1)
    node.resize(1000)
    assert (node.size, image_path.stat().st_size, user.resizes) == (1024, 1000, 2)
    with pytest.raises(HostError, match="Could not resize file: File too large"):
        node.resize(1 << 60)
    assert node.size == 1024
    node.close()


def _loop_device(path: Path) -> str:
    if os.geteuid() or not shutil.which("losetup"):
        pytest.skip("a loop device needs root and losetup")
    made = subprocess.run(
        ["losetup", "--find", "--show", path], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"losetup: {made.stderr.strip()}")
    return made.stdout.strip()


def test_a_block_device_is_an_image(image_path: Path) -> None:
    device = _loop_device(image_path)
    try:
        with pytest.raises(ConfigError, match="to be a regular file"):
            FileNode("f", FileOptions(filename=device))
        options = HostDeviceOptions(filename=device, discard=Discard.UNMAP)
        image = HostDeviceNode("h", options)
        assert image.size == MIB
        write(image, 512, b"on a device")
        assert read(image, 512, 11) == b"on a device"
        image.discard(4096, 4096)
        image.write_zeroes(512, 512)
        image.write_zeroes(8192, 512, unmap=True)
        assert read(image, 512, 512) == read(image, 8192, 512) == bytes(512)
        image.flush()
        NodeUser().use(image, READ | WRITE, ALONE)
        other = HostDeviceNode("h", options)
        with pytest.raises(HostError, match="Failed to get"):
            NodeUser().use(other, READ | WRITE, ALONE)
        with pytest.raises(ConfigError, match="Cannot grow device files"):
            image.resize(2 * MIB)
        image.close()
        other.close()
    finally:
        subprocess.run(["losetup", "--detach", device], check=False)


def test_a_file_is_no_host_device(image_path: Path) -> None:
    with pytest.raises(ConfigError, match="'host_device' driver requires"):
        HostDeviceNode("h", HostDeviceOptions(filename=str(image_path)))
