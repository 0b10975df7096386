"""From score rows to paired tensors, and from those to bootstrap draws of every metric's mean per checkpoint."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.types import Score
from .metrics import METRICS, Metric

if TYPE_CHECKING:
    import numpy as np

Pair = tuple[str, int]
_CLIP = (-0.25, 1.25)
_SLACK = (-1.0, 2.0)  # one picture counts at most this far beyond the anchors


@dataclass(frozen=True)
class Tensor:
    """One metric. `values` (1 + checkpoints, pairs) holds the base model in row 0, NaN where nothing was measured.

    A metric with one value per checkpoint (a loss) has a single column and `resampled` False. `data` are the
    training pictures' own values.
    """

    metric: Metric
    values: np.ndarray
    data: np.ndarray
    resampled: bool

    def has_base(self) -> bool:
        """Whether the base model was measured."""
        import numpy as np

        return bool(np.isfinite(self.values[0]).any())


@dataclass(frozen=True)
class Evidence:
    """All metrics over the same checkpoints and the same (prompt, seed) pairs."""

    steps: tuple[int, ...]
    pairs: tuple[Pair, ...]
    tensors: dict[str, Tensor]
    pictures: dict[int, int]

    def without(self, steps: Iterable[int]) -> Evidence:
        """The same evidence with some checkpoints left out."""
        import numpy as np

        gone = set(steps)
        keep = [index for index, step in enumerate(self.steps) if step not in gone]
        rows = np.array([0, *(index + 1 for index in keep)])
        tensors = {n: Tensor(t.metric, t.values[rows], t.data, t.resampled) for n, t in self.tensors.items()}
        return Evidence(tuple(self.steps[i] for i in keep), self.pairs, tensors, self.pictures)


def gather(rows: Sequence[Score]) -> Evidence:
    """Sort rows into tensors; rows of a picture whose frame was not valid are dropped, unknown metrics ignored."""
    broken = {(r.step, r.prompt, r.seed) for r in rows if r.metric == "valid_frame" and r.value < 0.5}
    used = [
        row
        for row in rows
        if row.metric in METRICS and (row.metric == "valid_frame" or (row.step, row.prompt, row.seed) not in broken)
    ]
    order = {name: place for place, name in enumerate(METRICS)}
    used.sort(key=lambda row: (order[row.metric], str(row.step), row.prompt, row.seed))  # a file's order must not count
    steps = tuple(sorted({row.step for row in used if isinstance(row.step, int) and row.step > 0}))
    by_metric: dict[str, list[Score]] = defaultdict(list)
    for row in used:
        by_metric[row.metric].append(row)
    pairs = _pairs(by_metric)
    tensors = {name: _tensor(METRICS[name], found, steps, pairs) for name, found in by_metric.items()}
    return Evidence(steps, pairs, tensors, _pictures(by_metric, steps, pairs))


def draw_weights(pairs: Sequence[Pair], draws: int, seed: int) -> np.ndarray:
    """Counts (1 + draws, pairs) of a hierarchical bootstrap: prompts with replacement, then seeds within each.

    Row 0 counts every pair once: the point estimate.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    groups: dict[str, list[int]] = defaultdict(list)
    for index, (prompt, _) in enumerate(pairs):
        groups[prompt].append(index)
    weights = np.zeros((draws + 1, len(pairs)))
    weights[0] = 1
    if not groups:
        return weights
    count = len(groups)
    prompts = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    for column, members in enumerate(groups.values()):
        size = len(members)
        weights[1:, members] = rng.multinomial(prompts[:, column] * size, np.full(size, 1 / size))
    return weights


def means(tensor: Tensor, weights: np.ndarray) -> np.ndarray:
    """Mean of a metric per draw and row, (draws, 1 + checkpoints).

    Each pair's own level is taken out before averaging and put back after, so that a checkpoint that misses a
    difficult prompt does not look better for it.
    """
    import numpy as np

    values = tensor.values
    if not tensor.resampled:
        return np.repeat(values[:, 0][None], len(weights), axis=0)
    known = np.isfinite(values)
    level, effect = _two_way(values, known)
    counted = weights * known.any(axis=0)
    rest = np.where(known, values - effect, 0.0)
    amount = counted @ known.T
    mean = np.divide(counted @ rest.T, amount, out=np.broadcast_to(level, amount.shape).copy(), where=amount > 0)
    total = counted.sum(axis=1)
    shift = np.divide(counted @ effect, total, out=np.zeros(len(weights)), where=total > 0)
    mean = mean + shift[:, None]
    mean[:, ~known.any(axis=1)] = np.nan
    return mean


