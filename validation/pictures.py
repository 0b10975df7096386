"""What a run looks like: loss curves, quality curves, checkpoint grid, before and after; as SVG and as PIL pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from ..core.charts import (
    GOOD,
    PALETTE,
    WARN,
    Band,
    Mark,
    Panel,
    Series,
    panel_bytes,
    panel_image,
    picture_grid,
)
from ..core.errors import BadInput
from ..core.files import publish, write_bytes
from ..core.images import PictureError, open_rgb
from ..core.rundir import RunDir, Sample
from ..core.types import Choice, Prompt
from .metrics import heldout_loss, train_loss
from .plan import plan_of, prompts_by_id

Theme = Literal["light", "dark"]
AXIS_TITLES = {
    "identity": "Faces",
    "style": "Style",
    "flexibility": "Flexibility",
    "health": "Health",
}
AXIS_COLORS = dict(zip(AXIS_TITLES, (PALETTE[1], PALETTE[0], PALETTE[2], PALETTE[3]), strict=True))
_LOSS_SIZE, _CURVES_SIZE = (900, 560), (900, 720)
_MOST_POINTS = 600


def loss_curve(run: RunDir, theme: Theme = "dark") -> Image.Image:
    """Training loss, and the losses at fixed noise where they were measured."""
    return panel_image(_loss_panels(run), x_label="step", size=_LOSS_SIZE, columns=1, theme=theme)


def loss_curve_svg(run: RunDir) -> bytes:
    """The same as an SVG that follows light and dark."""
    panels = _loss_panels(run)
    size = _LOSS_SIZE if len(panels) > 1 else (900, 360)
    return panel_bytes(panels, "svg", x_label="step", size=size, columns=1)


def quality_curves(choice: Choice, theme: Theme = "dark") -> Image.Image:
    """Overall quality and the axes with their 90 % bands, the recommended step, its equals, and onsets."""
    return panel_image(_quality_panels(choice), x_label="step", log_x=True, size=_size(choice), theme=theme)


def quality_curves_svg(choice: Choice) -> bytes:
    """The same as an SVG that follows light and dark."""
    return panel_bytes(_quality_panels(choice), "svg", x_label="step", log_x=True, size=_size(choice))


def checkpoint_grid(
    run: RunDir,
    choice: Choice | None = None,
    *,
    rows: int = 12,
    columns: int = 8,
    cell: int = 144,
    theme: Theme = "dark",
) -> Image.Image:
    """Steps down, prompts x seeds across; the recommended row is framed. At most `rows` x `columns` pictures."""
    samples = {(s.step, s.prompt, s.seed): s for s in run.samples()}
    if not samples:
        raise BadInput("The run has no validation pictures to show.", "Run Validate first.")
    best = choice.recommended_step if choice else None
    steps = _some_steps(sorted({step for step, _, _ in samples}), choice, rows)
    pairs = _some_pairs(run, list(samples.values()), columns)
    cells = [[_picture(samples.get((step, prompt, seed))) for prompt, seed in pairs] for step in steps]
    labels = ["base model" if step == 0 else f"step {step}" for step in steps]
    place = steps.index(best) if best in steps else None
    if place is not None:
        labels[place] += "\nrecommended"
    headings = _headings(run, pairs, cell)
    return picture_grid(
        cells, labels, headings, cell=cell, highlight=(place, -1) if place is not None else None, theme=theme
    )


def before_after(
    run: RunDir, choice: Choice, *, columns: int = 6, cell: int = 176, theme: Theme = "dark"
) -> Image.Image:
    """Three rows: the base model, the recommended checkpoint on the same prompts and seeds, and training pictures."""
    samples = {(s.step, s.prompt, s.seed): s for s in run.samples()}
    step = choice.recommended_step or max((key[0] for key in samples), default=0)
    own = [sample for sample in samples.values() if sample.step == step]
    if not own or step == 0:
        raise BadInput("The run has no validation pictures to compare.", "Run Validate first.")
    pairs = _some_pairs(run, own, columns)
    rows = [[_picture(samples.get((at, prompt, seed))) for prompt, seed in pairs] for at in (0, step)]
    rows.append(_training_pictures(run, len(pairs)))
    labels = ["before:\nbase model", f"after:\nstep {step}", "training\npictures"]
    return picture_grid(rows, labels, _headings(run, pairs, cell), cell=cell, highlight=(1, -1), theme=theme)


def write_pictures(run: RunDir, choice: Choice) -> dict[str, Path]:
    """Write loss.svg, curves.svg, grid.webp and before_after.webp into `evaluation/`; {name: path} of what could be."""
    folder = run.evaluation_dir
    written = {
        "curves": write_bytes(folder / "curves.svg", quality_curves_svg(choice)),
        "grid": _save(checkpoint_grid(run, choice), folder / "grid.webp"),
    }
    if _has_losses(run):
        written["loss"] = write_bytes(folder / "loss.svg", loss_curve_svg(run))
    if choice.recommended_step is not None:
        written["before_after"] = _save(before_after(run, choice), folder / "before_after.webp")
    return written


def _save(picture: Image.Image, path: Path) -> Path:
    with publish(path) as temporary:
        picture.save(temporary, "WEBP", quality=85, method=4)
    return path


def _has_losses(run: RunDir) -> bool:
    return bool(run.ledger("step") or run.ledger("fixed_loss"))


def _loss_panels(run: RunDir) -> list[Panel]:
    steps = [event for event in run.ledger("step") if _finite(event.get("loss"))]
    fixed = run.ledger("fixed_loss")
    panels: list[Panel] = []
    if steps:
        x = [float(event["step"]) for event in steps]
        y = [float(event["loss"]) for event in steps]
        raw = Series("", *_thinned(x, y), color=PALETTE[5], width=0.7, alpha=0.45)
        mean = Series("running mean", *_thinned(x, _running_mean(y)), color=PALETTE[0], width=2.0)
        panels.append(Panel([raw, mean], "Training loss", "loss", legend=False))
    known = {
        "training pictures": (train_loss.measure(fixed), PALETTE[0]),
        "held-out pictures": (heldout_loss.measure(fixed), PALETTE[1]),
    }
    series = [
        Series(name, list(map(float, values)), list(values.values()), color=color, dots=True)
        for name, (values, color) in known.items()
        if values
    ]
    if series:
        panels.append(Panel(series, "Loss at fixed noise, compared with the start", "ratio to step 0"))
    if not panels:
        raise BadInput("The run has no losses yet.", "Wait for the first training steps.")
    return panels


def _quality_panels(choice: Choice) -> list[Panel]:
    if not choice.curves:
        raise BadInput("There are no quality curves: nothing could be measured.", "Score the checkpoints first.")
    marks: list[Mark] = []
    if choice.recommended_step is not None:
        marks.append(Mark(choice.recommended_step, f"recommended {choice.recommended_step}"))
    near = choice.near_optimal_steps
    bands = [Band("as good as far as can be told", *_widened(near), GOOD)] if near else []
    overall = Panel(
        [_series(choice, "overall", "ink", "overall quality")],
        "Overall quality",
        "0 = base model, 1 = data",
        bands,
        marks,
    )
    panels = [overall]
    for axis, title in AXIS_TITLES.items():
        if axis in choice.curves[0]:
            panels.append(_axis_panel(choice, axis, title, bands))
    return panels


def _axis_panel(choice: Choice, axis: str, title: str, bands: Sequence[Band]) -> Panel:
    onset = choice.onset.get(axis)
    marks = [Mark(onset.step, f"worse from {onset.step}", WARN, "dashed")] if onset else []
    shades = [*(Band("", band.low, band.high, band.color) for band in bands)]
    if onset and onset.high > onset.low:
        shades.append(Band("", onset.low, onset.high, WARN))
    series = _series(choice, axis, AXIS_COLORS[axis], "")
    return Panel([series], title, "", shades, marks, y_range=_range(series, bool(marks)), legend=False)


def _range(series: Series, headroom: bool) -> tuple[float, float]:
    """Always from the base model to the data, so that a flat axis looks flat."""
    low = min([0.0, *(series.low or ())])
    high = max([1.0, *(series.high or ())])
    return low - 0.06, high + (0.3 if headroom else 0.1)


def _series(choice: Choice, axis: str, color: str, name: str) -> Series:
    entries = [entry for entry in choice.curves if axis in entry]
    values = {part: [float(entry[axis][part]) for entry in entries] for part in ("mean", "low", "high")}
    steps = [float(entry["step"]) for entry in entries]
    return Series(name, steps, values["mean"], values["low"], values["high"], color, dots=True)


def _size(choice: Choice) -> tuple[int, int]:
    axes = sum(axis in choice.curves[0] for axis in AXIS_TITLES) if choice.curves else 0
    return (900, {0: 360, 1: 560, 2: 560}.get(axes, _CURVES_SIZE[1]))


def _widened(steps: Sequence[int]) -> tuple[float, float]:
    """The range of the steps, a little wider, so that a single one is visible too."""
    return min(steps) / 1.03, max(steps) * 1.03


def _some_steps(steps: list[int], choice: Choice | None, rows: int) -> list[int]:
    """Evenly chosen steps that always hold the base model, the last one and the ones that the choice names."""
    if len(steps) <= rows:
        return steps
    named = (choice.recommended_step, choice.safe_step, choice.strongest_step) if choice else ()
    must = [step for step in dict.fromkeys((steps[0], *named, steps[-1])) if step in steps][:rows]
    rest = [step for step in steps if step not in must]
    room = rows - len(must)
    places = [round((index + 0.5) * len(rest) / room - 0.5) for index in range(room)]
    return sorted({*must, *(rest[place] for place in places)})


def _some_pairs(run: RunDir, samples: Sequence[Sample], columns: int) -> list[tuple[str, int]]:
    """At most `columns` (prompt, seed) pairs: every prompt once before any a second time, in the plan's order."""
    order = {name: index for index, name in enumerate(prompts_by_id(plan_of(run)))}
    pairs = sorted({(s.prompt, s.seed) for s in samples}, key=lambda pair: (order.get(pair[0], 10**6), *pair))
    turns: dict[str, int] = {}
    ranked: list[tuple[int, tuple[str, int]]] = []
    for pair in pairs:
        ranked.append((turns.get(pair[0], 0), pair))
        turns[pair[0]] = turns.get(pair[0], 0) + 1
    chosen = {pair for _, pair in sorted(ranked, key=lambda item: item[0])[:columns]}
    return [pair for pair in pairs if pair in chosen]


