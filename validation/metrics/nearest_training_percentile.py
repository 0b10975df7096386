"""The copy finder: how near a picture is to its nearest training picture, as a percentile of the data among itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Metric, Scene, Sight

if TYPE_CHECKING:
    import numpy as np

METRIC = Metric(
    "nearest_training_percentile", "percentile of training-to-training nearest distances", "up", "health",
    ("training pictures",), "copies of training pictures (percentile under 1)", base=100.0, data=50.0,
)  # fmt: skip

SIDE = 48
_COARSE = 16
_SHORTLIST = 6
_SCALES = (1.0, 0.94, 0.88, 0.82, 0.76, 0.7)  # a pasted picture may show only part of the training picture
_CROPS = (1.0, 0.85, 0.7)  # the same, coarsely, for the shortlist


def small(pixels: np.ndarray) -> np.ndarray:
    """Grey (48, 48) float32 without slow brightness changes, so that recolouring hides nothing."""
    import cv2
    import numpy as np

    grey = cv2.cvtColor(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    values = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 0.8)
    detail = values - cv2.GaussianBlur(values, (0, 0), 8.0)
    return detail / (detail.std() + 2.0)


class CopyReference:
    """The training pictures as the copy finder sees them, and how near each is to its own nearest neighbour."""

    def __init__(self, pictures: np.ndarray) -> None:
        """`pictures` (n, 48, 48) from `small`, at least three."""
        import numpy as np

        self._pictures = pictures
        self._coarse = [np.stack([_coarse(_middle(picture, crop)) for picture in pictures]) for crop in _CROPS]
        own = [self.nearest(picture, skip=index)[0] for index, picture in enumerate(pictures)]
        self.distances = np.sort(np.asarray(own))

    def nearest(self, picture: np.ndarray, skip: int | None = None) -> tuple[float, int]:
        """Distance (1 - correlation, flips and crops tried) to the nearest training picture, and its index."""
        import numpy as np

        flipped = np.ascontiguousarray(picture[:, ::-1])
        best = np.full(len(self._pictures), -2.0)
        for version in (_coarse(picture), _coarse(flipped)):
            for bank in self._coarse:
                best = np.maximum(best, bank @ version)
        if skip is not None:
            best[skip] = -3.0
        shortlist = np.argsort(best)[::-1][: min(_SHORTLIST, len(best) - (skip is not None))]
        found = [(1 - _match((picture, flipped), self._pictures[index]), int(index)) for index in shortlist]
        return min(found)

    def percentile(self, distance: float) -> float:
        """Where `distance` stands among the training pictures' own nearest distances, 0-100.

        Under the smallest of them it goes down to 0 with the square, so that a small set can still tell copies.
        """
        import numpy as np

        count = len(self.distances)
        smallest = max(float(self.distances[0]), 1e-6)
        if distance < smallest:
            return 100 * 0.5 / count * (max(distance, 0.0) / smallest) ** 2
        ranks = (np.arange(count) + 0.5) / count * 100
        if distance > self.distances[-1]:
            return 100.0
        return float(np.interp(distance, self.distances, ranks))


def measure(sight: Sight, scene: Scene) -> float | None:
    """Percentile of the nearest training picture, flips and crops included; below 1 is copying."""
    copies = scene.reference.copies
    if sight.small is None or copies is None:
        return None
    return copies.percentile(copies.nearest(sight.small)[0])


def _coarse(picture: np.ndarray) -> np.ndarray:
    import cv2
    import numpy as np

    flat = cv2.resize(picture, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA).ravel()
    flat = flat - flat.mean()
    return flat / (np.linalg.norm(flat) + 1e-6)


def _middle(picture: np.ndarray, share: float) -> np.ndarray:
    edge = round(SIDE * (1 - share) / 2)
    return picture[edge : SIDE - edge, edge : SIDE - edge]


def _match(versions: tuple[np.ndarray, ...], target: np.ndarray) -> float:
    """Best normalised correlation over small shifts, and over crops of the training picture."""
    return max(_slide(picture, target, scale) for picture in versions for scale in _SCALES)


def _slide(inner: np.ndarray, outer: np.ndarray, scale: float) -> float:
    """`inner` without its border, reduced by `scale`, slid over `outer`."""
    import cv2

    side = round(SIDE * scale)
    reduced = cv2.resize(inner, (side, side), interpolation=cv2.INTER_AREA) if scale < 1 else inner
    edge = 2
    patch = reduced[edge:-edge, edge:-edge]
    return float(cv2.matchTemplate(outer, patch, cv2.TM_CCOEFF_NORMED).max())
