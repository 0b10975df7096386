"""Making a run directory and changing its status; one writer at a time, every file whole."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..core.files import append_json_line, read_json, write_json, write_json_lines, write_text
from ..core.rundir import RunDir, open_run
from ..core.types import Dataset, Status
from .config import config_hash, to_toml
from .job import TrainJob, to_json

_FACTS = ("message", "hint", "started", "ended", "pid", "process_started", "boot_id", "step")


def create_run(job: TrainJob) -> RunDir:
    """A new run directory with everything a backend needs, or the directory named by `job.resume`, made ready again."""
    if job.resume is not None:
        return _reopen(job, open_run(Path(job.resume)))
    run = RunDir(_fresh_path(job))
    _write_inputs(run, job)
    write_json(run.status_file, _first_status(job))
    return run


def set_status(run: RunDir, status: Status, **facts: Any) -> None:
    """Publish a new status; `facts` are further fields of run.json (message, pid, step, ...)."""
    value = read_json(run.status_file)
    write_json(run.status_file, {**value, **facts, "status": status})


def append_event(run: RunDir, kind: str, **facts: Any) -> dict[str, Any]:
    """Append one event with its type and time (unix seconds) to the ledger and return it."""
    event = {"type": kind, **facts, "time": round(time.time(), 3)}
    append_json_line(run.events_file, event)
    return event


def manifest(dataset: Dataset) -> list[dict[str, Any]]:
    """The dataset as the lines of dataset/manifest.jsonl."""
    return [item.to_json() for item in dataset.items]


def _write_inputs(run: RunDir, job: TrainJob) -> None:
    write_json(run.job_file, to_json(job))
    write_text(run.config_file, to_toml(job.config))
    write_json_lines(run.manifest_file, manifest(job.dataset))


def _first_status(job: TrainJob) -> dict[str, Any]:
    return {
        "version": 1,
        "status": "queued",
        "backend": job.config.backend,
        "name": job.config.output.name,
        "config_hash": config_hash(job.config),
        "job_id": job.id,
        "created": round(time.time(), 3),
        "max_steps": job.config.schedule.max_steps,
        **dict.fromkeys(_FACTS),
        "step": 0,
    }


def _fresh_path(job: TrainJob) -> Path:
    """`<name>-<UTC>-<hash6>`, made here so that two runs started in the same second cannot share it."""
    stem = f"{job.config.output.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{config_hash(job.config)[:6]}"
    root = Path(job.runs_root)
    for number in range(1, 1000):
        path = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise BadInput(f"Too many runs called {stem} in {root}.")


def _reopen(job: TrainJob, run: RunDir) -> RunDir:
    old = run.status()
    if old["status"] in ("preparing", "running", "stopping"):
        raise BadInput(f"The run {run.path.name} is still {old['status']}.", "Wait for it or cancel it first.")
    before = read_json(run.job_file)
    now = to_json(job)
    changed = [key for key in ("dataset", "base") if before[key] != now[key]]
    changed += [f"config.{key}" for key in _fixed_changes(before["config"], now["config"])]
    if changed:
        raise BadInput(
            f"The run {run.path.name} cannot be resumed with other settings ({', '.join(changed)}).",
            "Only schedule.max_steps, validation.*, precision.threads and output.save_every may change; "
            "start a new run for the rest.",
        )
    _write_inputs(run, job)
    keep = {"created": old.get("created"), "step": old.get("step")}
    write_json(run.status_file, {**_first_status(job), **keep})
    return run


def _fixed_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Keys whose change would make the continued run another experiment."""
    free = {"schedule.max_steps", "precision.threads", "precision.device", "output.save_every", "output.reserve_mb"}
    changed = []
    for section, values in now.items():
        if section == "validation":
            continue
        if not isinstance(values, dict):
            changed += [section] if before.get(section) != values else []
            continue
        keys = [key for key, value in values.items() if before.get(section, {}).get(key) != value]
        changed += [f"{section}.{key}" for key in keys if f"{section}.{key}" not in free]
    return changed
