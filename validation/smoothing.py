"""Smoothing over log(step), and telling a broken checkpoint from its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# Standard deviation of the Gaussian kernel in natural log of the step. Twicing makes it act like a kernel of about 0.18
# on a straight stretch, with far less cut off at a peak.
WIDTH = 0.28
_LEVEL = 0.1  # pull of the local line towards a level one, so that few neighbours cannot tilt it
_COMPANY = 1.0  # kernel weight of the neighbours from which a checkpoint can be called odd
_DOUBT = 8.0  # robust standard deviations at which a checkpoint is no longer listened to
_BREAK = 0.2  # utility by which a checkpoint must fall below both neighbours to count as broken
_ODD = 6.0  # robust standard deviations of the same


def kernel(steps: Sequence[int], trust: np.ndarray | None = None, width: float = WIDTH) -> np.ndarray:
    """Local-linear smoothing matrix (checkpoints, checkpoints), rows summing to 1.

    Local lines rather than local means: unevenly spaced checkpoints must not pull a peak to their denser side. What
    smoothing took away is smoothed and given back once (Tukey's twicing), or peaks would be cut off.
    `trust` 0-1 per checkpoint lowers the pull of odd ones.
    """
    import numpy as np

    place = np.log(np.asarray(steps, dtype=float))
    away = place[None] - place[:, None]
    weights = np.exp(-0.5 * (away / width) ** 2)
    if trust is not None:
        weights = weights * np.maximum(trust, 1e-6)[None]
    mass = weights.sum(axis=1, keepdims=True)
    lean = (weights * away).sum(axis=1, keepdims=True)
    spread = (weights * away**2).sum(axis=1, keepdims=True) + _LEVEL * width**2 * mass
    rows = weights * (spread - lean * away)
    once = rows / rows.sum(axis=1, keepdims=True)
    return 2 * once - once @ once


def trust(steps: Sequence[int], values: np.ndarray) -> np.ndarray:
    """Bisquare weight (checkpoints,) from each checkpoint's distance to what its neighbours say."""
    import numpy as np

    place = np.log(np.asarray(steps, dtype=float))
    weights = np.exp(-0.5 * ((place[:, None] - place[None]) / WIDTH) ** 2)
    np.fill_diagonal(weights, 0)
    mass = weights.sum(axis=1)
    judged = mass >= _COMPANY
    if not judged.any():
        return np.ones(len(values))
    residual = np.where(judged, values - weights @ values / np.maximum(mass, 1e-9), 0.0)
    scale = max(1.4826 * float(np.median(np.abs(residual[judged]))), 0.02)
    ratio = np.clip(np.abs(residual) / (_DOUBT * scale), 0, 1)
    return (1 - ratio**2) ** 2


def broken(values: np.ndarray, noise: float) -> list[int]:
    """Indices of inner checkpoints that lie far below both neighbours; `noise` is one standard error of a value."""
    import numpy as np

    if len(values) < 5:
        return []
    dip = np.minimum(values[:-2], values[2:]) - values[1:-1]
    scale = max(1.4826 * float(np.median(np.abs(dip - np.median(dip)))), noise, 1e-3)
    found = [int(i) + 1 for i in np.flatnonzero(dip > max(_BREAK, _ODD * scale))]
    return [index for index in found if index + 1 not in found]
