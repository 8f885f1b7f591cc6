"""Device accesses: what one costs, from the guest's load to the device and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.report import Section
from bench.side_by_side import Plan, alternate, have_qemu, medians, qemu, ratite, seconds_until
from bench.start import assemble, bare_options

FEW, MANY = 1_000, 401_000

READS = """\
	.section .text.start, "ax"
	.globl _start
_start:	li	t0, 0x10000000
	li	t2, {count}
1:	lbu	t1, 5(t0)
	addi	t2, t2, -1
	bnez	t2, 1b
	li	t0, 0x100000
	li	t1, 0x5555
	sw	t1, 0(t0)
2:	j	2b
"""


def measure(plan: Plan) -> Section:
    """Read the serial port's line status in a loop."""
    guests = {
        count: assemble(plan, f"reads{count}", READS.format(count=count)) for count in (FEW, MANY)
    }

    def read(command: Callable[..., list[str]]) -> float:
        def run(kernel: Path) -> float:
            return seconds_until(command(*bare_options(kernel)), b"")

        return (run(guests[MANY]) - run(guests[FEW])) / (MANY - FEW) * 1e6

    contestants: dict[str, Callable[[], float]] = {"ratite": lambda: read(ratite)}
    if have_qemu():
        contestants = {"QEMU": lambda: read(qemu), **contestants}
    cost = medians(alternate(plan, contestants))
    return Section(
        "Device accesses",
        ["", "us per access"],
        [[name, f"{value:.2f}"] for name, value in cost.items()],
        (
            f"median of {plan.runs}; {MANY - FEW:,} reads of the UART's line status in a loop",
            "ratite's devices are Python: each access leaves the generated code and returns",
        ),
    )
