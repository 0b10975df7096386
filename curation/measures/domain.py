"""Drawn or photographed: a rough guess that only steers which detector `auto` asks first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from . import Sample

if TYPE_CHECKING:
    import numpy as np

_SIDE = 320
# Logistic regression on 222 labelled real pictures (143 drawn, 79 photographs); ten-fold AUC 0.85: a hint, not a fact.
_WEIGHTS = {"line": 1.182, "colours": 0.683, "white": 5.891, "flat": 3.198}
_BIAS = -9.489


def measure(sample: Sample) -> dict[str, Any]:
    """`drawn`: probability 0-1 that the picture is drawn rather than photographed."""
    return {"drawn": round(drawn_probability(sample.pixels), 4)}


def drawn_probability(pixels: np.ndarray) -> float:
    """0-1 from an RGB uint8 array: drawings have flat areas, few but strong edges, and more white."""
    import cv2
    import numpy as np

    scale = _SIDE / max(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    facts = {
        "line": math.log1p(float(np.percentile(slope, 97)) / (float(np.median(slope)) + 2)),
        "colours": _colour_bits(pixels),
        "white": float(np.mean(grey > 245)),
        "flat": float(np.mean(slope < 4)),
    }
    logit = _BIAS + sum(weight * facts[name] for name, weight in _WEIGHTS.items())
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))


def _colour_bits(pixels: np.ndarray) -> float:
    """Entropy in bits of the colour histogram with 32 levels per channel."""
    import numpy as np

    coarse = (pixels >> 3).astype(np.int32)
    index = coarse[..., 0] * 1024 + coarse[..., 1] * 32 + coarse[..., 2]
    share = np.bincount(index.ravel()) / index.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())
