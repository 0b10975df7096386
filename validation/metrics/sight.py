"""Looking at one picture once: everything the metrics need, so that the pixels can be let go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.faces import FaceFinder
from . import face_sharpness, layout, nearest_training_percentile, style_features, valid_frame
from .base import Face, Sight

if TYPE_CHECKING:
    import numpy as np


def look(
    pixels: np.ndarray, finder: FaceFinder | None, *, prompt: str, seed: int = 0, side: int = 256, expected: bool = True
) -> Sight:
    """Measure an RGB uint8 picture (height, width, 3); `side` is the longest side for the style features."""
    fault = valid_frame.inspect(pixels)
    if fault:
        return Sight(prompt, seed, fault=fault.name, face_expected=expected)
    return Sight(
        prompt,
        seed,
        face=largest_face(pixels, finder) if finder else None,
        face_expected=expected,
        style=style_features.features(pixels, side),
        layout=layout.vector(pixels),
        small=nearest_training_percentile.small(pixels),
    )


def largest_face(pixels: np.ndarray, finder: FaceFinder) -> Face | None:
    """Score and sharpness energy of the largest face; heads seen from behind do not count."""
    boxes = [(subject, subject.face) for subject in finder.find(pixels) if subject.face and subject.view != "back"]
    if not boxes:
        return None
    subject, box = max(boxes, key=lambda item: (item[1][2] - item[1][0]) * (item[1][3] - item[1][1]))
    energy = face_sharpness.energy(pixels, box)
    return Face(subject.score, energy) if energy is not None else None
