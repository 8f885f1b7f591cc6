"""Raw images: opening, locking, reading, writing, freeing."""

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

from ratite.block import CacheMode, RawImage, TemporaryOverlay, open_image
from ratite.core.errors import ConfigError, HostError

MIB = 1 << 20


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(range(256)) * (MIB // 256))
    return path


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"none\.img.*does not exist"):
        RawImage(tmp_path / "none.img")


def test_a_directory_is_not_an_image(tmp_path: Path) -> None:
    for read_only in (False, True):
        with pytest.raises(ConfigError, match="is a directory"):
            RawImage(tmp_path, read_only=read_only)


def test_a_pipe_is_not_an_image_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="neither a file nor a block device"):
        RawImage(tmp_path / "fifo", read_only=True)


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


def test_a_read_only_file_opened_for_writing_says_what_to_do(
    protected_image: Path, ordinary_user: None
) -> None:
    with pytest.raises(HostError, match=r"for writing: Permission denied.*readonly=on"):
        RawImage(protected_image)
    RawImage(protected_image, read_only=True).close()


def test_data_written_are_read_back(image_path: Path) -> None:
    with RawImage(image_path) as image:
        assert image.size == MIB
        image.write(1000, b"hello")
        assert image.read(999, 7) == b"\xe7hello\xed"
        buffers = [memoryview(bytearray(3)), memoryview(bytearray(4))]
        image.readv(999, buffers)
        assert b"".join(buffers) == b"\xe7hello\xed"
        image.flush()
    assert image_path.read_bytes()[1000:1005] == b"hello"


def test_many_small_buffers_are_one_request(image_path: Path) -> None:
    views = [memoryview(bytearray([i & 0xFF])) for i in range(3000)]
    with RawImage(image_path) as image:
        image.writev(100, views)
        back = [memoryview(bytearray(1)) for _ in views]
        image.readv(100, back)
        assert back == views
        assert not image.read_cached(100, back)


def test_the_size_is_rounded_up_to_a_sector_and_the_rest_reads_as_zero(tmp_path: Path) -> None:
    path = tmp_path / "odd.img"
    path.write_bytes(b"x" * 513)
    with RawImage(path) as image:
        assert image.size == 1024
        assert image.read(512, 512) == b"x" + bytes(511)
        image.write(1020, b"tail")
        assert image.read(1020, 4) == b"tail"


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (MIB, 1), (MIB - 1, 2), (1 << 63, 1)])
def test_a_range_outside_the_image_is_refused(image_path: Path, offset: int, size: int) -> None:
    with RawImage(image_path, discard=True) as image:
        for call in (
            lambda: image.read(offset, size),
            lambda: image.write(offset, bytes(size)),
            lambda: image.discard(offset, size),
            lambda: image.write_zeroes(offset, size),
        ):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.EINVAL


def test_a_read_only_image_refuses_writes(image_path: Path) -> None:
    with RawImage(image_path, read_only=True) as image:
        with pytest.raises(OSError) as caught:
            image.write(0, b"no")
        assert caught.value.errno == errno.EROFS
        image.flush()


def test_two_writers_conflict_even_in_one_process(image_path: Path) -> None:
    with RawImage(image_path):
        with pytest.raises(HostError, match=r"disk\.img.*in use by another process"):
            RawImage(image_path)
        with pytest.raises(HostError, match="in use"):
            RawImage(image_path, read_only=True)
        RawImage(image_path, locking=False).close()
    RawImage(image_path).close()


def test_readers_share_an_image_and_keep_writers_out(image_path: Path) -> None:
    with RawImage(image_path, read_only=True), RawImage(image_path, read_only=True):
        with pytest.raises(HostError, match="in use"):
            RawImage(image_path)


def test_writers_that_agree_share_an_image(image_path: Path) -> None:
    with RawImage(image_path, share_rw=True), RawImage(image_path, share_rw=True):
        with pytest.raises(HostError, match="in use"):
            RawImage(image_path)


