"""What goes on in the background.

Source: QEMU's QMP reference, "Background jobs". Not modelled: jobs that pause, or that wait to be
completed or finalized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ratite.monitor.command import command
from ratite.monitor.errors import QmpError
from ratite.monitor.jobs import JobStatus, JobType
from ratite.monitor.vm import Vm
from ratite.qom import Doc


@dataclass(frozen=True)
class JobInfo:
    """One job."""

    id: str
    type: JobType
    status: JobStatus
    current_progress: int
    total_progress: Annotated[int, Doc("what `current-progress` is at the end")]
    error: Annotated[str | None, Doc("why it failed")] = None


@command("query-jobs")
def query_jobs(vm: Vm) -> list[JobInfo]:
    """All jobs that are not dismissed."""
    return [
        JobInfo(job.id, job.type, job.status, job.progress, job.total, job.error)
        for job in vm.hub.jobs.jobs.values()
    ]


@command("job-dismiss")
def job_dismiss(vm: Vm, id: str) -> None:
    """Forget a job that is over."""
    vm.hub.jobs.dismiss(id)


@command("job-cancel")
def job_cancel(vm: Vm, id: str) -> None:
    """Cancel a job whose work has not begun."""
    vm.hub.jobs.cancel(id)


@command("job-complete")
def job_complete(vm: Vm, id: str) -> None:
    """Complete a job that is ready for it: none ever waits for that, so that this fails."""
    vm.hub.jobs.expect(vm.hub.jobs.find(id), "complete", JobStatus.READY)


@command("job-finalize")
def job_finalize(vm: Vm, id: str) -> None:
    """Finalize a job that waits for it: none does, so that this fails."""
    vm.hub.jobs.expect(vm.hub.jobs.find(id), "finalize")


@command("job-pause")
def job_pause(vm: Vm, id: str) -> None:
    """Pause a job: none can be paused, so that this fails."""
    vm.hub.jobs.expect(vm.hub.jobs.find(id), "pause")


@command("job-resume")
def job_resume(vm: Vm, id: str) -> None:
    """Let a paused job go on: none is ever paused, so that this fails."""
    vm.hub.jobs.find(id)
    raise QmpError("Can't resume a job that was not paused")
