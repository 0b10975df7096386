"""The spool: a folder of small whole files through which nodes, command line and worker talk without a socket."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..core.files import read_json, write_json
from ..core.types import FINAL_STATUSES
from .job import JOB_ID, Job, load_job, to_json

HEARTBEAT_SECONDS = 1.0
DEAD_AFTER_SECONDS = 10.0
MAX_WAITING = 1000


@dataclass(frozen=True)
class WorkerInfo:
    """A worker that gave a sign of life within the last ten seconds."""

    pid: int
    started: float
    beat: float
    devices: tuple[str, ...] = ()
    job: str | None = None
    token: str = ""


@dataclass(frozen=True)
class JobState:
    """How far a job is: status, where its run lives, and why it failed."""

    status: str = "queued"
    run_path: str | None = None
    message: str = ""
    hint: str = ""
    updated: float = 0.0

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in FINAL_STATUSES


class Spool:
    """One spool folder: `jobs/<id>.json`, `state/<id>.json`, `cancel/<id>`, `worker.json`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def submit(self, job: Job) -> str:
        """Write the job document and return its id; raises BadInput when it is there already or the queue is full."""
        path = self._path("jobs", job.id, ".json")
        if path.exists():
            raise BadInput(f"The job {job.id} was submitted already.")
        if len(self.waiting()) >= MAX_WAITING:
            raise BadInput(f"{MAX_WAITING} jobs are waiting already.", "Let the worker finish some, or cancel them.")
        write_json(path, to_json(job))
        return job.id

    def load(self, job_id: str) -> Job:
        """The job document; raises BadInput when there is none or it is damaged."""
        return load_job(self._path("jobs", job_id, ".json"))

    def jobs(self) -> list[str]:
        """Ids of all jobs, oldest first."""
        folder = self.root / "jobs"
        names = [path.stem for path in folder.glob("*.json")] if folder.is_dir() else []
        return sorted((name for name in names if re.match(JOB_ID, name)), key=_by_time)

    def waiting(self) -> list[str]:
        """Ids of jobs that no worker has taken yet and nobody has cancelled, oldest first."""
        return [name for name in self.jobs() if self.state(name).status == "queued" and not self.cancelled(name)]

    def state(self, job_id: str) -> JobState:
        """What is known of a job; `queued` until a worker writes something."""
        path = self._path("state", job_id, ".json")
        if not path.exists():
            return JobState()
        known = {field.name for field in fields(JobState)}
        return JobState(**{key: value for key, value in read_json(path).items() if key in known})

    def set_state(self, job_id: str, state: JobState) -> None:
        """Worker side: publish the state of a job."""
        write_json(self._path("state", job_id, ".json"), {**asdict(state), "updated": round(time.time(), 3)})

    def cancel(self, job_id: str) -> None:
        """Ask the worker to stop a job; asking twice, or after its end, changes nothing."""
        path = self._path("cancel", job_id, "")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def cancelled(self, job_id: str) -> bool:
        """Whether somebody asked to stop the job."""
        return self._path("cancel", job_id, "").exists()

    def worker(self) -> WorkerInfo | None:
        """The worker that serves this spool, or None when its last sign of life is older than ten seconds."""
        info = self._worker_file()
        # A beat from the future (the clock was set back) counts as fresh only within the same margin.
        return info if info and abs(time.time() - info.beat) < DEAD_AFTER_SECONDS else None

    def beat(self, info: WorkerInfo) -> None:
        """Worker side: publish a sign of life, about once a second."""
        write_json(self.root / "worker.json", {**asdict(info), "beat": time.time()})

    def new_worker(self, devices: Sequence[str] = ()) -> WorkerInfo:
        """Worker side: this process as a worker, not published yet."""
        return WorkerInfo(os.getpid(), time.time(), time.time(), tuple(devices), None, secrets.token_hex(8))

    def leave(self, info: WorkerInfo) -> None:
        """Worker side: take the sign of life away at a regular end."""
        present = self._worker_file()
        if present and present.token == info.token:
            (self.root / "worker.json").unlink(missing_ok=True)

    def _worker_file(self) -> WorkerInfo | None:
        path = self.root / "worker.json"
        if not path.exists():
            return None
        try:
            value: dict[str, Any] = read_json(path)
            known = {field.name for field in fields(WorkerInfo)}
            value = {key: item for key, item in value.items() if key in known}
            return WorkerInfo(**{**value, "devices": tuple(value.get("devices", ()))})
        except (BadInput, TypeError):
            return None

    def _path(self, folder: str, job_id: str, suffix: str) -> Path:
        if re.match(JOB_ID, job_id) is None:
            raise BadInput(f"{job_id[:80]!r} is not a job id.")
        return self.root / folder / f"{job_id}{suffix}"


def _by_time(job_id: str) -> str:
    return job_id.split("-", 1)[1]