def test_another_process_holds_the_lock(image_path: Path) -> None:
    code = (
        "import sys; from ratite.block import RawImage; image = RawImage(sys.argv[1]);"
        "print('open', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(image_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == "open\n"
        with pytest.raises(HostError, match="in use"):
            RawImage(image_path)
    finally:
        process.stdin.close()
        process.wait(timeout=20)
        process.stdout.close()
    RawImage(image_path).close()


@pytest.mark.skipif(not shutil.which("qemu-io"), reason="qemu-io is not installed")
def test_qemu_respects_our_lock(image_path: Path) -> None:
    with RawImage(image_path):
        refused = subprocess.run(
            ["qemu-io", "-f", "raw", "-c", "read 0 512", image_path],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "lock" in refused.stderr


def test_zeroes_and_discards_read_as_zero_and_free_storage(image_path: Path) -> None:
    with RawImage(image_path, discard=True) as image:
        image.write_zeroes(4096, 8192)
        image.write_zeroes(65536, 65536, unmap=True)
        image.write_zeroes(200, 7)
        image.discard(131072, 65536)
        assert image.read(4095, 8194) == b"\xff" + bytes(8192) + b"\0"
        assert image.read(65536, 65536) == bytes(65536)
        assert image.read(199, 9) == b"\xc7" + bytes(7) + b"\xcf"
        image.flush()
    assert image_path.stat().st_size == MIB


def test_a_discard_is_ignored_unless_asked_for(image_path: Path) -> None:
    with RawImage(image_path) as image:
        image.discard(0, 65536)
        assert image.read(0, 256) == bytes(range(256))


@pytest.mark.parametrize("cache", list(CacheMode))
def test_every_cache_mode_reads_what_it_wrote(image_path: Path, cache: CacheMode) -> None:
    try:
        image = RawImage(image_path, cache=cache)
    except HostError as error:
        pytest.skip(str(error))
    with image:
        image.write(3, b"unaligned")
        image.write(4096, bytes(4096))
        image.flush()
        assert image.read(0, 13) == b"\0\1\2unaligned\x0c"
        assert image.read(4095, 2) == b"\xff\0"


def test_an_overlay_takes_the_writes_and_leaves_the_image_alone(image_path: Path) -> None:
    before = image_path.read_bytes()
    overlay = TemporaryOverlay(RawImage(image_path, read_only=True))
    expected = bytearray(before)
    for offset, data in [
        (5, b"abc"),
        (65530, b"z" * 20),
        (MIB - 3, b"end"),
        (131072, b"q" * 65536),
    ]:
        overlay.writev(offset, [memoryview(data)])
        expected[offset : offset + len(data)] = data
    overlay.write_zeroes(200000, 100000, unmap=True)
    expected[200000:300000] = bytes(100000)
    view = memoryview(bytearray(MIB))
    overlay.readv(0, [view])
    assert view == expected
    small = memoryview(bytearray(4))
    if overlay.read_cached(5, [small]):
        assert small == b"abc\x08"
    overlay.flush()
    overlay.close()
    overlay.close()
    assert image_path.read_bytes() == before


def test_an_overlay_checks_ranges(image_path: Path) -> None:
    overlay = TemporaryOverlay(RawImage(image_path, read_only=True))
    with pytest.raises(OSError):
        overlay.writev(MIB, [memoryview(b"x")])
    with pytest.raises(OSError):
        overlay.readv(MIB - 1, [memoryview(bytearray(2))])
    assert not overlay.read_cached(MIB, [memoryview(bytearray(1))])
    overlay.close()


def test_an_image_opened_as_a_snapshot_stays_as_it_is(image_path: Path) -> None:
    before = image_path.read_bytes()
    node = open_image(image_path, snapshot=True)
    assert not node.read_only
    node.writev(0, [memoryview(b"changed")])
    node.close()
    assert image_path.read_bytes() == before
    assert open_image(image_path, snapshot=True, read_only=True).read_only


def test_an_overlay_that_cannot_be_made_frees_the_image(image_path: Path, tmp_path: Path) -> None:
    with RawImage(image_path, read_only=True) as image:
        with pytest.raises(HostError, match="TMPDIR"):
            TemporaryOverlay(image, directory=str(tmp_path / "none"))


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
        with RawImage(device, discard=True) as image:
            assert image.size == MIB
            image.write(512, b"on a device")
            assert image.read(512, 11) == b"on a device"
            image.discard(4096, 4096)
            image.write_zeroes(512, 512)
            image.write_zeroes(8192, 512, unmap=True)
            assert image.read(512, 512) == image.read(8192, 512) == bytes(512)
            image.flush()
            with pytest.raises(HostError, match="in use"):
                RawImage(device)
    finally:
        subprocess.run(["losetup", "--detach", device], check=False)
