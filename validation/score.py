"""Scoring a run: look once at every validation and training picture, measure every metric, write the scores file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import BadInput
from ..core.faces import FaceFinder
from ..core.images import PictureError, open_array
from ..core.rundir import RunDir, Sample
from ..core.types import Score, ScoreTable, ValidationPlan
from . import scores
from .metrics import PICTURE_MODULES, heldout_loss, train_loss, valid_frame
from .metrics.base import Scene, Sight
from .metrics.face_found import expects_face
from .metrics.reference import Reference, learn
from .metrics.sight import look
from .plan import plan_of, prompts_by_id

if TYPE_CHECKING:
    import numpy as np

MOST_TRAINING_PICTURES = 300  # an even selection of a larger set is enough to know its style by
_STYLE_SIDE = 256
_OF_DATA = ("face_found", "face_confidence", "face_sharpness", "style_distance")
_LOSS_PROMPT = "fixed"


@dataclass(frozen=True)
class _Watch:
    """Counts pictures for the caller's progress bar and lets the caller stop the work between pictures."""

    total: int
    progress: Callable[[int, int], None] | None
    check: Callable[[], None] | None

    def at(self, done: int) -> None:
        if self.check:
            self.check()
        if self.progress:
            self.progress(done, self.total)


def score_run(
    run: RunDir,
    finder: FaceFinder | None,
    *,
    plan: ValidationPlan | None = None,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[], None] | None = None,
) -> ScoreTable:
    """Measure all validation pictures of `run` and write `evaluation/scores.jsonl`.

    Without a `finder`, faces are not judged. `progress(done, total)` counts pictures; `check` may raise to stop.
    Raises BadInput when the run has no validation pictures.
    """
    samples = run.samples()
    if not any(sample.step > 0 for sample in samples):
        raise BadInput("The run has no validation pictures.", "Train with a validation plan, or run Validate first.")
    plan = plan or plan_of(run)
    training = _training_files(run)
    watch = _Watch(len(training) + len(samples), progress, check)
    # Training pictures are looked at as the model saw them: no finer than the pictures it is asked to draw.
    longest = max(_size_of(samples[0].path, plan))
    side = min(_STYLE_SIDE, longest)
    reference = learn(_look_at_data(training, finder, longest, side, watch))
    sights = _look_at_samples(samples, finder, plan, side, watch, len(training))
    rows = [*rows_of_data(reference), *rows_of_pictures(sights, reference), *rows_of_losses(run.ledger("fixed_loss"))]
    table = ScoreTable(tuple(rows), str(run.path))
    scores.save(run.scores_file, table)
    return table


def rows_of_pictures(sights: dict[int, list[Sight]], reference: Reference) -> list[Score]:
    """Scores of looked-at pictures by step; a broken picture has `valid_frame` 0 and nothing else."""
    base = [sight for sight in sights.get(0, []) if sight.fault is None]
    rows: list[Score] = []
    cache: dict[str, float] = {}
    for step, pictures in sorted(sights.items()):
        sound = [sight for sight in pictures if sight.fault is None]
        scene = Scene(sound, base, reference, cache)
        for sight in pictures:
            rows.append(Score(step, sight.prompt, sight.seed, "valid_frame", 0.0 if sight.fault else 1.0))
            if sight.fault is None:
                rows += _measured(sight, scene, step)
    return rows


def rows_of_data(reference: Reference) -> list[Score]:
    """What the training pictures themselves score: the anchor at which a metric counts as 1."""
    rows: list[Score] = []
    scene = Scene(reference.sights, (), reference)
    styled = [sight for sight in reference.sights if sight.style is not None]
    for index, sight in enumerate(reference.sights):
        for module in PICTURE_MODULES:
            name = module.METRIC.name
            if name not in _OF_DATA or name == "style_distance":
                continue
            value = module.measure(sight, scene)
            if value is not None:
                rows.append(Score("data", sight.prompt, index, name, round(value, 6)))
    for index, sight in enumerate(styled if reference.style else ()):
        own = float(reference.style.own[index]) if reference.style else 1.0
        rows.append(Score("data", sight.prompt, index, "style_distance", round(own, 6)))
    return rows


