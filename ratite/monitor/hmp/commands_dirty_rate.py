"""How fast the guest writes to its memory, for people."""

from __future__ import annotations

from typing import Annotated

from ratite.migration.dirty_rate import DirtyRateMeasureMode
from ratite.monitor.commands import dirty_rate
from ratite.monitor.hmp.command import Flag, Number, Refusal, Shell, hmp
from ratite.qom import Named


@hmp(
    "calc_dirty_rate",
    "start a round of guest dirty rate measurement (using -r to\n"
    "\t\t\t specify dirty ring as the method of calculation and\n"
    "\t\t\t -b to specify dirty bitmap as method of calculation)",
)
def calc_dirty_rate(
    shell: Shell,
    second: Number,
    sample_pages: Annotated[Number | None, Named("sample_pages_per_GB")] = None,
    ring: Annotated[bool, Flag("r")] = False,
    bitmap: Annotated[bool, Flag("b")] = False,
) -> str:
    """Begin to measure."""
    if not second:
        raise Refusal("Incorrect period length specified!")
    if ring and bitmap:
        raise Refusal("Either dirty ring or dirty bitmap can be specified!")
    mode = DirtyRateMeasureMode.PAGE_SAMPLING
    if ring or bitmap:
        sample_pages = None
        mode = DirtyRateMeasureMode.DIRTY_RING if ring else DirtyRateMeasureMode.DIRTY_BITMAP
    dirty_rate.calc_dirty_rate(shell.vm, second, sample_pages, mode)
    return (
        f"Starting dirty rate measurement with period {second} seconds\n"
        "[Please use 'info dirty_rate' to check results]\n"
    )


@hmp("info dirty_rate", "show dirty rate information")
def info_dirty_rate(shell: Shell) -> str:
    """What was measured."""
    found = dirty_rate.query_dirty_rate(shell.vm)
    rate = "(not ready)" if found.dirty_rate is None else f"{found.dirty_rate} (MB/s)"
    return (
        f"Status: {found.status.value}\n"
        f"Start Time: {found.start_time} (ms)\n"
        f"Sample Pages: {found.sample_pages} (per GB)\n"
        f"Period: {found.calc_time} (sec)\n"
        f"Mode: {found.mode.value}\n"
        f"Dirty rate: {rate}\n"
    )


@hmp("set_vcpu_dirty_limit", "set dirty page rate limit, use cpu_index to set limit")
def set_vcpu_dirty_limit(
    shell: Shell, dirty_rate_: Number, cpu_index: Number | None = None
) -> None:
    """Limit what vCPUs write: that needs KVM, so that this fails."""
    dirty_rate.set_vcpu_dirty_limit(shell.vm, dirty_rate_, cpu_index)


@hmp("cancel_vcpu_dirty_limit", "cancel dirty page rate limit, use cpu_index to cancel")
def cancel_vcpu_dirty_limit(shell: Shell, cpu_index: Number | None = None) -> str:
    """Drop limits: there are none."""
    dirty_rate.cancel_vcpu_dirty_limit(shell.vm, cpu_index)
    return "[Please use 'info vcpu_dirty_limit' to query dirty limit for virtual CPU]\n"


@hmp("info vcpu_dirty_limit", "show dirty page limit information of all vCPU")
def info_vcpu_dirty_limit(shell: Shell) -> str:
    """The limits of vCPUs: none."""
    return "Dirty page limit not enabled!\n"
