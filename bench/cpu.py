"""Compute: bare programs on each executor, and the same sources natively. The program times itself,
so that starting does not count; translating does.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import geometric_mean, median

from bench.report import Section
from bench.side_by_side import BenchError, Plan, alternate, have_qemu, qemu, ratite, run_to_end
from bench.suite import Outcome, Program, build

TIER_0, COLD, WARM = "tier 0", "tier 1 cold", "tier 1 warm"
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
        cells = [f"{instructions / 1e6:.0f}", f"{time[NATIVE]:.2f}"]
        cells += [f"{time[QEMU]:.2f}" if QEMU in time else "-"]
        cells += [f"{time[TIER_0]:.2f}", f"{mips:.0f}", f"{time[COLD]:.2f}", f"{time[WARM]:.2f}"]
        for name in (COLD, WARM):
            if QEMU in time:
                ratios.setdefault(name, []).append(time[QEMU] / time[name])
            cells += [f"{time[QEMU] / time[name]:.2f}" if QEMU in time else "-"]
        ratios.setdefault("native", []).append(time[WARM] / time[NATIVE])
        rows.append([program.name, *cells, f"{time[WARM] / time[NATIVE]:.1f}"])
    mean = {name: geometric_mean(values) for name, values in ratios.items()}
    beside_qemu = [f"{mean[name]:.2f}" if name in mean else "-" for name in (COLD, WARM)]
    ends = [*beside_qemu, f"{mean['native']:.1f}"]
    rows.append(["geometric mean", *[""] * 4, f"{mean['mips']:.0f}", "", "", *ends])
    columns = ["program", "M instr.", "native s", "QEMU s", "tier 0 s", "tier 0 MIPS"]
    return Section(
        "Compute, bare programs",
        [*columns, "cold s", "warm s", "QEMU / cold", "QEMU / warm", "warm / native"],
        rows,
        (
            f"median of {plan.runs}; seconds inside the guest, one hart, machine mode",
            f"each program does its work {plan.rounds} times",
            "cold and warm: tier 1, the default, without a cache of compiled code (cache=off), and "
            "with what the runs before have left in it",
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
    found[COLD] = runner(ratite(*board, program.bare, "-accel", "tcg,cache=off"))
    found[WARM] = runner(ratite(*board, program.bare))
    return found


def check_agreement(program: Program, outcomes: dict[str, list[Outcome]]) -> None:
    """Everybody must have computed the same."""
    sums = {name: {run.checksum for run in runs} for name, runs in outcomes.items()}
    if len(set.union(*sums.values())) != 1:
        raise BenchError(f"{program.name}: the results differ: {sums}")
