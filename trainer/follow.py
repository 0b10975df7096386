"""Following a job from a node or the command line: new ledger events, interrupts, and how it ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.errors import Interrupted, WorkFailed
from ..core.rundir import RunDir
from ..core.types import Run
from .spool import DEAD_AFTER_SECONDS, JobState, Spool

_STOP_WAIT_SECONDS = 60.0


def follow(
    spool: Spool,
    job_id: str,
    on_event: Callable[[dict[str, Any]], None],
    check: Callable[[], None],
    poll: float = 0.25,
) -> Run:
    """Wait until the job ends, giving every new event to `on_event`; returns the run when it is done or stopped.

    `check` may raise the host's interrupt: the job is then cancelled, waited for, and the exception raised again.
    Raises WorkFailed when the job failed or no worker lives.
    """
    tail = EventTail()
    try:
        state = _wait(spool, job_id, tail, on_event, check, poll)
    except BaseException:
        # BaseException: hosts raise their interrupt from either branch of the hierarchy.
        spool.cancel(job_id)
        _wait_for_end(spool, job_id, poll)
        raise
    return _outcome(job_id, state)


def run_wire(path: Path) -> Run:
    """The run in a directory as a wire."""
    status = RunDir(path).status()
    return Run(
        str(path), status["backend"], status["status"], status.get("config_hash", ""), status.get("job_id", "") or ""
    )


class EventTail:
    """Reads what was appended to a run's ledger since the last look; a line still being written is left for later."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._offset = 0

    def start_at_end(self, path: Path) -> None:
        """Skip what is in the ledger already (a resumed run)."""
        self._path, self._offset = path, path.stat().st_size if path.exists() else 0

    def new(self, run_path: str | None) -> list[dict[str, Any]]:
        """Events appended since the last call, in order."""
        if run_path is None:
            return []
        path = self._path = RunDir(Path(run_path)).events_file
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines() if line.strip()]


def _wait(
    spool: Spool,
    job_id: str,
    tail: EventTail,
    on_event: Callable[[dict[str, Any]], None],
    check: Callable[[], None],
    poll: float,
) -> JobState:
    seen = time.monotonic()
    while True:
        check()
        state = spool.state(job_id)  # before the events: whatever came before a final state is then in the ledger
        for event in tail.new(state.run_path):
            on_event(event)
        if state.final:
            return state
        if spool.worker() is not None:
            seen = time.monotonic()
        elif time.monotonic() - seen > DEAD_AFTER_SECONDS:
            raise WorkFailed(
                "The worker gave no sign of life for ten seconds.",
                "Start it again with: lora-atelier worker. It will go on with this job or mark it resumable.",
            )
        time.sleep(poll)


def _wait_for_end(spool: Spool, job_id: str, poll: float) -> None:
    deadline = time.monotonic() + _STOP_WAIT_SECONDS
    while time.monotonic() < deadline and spool.worker() is not None and not spool.state(job_id).final:
        if spool.state(job_id).status == "queued" and spool.cancelled(job_id):
            return
        time.sleep(poll)


def _outcome(job_id: str, state: JobState) -> Run:
    if state.status == "failed":
        raise WorkFailed(state.message or "The job failed.", state.hint)
    if state.run_path is None:
        raise Interrupted(state.message or f"The job {job_id} was cancelled before it began.")
    return run_wire(Path(state.run_path))
