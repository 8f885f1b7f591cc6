"""A busy guest for a long time: harts that pack, hash, compute, start processes and write code, and
know what must come out. Watched are the guest's own verdicts, whether every worker gets on, and the
host memory.

    python -m bench soak [--minutes N] [--harts N]

Ends with 0 if all was well; with 1 if the guest or the program failed, or memory grew after the
warm-up, a third of the time.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console

from bench.boot import Quiet, guest_options
from bench.guest_initrd import PROGRAMS, with_programs
from bench.memory import beyond_guest_ram
from bench.qmp import Qmp
from bench.report import Section
from bench.side_by_side import BenchError, Plan, Session, ratite
from bench.suite import CROSS
from ratite.cli.guest import MARKER, fetch_guest

WORKERS = ("pack", "processes", "shell", "script", "code")
TROUBLE = re.compile(
    r"soak FAIL|BUG:|Oops|panic|soft lockup|stall|segfault|unhandled signal|Illegal instruction"
    r"|Segmentation fault|Call Trace"
)
PROGRESS = re.compile(r"soak (\w+) (\d+)")
PERIOD_S = 5.0
ALLOWED_MIB = 16.0
"""How much more memory the last part of the time may have than the first after the warm-up."""
BUFFER_MIB = 32
"""For translated code: small, so that it fills and is emptied."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at some moment."""

    seconds: float  # since the work began
    mib: float  # host memory beyond guest RAM
    blocks: int
    regions: int  # compiled, or taken from the cache
    flushes: int
    rounds: dict[str, int]  # by worker


