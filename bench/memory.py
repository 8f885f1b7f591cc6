"""Host memory beyond guest RAM when Debian's kernel has booted."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.boot import Quiet, guest_options
from bench.report import Section
from bench.side_by_side import (
    BenchError,
    Plan,
    alternate,
    have_qemu,
    medians,
    qemu,
    ratite,
    seconds_until,
    with_cache,
)
from bench.start import first_start
from ratite.cli.guest import MARKER, fetch_guest

GUEST_RAM_KIB = 512 << 10


def beyond_guest_ram(pid: int, field: str = "VmHWM") -> float:
    """MiB of a process's memory that are not guest RAM: at its peak, or now (`VmRSS`)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    resident = re.search(rf"{field}:\s*(\d+) kB", status)
    maps = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8", errors="replace")
    sizes = re.findall(r"^Size:\s*(\d+) kB(?:\n.*?)*?\nRss:\s*(\d+) kB", maps, re.MULTILINE)
    ram = [int(rss) for size, rss in sizes if int(size) >= GUEST_RAM_KIB and int(rss) > 1024]
    if resident is None or not ram:
        raise BenchError(f"process {pid}: guest RAM is not among its mappings")
    return (int(resident[1]) - max(ram)) / 1024


def measure(plan: Plan) -> Section:
    """Boot everywhere and look at the process."""
    options = guest_options(fetch_guest(Quiet()))
    marker = MARKER.encode()

    def run(command: list[str], environment: dict[str, str] | None = None) -> float:
        found: list[float] = []
        seconds_until(
            command,
            marker,
            environment=environment,
            inspect=lambda pid: found.append(beyond_guest_ram(pid)),
        )
        return found[0]

    with tempfile.TemporaryDirectory(prefix="ratite-bench-") as directory:
        cache = with_cache(Path(directory))
        first_start(plan, Path(directory))
        contestants: dict[str, Callable[[], float]] = {}
        if have_qemu():
            contestants["QEMU"] = lambda: run(qemu(*options))
        contestants["ratite"] = lambda: run(ratite(*options), cache)
        size = medians(alternate(plan, contestants))
    return Section(
        "Memory",
        ["", "MiB beyond guest RAM"],
        [[name, f"{value:.0f}"] for name, value in size.items()],
        (
            f"median of {plan.runs}; at the shell's marker, 1 hart, 512 MiB: peak resident size, "
            "less what is resident of guest RAM",
        ),
    )
