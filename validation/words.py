"""Plain words for a choice: reasons, alarms with their numbers, and what was missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.types import Score
from .metrics import METRICS
from .smoothing import kernel

if TYPE_CHECKING:
    from .axes import Curves
    from .evidence import Evidence, Tensor

AXIS_NAMES = {
    "identity": "faces",
    "style": "style",
    "flexibility": "flexibility",
    "health": "health",
    "overall": "overall",
}
# What happens when a metric gets worse, and what the number after it is.
_ALARMS = {
    "face_sharpness": ("faces lose detail", "sharpness inside the face"),
    "face_confidence": ("faces become less certain", "the detector's confidence"),
    "face_found": ("faces go missing", "share of pictures with a face"),
    "style_distance": ("the style moves away from the training pictures", "style distance"),
    "seed_diversity": ("pictures become alike whatever the seed", "difference between seeds"),
    "prompt_response": ("the prompt counts for less", "difference between prompts"),
    "heldout_loss": ("it learns the pictures instead of the style", "loss on held-out pictures"),
    "nearest_training_percentile": ("pictures begin to copy training pictures", "median nearness percentile"),
}
_OPENING = {
    "clear": "Step {step} is the best checkpoint.",
    "range": "Step {step} is recommended; any of the steps {low} to {high} is as good as far as can be told.",
    "no_clear_winner": "There is no clear winner; step {step} has the highest estimate, with a warning.",
    "still_improving": "Training was still improving when it ended; step {step} is the best so far.",
}


def count(number: int, noun: str) -> str:
    """1 checkpoint, 2 checkpoints."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def reasons(
    outcome: str, why: str, best: int, near: Sequence[int], curves: Curves, evidence: Evidence, dial: float
) -> tuple[str, ...]:
    """Why this checkpoint: the outcome in words, each axis with its interval, the dial, and a caveat."""
    import numpy as np

    step = curves.steps[best]
    lines = [_OPENING[outcome].format(step=step, low=near[0], high=near[-1])]
    if outcome != "range":
        lines.append(why)
    parts: list[str] = []
    for axis, values in curves.smooth.items():
        low, high = np.quantile(values[1:, best], (0.05, 0.95))
        parts.append(f"{AXIS_NAMES[axis]} {values[0, best]:.2f} ({low:.2f} to {high:.2f})")
    lines.append(f"At step {step}, where the base model is 0 and the training pictures are 1: {', '.join(parts)}.")
    side = "fidelity" if dial < 0.4 else "flexibility" if dial > 0.6 else "the middle"
    pictures = evidence.pictures[step]
    lines.append(f"Judged on {count(pictures, 'picture')} per checkpoint with the dial at {dial:g} ({side}).")
    lines.append("Beauty and likeness to your own taste are not measured: look at the grid before you decide.")
    return tuple(lines)


def alarm(axis: str, steps: tuple[int, int, int], evidence: Evidence, curves: Curves) -> str:
    """One sentence: from which step on, what gets worse, and by how much until its worst."""
    at, low, high = steps
    found = [_fall(t, curves.steps, at) for t in evidence.tensors.values() if t.metric.axis == axis]
    falls = [item for item in found if item is not None]
    name = max(falls, key=lambda item: item[0])[1] if falls else None
    opening = f"From about step {at} ({low}-{high}) "
    if name is None:
        return f"{opening}{AXIS_NAMES[axis]} gets worse."
    what, measured = _ALARMS[name]
    return f"{opening}{what}: {measured} {_change(evidence.tensors[name], curves.steps, at)}"


def missing(evidence: Evidence, rows: Sequence[Score]) -> tuple[str, ...]:
    """What the table does not hold, and what that means for the choice."""
    lines: list[str] = []
    absent = [name for name in METRICS if name not in evidence.tensors]
    if absent:
        lines.append(f"Not measured: {', '.join(absent)}.")
    for axis in ("identity", "style", "flexibility", "health"):
        names = [name for name, metric in METRICS.items() if metric.axis == axis]
        if not set(names) & evidence.tensors.keys():
            lines.append(f"{AXIS_NAMES[axis].capitalize()} cannot be judged: it needs one of {', '.join(names)}.")
    bare = [name for name, t in evidence.tensors.items() if _wants_base(t) and not t.has_base()]
    if bare:
        lines.append(
            f"No pictures of the base model (step 0) for {', '.join(bare)}: the scale starts at a fixed point."
        )
    unknown = sorted({row.metric for row in rows} - METRICS.keys())
    if unknown:
        lines.append(f"Unknown metrics were ignored: {', '.join(name[:40] for name in unknown[:10])}.")
    return tuple(lines)


def _wants_base(tensor: Tensor) -> bool:
    return tensor.metric.axis in ("identity", "style")


def _fall(tensor: Tensor, steps: Sequence[int], at: int) -> tuple[float, str] | None:
    """How much of its scale a metric loses after `at`, weighted as in its axis."""
    pair = _before_after(tensor, steps, at)
    if pair is None:
        return None
    metric = tensor.metric
    sign = 1 if metric.direction == "up" else -1
    scale = 10.0 if metric.name == "nearest_training_percentile" else max(abs(pair[0]), 0.1)
    return sign * (pair[0] - pair[1]) / scale * metric.weight, metric.name


def _before_after(tensor: Tensor, steps: Sequence[int], at: int) -> tuple[float, float] | None:
    """Smoothed value at the onset and the worst one after it, in the metric's own unit."""
    import numpy as np

    copying = tensor.metric.name == "nearest_training_percentile"
    middle = np.nanmedian if copying else np.nanmean
    rows = tensor.values[1:]
    known = np.isfinite(rows).any(axis=1)
    if known.sum() < 2:
        return None
    kept = np.asarray(steps)[known]
    curve = kernel(kept.tolist()) @ middle(rows[known], axis=1)
    start = min(int(np.argmin(np.abs(np.log(kept / at)))), len(kept) - 2)
    after = curve[start + 1 :]
    return float(curve[start]), float(after.min() if tensor.metric.direction == "up" else after.max())


def _change(tensor: Tensor, steps: Sequence[int], at: int) -> str:
    pair = _before_after(tensor, steps, at)
    if pair is None:
        return "changes."
    before, after = pair
    if tensor.metric.name in ("face_found",):
        return f"{before:.0%} to {after:.0%}."
    if tensor.metric.name == "nearest_training_percentile":
        return f"{before:.1f} to {after:.1f} (copying below 1)."
    change = (after - before) / max(abs(before), 1e-6)
    return f"{'+' if change >= 0 else '−'}{abs(change):.0%}".replace("%", " %") + "."
