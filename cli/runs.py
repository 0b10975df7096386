"""`runs list|show|watch|cancel|resume`: what became of a training, and what to do with it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import BadInput, WorkFailed
from ..core.rundir import RunDir, open_run
from ..core.types import FINAL_STATUSES
from .output import JsonFlag, emit, say, table

if TYPE_CHECKING:
    from ..trainer.spool import Spool

Name = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's folder, or its name below --runs.", show_default=False)
]
Root = Annotated[Path | None, typer.Option("--runs", help="Folder of runs; default: runs, output/runs or ComfyUI's.")]
SpoolOption = Annotated[Path | None, typer.Option("--spool", help="Spool that the job was queued in; usually found.")]
_ROOTS = (Path("runs"), Path("output/lora_atelier/runs"), Path("output/runs"), Path("demo-out/runs"))


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    group = typer.Typer(no_args_is_help=True, help="List, show, watch, cancel and resume trainings.")
    group.command("list")(list_runs)
    group.command("show")(show)
    group.command("watch")(watch)
    group.command("cancel")(cancel)
    group.command("resume")(resume)
    app.add_typer(group, name="runs", rich_help_panel="Training jobs")


def list_runs(root: Root = None, as_json: JsonFlag = False) -> None:
    """All runs, the newest first."""
    folder = _root(root)
    found = [path for path in folder.iterdir() if (path / "run.json").is_file()] if folder else []
    rows = sorted((_row(RunDir(path)) for path in found), key=lambda row: row["created"] or 0, reverse=True)
    lines = [("run", "status", "step", "created"), *((r["name"], r["status"], _steps(r), _when(r)) for r in rows)]
    emit(rows, as_json, table(lines) if rows else "There are no runs here.")


def show(run: Name, root: Root = None, as_json: JsonFlag = False) -> None:
    """How a run stands or ended."""
    document = describe(find_run(run, root))
    emit(document, as_json, summary(document))


def watch(run: Name, root: Root = None, as_json: JsonFlag = False) -> None:
    """Follow a running training until it ends; Ctrl-C only ends the watching."""
    from ..trainer.follow import EventTail

    path = find_run(run, root)
    tail = EventTail()
    while True:
        status = RunDir(path).status()["status"]
        for event in tail.new(str(path)):
            if line := _event_line(event):
                say(line)
        if status in FINAL_STATUSES:
            break
        time.sleep(0.5)
    document = describe(path)
    emit(document, as_json, summary(document))


def cancel(run: Name, root: Root = None, spool: SpoolOption = None, as_json: JsonFlag = False) -> None:
    """Ask the worker to stop a training; its state and last checkpoint are kept."""
    path = find_run(run, root)
    status = RunDir(path).status()
    if status["status"] in FINAL_STATUSES:
        raise BadInput(f"The run {path.name} is {status['status']} already.")
    place = _spool_of(status["job_id"], path, spool)
    place.cancel(status["job_id"])
    if place.worker() is None:
        raise WorkFailed("No worker is alive to stop it.", "The next worker on this spool marks the run stopped.")
    emit({"run": str(path), "job_id": status["job_id"], "cancelled": True}, as_json, f"Asked to stop: {path.name}")


def resume(
    run: Name,
    root: Root = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Train up to this step instead.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Continue a stopped or failed training exactly where its last state was saved."""
    from ..trainer.job import resume_job
    from .training import run_here

    path = find_run(run, root)
    _mark_if_dead(RunDir(path))
    job = resume_job(path, max_steps)
    run_here(job, path.parent, job.config.schedule.max_steps, as_json)


