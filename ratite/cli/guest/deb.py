"""Debian binary packages: an ar archive that holds a compressed tar file.

Source: deb(5), ar(5).
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_SIZE = 60


def extract(path: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The contents of the package's regular files whose name (`usr/bin/busybox`) is wanted.

    Raises ValueError if the file is not a Debian package, tarfile.TarError if it is damaged.
    """
    files: dict[str, bytes] = {}
    with path.open("rb") as package, _data_tar(package) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if member.isfile() and wanted(name):
                content = tar.extractfile(member)
                assert content is not None  # a regular file has contents
                files[name] = content.read()
    return files


@contextmanager
def _data_tar(package: IO[bytes]) -> Iterator[tarfile.TarFile]:
    name = _seek_data(package)
    if name.endswith(".zst"):
        import zstandard

        with (
            zstandard.ZstdDecompressor().stream_reader(package) as plain,
            tarfile.open(fileobj=cast(IO[bytes], plain), mode="r|") as tar,
        ):
            yield tar
    else:
        with tarfile.open(fileobj=package, mode="r|*") as tar:
            yield tar


def _seek_data(package: IO[bytes]) -> str:
    """Leave the file at the start of `data.tar.*` and return that member's name."""
    if package.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ValueError("not a Debian package")
    while len(header := package.read(_AR_HEADER_SIZE)) == _AR_HEADER_SIZE:
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        if name.startswith("data.tar"):
            return name
        size = int(header[48:58])
        package.seek(size + size % 2, 1)
    raise ValueError("not a Debian package: no data.tar in it")
