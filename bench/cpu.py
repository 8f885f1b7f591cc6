"""Compute: bare programs on each executor, and the same sources natively. The program times itself,
so that starting does not count; translating does.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import geometric_mean, median

from bench.report import Section
from bench.side_by_side import BenchError, Plan, alternate, have_qemu, qemu, ratite, run_to_end
from bench.suite import Outcome, Program, build

TIER_0, TIER_1 = "tier 0", "tier 1"
QEMU, NATIVE = "QEMU", "native"


def measure(plan: Plan) -> Section:
    """Run every program everywhere."""
    rows = []
    ratios: dict[str, list[float]] = {}
    for program in build(plan):
        plan.console.print(program.name)
        outcomes = alternate(plan, contestants(program))
        check_agreement(program, outcomes)
        time = {name: median(run.seconds for run in runs) for name, runs in outcomes.items()}
        instructions = outcomes[TIER_0][0].instructions
        mips = instructions / time[TIER_0] / 1e6
        ratios.setdefault("mips", []).append(mips)
        ratios.setdefault("native", []).append(time[TIER_1] / time[NATIVE])
        cells = [f"{instructions / 1e6:.0f}", f"{time[NATIVE]:.3f}"]
        if QEMU in time:
            ratios.setdefault("qemu", []).append(time[QEMU] / time[TIER_1])
            ratios.setdefault("qemu 0", []).append(time[QEMU] / time[TIER_0])
        cells += [f"{time[QEMU]:.3f}" if QEMU in time else "-"]
        cells += [f"{time[TIER_0]:.3f}", f"{mips:.0f}", f"{time[TIER_1]:.3f}"]
        cells += [f"{time[QEMU] / time[TIER_1]:.2f}" if QEMU in time else "-"]
        rows.append([program.name, *cells, f"{time[TIER_1] / time[NATIVE]:.1f}"])
    mean = {name: geometric_mean(values) for name, values in ratios.items()}
    qemu_mean = f"{mean['qemu']:.2f}" if "qemu" in mean else "-"
    rows.append(
        ["geometric mean", *[""] * 4, f"{mean['mips']:.0f}", "", qemu_mean, f"{mean['native']:.1f}"]
    )
    columns = ["program", "M instr.", "native s", "QEMU s", "tier 0 s", "tier 0 MIPS"]
    return Section(
        "Compute, bare programs",
        [*columns, "tier 1 s", "QEMU / tier 1", "tier 1 / native"],
        rows,
        (
            f"median of {plan.runs}; seconds inside the guest, one hart, machine mode",
            "tier 1 is the default: it starts in tier 0, and its code cache is as earlier runs "
            "left it",
            "native: gcc -O2 on the host; QEMU: qemu-system-riscv64 -M virt -bios none",
        ),
    )


def contestants(program: Program) -> dict[str, Callable[[], Outcome]]:
    """Who runs a program, and how."""
    board = ["-M", "virt", "-bios", "none", "-display", "none", "-serial", "stdio", "-kernel"]

    def runner(command: list[str]) -> Callable[[], Outcome]:
        return lambda: Outcome.parse(run_to_end(command))

    found = {NATIVE: runner([str(program.native)])}
    if have_qemu():
        found[QEMU] = runner(qemu(*board, program.bare))
    found[TIER_0] = runner(ratite(*board, program.bare, "-accel", "tcg,tier=0"))
    found[TIER_1] = runner(ratite(*board, program.bare))
    return found


def check_agreement(program: Program, outcomes: dict[str, list[Outcome]]) -> None:
    """Everybody must have computed the same."""
    sums = {name: {run.checksum for run in runs} for name, runs in outcomes.items()}
    if len(set.union(*sums.values())) != 1:
        raise BenchError(f"{program.name}: the results differ: {sums}")
