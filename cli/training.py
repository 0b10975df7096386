"""`train` and `worker`: one training from a TOML file, or a worker that does what ComfyUI queues."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import BadInput, Interrupted, WorkFailed
from . import runs
from .output import JsonFlag, emit, progress, say

if TYPE_CHECKING:
    from ..core.types import BaseModel, Dataset
    from ..trainer.config import TrainConfig
    from ..trainer.job import Job
    from ..trainer.spool import Spool

RunsRoot = Annotated[Path, typer.Option(help="Folder that holds all runs.")]
Backend = Annotated[str | None, typer.Option(help="Trainer: embedded.")]
SPOOL_VARIABLE = "LORA_ATELIER_SPOOL"
SpoolFolder = Annotated[
    Path | None,
    typer.Option(help=f"Folder of jobs; default: ${SPOOL_VARIABLE}, or ComfyUI's when started in its folder."),
]
COMFYUI_SPOOL = Path("user") / "lora_atelier" / "spool"


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("train", rich_help_panel="Stages")(train)
    app.command("worker", rich_help_panel="Training jobs")(worker)
    runs.register(app)


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration (TOML).", show_default=False)],
    out: RunsRoot = Path("runs"),
    backend: Backend = None,
    name: Annotated[str | None, typer.Option(help="Name of the run and of the LoRA; default: from the file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Train a LoRA from a configuration file; pictures need a .txt caption beside them."""
    from ..trainer.job import new_train_job

    settings = _settings(config, backend, name)
    folder, base = _paths(config, settings)
    job = new_train_job(settings, _dataset(folder, settings), _base(base), out)
    run_here(job, out, settings.schedule.max_steps, as_json)


def run_here(job: Job, runs_root: Path, max_steps: int, as_json: bool) -> None:
    """Do a job with a worker in this process, show its progress, print how the run ended."""
    from ..trainer.spool import Spool
    from ..worker.service import inline

    spool = Spool(runs_root.resolve() / ".spool")
    with inline(spool):
        spool.submit(job)
        try:
            run_path = follow_with_bar(spool, job.id, max_steps)
        except WorkFailed:
            failed = spool.state(job.id).run_path
            if as_json and failed:  # the sentence goes to stderr, the document still says what there is
                emit(runs.describe(Path(failed)), True, "")
            raise
    document = runs.describe(run_path)
    emit(document, as_json, runs.summary(document))
    if document["status"] == "stopped":
        raise typer.Exit(Interrupted.exit_code)


def follow_with_bar(spool: Spool, job_id: str, max_steps: int) -> Path:
    """Wait for the job with a bar of its steps; returns the run directory, raises WorkFailed when it failed."""
    from ..trainer.follow import follow

    with progress("Training") as report:
        run = follow(spool, job_id, _reporter(report, max_steps), lambda: None)
    return Path(run.path)


def _reporter(report: Callable[[int, int], None], max_steps: int) -> Callable[[dict[str, Any]], None]:
    def on_event(event: dict[str, Any]) -> None:
        if event.get("type") == "step":
            report(int(event["step"]), max_steps)

    return on_event


def _settings(path: Path, backend: str | None, name: str | None) -> TrainConfig:
    from ..trainer.config import config_from, load_config

    value = load_config(path).model_dump(mode="json")
    if backend is not None:
        value["backend"] = backend
    if name is not None:
        value["output"]["name"] = name
    return config_from(value, path.name)


def _paths(config: Path, settings: TrainConfig) -> tuple[Path, Path]:
    """Folder of pictures and base model; relative paths are meant from the configuration file."""
    for key, value in (("data.folder", settings.data.folder), ("model.base", settings.model.base)):
        if not value:
            raise BadInput(
                f"{config.name} does not say {key}.", "Set it to a path (relative to the file, or absolute)."
            )
    here = config.resolve().parent
    return here / Path(settings.data.folder).expanduser(), here / Path(settings.model.base).expanduser()


def _dataset(folder: Path, settings: TrainConfig) -> Dataset:
    from ..curation.prepare import dataset_from_folder
    from .curation import existing_folder

    return dataset_from_folder(existing_folder(folder), held_out=settings.data.held_out, seed=settings.schedule.seed)


def _base(path: Path) -> BaseModel:
    from ..trainer.base_models import describe

    return describe(path)


def worker(
    spool: Annotated[
        Path | None, typer.Option(help=f"Folder of jobs; default: ${SPOOL_VARIABLE}, ComfyUI's here.")
    ] = None,
    device: Annotated[str, typer.Option(help="Name of the device served; one worker per spool and device.")] = "auto",
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Leave when no job is waiting.")] = False,
) -> None:
    """Do the training and validation jobs that nodes in ComfyUI leave, one after the other; Ctrl-C ends it."""
    from ..trainer.spool import Spool
    from ..worker.service import Worker

    root = find_spool(spool)
    server = Worker(Spool(root), device=device, on_job=lambda job_id, status: say(f"{job_id}: {status}"))
    with _stop_on_signal(server.hurry) as stop:
        say(f"Waiting for jobs in {root} (Ctrl-C ends; a running training is stopped with its state saved).")
        server.serve(stop, until_idle=until_idle)
    if stop.is_set():
        raise typer.Exit(Interrupted.exit_code)


def find_spool(given: Path | None) -> Path:
    """The spool that is meant, absolute; BadInput when nothing says which."""
    if given is not None:
        return given.resolve()
    if named := os.environ.get(SPOOL_VARIABLE):
        return Path(named).resolve()
    if COMFYUI_SPOOL.parents[1].is_dir():
        return COMFYUI_SPOOL.resolve()
    raise BadInput(
        "It is not clear which spool to serve: this folder is not ComfyUI's.",
        "Start it in ComfyUI's folder, or name the spool with --spool (the Train LoRA node's message says it).",
    )


@contextmanager
def _stop_on_signal(hurry: threading.Event) -> Iterator[threading.Event]:
    """An event that Ctrl-C or TERM sets, so that the worker ends its job properly; a second one sets `hurry`."""
    stop = threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        if stop.is_set():
            hurry.set()
        else:
            say("Ending; a running training saves its state. Again to end at once.")
        stop.set()

    former = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
