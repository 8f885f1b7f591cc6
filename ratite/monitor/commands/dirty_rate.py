"""How fast the guest writes to its memory, and limits of that.

Source: QEMU's QMP reference, `calc-dirty-rate`, `set-vcpu-dirty-limit`. Not modelled: limits, which
need KVM's dirty ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from ratite.migration.dirty_rate import DirtyRateMeasureMode, DirtyRateStatus
from ratite.monitor.command import command
from ratite.monitor.errors import QmpError
from ratite.monitor.vm import Vm
from ratite.qom import Doc


@command("calc-dirty-rate")
def calc_dirty_rate(
    vm: Vm,
    calc_time: Annotated[int, Doc("seconds to measure for, 1 to 60")],
    sample_pages: Annotated[
        int | None, Doc("pages to look at of each gibibyte, 128 to 16384")
    ] = None,
    mode: DirtyRateMeasureMode = DirtyRateMeasureMode.PAGE_SAMPLING,
) -> None:
    """Begin to measure how fast the guest writes to its memory; `query-dirty-rate` tells the
    result. A migration that begins meanwhile ends a measurement with the bitmap."""
    vm.migration.dirty_rate.start(calc_time, mode, sample_pages)


@dataclass(frozen=True)
class DirtyRateVcpu:
    """What one vCPU writes."""

    id: int
    dirty_rate: int


@dataclass(frozen=True)
class DirtyRateInfo:
    """The measurement that goes on or was the last."""

    status: DirtyRateStatus
    start_time: Annotated[int, Doc("of the host's clock, in seconds")]
    calc_time: Annotated[int, Doc("seconds")]
    sample_pages: Annotated[int, Doc("of each gibibyte; 0 where none are sampled")]
    mode: DirtyRateMeasureMode
    dirty_rate: Annotated[int | None, Doc("MiB a second, once it is measured")] = None
    vcpu_dirty_rate: list[DirtyRateVcpu] | None = None


@command("query-dirty-rate")
def query_dirty_rate(vm: Vm) -> DirtyRateInfo:
    """How fast the guest writes to its memory, as measured last."""
    found = vm.migration.dirty_rate
    return DirtyRateInfo(
        found.status,
        found.start_time,
        found.calc_time,
        found.sample_pages,
        found.mode,
        found.rate if found.status is DirtyRateStatus.MEASURED else None,
    )


@command("set-vcpu-dirty-limit")
def set_vcpu_dirty_limit(
    vm: Vm,
    dirty_rate: Annotated[int, Doc("MiB a second")],
    cpu_index: Annotated[int | None, Doc("all vCPUs if not given")] = None,
) -> None:
    """Slow vCPUs down that write too fast. That needs KVM, so that this fails."""
    raise QmpError(
        "dirty page limit feature requires KVM with accelerator property 'dirty-ring-size' set'"
    )


@command("cancel-vcpu-dirty-limit")
def cancel_vcpu_dirty_limit(vm: Vm, cpu_index: int | None = None) -> None:
    """Drop limits: there are none."""


@command("query-vcpu-dirty-limit")
def query_vcpu_dirty_limit(vm: Vm) -> list[Any]:
    """The limits of vCPUs: none."""
    return []
