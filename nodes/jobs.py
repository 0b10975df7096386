"""Leaving jobs in the spool and following them: what a node shows while the worker works."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import BadInput
from ..core.types import Run
from . import host

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..trainer.job import Job
    from ..trainer.spool import Spool

_START_WAIT_SECONDS = 15.0


def need_worker(spool: Spool) -> None:
    """BadInput with the command that starts a worker when none lives: nothing is queued that nobody would do."""
    if spool.worker() is None:
        raise BadInput(
            "No LoRA Atelier worker is running, so nobody would do this job.",
            f'Start one in a terminal and queue again: lora-atelier worker --spool "{spool.root}"',
        )


def follow_job(job: Job, node_id: str | None, total: int) -> tuple[Run, Image | None]:
    """Submit and wait, moving the node's bar; returns the run and the newest validation picture.

    Cancel in the host stops the job (the worker keeps the last checkpoint) and raises the host's own exception.
    """
    from ..trainer.follow import follow

    spool = host.spool()
    need_worker(spool)
    watcher = Watcher(spool, job.id, node_id, total)
    spool.submit(job)
    run = follow(spool, job.id, watcher.on_event, watcher.check)
    return run, watcher.newest


def submit_job(job: Job, config_hash: str, backend: str) -> Run:
    """Submit and come back once the worker has made the run directory (or is busy with another job)."""
    spool = host.spool()
    need_worker(spool)
    spool.submit(job)
    deadline = time.monotonic() + _START_WAIT_SECONDS
    while time.monotonic() < deadline:
        host.check_interrupt()
        state = spool.state(job.id)
        if state.run_path is not None and (Path(state.run_path) / "run.json").is_file():
            from ..trainer.follow import run_wire

            return run_wire(Path(state.run_path))
        if state.final:
            raise BadInput(state.message or "The worker did not take the job.", state.hint)
        time.sleep(0.1)
    return Run("", backend, "queued", config_hash, job.id)


class Watcher:
    """Turns ledger events into the node's progress bar, text and preview."""

    def __init__(self, spool: Spool, job_id: str, node_id: str | None, total: int) -> None:
        self._spool, self._job_id, self._total = spool, job_id, total
        self._report = host.progress(node_id)
        self._step, self._text = 0, "waiting for the worker"
        self._changed = True
        self._pictures = 0
        self.newest: Image | None = None

    def on_event(self, event: dict[str, Any]) -> None:
        """Remember what an event says; shown at the next `check`, so that old events do not flood the page."""
        kind = event.get("type")
        if kind == "phase":
            self._text = str(event["name"])
        elif kind == "step":
            self._step = int(event["step"])
            loss = event.get("loss")  # null when it was not a finite number
            shown = f"{loss:.4f}" if isinstance(loss, (int, float)) else "not finite"
            self._text = f"step {self._step} of {self._total}, loss {shown}"
        elif kind == "sample":
            self._pictures += 1
            self._preview(str(event["path"]))
        else:
            return
        self._changed = True

    def check(self) -> None:
        """Show what is new; raises when the user pressed cancel."""
        host.check_interrupt()
        if self._changed:
            self._changed = False
            self._report(min(self._step, self._total), self._total, self.newest, self._text)

    def _preview(self, path: str) -> None:
        from ..core.images import PictureError, open_rgb

        run_path = self._spool.state(self._job_id).run_path
        try:
            self.newest = open_rgb(Path(run_path or "") / path)
        except PictureError:  # a preview is not worth stopping for; scoring says what is wrong with the picture
            self._text = f"{self._text} (a validation picture cannot be read)"


def steps_of(line: str) -> tuple[int, ...] | None:
    """Whole numbers separated by commas; None for an empty line."""
    parts = [part.strip() for part in line.split(",") if part.strip()]
    wrong = [part for part in parts if not part.isdecimal()]
    if wrong:
        raise BadInput(f"{wrong[0]!r} is not a whole number.", "Write numbers separated by commas, such as 1, 2, 3.")
    return tuple(int(part) for part in parts) or None
