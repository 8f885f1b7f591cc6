"""Real programs in Debian's kernel: busybox's gzip, shell, awk and others, and Lua, timed from
outside.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import geometric_mean, median

from bench.boot import Quiet, guest_options
from bench.guest_initrd import LUA, with_programs
from bench.report import Section
from bench.side_by_side import Plan, Session, alternate, have_qemu, qemu, ratite
from ratite.cli.guest import MARKER, fetch_guest

PREPARE = "cat /proc/kallsyms > /tmp/text"
PROGRAMS = {
    "gzip": "gzip -c /tmp/text > /tmp/text.gz",
    "gunzip": "for i in 1 2 3 4; do gunzip -c /tmp/text.gz > /dev/null; done",
    "shell loop": "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done",
    "awk": "awk 'BEGIN{for(i=0;i<300000;i++)s+=i*i%7;print s}'",
    "sha256sum": "cat /tmp/text /tmp/text /tmp/text /tmp/text | sha256sum",
    "sort": "sort -k3 /tmp/text > /dev/null",
    "processes": "i=0; while [ $i -lt 300 ]; do /bin/busybox true; i=$((i+1)); done",
    "lua": LUA,
}


def measure(plan: Plan) -> Section:
    """Boot each once per round, and type the programs one after another."""
    files = fetch_guest(Quiet())
    options = guest_options(files, with_programs(plan, files, Quiet()))

    def run(command: Callable[..., list[str]]) -> dict[str, float]:
        found = {}
        with Session(command(*options), timeout=300) as session:
            session.until(MARKER.encode())
            for name, text in {"": PREPARE, **PROGRAMS}.items():
                began = time.monotonic()
                session.send(f"{text} && echo fini''shed")
                session.until(b"finished")
                if name:
                    found[name] = time.monotonic() - began
        return found

    contestants: dict[str, Callable[[], dict[str, float]]] = {"ratite": lambda: run(ratite)}
    if have_qemu():
        contestants = {"QEMU": lambda: run(qemu), **contestants}
    results = alternate(plan, contestants)
    rows, ratios = [], []
    for name in PROGRAMS:
        seconds = {who: median(one[name] for one in runs) for who, runs in results.items()}
        ratio = seconds["QEMU"] / seconds["ratite"] if "QEMU" in seconds else 0.0
        ratios.append(ratio)
        shown = [f"{seconds[who]:.2f}" if who in seconds else "-" for who in ("QEMU", "ratite")]
        rows.append([name, *shown, f"{ratio:.2f}" if ratio else "-"])
    if all(ratios):
        rows.append(["geometric mean", "", "", f"{geometric_mean(ratios):.2f}"])
    return Section(
        "Programs in the booted guest",
        ["program", "QEMU s", "ratite s", "QEMU / ratite"],
        rows,
        (
            f"median of {plan.runs}; busybox and Lua 5.4 in Debian's kernel, 1 hart, 512 MiB, one "
            "by one",
            "the cache of compiled code is as earlier runs left it",
        ),
    )
