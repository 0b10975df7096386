"""The four axes and the overall utility, per bootstrap draw, before and after smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import BadInput
from .evidence import Evidence, Tensor, draw_weights, means, normalised
from .metrics import AXES
from .smoothing import kernel, trust

if TYPE_CHECKING:
    import numpy as np

PENALTY = 0.5  # utility lost when health is 0
_COPYING, _RISING = 0.7, 0.3  # shares of health: copies, and the held-out loss above its minimum
_COPY_FULL, _COPY_NONE = 1.0, 10.0  # percentile at and under which a picture is a copy, and from which it is none


@dataclass(frozen=True)
class Curves:
    """Axis values per draw, (1 + draws, checkpoints), row 0 the point estimate; `overall` is the utility."""

    steps: tuple[int, ...]
    raw: dict[str, np.ndarray]
    smooth: dict[str, np.ndarray]
    overall: np.ndarray
    overall_raw: np.ndarray


def dial_weights(dial: float, present: Sequence[str]) -> dict[str, float]:
    """Weights of the ranked axes: dial 0 = all for fidelity (identity, style), 1 = mostly for flexibility."""
    if not 0 <= dial <= 1:
        raise BadInput(f"The dial is {dial:g}.", "Give a number from 0 (fidelity) to 1 (flexibility).")
    flexibility = dial * 2 / 3
    weights = {"identity": (1 - flexibility) / 2, "style": (1 - flexibility) / 2, "flexibility": flexibility}
    weights = {axis: weight for axis, weight in weights.items() if axis in present}
    total = sum(weights.values())
    if total <= 0:  # only flexibility was measured, and the dial gives it nothing
        return {axis: 1 / len(weights) for axis in weights}
    return {axis: weight / total for axis, weight in weights.items()}


def compute(evidence: Evidence, dial: float, draws: int, seed: int) -> Curves:
    """All axes that the evidence can support, smoothed, with their bootstrap draws."""

    weights = draw_weights(evidence.pairs, draws, seed)
    raw: dict[str, np.ndarray] = {}
    for axis in AXES:
        tensors = [t for t in evidence.tensors.values() if t.metric.axis == axis and _measured(t)]
        if tensors and axis == "health":
            raw[axis] = _health(tensors, weights, evidence.steps)
        elif tensors:
            raw[axis] = _blend(tensors, weights, seed)
    smooth = {axis: values @ kernel(evidence.steps, trust(evidence.steps, values[0])).T for axis, values in raw.items()}
    shape = (draws + 1, len(evidence.steps))
    return Curves(evidence.steps, raw, smooth, _utility(smooth, dial, shape), _utility(raw, dial, shape))


def _measured(tensor: Tensor) -> bool:
    import numpy as np

    return bool(np.isfinite(tensor.values[1:]).any())


def _blend(tensors: list[Tensor], weights: np.ndarray, seed: int) -> np.ndarray:
    """Weighted mean over an axis' metrics; a checkpoint that lacks one is judged by the others."""
    import numpy as np

    stack = np.stack([normalised(tensor, weights, seed) for tensor in tensors])
    share = np.array([tensor.metric.weight for tensor in tensors])[:, None, None] * np.isfinite(stack)
    total = share.sum(axis=0)
    blended = np.divide(
        (np.nan_to_num(stack) * share).sum(axis=0), total, out=np.full(total.shape, np.nan), where=total > 0
    )
    return _bridge(blended)


def _health(tensors: list[Tensor], weights: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """1 = healthy; copies of training pictures and a held-out loss that climbs again take away from it."""
    import numpy as np

    health = np.ones((len(weights), len(steps)))
    for tensor in tensors:
        if tensor.metric.name == "heldout_loss":
            health = health - _RISING * _risen(_bridge(means(tensor, weights)[:, 1:]), steps)
        else:
            copies = Tensor(tensor.metric, copy_share(tensor.values), tensor.data, tensor.resampled)
            health = health - _COPYING * np.clip(_bridge(means(copies, weights)[:, 1:]), 0, 1)
    return health


def copy_share(percentiles: np.ndarray) -> np.ndarray:
    """1 for a copy (percentile up to 1), 0 from the 10th percentile on, falling with the logarithm between."""
    import numpy as np

    safe = np.maximum(percentiles, 1e-9)
    return 1 - np.clip(np.log(safe / _COPY_FULL) / np.log(_COPY_NONE / _COPY_FULL), 0, 1)


def _risen(loss: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Rise of the held-out loss above its lowest value so far, as a share of what training had gained by then."""
    import numpy as np

    smooth = loss @ kernel(steps).T
    lowest = np.minimum.accumulate(np.minimum(smooth, 1.0), axis=1)
    return np.clip((smooth - lowest) / np.maximum(1 - lowest, 0.05), 0, 1)


def _bridge(values: np.ndarray) -> np.ndarray:
    """Fill checkpoints without a value from their neighbours, so that a hole in one metric does not remove them."""
    import numpy as np

    known = np.isfinite(values[0])
    if known.all():
        return values
    if not known.any():
        return np.zeros_like(values)
    places = np.arange(values.shape[1])
    return np.stack([np.interp(places, places[known], row[known]) for row in values])


def _utility(axes: dict[str, np.ndarray], dial: float, shape: tuple[int, int]) -> np.ndarray:
    import numpy as np

    total = np.zeros(shape)
    for axis, weight in dial_weights(dial, tuple(axes)).items():
        total = total + weight * axes[axis]
    if "health" in axes:
        total = total - PENALTY * (1 - axes["health"])
    return total
