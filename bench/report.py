"""Tables on the terminal and in the document."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rich.table import Table

from ratite.version import VERSION

INTRODUCTION = """\
# Performance

Measured by `python -m bench` (`make bench`), which runs the contestants in turn in one go and takes
medians. The document is written by it: do not edit.
"""


@dataclass(frozen=True, slots=True)
class Section:
    """One mode's results. The first column is text, the others are right-aligned."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)

    def table(self) -> Table:
        """For the terminal."""
        table = Table(title=self.title, caption="\n".join(self.notes), caption_justify="left")
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For the document."""
        lines = [f"## {self.title}", ""]
        lines += [_line(self.columns), _line(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_line(row) for row in self.rows]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def host_facts() -> dict[str, str]:
    """What the numbers depend on."""
    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "host": f"{_processor()}, {_online()} CPUs, Linux {platform.release().split('-')[0]}",
        "ratite": f"{VERSION}, Python {platform.python_version()}",
        "llvmlite": metadata.version("llvmlite"),
    }
    for program in ("qemu-system-riscv64", "gcc", "riscv64-linux-gnu-gcc"):
        if shutil.which(program):
            output = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
            facts[program] = output.splitlines()[0]
    return facts


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _online() -> int:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return sum(line.startswith("processor") for line in lines)


def save(work: Path, mode: str, sections: Sequence[Section], facts: dict[str, str]) -> None:
    """Keep a mode's results for the document."""
    directory = work / "results"
    directory.mkdir(parents=True, exist_ok=True)
    content = {"sections": [asdict(section) for section in sections], "facts": facts}
    (directory / f"{mode}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def write_document(work: Path, modes: Iterable[str], path: Path) -> Path:
    """Make the document of the last results of each mode. What was not measured here stays in it as
    it is.
    """
    before = _parts(path.read_text(encoding="utf-8")) if path.exists() else {}
    parts = [INTRODUCTION]
    for mode in modes:
        result = work / "results" / f"{mode}.json"
        if result.exists():
            parts.append(f"{_mark(mode)}\n\n{_measured(result)}")
        elif mode in before:
            parts.append(f"{_mark(mode)}\n\n{before[mode]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def _mark(mode: str) -> str:
    return f"<!-- {mode} -->"


def _parts(document: str) -> dict[str, str]:
    """The parts of a document by mode."""
    _, *pieces = _MARK.split(document)
    modes, texts = pieces[::2], pieces[1::2]
    return {mode: f"{text.strip()}\n" for mode, text in zip(modes, texts, strict=True)}


def _measured(result: Path) -> str:
    content = json.loads(result.read_text(encoding="utf-8"))
    # What was kept by earlier versions is one section.
    sections = content.get("sections") or [content["section"]]
    tables = "\n\n".join(Section(**one).markdown() for one in sections)
    facts = "; ".join(f"{name} {value}" for name, value in content["facts"].items())
    return f"{tables}\n\n*{facts}*\n"


_MARK = re.compile(r"^<!-- (\w+) -->$", re.MULTILINE)