def rows_of_losses(events: Iterable[dict[str, Any]]) -> list[Score]:
    """Losses at fixed noise and timesteps as ratios to step 0, one row per step."""
    events = list(events)
    return [
        Score(step, _LOSS_PROMPT, 0, module.METRIC.name, round(value, 6))
        for module in (heldout_loss, train_loss)
        for step, value in module.measure(events).items()
    ]


def faults(run: RunDir) -> list[tuple[Sample, valid_frame.Fault]]:
    """Validation pictures that are black, flat, torn or unreadable, each with its likely cause."""
    found = ((sample, _fault(sample.path)) for sample in run.samples())
    return [(sample, fault) for sample, fault in found if fault]


def _measured(sight: Sight, scene: Scene, step: int) -> list[Score]:
    values = ((module.METRIC.name, module.measure(sight, scene)) for module in PICTURE_MODULES)
    return [Score(step, sight.prompt, sight.seed, name, round(value, 6)) for name, value in values if value is not None]


def _training_files(run: RunDir) -> list[tuple[Path, str, str]]:
    """(path, id, caption) of training pictures, evenly chosen when there are very many."""
    items = [item for item in run.manifest() if item.get("split", "train") == "train"]
    items.sort(key=lambda item: str(item["sha256"]))
    every = -(-len(items) // MOST_TRAINING_PICTURES) or 1
    root = run.path / "dataset"
    return [(root / item["path"], str(item["sha256"])[:12], str(item.get("caption") or "")) for item in items[::every]]


def _look_at_data(
    files: Sequence[tuple[Path, str, str]], finder: FaceFinder | None, longest: int, side: int, watch: _Watch
) -> list[Sight]:
    sights: list[Sight] = []
    for done, (path, name, caption) in enumerate(files):
        watch.at(done)
        pixels = _open(path, longest)
        if pixels is not None:  # a training picture that has since been deleted is one voice less, not an error
            sights.append(look(pixels, finder, prompt=name, side=side, expected=expects_face(caption)))
    return sights


def _look_at_samples(
    samples: Sequence[Sample], finder: FaceFinder | None, plan: ValidationPlan | None, side: int, watch: _Watch,
    before: int,
) -> dict[int, list[Sight]]:  # fmt: skip
    prompts = prompts_by_id(plan)
    sights: dict[int, list[Sight]] = {}
    for done, sample in enumerate(samples):
        watch.at(before + done)
        prompt = prompts.get(sample.prompt)
        expected = expects_face(prompt.text if prompt else sample.prompt)
        pixels = _open(sample.path)
        sights.setdefault(sample.step, []).append(
            Sight(sample.prompt, sample.seed, fault="unreadable", face_expected=expected)
            if pixels is None
            else look(pixels, finder, prompt=sample.prompt, seed=sample.seed, side=side, expected=expected)
        )
    watch.at(watch.total)
    return sights


def _open(path: Path, longest: int | None = None) -> np.ndarray | None:
    try:
        return open_array(path, longest)
    except (PictureError, FileNotFoundError):
        return None


def _fault(path: Path) -> valid_frame.Fault | None:
    pixels = _open(path)
    if pixels is None:
        return valid_frame.Fault("unreadable", valid_frame.FAULTS["unreadable"])
    return valid_frame.inspect(pixels)


def _size_of(path: Path, plan: ValidationPlan | None) -> tuple[int, int]:
    if plan:
        return plan.width, plan.height
    pixels = _open(path)
    return (pixels.shape[1], pixels.shape[0]) if pixels is not None else (_STYLE_SIDE, _STYLE_SIDE)
