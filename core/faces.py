"""The one shape every detector answers in, so that curation and validation can share detectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Subject:
    """One character found in a picture. Boxes are (x0, y0, x1, y1) in pixels of the picture given to `find`.

    A detector fills in what it can see and leaves the rest None: None means "not known", never "no".
    `score` 0-1; `view` one of front, three_quarter, profile, back; visibilities are probabilities 0-1.
    """

    score: float
    face: Box | None = None
    head: Box | None = None
    body: Box | None = None
    landmarks: tuple[tuple[float, float], ...] = field(default=())
    view: str | None = None
    eyes_visible: float | None = None
    mouth_visible: float | None = None


class FaceFinder(Protocol):
    """Finds characters in an upright RGB uint8 picture of shape (height, width, 3)."""

    name: str
    version: str

    def find(self, picture: np.ndarray) -> tuple[Subject, ...]:
        """All characters found, largest first."""
        ...