def normalised(tensor: Tensor, weights: np.ndarray, seed: int) -> np.ndarray:
    """Means per draw on the scale base model = 0, training data = 1, clipped to [-0.25, 1.25]; (draws, checkpoints).

    Ratios to the base model (seed diversity, prompt response) are used as they are.
    """
    import numpy as np

    metric = tensor.metric
    if metric.axis == "flexibility":
        return np.clip(means(tensor, weights)[:, 1:], *_CLIP)
    zero, one = _anchors(tensor)
    tamed = Tensor(metric, _bounded(tensor.values, zero, one), tensor.data, tensor.resampled)
    average = _shape(metric, means(tamed, weights))
    high = _data_means(tamed.data, len(weights), one, seed)
    low = average[:, 0] if tensor.has_base() else np.full(len(weights), zero)
    low, high = _apart(low, _shape(metric, high), metric), _shape(metric, high)
    return np.clip((average[:, 1:] - low[:, None]) / (high - low)[:, None], *_CLIP)


def _pairs(by_metric: dict[str, list[Score]]) -> tuple[Pair, ...]:
    found: set[Pair] = set()
    for rows in by_metric.values():
        own = {(row.prompt, row.seed) for row in rows if row.step != "data"}
        if len(own) > 1:
            found |= own
    return tuple(sorted(found))


def _tensor(metric: Metric, rows: list[Score], steps: tuple[int, ...], pairs: tuple[Pair, ...]) -> Tensor:
    import numpy as np

    own = {(row.prompt, row.seed) for row in rows if row.step != "data"}
    resampled = len(own) > 1
    columns = {pair: index for index, pair in enumerate(pairs)} if resampled else dict.fromkeys(own, 0)
    places = {step: index for index, step in enumerate((0, *steps))}
    values = np.full((len(places), max(len(columns), 1)), np.nan)
    for row in rows:
        if row.step != "data":
            values[places[row.step], columns[(row.prompt, row.seed)]] = row.value
    data = np.array([row.value for row in rows if row.step == "data"], dtype=float)
    return Tensor(metric, values, data, resampled)


def _pictures(by_metric: dict[str, list[Score]], steps: tuple[int, ...], pairs: tuple[Pair, ...]) -> dict[int, int]:
    seen: dict[int, set[Pair]] = {step: set() for step in steps}
    known = set(pairs)
    for rows in by_metric.values():
        for row in rows:
            if isinstance(row.step, int) and row.step in seen and (row.prompt, row.seed) in known:
                seen[row.step].add((row.prompt, row.seed))
    return {step: len(found) for step, found in seen.items()}


def _two_way(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level per row and effect per column of an incomplete table, by alternating means."""
    import numpy as np

    filled = np.where(known, values, 0.0)
    rows, columns = known.sum(axis=1), known.sum(axis=0)
    effect = np.zeros(values.shape[1])
    level = np.zeros(values.shape[0])
    for _ in range(1 if known.all() else 20):
        level = ((filled - effect) * known).sum(axis=1) / np.maximum(rows, 1)
        effect = ((filled - level[:, None]) * known).sum(axis=0) / np.maximum(columns, 1)
    return level, effect


def _shape(metric: Metric, values: np.ndarray) -> np.ndarray:
    """Mean sharpness counts up to 1 and against a checkpoint from 1.3 on (over-sharpened); the rest as it is."""
    import numpy as np

    if metric.name != "face_sharpness":
        return values
    return np.where(values > 1.3, 2.3 - values, np.minimum(values, 1.0))


def _anchors(tensor: Tensor) -> tuple[float, float]:
    """The values that mean 0 and 1, from the rows or the metric's own defaults."""
    import numpy as np

    metric = tensor.metric
    one = float(tensor.data.mean()) if tensor.data.size else metric.data if metric.data is not None else 1.0
    if tensor.has_base():
        zero = float(np.nanmean(tensor.values[0]))
    elif metric.base is not None:
        zero = metric.base
    else:  # no control pictures: the run's own worst checkpoint has to stand in
        rows = np.nanmean(tensor.values[1:], axis=1)
        zero = float(np.nanmin(rows) if metric.direction == "up" else np.nanmax(rows))
    return float(_apart(np.array([zero]), np.array([one]), metric)[0]), one


def _apart(zero: np.ndarray, one: np.ndarray, metric: Metric) -> np.ndarray:
    """The zero point, moved away where base and data are too close to span a scale."""
    import numpy as np

    return np.minimum(zero, one - metric.span) if metric.direction == "up" else np.maximum(zero, one + metric.span)


def _bounded(values: np.ndarray, zero: float, one: float) -> np.ndarray:
    import numpy as np

    low, high = sorted((zero + _SLACK[0] * (one - zero), zero + _SLACK[1] * (one - zero)))
    return np.clip(values, low, high)


def _data_means(data: np.ndarray, draws: int, point: float, seed: int) -> np.ndarray:
    """Bootstrap means of the training pictures' own values; row 0 is the plain mean."""
    import numpy as np

    result = np.full(draws, point)
    if data.size > 1:
        rng = np.random.default_rng(seed + 1)
        sample = data if data.size <= 512 else rng.choice(data, 512, replace=False)
        result[1:] = sample[rng.integers(0, sample.size, (draws - 1, sample.size))].mean(axis=1)
        result[1:] += point - sample.mean()
    return result
