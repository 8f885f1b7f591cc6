"""Snapshots: a machine's state and the content of its writable drives at one moment.

A snapshot is a directory, by number, in `IMAGE.snapshots` beside the image of the first writable
drive, or wherever the user says:

    info.json     tag, time, drives
    state         the machine, as a stream
    drive-N       the content of drive N of `info.json`

It is made under another name, brought to stable storage, and renamed when it is complete: whatever
goes wrong before, the older ones stay.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from ratite.core.errors import ConfigError, HostError
from ratite.core.progress import Progress, nobody_looks
from ratite.migration import pages
from ratite.migration.host import Disk, Host
from ratite.migration.stream import Kind, Reader, Section, StreamError, Writer
from ratite.migration.vmstate import (
    apply_states,
    read_all,
    write_identity,
    write_ram,
    write_states,
)

NO_PLACE = "no block device can store vmstate for snapshot"
_INFO, _STATE = "info.json", "state"
_BUFFER = 1 << 20


class DriveCopy(msgspec.Struct, frozen=True):
    """The content of one drive."""

    id: str
    size: int


class SnapshotInfo(msgspec.Struct, frozen=True):
    """What is known of a snapshot without reading it."""

    tag: str
    date_ns: int
    clock_ns: int
    state_size: int
    drives: list[DriveCopy]
    number: int = 0


class Snapshots:
    """The snapshots of one machine. Used on the main loop, with the machine lock held."""

    def __init__(self, host: Host) -> None:
        self._host = host

    # -- what there is

    def home(self, drive: Disk | None = None) -> Path | None:
        """The directory of the snapshots, or None if no writable drive has a place for it."""
        drives = [drive] if drive is not None else list(self._host.disks.values())
        for disk in drives:
            if not disk.read_only and disk.path:
                return Path(f"{disk.path}.snapshots")
        return None

    def list(self, drive: Disk | None = None) -> list[SnapshotInfo]:
        """All snapshots, in the order of their making."""
        home = self.home(drive)
        if home is None:
            return []
        found: dict[str, SnapshotInfo] = {}
        for number in sorted(_numbers(home)):
            info = _info_if_good(home / str(number))
            if info is not None:
                found.pop(info.tag, None)  # the newer of two is the one
                found[info.tag] = msgspec.structs.replace(info, number=number)
        return list(found.values())

    def find(self, tag: str, drive: Disk | None = None) -> Path | None:
        """The directory of a snapshot."""
        home = self.home(drive)
        numbers = [info.number for info in self.list(drive) if info.tag == tag]
        return home / str(numbers[0]) if home is not None and numbers else None

    def _damage(self, drive: Disk | None) -> Iterator[str]:
        """What is wrong with those of which nothing is known."""
        home = self.home(drive)
        if home is None:
            return
        for number in sorted(_numbers(home)):
            try:
                _read_info(home / str(number))
            except (ConfigError, HostError) as error:
                yield error.text

    # -- what is done

    def save(
        self,
        tag: str = "",
        *,
        drive: Disk | None = None,
        drives: Sequence[Disk] | None = None,
        progress: Progress = nobody_looks,
    ) -> str:
        """Make a snapshot, in place of an older one of this tag; returns its tag. `drives` are
        those whose content is kept, all writable ones if not given; it lies beside `drive`. Raises
        `ConfigError` or `HostError`, with all as it was.
        """
        home = self.home(drive)
        if home is None:
            raise ConfigError(NO_PLACE)
        tag = tag or time.strftime("vm-%Y%m%d%H%M%S")
        with _host_errors("make a snapshot in", home):
            home.mkdir(mode=0o700, exist_ok=True)
            for stale in home.glob(".new-*"):
                shutil.rmtree(stale, ignore_errors=True)
            older = [number for number in _numbers(home) if _tag_of(home / str(number)) == tag]
            number = max(_numbers(home), default=0) + 1
            self.save_at(home / str(number), tag, drives, progress)
            for gone in older:
                shutil.rmtree(home / str(gone), ignore_errors=True)
        return tag

    def save_at(
        self,
        path: Path,
        tag: str,
        drives: Sequence[Disk] | None = None,
        progress: Progress = nobody_looks,
    ) -> None:
        """Make a snapshot in a directory that does not exist. Raises `ConfigError` or `HostError`,
        with nothing left there.
        """
        self._host.check_idle()
        if path.exists():
            raise ConfigError(f"a snapshot cannot be made at '{path}': something is there already")
        part = path.with_name(f".new-{path.name}")
        with _host_errors("write the snapshot", path):
            part.mkdir(mode=0o700)
            try:
                with self._host.held("save-vm"):
                    self._write(part, tag, drives, progress)
                _sync(part)
                part.rename(path)
                _sync(path.parent)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise

    def load(self, tag: str, *, drive: Disk | None = None) -> None:
        """Go back to a snapshot. Raises `ConfigError` or `HostError`, with the machine as it was
        unless the host fails while its drives are written.
        """
        if self.home(drive) is None:
            raise ConfigError(NO_PLACE)
        found = self.find(tag, drive)
        if found is None:
            damaged = "".join(f"; {reason}" for reason in self._damage(drive))
            raise ConfigError(f"Snapshot '{tag}' does not exist in one or more devices{damaged}")
        self.load_at(found)

    def load_at(self, path: Path) -> None:
        """Go back to the snapshot in a directory, as `load` does."""
        self._host.check_idle()
        info = _read_info(path)
        if info is None:
            raise ConfigError(f"'{path}' is not a snapshot")
        disks = [(path / f"drive-{n}", self._disk(copy)) for n, copy in enumerate(info.drives)]
        with _host_errors("read the snapshot", path), (path / _STATE).open("rb", _BUFFER) as file:
            with self._host.held("restore-vm"):
                machine = self._host.machine
                arrival = read_all(_sections(file), machine, pages.check)
                for disk in self._host.disks.values():
                    disk.drain()
                for copy, disk in disks:
                    disk.copy_in(str(copy))
                file.seek(0)
                try:
                    for section in _sections(file):
                        if section.kind is Kind.RAM:
                            pages.apply(section, machine.ram)
                    apply_states(arrival, machine, self._host.runner.set_time)
                except BaseException:
                    self._host.fail()
                    raise

    def delete(self, tag: str, *, drive: Disk | None = None) -> None:
        """Forget a snapshot. Does nothing if there is none of this tag. Raises `HostError`."""
        while (found := self.find(tag, drive)) is not None:
            with _host_errors("delete the snapshot", found):
                shutil.rmtree(found)
            with contextlib.suppress(OSError):
                found.parent.rmdir()  # if it was the last

    # -- the parts

    def _write(
        self, part: Path, tag: str, drives: Sequence[Disk] | None, progress: Progress
    ) -> None:
        host = self._host
        for disk in host.disks.values():
            disk.drain()
        kept = [
            disk
            for disk in (host.disks.values() if drives is None else drives)
            if not disk.read_only
        ]
        done = 0
        total = sum(block.size for block in host.machine.ram.blocks)
        total += sum(disk.size for disk in kept)

        def advance(size: int) -> None:
            nonlocal done
            done += size
            progress(done, total)

        with (part / _STATE).open("wb", _BUFFER) as file:
            writer = Writer(file.write)
            write_identity(writer, host.machine)
            write_ram(writer, host.machine.ram, pages.PageCounts(), advance)
            write_states(writer, host.machine, running=False)
            writer.end()
            file.flush()
            os.fsync(file.fileno())
        for number, disk in enumerate(kept):
            disk.copy_out(str(part / f"drive-{number}"), advance)
        info = SnapshotInfo(
            tag,
            time.time_ns(),
            host.machine.clock.now_ns(),
            writer.written,
            [DriveCopy(disk.id, disk.size) for disk in kept],
        )
        with (part / _INFO).open("wb") as file:
            file.write(msgspec.json.encode(info))
            file.flush()
            os.fsync(file.fileno())

    def _disk(self, copy: DriveCopy) -> Disk:
        """The drive that a copy is of."""
        disk = self._host.disks.get(copy.id)
        if disk is None:
            raise ConfigError(f"the snapshot has a drive '{copy.id}', which this machine has not")
        if disk.read_only or disk.size != copy.size:
            raise ConfigError(
                f"the snapshot's drive '{copy.id}' has {copy.size} bytes and is writable; here it "
                f"has {disk.size} bytes{' and is read-only' if disk.read_only else ''}"
            )
        return disk


def _sections(file: BinaryIO) -> Iterator[Section]:
    """The sections of a file, which must end with them."""
    yield from Reader(file.read).sections()
    if file.read(1):
        raise StreamError("section 'end': the file goes on behind it")


def _numbers(home: Path) -> list[int]:
    try:
        return [int(entry.name) for entry in home.iterdir() if entry.name.isdecimal()]
    except FileNotFoundError:
        return []


def _read_info(path: Path) -> SnapshotInfo | None:
    """What `info.json` says; None if there is none. Raises `ConfigError` if it is damaged,
    `HostError` if it cannot be read.
    """
    file = path / _INFO
    try:
        return msgspec.json.decode(file.read_bytes(), type=SnapshotInfo)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HostError.from_os("read", error, file) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"'{file}' is damaged: {error}") from None


def _info_if_good(path: Path) -> SnapshotInfo | None:
    with contextlib.suppress(ConfigError, HostError):
        return _read_info(path)
    return None


def _tag_of(path: Path) -> str | None:
    info = _info_if_good(path)
    return info.tag if info is not None else None


def _sync(directory: Path) -> None:
    """Bring a directory's entries to stable storage."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _host_errors(attempt: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError.from_os(attempt, error, path) from error
