"""The guest's cache: whole or not there, however a run ends."""

import errno
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ratite.cli.guest import GuestFiles, cache_directory, fetch_guest, find_guest, store
from ratite.core import ConfigError, HostError


class Steps:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.percents: list[float] = []

    def step(self, text: str) -> None:
        self.texts.append(text)

    def percent(self, value: float) -> None:
        self.percents.append(value)


FakeApt = Callable[..., Path]


def test_the_files_are_built_once(fake_apt: FakeApt, tmp_path: Path) -> None:
    log = fake_apt()
    cache = tmp_path / "cache"
    assert find_guest(cache) is None
    files = fetch_guest(Steps(), cache)
    assert files.kernel.read_bytes() == b"kernel"
    assert files.opensbi.read_bytes() == b"fw_dynamic.bin"
    assert files.opensbi_jump.read_bytes() == b"fw_jump.elf"
    assert files.u_boot.read_bytes() == b"u-boot"
    image = files.initrd.read_bytes()
    assert b"virtio_net.ko\0" in image and b"failover.ko\0" in image
    assert b"other.ko\0" not in image
    calls = len(log.read_text().splitlines())
    assert fetch_guest(Steps(), cache) == files == find_guest(cache)
    assert len(log.read_text().splitlines()) == calls


def test_nothing_but_the_result_stays(fake_apt: FakeApt, tmp_path: Path) -> None:
    fake_apt()
    cache = tmp_path / "cache"
    (cache / "work-old" / "packages").mkdir(parents=True)
    (cache / "debian-riscv64-0123456789ab").mkdir()
    files = fetch_guest(Steps(), cache)
    assert sorted(path.name for path in cache.iterdir()) == sorted([files.directory.name, "lock"])


def test_two_at_once_fetch_once(fake_apt: FakeApt, tmp_path: Path) -> None:
    log = fake_apt("sleep 0.3")
    cache = tmp_path / "cache"
    found: list[GuestFiles] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch_guest(Steps(), cache))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and found[0] == found[1]
    assert log.read_text().count("update") == 1


def test_progress_is_what_apt_says(fake_apt: FakeApt, tmp_path: Path) -> None:
    write = 'import os, sys; os.write(int(sys.argv[1]), b"dlstatus:1:42.5:Retrieving\\n")'
    fake_apt(f"{sys.executable} -c '{write}' ${{5#APT::Status-Fd=}}")
    steps = Steps()
    fetch_guest(steps, tmp_path / "cache")
    assert steps.percents == [42.5]
    assert [text.split()[0] for text in steps.texts] == ["fetching", "fetching", "unpacking"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("E: Failed to fetch http://m  Temporary failure resolving 'm'", "cannot reach the mirror"),
        ("E: Could not connect to m:80", "cannot reach the mirror"),
        ("E: Failed to fetch http://m/x  Hash Sum mismatch", "does not match its checksum"),
        ("W: GPG error: http://m NO_PUBKEY 0123", "signature cannot be checked"),
        ("E: The repository 'http://m' is not signed.", "signature cannot be checked"),
        ("E: You don't have enough free space in /x", "no space left"),
        ("E: The repository 'http://m sid Release' does not have a Release file.", "lacks it"),
        ("E: Failed to fetch http://m/x  404  Not Found", "lacks it"),
        ("E: Something else", "apt: Something else"),
    ],
)  # fmt: skip
def test_what_apt_cannot_do_is_told_in_one_line(
    fake_apt: FakeApt, tmp_path: Path, said: str, told: str
) -> None:
    fake_apt(f'cat >&2 <<"END"\n{said}\nEND\nexit 100')
    with pytest.raises(ConfigError, match=told) as raised:
        fetch_guest(Steps(), tmp_path / "cache")
    assert "\n" not in str(raised.value)
    assert find_guest(tmp_path / "cache") is None


def test_a_newer_suite_is_tried_where_the_mirror_lacks_one(
    fake_apt: FakeApt, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    fake_apt(f"test -e {once} || {{ touch {once}; echo 'E: 404  Not Found' >&2; exit 100; }}")
    steps = Steps()
    fetch_guest(steps, tmp_path / "cache")
    assert steps.texts[:2] == [
        "fetching the package index of Debian trixie",
        "fetching the package index of Debian sid",
    ]


def test_a_package_with_other_contents_is_told(fake_apt: FakeApt, tmp_path: Path) -> None:
    fake_apt(kernel=False)
    with pytest.raises(ConfigError, match="not as expected: no kernel image in its package"):
        fetch_guest(Steps(), tmp_path / "cache")


def test_a_host_without_a_debian_archive_is_told(fake_apt: FakeApt, tmp_path: Path) -> None:
    fake_apt(sources="")
    with pytest.raises(ConfigError, match="not configured with a Debian archive"):
        fetch_guest(Steps(), tmp_path / "cache")


def test_a_host_without_apt_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="needs apt, and this host has none"):
        fetch_guest(Steps(), tmp_path / "cache")


def test_too_little_space_is_told_before_fetching(
    fake_apt: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = fake_apt()
    monkeypatch.setattr(store, "_SPACE_NEEDED", 1 << 62)
    with pytest.raises(ConfigError, match="MiB free, the guest's packages need"):
        fetch_guest(Steps(), tmp_path / "cache")
    assert not log.exists()


def test_a_cache_that_cannot_be_made_is_the_hosts_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot prepare the guest's software in") as raised:
        fetch_guest(Steps(), tmp_path / "file" / "cache")
    assert raised.value.errno == errno.ENOTDIR


def test_the_cache_follows_the_users_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "ratite" / "guest"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_directory() == Path.home() / ".cache" / "ratite" / "guest"
