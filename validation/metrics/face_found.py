"""Whether a face is found where the prompt asks for one."""

from __future__ import annotations

from .base import Metric, Scene, Sight

METRIC = Metric(
    "face_found", "0 or 1", "up", "identity", ("face finder",), "a face is found where the prompt asks for one",
    base=0.0, data=1.0, weight=0.25, limits=(0.0, 1.0),
)  # fmt: skip

_NO_FACE = ("from behind", "back view", "seen from the back", "rear view", "silhouette", "no face", "no people",
            "no character", "no humans", "landscape without")  # fmt: skip


def expects_face(prompt: str) -> bool:
    """False when the words of a prompt or caption ask for no visible face."""
    words = prompt.lower()
    return not any(phrase in words for phrase in _NO_FACE)


def measure(sight: Sight, scene: Scene) -> float | None:
    """1 or 0; None where no face is asked for, or where the finder sees none even in the training pictures."""
    if not sight.face_expected or not scene.reference.faces_visible:
        return None
    return 1.0 if sight.face else 0.0
