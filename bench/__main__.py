"""Runs measurements, prints their tables, and writes them to docs/reference/performance.md.

    python -m bench [MODE ...] [--runs N] [--only NAME,...] [--no-write]
    python -m bench soak [--minutes N] [--harts N]

Without a mode all are run. Every mode runs its contestants in turn, round after round, on the host
as it is: leave it alone meanwhile. `soak` compares nothing: see bench/soak.py.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench import boot, cpu, devices, growth, guest, memory, soak, start
from bench.report import Section, host_facts, save, write_document
from bench.side_by_side import Plan

MODES: dict[str, Callable[[Plan], Section | Sequence[Section]]] = {
    "cpu": cpu.measure,
    "boot": boot.measure,
    "start": start.measure,
    "memory": memory.measure,
    "devices": devices.measure,
    "guest": guest.measure,
    "growth": growth.measure,
}


def main(words: list[str]) -> int:
    """Run what the words name; the result is the exit status."""
    if words[:1] == ["soak"]:
        return soak.main(words[1:])
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("modes", nargs="*", metavar="MODE", help=", ".join(MODES))
    parser.add_argument("--runs", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--only", default="", help="programs of the cpu mode, comma-separated")
    parser.add_argument("--no-write", action="store_true", help="only print")
    options = parser.parse_args(words)
    unknown = set(options.modes) - set(MODES)
    if unknown:
        parser.error(f"no mode {', '.join(sorted(unknown))}; there are: {', '.join(MODES)}")
    # Python keeps compiled modules, as it does for every user who does not forbid it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    console = Console(stderr=True)
    tables = Console(width=None if sys.stdout.isatty() else 120)
    plan = Plan(
        runs=options.runs,
        only=tuple(filter(None, options.only.split(","))),
        work=Path("build/bench").absolute(),
        console=console,
    )
    for mode in options.modes or MODES:
        found = MODES[mode](plan)
        sections = [found] if isinstance(found, Section) else found
        for section in sections:
            tables.print(section.table())
        if not options.no_write:
            save(plan.work, mode, sections, host_facts())
    if not options.no_write:
        path = write_document(plan.work, tuple(MODES), Path("docs/reference/performance.md"))
        console.print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
