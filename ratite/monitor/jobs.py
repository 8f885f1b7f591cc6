"""Jobs: work that a command starts and that goes on after its answer.

Source: QEMU's QMP reference, "Background jobs"; states, their order and error texts are its.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ratite.core.errors import ConfigError, HostError
from ratite.monitor.errors import QmpError
from ratite.monitor.event import EventBus, event

if TYPE_CHECKING:
    from ratite.core.loop import Loop


class JobType(Enum):
    """What a job does."""

    COMMIT = "commit"
    STREAM = "stream"
    MIRROR = "mirror"
    BACKUP = "backup"
    CREATE = "create"
    AMEND = "amend"
    SNAPSHOT_LOAD = "snapshot-load"
    SNAPSHOT_SAVE = "snapshot-save"
    SNAPSHOT_DELETE = "snapshot-delete"


class JobStatus(Enum):
    """How far it is."""

    UNDEFINED = "undefined"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    READY = "ready"
    STANDBY = "standby"
    WAITING = "waiting"
    PENDING = "pending"
    ABORTING = "aborting"
    CONCLUDED = "concluded"
    NULL = "null"


@event("JOB_STATUS_CHANGE")
@dataclass(frozen=True)
class JobStatusChange:
    """A job has come to another state."""

    id: str
    status: JobStatus


@dataclass
class Job:
    """One job."""

    id: str
    type: JobType
    status: JobStatus = JobStatus.UNDEFINED
    progress: int = 0
    total: int = 1
    error: str | None = None
    cancelled: bool = False


_ID = re.compile(r"[a-zA-Z][a-zA-Z0-9._-]*")


class Jobs:
    """The jobs of one machine. Used on the main loop, with the machine lock held."""

    def __init__(self, loop: Loop, events: EventBus) -> None:
        self.jobs: dict[str, Job] = {}
        self._loop = loop
        self._events = events

    def start(self, id: str, type: JobType, work: Callable[[], object]) -> Job:
        """Begin a job; `work` is done at once after the command's answer. Raises `QmpError`."""
        if not _ID.fullmatch(id):
            raise QmpError(f"Invalid job ID '{id}'")
        if id in self.jobs:
            raise QmpError(f"Job ID '{id}' already in use")
        job = self.jobs[id] = Job(id, type)
        self._to(job, JobStatus.CREATED, JobStatus.RUNNING)
        self._loop.post(lambda: self._run(job, work))
        return job

    def find(self, id: str) -> Job:
        """A job by its id. Raises `QmpError`."""
        if id not in self.jobs:
            raise QmpError("Job not found")
        return self.jobs[id]

    def dismiss(self, id: str) -> None:
        """Forget a job that is over. Raises `QmpError`."""
        job = self.find(id)
        self.expect(job, "dismiss", JobStatus.CONCLUDED)
        self._to(job, JobStatus.NULL)
        del self.jobs[id]

    def cancel(self, id: str) -> None:
        """Have a job that has not begun its work do nothing. Raises `QmpError`."""
        job = self.find(id)
        self.expect(job, "cancel", JobStatus.CREATED, JobStatus.RUNNING)
        job.cancelled = True

    def expect(self, job: Job, verb: str, *states: JobStatus) -> None:
        """Raise `QmpError` unless the job is in one of these states."""
        if job.status not in states:
            raise QmpError(
                f"Job '{job.id}' in state '{job.status.value}' cannot accept command verb '{verb}'"
            )

    def close(self) -> None:
        """Forget all."""
        for job in self.jobs.values():
            self._to(job, JobStatus.NULL)
        self.jobs.clear()

    def _run(self, job: Job, work: Callable[[], object]) -> None:
        if self.jobs.get(job.id) is not job:
            return
        try:
            if job.cancelled:
                raise QmpError("Operation canceled")
            work()
        except (QmpError, ConfigError, HostError) as error:
            job.error = str(error)
            job.progress = job.total
            self._to(job, JobStatus.ABORTING, JobStatus.CONCLUDED)
        else:
            job.progress = job.total
            self._to(job, JobStatus.WAITING, JobStatus.PENDING, JobStatus.CONCLUDED)

    def _to(self, job: Job, *states: JobStatus) -> None:
        for state in states:
            job.status = state
            self._events.emit(JobStatusChange(job.id, state))