def find_run(name: str, root: Path | None = None) -> Path:
    """The run directory meant by a path or a name; BadInput when there is none."""
    direct = Path(name)
    if (direct / "run.json").is_file():
        return direct.resolve()
    folder = _root(root)
    known = [path.name for path in folder.iterdir() if (path / "run.json").is_file()] if folder else []
    if name in known and folder:
        return (folder / name).resolve()
    starting = [known_name for known_name in known if known_name.startswith(name)]
    if len(starting) == 1 and folder:
        return (folder / starting[0]).resolve()
    if len(starting) > 1:
        raise BadInput(f"{len(starting)} runs start with {name!r}.", f"Say more: {', '.join(sorted(starting)[:5])}")
    raise BadInput(f"There is no run {name!r}.", "'lora-atelier runs list --runs DIR' shows what is there.")


def describe(path: Path) -> dict[str, Any]:
    """The document that `train --json` and `runs show --json` print."""
    run = open_run(path)
    status = run.status()
    return {
        "run": str(path),
        "job_id": status.get("job_id"),
        "backend": status.get("backend"),
        "status": status["status"],
        "message": status.get("message") or "",
        "hint": status.get("hint") or "",
        "step": status.get("step") or 0,
        "max_steps": status.get("max_steps"),
        "checkpoints": [str(checkpoint.path) for checkpoint in run.checkpoints()],
        "samples": len(run.samples()),
    }


def summary(document: dict[str, Any]) -> str:
    """The same for people."""
    count = len(document["checkpoints"])
    lines = [
        f"{document['status']}: {document['message']} {document['hint']}".rstrip(),
        f"step {document['step']} of {document['max_steps']}, {count} checkpoints, {document['samples']} pictures",
        f"run: {document['run']}",
    ]
    return "\n".join(lines)


def _root(given: Path | None) -> Path | None:
    if given is not None:
        if not given.is_dir():
            raise BadInput(f"The folder {str(given)!r} does not exist.", "Give the folder that holds the runs.")
        return given
    return next((root for root in _ROOTS if root.is_dir()), None)


def _row(run: RunDir) -> dict[str, Any]:
    status = run.status()
    keys = ("status", "backend", "step", "max_steps", "created")
    return {"name": run.path.name, **{key: status.get(key) for key in keys}, "path": str(run.path.resolve())}


def _steps(row: dict[str, Any]) -> str:
    return f"{row['step'] or 0} of {row['max_steps']}"


def _when(row: dict[str, Any]) -> str:
    return datetime.fromtimestamp(row["created"] or 0, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _event_line(event: dict[str, Any]) -> str | None:
    kind = event.get("type")
    if kind == "step":
        loss = event.get("loss")
        return f"step {event['step']}: loss {'not finite' if loss is None else f'{loss:.4f}'}"
    if kind == "phase":
        return f"{event['name']} ..."
    if kind == "checkpoint":
        return f"checkpoint {event['path']}"
    return str(event["message"]) if kind == "note" else None


def _spool_of(job_id: str, run: Path, given: Path | None) -> Spool:
    """The spool that holds the job: given, or found where our own commands and ComfyUI put it."""
    from ..trainer.spool import Spool
    from .training import COMFYUI_SPOOL, find_spool

    near = [run.parent / ".spool", run.parent.parent / ".atelier" / "spool"]
    near += [parent / COMFYUI_SPOOL for parent in run.parents[2:4]]
    places = [find_spool(given)] if given else near
    for place in places:
        if (place / "jobs" / f"{job_id}.json").is_file():
            return Spool(place)
    raise BadInput(f"The job {job_id} of this run is in none of the known spools.", "Name the spool with --spool.")


def _mark_if_dead(run: RunDir) -> None:
    """A run whose worker was killed still says 'running'; it may be resumed once its process is certainly gone."""
    from ..trainer.run_writer import set_status
    from ..worker.process import Identity

    status = run.status()
    if status["status"] in FINAL_STATUSES or status["status"] == "queued":
        return
    identity = Identity.from_status(status)
    if identity is not None and identity.alive() is not None:
        raise BadInput(f"The run {run.path.name} is still running.", "Watch it with 'runs watch', or cancel it first.")
    set_status(run, "stopped", message="The worker ended while it ran.", pid=None)
