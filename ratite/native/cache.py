"""Object code on disk, between processes.

An entry is one file named by its key: a header with a magic and the SHA-256 of the payload, then
the payload. It is written to a temporary name and renamed, so that readers see all of it or nothing
and two writers do not disturb each other; an entry that does not match its own checksum is removed
and rebuilt. A cache that cannot be written is no error: the code is then generated again next time.
What has not been used for longest goes when the directory grows past its limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

_MAGIC = b"ratite-object-1\n"
_TRIMMED = ".trimmed"
LIMIT_BYTES = 512 << 20


def default_directory() -> Path:
    """`ratite/objects` below the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "ratite" / "objects"


def key_of(parts: Iterable[bytes | str]) -> str:
    """A key from what the object depends on. Parts are delimited by their length, so none runs into
    the next.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


class CacheEntry(NamedTuple):
    """A file of the cache: what it takes, and when it was used last (seconds of the epoch)."""

    used: float
    size: int
    path: Path


class ObjectCache:
    """A directory of cached objects, of some `limit` bytes at most."""

    def __init__(self, directory: Path | None = None, limit: int = LIMIT_BYTES) -> None:
        self.directory = directory or default_directory()
        self.limit = limit
        self._room: int | None = None  # bytes to be added before the directory is looked through

    def _path(self, key: str) -> Path:
        return self.directory / f"{key}.o"

    def get(self, key: str) -> bytes | None:
        """The payload, or None if there is none that can be trusted."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        payload = data[len(_MAGIC) + 32 :]
        if (
            data[: len(_MAGIC)] == _MAGIC
            and data[len(_MAGIC) : len(_MAGIC) + 32] == hashlib.sha256(payload).digest()
        ):
            with contextlib.suppress(OSError):
                os.utime(path)
            return payload
        path.unlink(missing_ok=True)
        return None

    def put(self, key: str, payload: bytes) -> bool:
        """Store the payload; False if the directory does not allow it."""
        data = _MAGIC + hashlib.sha256(payload).digest() + payload
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(dir=self.directory, prefix=".new-")
        except OSError:
            return False
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
            os.replace(temporary, self._path(key))
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            return False
        if self._room is None:
            self._room = self.limit // 16 if self._trimmed_lately() else 0
        self._room -= len(data)
        if self._room < 0:
            self._trim()
        return True

    def _trimmed_lately(self) -> bool:
        """Whether a process has looked through the directory, which takes a while, within the
        hour.
        """
        try:
            return 0 <= time.time() - (self.directory / _TRIMMED).stat().st_mtime < 3600
        except OSError:
            return False

    def keys(self) -> set[str]:
        """Keys of what there is. Other processes may change it meanwhile."""
        try:
            return {name[:-2] for name in os.listdir(self.directory) if name.endswith(".o")}
        except OSError:
            return set()

    def entries(self) -> list[CacheEntry]:
        """What there is, the least recently used first. Other processes may change it meanwhile."""
        found = []
        with contextlib.suppress(OSError), os.scandir(self.directory) as items:
            for item in items:
                with contextlib.suppress(OSError):
                    if item.name.endswith(".o"):
                        status = item.stat()
                        entry = CacheEntry(status.st_mtime, status.st_size, Path(item.path))
                        found.append(entry)
        return sorted(found)

    def clear(self) -> list[CacheEntry]:
        """Remove all entries; returns them. Processes that use them go on. Raises `OSError`."""
        removed = self.entries()
        for entry in removed:
            entry.path.unlink(missing_ok=True)
        return removed

    def _trim(self) -> None:
        """Bring the directory below its limit, with room for an eighth of it."""
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        if total > self.limit:
            for entry in entries:
                if total <= self.limit - self.limit // 8:
                    break
                with contextlib.suppress(OSError):
                    entry.path.unlink()
                    total -= entry.size
        self._room = max(self.limit - total, 0)
        with contextlib.suppress(OSError):
            (self.directory / _TRIMMED).touch(mode=0o600)

    def get_or_build(self, key: str, build: Callable[[], bytes]) -> bytes:
        """The cached payload, built and stored if missing."""
        payload = self.get(key)
        if payload is None:
            payload = build()
            self.put(key, payload)
        return payload
