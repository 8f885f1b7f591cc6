"""What one monitor knows besides the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ratite.chardev import Chardev
from ratite.monitor.fds import NamedFds


@dataclass
class DumpFormat:
    """How `x`, `xp` and `print` showed their last values; the next ones go on like that."""

    letter: str = "x"
    size: int = 4


@dataclass
class Session:
    """One monitor's own state. `chardev` is None for a command that runs on behalf of another."""

    chardev: Chardev | None = None
    cpu_index: int = 0
    fds: NamedFds = field(default_factory=NamedFds)
    dump_format: DumpFormat = field(default_factory=DumpFormat)
    history: list[str] = field(default_factory=list)
    show: Callable[[str], object] | None = None  # to a person, at once, before the answer
    ended: bool = False  # by `quit`: nothing more is asked or read

    def take_fd(self) -> int | None:
        """A descriptor that came with the last message; further ones are closed."""
        return self.chardev.take_fd() if self.chardev is not None else None
