"""Where an axis begins to get worse: a continuous two-segment fit on log(step), repeated in every bootstrap draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_CERTAIN = 0.975  # share of draws in which the slope after the break must point down
_DROP = 0.1  # smallest fall from the top (base = 0, data = 1) worth an alarm
_LEFT = 0.5  # share of the fall by which the window may begin below the top
_BOTTOM = 0.15  # share of the fall within which the bottom is reached
_CANDIDATES, _STARTS = 48, 8
_MOST_DRAWS = 400


@dataclass(frozen=True)
class Break:
    """A found onset: step with its 10-90 % interval, and the fall from there to the lowest point after it."""

    step: float
    low: float
    high: float
    drop: float


def find(steps: Sequence[int], draws: np.ndarray, smooth: np.ndarray) -> Break | None:
    """The break of one axis, or None.

    `draws` (1 + draws, checkpoints) are unsmoothed bootstrap means with the point estimate in row 0; `smooth` is the
    smoothed point estimate, which only says where the top ends and the bottom begins.
    """
    import numpy as np

    window = _window(smooth)
    if window is None:
        return None
    place = np.log(np.asarray(steps, dtype=float))[window]
    breaks, slopes, drops = _fit(place, draws[: _MOST_DRAWS + 1, window])
    falling = (slopes < 0) & (drops > 0)
    if falling[0] and falling[1:].mean() >= _CERTAIN and drops[0] >= _DROP and np.quantile(drops[1:], 0.02) > 0:
        seen = breaks[1:][falling[1:]]
        low, high = np.quantile(seen, (0.1, 0.9))
        point = float(np.clip(np.median(seen), low, high))
        return Break(float(np.exp(point)), float(np.exp(low)), float(np.exp(high)), float(drops[0]))
    return None


def _window(smooth: np.ndarray) -> slice | None:
    """From where the curve first reaches its top to where it has all but reached its lowest value after that."""
    import numpy as np

    top = int(np.argmax(smooth))
    if top >= len(smooth) - 2:
        return None
    after = smooth[top:]
    span = float(smooth[top] - after.min())
    if span < _DROP:
        return None
    first = top - int(np.argmax(np.append(smooth[top::-1] < smooth[top] - _LEFT * span, True))) + 1
    last = top + int(np.argmax(after <= after.min() + _BOTTOM * span))
    last = max(last, top + 2)
    return slice(first, last + 1) if last + 1 - first >= 4 else slice(max(0, last - 3), last + 1)


def _fit(place: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best break per draw (in log step), the slope after it, and the fall from the break to the window's end.

    The curve may still climb at the left of the window: a level stretch begins at any of a few places before the
    break, so that a climb is not mistaken for a late fall.
    """
    import numpy as np

    best = np.full(len(draws), np.inf)
    breaks, slopes = np.zeros(len(draws)), np.zeros(len(draws))
    for start, at in _shapes(place):
        design = np.stack([np.ones_like(place), np.minimum(place - start, 0), np.maximum(place - at, 0)], axis=1)
        inverse = np.linalg.pinv(design)
        coefficients = draws @ inverse.T
        error = np.square(draws - coefficients @ design.T).sum(axis=1)
        better = error < best - 1e-12
        best[better], breaks[better], slopes[better] = error[better], at, coefficients[better, 2]
    return breaks, slopes, -slopes * (place[-1] - breaks)


def _shapes(place: np.ndarray) -> list[tuple[float, float]]:
    """Pairs of (begin of the level stretch, break), both in log step."""
    import numpy as np

    breaks = np.linspace(place[0], place[-2], _CANDIDATES)
    starts = np.linspace(place[0], place[-2], _STARTS)
    return [(float(start), float(at)) for at in breaks for start in starts if start <= at + 1e-9]
