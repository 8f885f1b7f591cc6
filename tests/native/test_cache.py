"""The object cache: what is damaged is rebuilt, and writers do not disturb each other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ratite.native.cache import ObjectCache, key_of


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    return ObjectCache(tmp_path / "objects")


def entry(cache: ObjectCache) -> Path:
    (found,) = cache.directory.glob("*.o")
    return found


def test_what_is_put_is_got_back(cache: ObjectCache) -> None:
    assert cache.get("k") is None
    assert cache.put("k", b"code")
    assert cache.get("k") == b"code"


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "magic", "append"])
def test_a_damaged_entry_is_removed_and_rebuilt(cache: ObjectCache, damage: str) -> None:
    cache.put("k", b"code" * 100)
    path = entry(cache)
    data = bytearray(path.read_bytes())
    match damage:
        case "truncate":
            del data[-7:]
        case "flip":
            data[-1] ^= 1
        case "empty":
            data.clear()
        case "magic":
            data[0] ^= 1
        case "append":
            data += b"more"
    path.write_bytes(data)
    assert cache.get("k") is None
    assert not path.exists()
    assert cache.get_or_build("k", lambda: b"anew") == b"anew"
    assert cache.get("k") == b"anew"


def test_parts_of_a_key_do_not_run_into_each_other() -> None:
    assert key_of(("ab", "c")) != key_of(("a", "bc"))


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ObjectCache(tmp_path / "file" / "objects")
    assert not cache.put("k", b"code")
    assert cache.get_or_build("k", lambda: b"code") == b"code"


def test_two_processes_write_one_entry(cache: ObjectCache) -> None:
    program = (
        "import sys; from pathlib import Path; from ratite.native.cache import ObjectCache\n"
        "cache = ObjectCache(Path(sys.argv[1]))\n"
        "for _ in range(200): assert cache.put('k', sys.argv[2].encode() * 5000)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(cache.directory), letter])
        for letter in "ab"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        found = cache.get("k")
        if found is not None:
            assert found in (b"a" * 5000, b"b" * 5000)
            seen.add(found)
    assert all(writer.returncode == 0 for writer in writers)
    assert seen
    assert [name for name in os.listdir(cache.directory) if name.startswith(".new")] == []


def test_the_least_recently_used_goes_when_the_limit_is_reached(tmp_path: Path) -> None:
    def put(key: str, seconds: int) -> None:
        assert cache.put(key, bytes(1000))
        os.utime(cache.directory / f"{key}.o", (seconds, seconds))

    cache = ObjectCache(tmp_path, limit=8 * 1100)
    for number in range(8):
        put(f"k{number}", 1000 + number)
    assert cache.get("k0") is not None  # used now
    assert len(cache.entries()) == 8
    assert cache.put("new", bytes(1000))
    kept = {item.path.stem for item in cache.entries()}
    assert {"k0", "new"} <= kept and "k1" not in kept
    assert sum(item.size for item in cache.entries()) <= cache.limit


def test_clear_removes_all(cache: ObjectCache) -> None:
    assert cache.clear() == []
    cache.put("a", b"1")
    cache.put("b", b"2")
    assert len(cache.clear()) == 2
    assert cache.entries() == [] and cache.get("a") is None
