"""The choice of the checkpoint: an honest outcome, a recommended step, and what lies near it.

Everything is decided on bootstrap draws (prompts, then seeds) of smoothed axes on the scale base model = 0,
training data = 1. The same table, dial and seed give the same choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from ..core.errors import BadInput
from ..core.types import Choice, Excluded, Onset, Outcome, ScoreTable
from . import gates, onset, words
from .axes import Curves, compute
from .evidence import Evidence, gather
from .metrics import AXES
from .smoothing import broken

if TYPE_CHECKING:
    import numpy as np

DRAWS = 1000
FEWEST_PICTURES = 8
FEWEST_CHECKPOINTS = 4
_TAIL = 0.05
_CONFLICT = 0.25  # loss on identity or flexibility that no checkpoint can avoid
_GAP = 2  # checkpoints outside the near-optimal set that make two peaks of it


@dataclass(frozen=True)
class _Ranking:
    best: int
    near: tuple[int, ...]
    outcome: Outcome
    why: str


def choose(table: ScoreTable, *, dial: float = 0.5, seed: int = 0, draws: int = DRAWS) -> Choice:
    """Recommend a checkpoint, or say why none can be; `dial` 0 = fidelity, 1 = flexibility."""
    evidence = gather(table.rows)
    if not evidence.steps:
        raise BadInput(
            "The scores hold no checkpoint, only anchors.", 'Lines with a "step" above 0 are the checkpoints.'
        )
    out = gates.excluded(evidence)
    missing = words.missing(evidence, table.rows)
    sound = evidence.without(out)
    if not sound.steps:
        return _nothing("all_failed", evidence, out, missing, ("Every checkpoint failed a gate.",), table.run)
    curves = compute(sound, dial, draws, seed)
    odd = _broken(sound, curves)
    if odd:
        out |= odd
        sound = sound.without(odd)
        curves = compute(sound, dial, draws, seed)
    if lack := _too_little(sound, curves):
        guess = sound.steps[int(curves.overall[0].argmax())]
        reasons = (lack, f"The best of what there is lies at step {guess}; treat that as a guess.")
        return _nothing("not_enough_evidence", sound, out, missing, reasons, table.run, curves)
    ranking = _rank(curves, evidence.steps[-1], dial)
    return _choice(ranking, sound, curves, out, missing, dial, table.run)


def choice_json(choice: Choice) -> dict[str, Any]:
    """The document that `select --json` prints; field names are a contract."""
    onsets = {axis: {"step": o.step, "low": o.low, "high": o.high} if o else None for axis, o in choice.onset.items()}
    return {
        "outcome": choice.outcome,
        "recommended_step": choice.recommended_step,
        "near_optimal_steps": list(choice.near_optimal_steps),
        "safe_step": choice.safe_step,
        "strongest_step": choice.strongest_step,
        "excluded": [{"step": item.step, "reason": item.reason} for item in choice.excluded],
        "onset": onsets,
        "curves": [dict(entry) for entry in choice.curves],
        "reasons": list(choice.reasons),
        "alarms": [o.message for o in choice.onset.values() if o and o.message],
        "missing": list(choice.missing),
    }


def _too_little(evidence: Evidence, curves: Curves) -> str | None:
    """Why no claim can be made, or None."""
    if not curves.raw:
        return "None of the metrics that rank checkpoints was measured."
    if len(evidence.steps) < FEWEST_CHECKPOINTS:
        return (
            f"Only {words.count(len(evidence.steps), 'checkpoint')} could be compared; {FEWEST_CHECKPOINTS} are needed."
        )
    pictures = median(evidence.pictures[step] for step in evidence.steps)
    if pictures < FEWEST_PICTURES:
        return (
            f"There are {pictures:g} pictures per checkpoint; with fewer than {FEWEST_PICTURES} "
            "the spread between prompts and seeds hides any difference."
        )
    return (
        None if set(curves.raw) - {"health"} else "Only health was measured; nothing says which checkpoint is better."
    )


def _broken(evidence: Evidence, curves: Curves) -> dict[int, str]:
    """Checkpoints that fall far below both neighbours: damaged, not merely worse."""
    noise = float(curves.overall_raw[1:].std(axis=0).mean()) if len(curves.overall_raw) > 1 else 0.0
    found = broken(curves.overall_raw[0], noise)
    return {
        evidence.steps[index]: f"it falls far below both its neighbours, steps {evidence.steps[index - 1]} and "
        f"{evidence.steps[index + 1]}: the file or its pictures are damaged"
        for index in found
    }


def _rank(curves: Curves, last_step: int, dial: float) -> _Ranking:
    overall = curves.overall
    best = int(overall[0].argmax())
    near = _near_optimal(overall, best)
    outcome, why = _outcome(curves, best, near, last_step, dial)
    return _Ranking(best, near, outcome, why)


def _near_optimal(overall: np.ndarray, best: int) -> tuple[int, ...]:
    """Checkpoints whose regret against the best has a 5 % quantile of at most 0."""
    import numpy as np

    regret = overall[1:, best][:, None] - overall[1:]
    low = np.quantile(regret, _TAIL, axis=0)
    return tuple(int(index) for index in np.flatnonzero(low <= 1e-9))


def _outcome(curves: Curves, best: int, near: tuple[int, ...], last_step: int, dial: float) -> tuple[Outcome, str]:
    steps = curves.steps
    if steps[-1] == last_step and _improving(curves, best, near):
        return "still_improving", f"Quality is still rising at the last checkpoint ({last_step}): train longer."
    if 2 * len(near) >= len(steps):
        return "no_clear_winner", f"{len(near)} of {len(steps)} checkpoints cannot be told apart."
    if any(later - earlier > _GAP for earlier, later in pairwise(near)):
        return "no_clear_winner", "Quality has two separate peaks that cannot be told apart."
    if 0.2 <= dial <= 0.8 and _conflict(curves):
        return "no_clear_winner", (
            "Likeness and flexibility pull apart: every checkpoint gives up much of one. Turn the dial to decide."
        )
    if near[-1] - near[0] < 2:
        if len(near) == 1:
            return "clear", "No other checkpoint comes near it."
        return "clear", f"Only steps {steps[near[0]]} and {steps[near[-1]]} come near the best."
    return "range", f"Steps {steps[near[0]]} to {steps[near[-1]]} are equally good as far as can be told."


def _improving(curves: Curves, best: int, near: tuple[int, ...]) -> bool:
    """The top is at the end, and the end is better than the earlier half in nearly every draw."""
    import numpy as np

    last = len(curves.steps) - 1
    overall = curves.overall[1:]
    half = max(1, len(curves.steps) // 2)
    above = float((overall[:, last] > overall[:, :half].mean(axis=1)).mean())
    if best == last:
        return above >= 1 - _TAIL
    if last not in near:
        return False
    place = np.log(np.asarray(curves.steps[-max(4, half) :], dtype=float))
    slope = curves.overall_raw[1:, -len(place) :] @ (place - place.mean())
    return float((slope > 0).mean()) >= 0.975 and above >= 1 - _TAIL


def _conflict(curves: Curves) -> bool:
    """Whether each checkpoint loses much of the best identity or of the best flexibility, in nearly every draw."""
    import numpy as np

    if not {"identity", "flexibility"} <= curves.smooth.keys():
        return False
    losses = [s.max(axis=1, keepdims=True) - s for s in (curves.smooth["identity"], curves.smooth["flexibility"])]
    unavoidable = np.maximum(*losses)[1:].min(axis=1)
    return bool(np.quantile(unavoidable, _TAIL) > _CONFLICT)


def _choice(
    ranking: _Ranking, evidence: Evidence, curves: Curves, out: dict[int, str], missing: tuple[str, ...],
    dial: float, run: str | None,
) -> Choice:  # fmt: skip
    steps = curves.steps
    onsets = _onsets(evidence, curves)
    near = tuple(steps[index] for index in ranking.near)
    return Choice(
        outcome=ranking.outcome,
        recommended_step=steps[ranking.best],
        near_optimal_steps=near,
        safe_step=near[0],
        strongest_step=near[-1],
        excluded=_excluded(out),
        onset=onsets,
        curves=_table(curves),
        reasons=words.reasons(ranking.outcome, ranking.why, ranking.best, near, curves, evidence, dial),
        missing=missing,
        run=run,
    )


def _nothing(
    outcome: Outcome, evidence: Evidence, out: dict[int, str], missing: tuple[str, ...], reasons: tuple[str, ...],
    run: str | None, curves: Curves | None = None,
) -> Choice:  # fmt: skip
    onsets: dict[str, Onset | None] = dict.fromkeys(AXES)
    table = _table(curves) if curves and curves.raw else ()
    return Choice(outcome, None, (), None, None, _excluded(out), onsets, table, reasons, missing, run)


def _onsets(evidence: Evidence, curves: Curves) -> dict[str, Onset | None]:
    result: dict[str, Onset | None] = dict.fromkeys(AXES)
    for axis, draws in curves.raw.items():
        found = onset.find(curves.steps, draws, curves.smooth[axis][0])
        if found:
            low, high = _at_least_a_spacing(curves.steps, found)
            step, low, high = (_round(value) for value in (found.step, low, high))
            result[axis] = Onset(step, low, high, words.alarm(axis, (step, low, high), evidence, curves))
    return result


def _at_least_a_spacing(steps: tuple[int, ...], found: onset.Break) -> tuple[float, float]:
    """The interval, no narrower than half-way to the checkpoints around: between them nothing was seen."""
    before = max((step for step in steps if step < found.step), default=steps[0])
    after = min((step for step in steps if step > found.step), default=steps[-1])
    return min(found.low, (found.step + before) / 2), max(found.high, (found.step + after) / 2)


def _table(curves: Curves) -> tuple[dict[str, Any], ...]:
    """Mean with its 90 % interval per step and axis; `overall` is the weighted sum."""
    import numpy as np

    named = {**curves.smooth, "overall": curves.overall}
    bounds = {axis: np.quantile(values[1:], (_TAIL, 1 - _TAIL), axis=0) for axis, values in named.items()}
    return tuple(
        {
            "step": step,
            **{
                axis: {
                    "mean": round(float(values[0, index]), 4),
                    "low": round(float(min(bounds[axis][0, index], values[0, index])), 4),
                    "high": round(float(max(bounds[axis][1, index], values[0, index])), 4),
                }
                for axis, values in named.items()
            },
        }
        for index, step in enumerate(curves.steps)
    )


def _excluded(out: dict[int, str]) -> tuple[Excluded, ...]:
    return tuple(Excluded(step, reason) for step, reason in sorted(out.items()))


def _round(step: float) -> int:
    """A step to two figures, in halves: 4137 is not known better than 4150."""
    size = max(1.0, 10 ** (len(str(int(step))) - 2) / 2)
    return int(round(step / size) * size)
