"""Write a cpio archive in the form that Linux unpacks as its initial root file system.

Source: Linux's buffer-format documentation for initramfs; cpio(5), "New ASCII Format" (newc).
"""

from __future__ import annotations

import stat
from pathlib import PurePosixPath

_ALIGN = 4
_TRAILER = "TRAILER!!!"


class Archive:
    """A newc archive being built. Parent directories are added as needed; owner 0:0, time 0."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._names: set[str] = set()
        self._inode = 0

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory, unless it is there."""
        if name not in self._names:
            self._add(name, stat.S_IFDIR | mode, b"")

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._add(name, stat.S_IFREG | mode, content)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device node."""
        self._add(name, stat.S_IFCHR | mode, b"", device=(major, minor))

    def getvalue(self) -> bytes:
        """The finished archive. The builder may go on adding."""
        return b"".join([*self._chunks, _entry(0, _TRAILER, 0, b"", (0, 0))])

    def _add(self, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        for parent in reversed(PurePosixPath(name).parents):
            if str(parent) != ".":
                self.directory(str(parent))
        if name in self._names:
            raise ValueError(f"{name} is in the archive already")
        self._names.add(name)
        self._inode += 1
        self._chunks.append(_entry(self._inode, name, mode, content, device))


def _entry(inode: int, name: str, mode: int, content: bytes, device: tuple[int, int]) -> bytes:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % value for value in fields) + encoded
    return _pad(header) + _pad(content)


def _pad(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGN)
