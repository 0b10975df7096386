"""What the training pictures say about themselves: the data's side of every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .base import Sight
from .nearest_training_percentile import CopyReference
from .style_distance import StyleReference

_ENOUGH = 3  # with fewer training pictures there is no spread to measure against
_FACES_VISIBLE = 0.2  # share of training pictures with a face from which the finder is believed to see this art


@dataclass(frozen=True)
class Reference:
    """Anchors from the training pictures; a part is None when there is too little to learn it from."""

    sights: tuple[Sight, ...]
    style: StyleReference | None
    copies: CopyReference | None
    face_energy: float | None
    faces_visible: bool


def learn(sights: Sequence[Sight]) -> Reference:
    """The reference of a training set from its sound pictures."""
    import numpy as np

    sound = tuple(sight for sight in sights if sight.fault is None)
    styles = [sight.style for sight in sound if sight.style is not None]
    smalls = [sight.small for sight in sound if sight.small is not None]
    energies = [sight.face.energy for sight in sound if sight.face]
    expected = [sight for sight in sound if sight.face_expected]
    seen = sum(1 for sight in expected if sight.face)
    visible = bool(expected) and seen / len(expected) >= _FACES_VISIBLE
    return Reference(
        sound,
        StyleReference(np.stack(styles)) if len(styles) >= _ENOUGH else None,
        CopyReference(np.stack(smalls)) if len(smalls) >= _ENOUGH else None,
        median(energies) if energies and visible else None,
        visible,
    )
