"""Running contestants in turn, and what their processes do."""

from __future__ import annotations

import os
import select
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console

T = TypeVar("T")

QEMU = "qemu-system-riscv64"
RATITE = "ratite-system-riscv64"


class BenchError(RuntimeError):
    """A contestant did not do what was asked; nothing is measured then."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a mode is told."""

    runs: int
    only: tuple[str, ...]  # names; empty: all
    work: Path  # for what is built, and results
    console: Console
    rounds: int = 16  # calls of a program's work in one run of it


def alternate(plan: Plan, contestants: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """One run of each contestant, in turn, `plan.runs` times over."""
    results: dict[str, list[T]] = {name: [] for name in contestants}
    for number in range(plan.runs):
        for name, run in contestants.items():
            plan.console.print(f"  round {number + 1}/{plan.runs}: {name}", style="dim")
            results[name].append(run())
    return results


def medians(results: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each contestant's runs."""
    return {name: statistics.median(values) for name, values in results.items()}


def ratite(*arguments: object) -> list[str]:
    """The command line of this tree's `ratite-system-riscv64`."""
    script = Path(sys.executable).with_name(RATITE)
    if script.exists():
        return [str(script), *map(str, arguments)]
    code = "import sys; from ratite.cli.system import main; sys.exit(main())"
    return [sys.executable, "-c", code, *map(str, arguments)]


def qemu(*arguments: object) -> list[str]:
    """The command line of the host's QEMU."""
    return [QEMU, *map(str, arguments)]


def have_qemu() -> bool:
    """Whether there is one."""
    return shutil.which(QEMU) is not None


def with_cache(directory: Path) -> dict[str, str]:
    """An environment in which ratite's caches are below `directory`."""
    return {**os.environ, "XDG_CACHE_HOME": str(directory)}


def run_to_end(command: list[str], *, timeout: float = 300) -> str:
    """The output of a program that must succeed."""
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
    )
    if result.returncode:
        raise BenchError(f"{' '.join(command)}: {result.stderr[-400:]}")
    return result.stdout


class Session:
    """A program whose output is watched, and which may be spoken to; killed at the end."""

    def __init__(
        self,
        command: list[str],
        *,
        environment: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> None:
        self.started = time.monotonic()
        self._name = " ".join(command)
        self._timeout = timeout
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()

    def send(self, line: str) -> None:
        """Type a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def until(self, marker: bytes) -> None:
        """Read until `marker` is in the output (empty: until the program has ended)."""
        assert self.process.stdout is not None
        stream = self.process.stdout
        deadline = time.monotonic() + self._timeout
        seen = bytearray()
        while not marker or marker not in seen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([stream], [], [], max(left, 0))
            data = os.read(stream.fileno(), 65536) if ready else b""
            if not data and (marker or not ready):
                text = seen[-400:].decode("utf-8", "replace")
                raise BenchError(f"{self._name}: no {marker!r} but {text!r}")
            if not data:
                self.process.wait(self._timeout)
                break
            seen += data

    def listen(self, hear: Callable[[str], None], *, until: float) -> bool:
        """Pass on what is put out until a moment of the monotonic clock. True if the output has
        ended.
        """
        assert self.process.stdout is not None
        stream = self.process.stdout
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([stream], [], [], left)
            data = os.read(stream.fileno(), 65536) if ready else b""
            if ready and not data:
                return True
            hear(data.decode("utf-8", "replace"))
        return False


def seconds_until(
    command: list[str],
    marker: bytes,
    *,
    environment: Mapping[str, str] | None = None,
    inspect: Callable[[int], None] = lambda pid: None,
) -> float:
    """Seconds from starting a program until `marker` is in its output (empty: until it has ended).

    `inspect` is called then with its process id; after that it is killed.
    """
    with Session(command, environment=environment) as session:
        session.until(marker)
        elapsed = time.monotonic() - session.started
        inspect(session.process.pid)
    return elapsed
