"""Debian's kernel from power-on to the shell's marker, one hart, with the same firmware."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.report import Section
from bench.side_by_side import (
    Plan,
    Session,
    alternate,
    have_qemu,
    medians,
    qemu,
    ratite,
    seconds_until,
    with_cache,
)
from bench.start import first_start
from ratite.cli.guest import MARKER, GuestFiles, fetch_guest

STAY_S = 10


class Quiet:
    """Progress for nobody."""

    def step(self, text: str) -> None:
        """Ignore it."""

    def percent(self, value: float) -> None:
        """Ignore it."""


def guest_options(files: GuestFiles, initrd: Path | None = None) -> list[object]:
    """The machine that is booted, with the guest's own initial RAM disk or another."""
    disk = initrd or files.initrd
    boot = ["-kernel", files.kernel, "-initrd", disk, "-append", "console=ttyS0"]
    return ["-M", "virt", "-m", "512M", "-nographic", "-bios", files.opensbi, *boot]


def measure(plan: Plan) -> Section:
    """Boot everywhere."""
    options = guest_options(fetch_guest(Quiet()))
    marker = MARKER.encode()
    with tempfile.TemporaryDirectory(prefix="ratite-bench-") as directory:
        fresh, warm = Path(directory) / "fresh", Path(directory) / "warm"
        first_start(plan, fresh)

        def cold_boot() -> float:
            cache = Path(directory) / "cold"
            shutil.rmtree(cache, ignore_errors=True)
            shutil.copytree(fresh, cache)
            return seconds_until(ratite(*options), marker, environment=with_cache(cache))

        def warm_boot() -> float:
            return seconds_until(ratite(*options), marker, environment=with_cache(warm))

        shutil.copytree(fresh, warm)
        with Session(ratite(*options), environment=with_cache(warm)) as session:
            session.until(marker)
            time.sleep(STAY_S)
        found: dict[str, Callable[[], float]] = {}
        if have_qemu():
            found["QEMU"] = lambda: seconds_until(qemu(*options), marker)
        found |= {"ratite, cold": cold_boot, "ratite, warm": warm_boot}
        seconds = medians(alternate(plan, found))
    rows = [
        [name, f"{value:.2f}", f"{value / seconds['QEMU']:.2f}" if "QEMU" in seconds else "-"]
        for name, value in seconds.items()
    ]
    return Section(
        "Boot of Debian's kernel to the shell",
        ["", "seconds", "of QEMU's"],
        rows,
        (
            f"median of {plan.runs}; wall time from starting the program, 1 hart, 512 MiB, OpenSBI",
            "cold: no code of this guest in the cache; warm: the same guest was booted "
            f"before, and stayed at the shell for {STAY_S} s",
        ),
    )
