"""How far a picture's palette, tones, edges, spectrum and textures are from the training pictures' (data = 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Metric, Scene, Sight
from .style_features import GROUPS

if TYPE_CHECKING:
    import numpy as np

METRIC = Metric(
    "style_distance", "training set's self-distance", "down", "style", ("training pictures",),
    "distance to the training pictures' style", data=1.0, span=0.5,
)  # fmt: skip


class StyleReference:
    """The training set's style: the mean and spread of each feature, and how far its own pictures are from it."""

    def __init__(self, vectors: np.ndarray) -> None:
        """`vectors` (pictures, features), at least three."""
        import numpy as np

        self._mean = vectors.mean(axis=0)
        # A feature that hardly varies in a small set must not decide alone.
        spread = vectors.std(axis=0, ddof=1)
        self._spread = np.maximum(spread, 0.5 * np.median(spread)) + 1e-4
        self.own = self._leave_one_out(vectors)
        self._unit = float(np.median(self.own))
        self.own = self.own / self._unit

    def distance(self, vector: np.ndarray) -> float:
        """Distance of one style vector in units of the set's own median distance."""
        return float(self._raw(vector - self._mean)) / self._unit

    def _leave_one_out(self, vectors: np.ndarray) -> np.ndarray:
        """Each training picture's distance to the mean of the others, (pictures,)."""
        count = len(vectors)
        return self._raw((vectors - self._mean) * count / (count - 1))

    def _raw(self, difference: np.ndarray) -> np.ndarray:
        import numpy as np

        scaled = np.abs(difference) / self._spread
        total, start, weights = 0.0, 0, 0.0
        for count, weight in GROUPS.values():
            total = total + weight * scaled[..., start : start + count].mean(axis=-1)
            start, weights = start + count, weights + weight
        return np.asarray(total / weights)


def measure(sight: Sight, scene: Scene) -> float | None:
    """Distance of this picture to the training set's style; None without training pictures."""
    if sight.style is None or scene.reference.style is None:
        return None
    return scene.reference.style.distance(sight.style)
