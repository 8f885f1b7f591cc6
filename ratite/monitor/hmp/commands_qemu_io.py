"""`qemu-io`: bytes of a drive or block node, read and written by hand.

Source: QEMU's manual of qemu-io; commands, options and the forms of answers are its.
Not modelled: what is not about plain ranges, as asynchronous requests; options for other backends.
"""

from __future__ import annotations

import errno
import getopt
import os
import shlex
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated

from ratite.block import BlockNode, Drive
from ratite.block.permission import Permission
from ratite.core.errors import ConfigError
from ratite.core.size import parse_size
from ratite.monitor.errors import QmpError
from ratite.monitor.hmp.command import Completed, DeviceName, Flag, Refusal, Shell, hmp
from ratite.monitor.hmp.commands_block_info import drive_names

_CHUNK = 1 << 20
_LONGEST = (1 << 31) - 512
_DEFAULT_PATTERN = 0xCD
_ALIASES = {"r": "read", "w": "write", "f": "flush", "d": "discard", "l": "length"}
_UNITS = ("EiB", "PiB", "TiB", "GiB", "MiB", "KiB")


@dataclass(frozen=True)
class _Syntax:
    """The letters of a command's options, and how many arguments it has."""

    letters: str
    arguments: int


_COMMANDS = {
    "read": _Syntax("qP:", 2),
    "write": _Syntax("fqzP:", 2),
    "discard": _Syntax("q", 2),
    "flush": _Syntax("", 0),
    "length": _Syntax("", 0),
}