@dataclass(slots=True)
class Watch:
    """What the guest has said."""

    rounds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WORKERS, 0))
    trouble: list[str] = field(default_factory=list)
    _rest: str = ""

    def hear(self, text: str) -> None:
        """Take some output."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if TROUBLE.search(line):
                self.trouble.append(line.strip())
            match = PROGRESS.search(line)
            if match is not None and match[1] in self.rounds:
                self.rounds[match[1]] = max(self.rounds[match[1]], int(match[2]))


def verdict(samples: Sequence[Sample], trouble: Sequence[str]) -> list[str]:
    """What was wrong, in lines; nothing if all was well."""
    found = [f"the guest: {line}" for line in trouble[:10]]
    steady = steady_part(samples)
    if len(steady) < 4:
        return [*found, "too short a time to say anything"]
    first, last = steady[0], steady[-1]
    found += [
        f"{worker} got no further than round {last.rounds[worker]}"
        for worker in WORKERS
        if last.rounds[worker] == first.rounds[worker]
    ]
    growth = growth_of(steady)
    if growth > ALLOWED_MIB:
        found.append(f"memory grew by {growth:.0f} MiB after the warm-up")
    return found


def steady_part(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The samples after the warm-up."""
    return samples[len(samples) // 3 :]


def growth_of(steady: Sequence[Sample]) -> float:
    """MiB from the first quarter of the samples to the last."""
    part = max(1, len(steady) // 4)
    early, late = (median(one.mib for one in half) for half in (steady[:part], steady[-part:]))
    return late - early


def report(samples: Sequence[Sample]) -> Section:
    """Some ten of the samples."""
    step = max(1, len(samples) // 10)
    shown = [*samples[::step], *([samples[-1]] if (len(samples) - 1) % step else [])]
    rows = [
        [
            f"{one.seconds / 60:.1f}",
            f"{one.mib:.0f}",
            *(str(value) for value in (one.blocks, one.regions, one.flushes)),
            *(str(one.rounds[worker]) for worker in WORKERS),
        ]
        for one in shown
    ]
    columns = ["minutes", "MiB", "blocks", "regions", "flushes", *WORKERS]
    notes = ("MiB: host memory beyond guest RAM; the last columns: rounds of each worker",)
    return Section("Soak", columns, rows, notes)


def soak(plan: Plan, minutes: float, harts: int) -> tuple[list[Sample], list[str]]:
    """Do it. Raises `BenchError` if the guest does not even begin."""
    files = fetch_guest(Quiet())
    more = {"soak": (PROGRAMS / "soak.sh").read_bytes(), "soak_code": _build(plan)}
    options = guest_options(files, with_programs(plan, files, Quiet(), more))
    with tempfile.TemporaryDirectory(prefix="ratite-soak-") as directory:
        socket = Path(directory) / "qmp"
        accel = f"tcg,tb-size={BUFFER_MIB}"
        control = ["-qmp", f"unix:{socket},server=on,wait=off"]
        command = ratite(*options, "-smp", harts, "-accel", accel, *control)
        with Session(command, timeout=300) as session, Qmp(socket) as qmp:
            session.until(MARKER.encode())
            session.send("/soak")
            return _watch(plan, session, qmp, minutes)


def _watch(
    plan: Plan, session: Session, qmp: Qmp, minutes: float
) -> tuple[list[Sample], list[str]]:
    watch, samples = Watch(), list[Sample]()
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < minutes * 60:
        ended = session.listen(watch.hear, until=time.monotonic() + PERIOD_S)
        if ended:
            status = session.process.wait(30)
            return samples, [*watch.trouble, f"the program ended with status {status}"]
        samples.append(_sample(session.process.pid, qmp, elapsed, watch))
        plan.console.print(
            f"  {elapsed / 60:5.1f} min  {samples[-1].mib:.0f} MiB  "
            + "  ".join(f"{name} {count}" for name, count in watch.rounds.items()),
            style="dim",
        )
    return samples, [*watch.trouble, *_end(session, qmp, watch)]


def _sample(pid: int, qmp: Qmp, elapsed: float, watch: Watch) -> Sample:
    text = qmp.command("x-query-jit")["human-readable-text"]

    def number(label: str) -> int:
        match = re.search(rf"^{label} +(\d+)", text, re.M)
        return int(match[1]) if match is not None else 0

    regions = number("Regions compiled") + number("Regions from cache")
    counts = number("TB count"), regions, number("TB flush count")
    return Sample(elapsed, beyond_guest_ram(pid, "VmRSS"), *counts, dict(watch.rounds))


def _end(session: Session, qmp: Qmp, watch: Watch) -> list[str]:
    """End the machine; what was wrong with that."""
    qmp.command("quit")
    deadline = time.monotonic() + 60
    while not session.listen(watch.hear, until=time.monotonic() + 1):
        if time.monotonic() > deadline:
            return ["the program did not end when it was told to"]
    status = session.process.wait(30)
    return [f"the program ended with status {status}"] if status else []


def _build(plan: Plan) -> bytes:
    """The worker that writes code."""
    output = plan.work / "soak_code"
    plan.work.mkdir(parents=True, exist_ok=True)
    options = "-O2 -static -nostdlib -ffreestanding".split()
    source = PROGRAMS / "soak_code.c"
    try:
        subprocess.run([CROSS, *options, "-o", output, source], check=True)
    except OSError as error:
        raise BenchError(f"no {CROSS}: apt install gcc-riscv64-linux-gnu") from error
    return output.read_bytes()


def main(words: Sequence[str]) -> int:
    """`python -m bench soak`; the result is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long (default 10)")
    parser.add_argument("--harts", type=int, default=4, help="harts (default 4)")
    options = parser.parse_args(words)
    plan = Plan(1, (), Path("build/bench").absolute(), Console(stderr=True))
    samples, trouble = soak(plan, options.minutes, options.harts)
    if samples:
        Console(width=120).print(report(samples).table())
    wrong = verdict(samples, trouble)
    for line in wrong:
        print(f"soak: {line}")
    if not wrong:
        steady = steady_part(samples)
        print(f"soak: well; memory after the warm-up {growth_of(steady):+.0f} MiB")
    return 1 if wrong else 0
