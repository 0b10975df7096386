"""`validate` and `select`: pictures of every checkpoint, their scores, and the one to take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import BadInput, Interrupted
from ..core.files import read_json, write_json
from ..core.rundir import RunDir, open_run
from .curation import Detector, ModelsDir
from .output import JsonFlag, emit, progress, table
from .runs import Name, Root, find_run

if TYPE_CHECKING:
    from ..core.types import Choice, ScoreTable, ValidationPlan

Plan = Annotated[Path | None, typer.Option(help="Validation plan (JSON) instead of the one the run was trained with.")]
Steps = Annotated[str, typer.Option(help="Only these checkpoints, as steps separated by commas.")]
Draw = Annotated[bool, typer.Option(help="Draw pictures that are missing; otherwise only score those that are there.")]
Dial = Annotated[float, typer.Option(min=0, max=1, help="0 prefers likeness to the pictures, 1 freedom of prompts.")]


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("validate", rich_help_panel="Stages")(validate)
    app.command("select", rich_help_panel="Stages")(select)


def validate(
    run: Name,
    root: Root = None,
    plan: Plan = None,
    steps: Steps = "",
    draw: Draw = True,
    detector: Detector = "auto",
    models_dir: ModelsDir = None,
    as_json: JsonFlag = False,
) -> None:
    """Draw the validation pictures of a run's checkpoints where they are missing, and score them all."""
    from ..curation import detectors
    from ..validation.plan import plan_of
    from ..validation.score import score_run

    opened = open_run(find_run(run, root))
    wanted = _read_plan(plan) if plan else plan_of(opened)
    finder = detectors.make(detector, models_dir)
    chosen = _steps(steps)
    before = len(opened.samples())
    if draw and wanted is not None and _missing(opened, wanted, chosen):
        _draw(opened, wanted, chosen)
    with progress("Scoring") as report:
        scores = score_run(opened, finder, plan=wanted, progress=report)
    document = _scored(opened, scores, len(opened.samples()) - before)
    emit(document, as_json, _scored_text(document))


def _read_plan(path: Path) -> ValidationPlan:
    from ..core.types import ValidationPlan

    return ValidationPlan.from_json(read_json(path))


def _steps(line: str) -> tuple[int, ...]:
    parts = [part.strip() for part in line.split(",") if part.strip()]
    if wrong := [part for part in parts if not part.isdecimal()]:
        raise BadInput(f"--steps: {wrong[0]!r} is not a whole number.", "Example: --steps 290,580.")
    return tuple(int(part) for part in parts)


def _missing(run: RunDir, plan: ValidationPlan, steps: tuple[int, ...]) -> bool:
    """Whether any picture of the plan is not there yet; also the base model's, without which nothing can be scored."""
    there = {(sample.step, sample.prompt, sample.seed) for sample in run.samples()}
    wanted = steps or tuple(checkpoint.step for checkpoint in run.checkpoints())
    pairs = [(prompt.id, seed) for prompt in plan.prompts for seed in plan.seeds]
    return any((step, *pair) not in there for step in (0, *wanted) for pair in pairs)


def _draw(run: RunDir, plan: ValidationPlan, steps: tuple[int, ...]) -> None:
    from ..trainer.follow import follow
    from ..trainer.job import new_validate_job
    from ..trainer.spool import Spool
    from ..worker.service import inline

    spool = Spool(run.path.parent / ".spool")
    job = new_validate_job(run.path, plan, (0, *steps) if steps else None)
    with inline(spool), progress("Drawing") as report:
        spool.submit(job)
        total = (1 + len(steps or run.checkpoints())) * len(plan.prompts) * len(plan.seeds)
        drawn = 0

        def on_event(event: dict[str, Any]) -> None:
            nonlocal drawn
            if event.get("type") == "sample":
                drawn += 1
                report(drawn, total)

        follow(spool, job.id, on_event, lambda: None)
        state = spool.state(job.id)
    if state.status == "stopped":
        raise Interrupted(state.message, state.hint)


def _scored(run: RunDir, scores: ScoreTable, drawn: int) -> dict[str, Any]:
    from collections import Counter

    return {
        "run": str(run.path),
        "scores": str(run.scores_file),
        "drawn": drawn,
        "pictures": len(run.samples()),
        "checkpoints": sorted({row.step for row in scores.rows if isinstance(row.step, int) and row.step > 0}),
        "metrics": dict(sorted(Counter(row.metric for row in scores.rows).items())),
    }


def _scored_text(document: dict[str, Any]) -> str:
    rows = [(name, str(count)) for name, count in document["metrics"].items()]
    head = f"{document['pictures']} pictures ({document['drawn']} new) of {len(document['checkpoints'])} checkpoints"
    return "\n".join([head, table([("metric", "values"), *rows], indent="  "), f"scores: {document['scores']}"])


def select(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A scored run's folder or name.")] = None,
    root: Root = None,
    scores: Annotated[Path | None, typer.Option(help="A scores file (JSON lines) instead of a run.")] = None,
    dial: Dial = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling behind the intervals.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Recommend a checkpoint with its uncertainty, and say from when on the run was over-trained."""
    from ..validation import scores as files
    from ..validation.selection import choice_json, choose

    if (run is None) == (scores is None):
        raise BadInput("select needs either a run or --scores FILE.", "Example: lora-atelier select runs/my-run")
    opened = open_run(find_run(run, root)) if run else None
    path = opened.scores_file if opened else scores
    assert path is not None
    if opened and not path.is_file():
        raise BadInput(f"The run {opened.path.name} has no scores yet.", f"First: lora-atelier validate {run}")
    choice = choose(files.load(path), dial=dial, seed=seed)
    document = choice_json(choice)
    if opened:
        write_json(opened.choice_file, document)
    emit(document, as_json, choice_text(choice))


def choice_text(choice: Choice) -> str:
    """The recommendation for people."""
    lines = [
        choice.outcome.replace("_", " ") + (f": step {choice.recommended_step}" if choice.recommended_step else "")
    ]
    if choice.near_optimal_steps:
        lines.append(f"as good as the best: {', '.join(map(str, choice.near_optimal_steps))}")
    lines += choice.reasons
    lines += [f"{axis}: {onset.message or f'worse from step {onset.step}'}" for axis, onset in _onsets(choice)]
    lines += [f"step {item.step} left out: {item.reason}" for item in choice.excluded]
    lines += [f"not known: {text}" for text in choice.missing]
    return "\n".join(lines)


def _onsets(choice: Choice) -> list[tuple[str, Any]]:
    return [(axis, onset) for axis, onset in choice.onset.items() if onset]