@hmp(
    "qemu-io",
    "run a qemu-io command on a block device\n"
    "\t\t\t-d: [device] is a device ID rather than a drive ID or node name",
)
def qemu_io(
    shell: Shell,
    qdev: Annotated[bool, Flag("d")] = False,
    *,
    device: Annotated[DeviceName, Completed(drive_names)],
    command: str,
) -> str:
    """Read, write, discard or flush a drive's or node's content: `read [-q] [-P BYTE] OFFSET SIZE`
    (`-P`: it must be such bytes), `write [-fqz] [-P BYTE] OFFSET SIZE` (`-f`: and flush; `-z`:
    zeroes), `discard [-q] OFFSET SIZE`, `flush`, `length`. The guest is not told."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Refusal(f"Parsing error: {error}") from None
    if not words:
        return ""
    drive, node = _find(shell, device, qdev=qdev)
    name = _ALIASES.get(words[0], words[0])
    syntax = _COMMANDS.get(name)
    if syntax is None:
        raise Refusal(f'command "{name}" not found')
    options, arguments = _parse(name, syntax, words[1:])
    if name == "length":
        return f"{_size_text(node.size)}\n"
    uses = Permission.CONSISTENT_READ if name == "read" else Permission.WRITE
    used = shell.vm.backends.block.used(drive, node, uses)
    unlocked = shell.vm.machine.lock.unlocked
    if name == "flush":
        return _attempt(name, used, lambda: _flush(node, unlocked))
    offset, size = (_number(text) for text in arguments)
    if size > _LONGEST:
        raise Refusal(f"length cannot exceed {_LONGEST}, given {arguments[1]}")
    return _attempt(name, used, lambda: _Work(node, unlocked, options, offset, size).run(name))


def _find(shell: Shell, device: str, *, qdev: bool) -> tuple[Drive | None, BlockNode]:
    layer = shell.vm.backends.block
    if qdev:
        drive = layer.drive_of_device(device)
        if drive is None:
            raise QmpError(f"Device '{device}' not found")
        if drive.node is None:
            raise QmpError(f"Device '{device}' has no medium")
        return drive, drive.node
    drive = layer.drive(device)
    return drive, layer.find(device, "") if drive is not None else layer.find("", device)


def _parse(name: str, syntax: _Syntax, words: list[str]) -> tuple[dict[str, str], list[str]]:
    try:
        found, arguments = getopt.gnu_getopt(words, syntax.letters)
    except getopt.GetoptError as error:
        raise Refusal(f"{name}: invalid option -- '{error.opt}'") from None
    if len(arguments) != syntax.arguments:
        least = "at least " if len(arguments) < syntax.arguments else ""
        raise Refusal(
            f"bad argument count {len(arguments)} to {name}, "
            f"expected {least}{syntax.arguments} arguments"
        )
    options = dict(found)
    if "-z" in options and "-P" in options:
        raise Refusal("Only one of -z, -P, and -s can be specified at the same time")
    return options, arguments


def _number(text: str) -> int:
    try:
        return parse_size(text, default_suffix="B")
    except ConfigError:
        raise Refusal(
            f"Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}"
        ) from None


def _pattern(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= 0xFF:
        raise Refusal(f"{text} is not a valid pattern byte")
    return value


def _attempt(name: str, used: AbstractContextManager[None], work: Callable[[], str]) -> str:
    try:
        with used:
            return work()
    except OSError as error:
        raise Refusal(f"{name} failed: {os.strerror(error.errno or errno.EIO)}") from None


def _flush(node: BlockNode, unlocked: Callable[[], AbstractContextManager[None]]) -> str:
    with unlocked():
        node.flush()
    return ""


class _Work:
    """One command about a range."""

    def __init__(
        self,
        node: BlockNode,
        unlocked: Callable[[], AbstractContextManager[None]],
        options: dict[str, str],
        offset: int,
        size: int,
    ) -> None:
        self._node = node
        self._unlocked = unlocked
        self._options = options
        self._offset = offset
        self._size = size
        self._pattern = _pattern(options["-P"]) if "-P" in options else None

    def run(self, name: str) -> str:
        """Do it; the answer is the text to print."""
        if self._offset + self._size > self._node.size:
            raise OSError(errno.EIO, "range outside the node")
        before = time.monotonic()
        differs = False
        with self._unlocked():  # a slow disk does not hold up the guest
            if name == "discard":
                self._node.discard(self._offset, self._size)
            elif "-z" in self._options:
                self._node.write_zeroes(self._offset, self._size)
            elif name == "write":
                self._write()
            else:
                differs = self._read()
            if "-f" in self._options:
                self._node.flush()
        spent = max(time.monotonic() - before, 1e-9)
        text = ""
        if differs:
            text = f"Pattern verification failed at offset {self._offset}, {self._size} bytes\n"
        return text if "-q" in self._options else text + self._report(name, spent)

    def _write(self) -> None:
        value = _DEFAULT_PATTERN if self._pattern is None else self._pattern
        block = memoryview(bytes([value]) * min(self._size, _CHUNK))
        for at in range(0, self._size, _CHUNK):
            self._node.writev(self._offset + at, [block[: self._size - at]])

    def _read(self) -> bool:
        """Whether it is not what it should be."""
        buffer = bytearray(min(self._size, _CHUNK))
        differs = False
        for at in range(0, self._size, _CHUNK):
            view = memoryview(buffer)[: self._size - at]
            self._node.readv(self._offset + at, [view])
            if self._pattern is not None:
                differs |= bytes(view) != bytes([self._pattern]) * len(view)
        return differs

    def _report(self, name: str, spent: float) -> str:
        done = "wrote" if name == "write" else name
        return (
            f"{done} {self._size}/{self._size} bytes at offset {self._offset}\n"
            f"{_size_text(self._size)}, 1 ops; {spent:05.2f} sec "
            f"({_size_text(self._size / spent)}/sec and {1 / spent:.4f} ops/sec)\n"
        )


def _size_text(size: float) -> str:
    for power, unit in zip(range(60, 0, -10), _UNITS, strict=True):
        if size >= 1 << power:
            return f"{_short(size / (1 << power))} {unit}"
    return f"{_short(size)} bytes"


def _short(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