def _headings(run: RunDir, pairs: Sequence[tuple[str, int]], cell: int) -> list[str]:
    prompts = prompts_by_id(plan_of(run))
    several = len({seed for _, seed in pairs}) > 1
    return [
        "\n".join([*_wrapped(prompts.get(prompt, Prompt(prompt, prompt)).text, cell), *([f"seed {seed}"] * several)])
        for prompt, seed in pairs
    ]


def _wrapped(text: str, cell: int) -> list[str]:
    """Two lines at most; the rest of a long prompt is left out with an ellipsis."""
    import textwrap

    width = max(8, round(cell / max(12, cell // 9) * 1.9))
    return textwrap.wrap(text, width, max_lines=2, placeholder=" …") or [""]


def _picture(sample: Sample | None) -> Image.Image | None:
    if sample is None:
        return None
    try:
        return open_rgb(sample.path)
    except (PictureError, FileNotFoundError):
        return None


def _training_pictures(run: RunDir, count: int) -> list[Image.Image | None]:
    """Evenly chosen training pictures that can still be opened."""
    items = [item for item in run.manifest() if item.get("split", "train") == "train"]
    chosen = [items[round(index * (len(items) - 1) / max(count - 1, 1))] for index in range(min(count, len(items)))]
    pictures: list[Image.Image | None] = []
    for item in chosen:
        try:
            pictures.append(open_rgb(run.path / "dataset" / item["path"]))
        except (PictureError, FileNotFoundError):
            pictures.append(None)
    return pictures


def _running_mean(values: Sequence[float]) -> list[float]:
    """Exponential mean over about a twentieth of the curve, without a pull towards zero at the start."""
    keep = 1 - 1 / max(5.0, len(values) / 20)
    total = weight = 0.0
    result: list[float] = []
    for value in values:
        total, weight = total * keep + value, weight * keep + 1
        result.append(total / weight)
    return result


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    every = math.ceil(len(x) / _MOST_POINTS) or 1
    return list(x[::every]), list(y[::every])


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
