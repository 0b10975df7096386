"""One file per measure. A measure looks at a `Sample` and answers JSON values; no thresholds live here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...core.faces import Subject

if TYPE_CHECKING:
    import numpy as np

VERSION = 2  # part of the cache key: raise it whenever any measure answers differently
WORKING_SIDE = 640  # pixels; every measure sees the picture reduced to this longest side, never enlarged


@dataclass(frozen=True)
class Sample:
    """An upright picture: RGB uint8 array (height, width, 3) of working size, its full size, and who is in it."""

    pixels: np.ndarray
    width: int
    height: int
    subjects: tuple[Subject, ...]

    @cached_property
    def luma(self) -> np.ndarray:
        """Brightness as float32 array (height, width), 0 black to 1 white (Rec. 601 weights)."""
        import cv2
        import numpy as np

        return cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255


def measure_all(sample: Sample) -> dict[str, Any]:
    """Every measure's answers in one flat dict; the schema is the same for all detectors (docs/curation.md)."""
    values: dict[str, Any] = {"width": sample.width, "height": sample.height}
    for measure in _measures():
        values.update(measure(sample))
    return values


def _measures() -> tuple[Callable[[Sample], dict[str, Any]], ...]:
    from . import domain, exposure, fingerprint, letterbox, sharpness, silhouette, subjects

    modules = (exposure, letterbox, sharpness, fingerprint, domain, silhouette, subjects)
    return tuple(module.measure for module in modules)
