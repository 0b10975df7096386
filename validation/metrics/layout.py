"""A thumbnail without contrast and colour cast: two pictures are alike when things stand in the same places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_LIGHT, _COLOR = 32, 12


def vector(pixels: np.ndarray) -> np.ndarray:
    """Unit vector from an RGB uint8 picture: 32x32 lightness and 12x12 colours, each centred and scaled by itself."""
    import cv2
    import numpy as np

    small = cv2.resize(pixels, (_LIGHT, _LIGHT), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    colors = cv2.resize(lab[..., 1:], (_COLOR, _COLOR), interpolation=cv2.INTER_AREA)
    light = _unit(cv2.GaussianBlur(lab[..., 0], (0, 0), 0.8), 2.0)
    joined = np.concatenate([light * 0.8, _unit(colors, 2.0) * 0.6])
    return joined.astype(np.float32)


def mean_distance(one: np.ndarray, others: Iterable[np.ndarray]) -> float | None:
    """Mean of sqrt(2 - 2 cos) to the others; None when there are none."""
    import numpy as np

    stack = list(others)
    if not stack:
        return None
    cosine = np.stack(stack) @ one
    return float(np.sqrt(np.maximum(2 - 2 * cosine, 0)).mean())


def _unit(values: np.ndarray, floor: float) -> np.ndarray:
    """Centred per channel and scaled to length one; `floor` (standard deviation) keeps flat pictures from exploding."""
    import numpy as np

    flat = (values - values.mean(axis=(0, 1))).ravel()
    return flat / np.sqrt(np.square(flat).sum() + floor**2)
