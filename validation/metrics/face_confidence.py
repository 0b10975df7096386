"""How sure the detector is of the largest face: melted features lower it before the face is lost."""

from __future__ import annotations

from .base import Metric, Scene, Sight

METRIC = Metric(
    "face_confidence", "0-1", "up", "identity", ("face finder",), "the detector's confidence in the largest face",
    base=0.0, data=1.0, weight=0.25,
)  # fmt: skip


def measure(sight: Sight, scene: Scene) -> float | None:
    """The score of the largest face, 0-1; a missing face is `face_found`'s affair."""
    if not sight.face_expected or sight.face is None or not scene.reference.faces_visible:
        return None
    return min(max(sight.face.score, 0.0), 1.0)
