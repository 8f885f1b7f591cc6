"""`-readconfig`: options from a file.

Source: QEMU's manual, option -readconfig, and its sample files: sections `[option "id"]`, settings
`key = "value"`, comments that begin with `#`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ratite.core import ConfigError, HostError
from ratite.core.signals import interruptible

_END = r"\s*(?:#.*)?"
_EMPTY = re.compile(_END)
_SECTION = re.compile(rf'\[\s*([^\]"\s]+)\s*(?:"([^"]*)"\s*)?\]{_END}')
_SETTING = re.compile(rf'([^\s=",\[][^\s=",]*)\s*=\s*"([^"]*)"{_END}')


class FileError(ConfigError):
    """Something wrong in a file of options; the text begins with the file and the line."""


@dataclass(slots=True)
class Section:
    """One section: an option by its name in such files, and its settings with their lines."""

    name: str
    id: str | None
    path: Path
    line: int
    settings: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def where(self) -> str:
        """File and line where it ends."""
        return f"{self.path}:{self.settings[-1][2] if self.settings else self.line}"

    @property
    def text(self) -> str:
        """The settings as they stand in the value of an option."""
        settings = [(key, value) for key, value, _ in self.settings]
        if self.id is not None:
            settings.append(("id", self.id))
        return ",".join(f"{key}={value.replace(',', ',,')}" for key, value in settings)

    def wrong(self, text: str) -> FileError:
        """The error that the option raised, at the line of the setting that it names, if it begins
        with one.
        """
        for key, _, line in self.settings:
            if text.startswith((f"{key}:", f"'{key}'")):
                return FileError(f"{self.path}:{line}: {text}")
        return FileError(f"{self.where}: {text}")


def read_sections(path: Path) -> Iterator[Section]:
    """The sections of a file, in order. Raises `FileError` or `HostError`."""
    section: Section | None = None
    for number, line in enumerate(_lines(path), 1):
        text = line.strip()
        if _EMPTY.fullmatch(text):
            continue
        if head := _SECTION.fullmatch(text):
            if section is not None:
                yield section
            section = Section(head[1], head[2], path, number)
        elif text.startswith("["):
            form = '[option] or [option "id"]'
            raise FileError(f"{path}:{number}: parse error; a section is: {form}")
        elif section is None:
            raise FileError(f"{path}:{number}: no group defined; [machine] or another comes first")
        elif setting := _SETTING.fullmatch(text):
            section.settings.append((setting[1], setting[2], number))
        else:
            raise FileError(f'{path}:{number}: parse error; a setting is: key = "value"')
    if section is not None:
        yield section


def _lines(path: Path) -> list[str]:
    try:
        with interruptible():
            return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        refusal = f"-readconfig {path}: Could not open '{path}': {error.strerror}"
        raise HostError(refusal, error.errno or 0) from error
    except ValueError:
        raise ConfigError(f"'{path}' is no file name") from None
