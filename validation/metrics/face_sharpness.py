"""Detail inside the face: band-limited gradient energy in the face box at a fixed 160 px, against the data's faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Metric, Scene, Sight

if TYPE_CHECKING:
    import numpy as np

METRIC = Metric(
    "face_sharpness", "ratio to the training faces' median", "up", "identity", ("face finder", "training pictures"),
    "sharpness inside the face", base=0.0, data=1.0, weight=0.5,
)  # fmt: skip

SIDE = 160
_SMALLEST = 12  # pixels; below this a box holds no detail to speak of
# Band in pixels of the 160 px face: finer than the outer blur (eyes, mouth, lines), coarser than the inner one (grain).
_FINE, _COARSE = 1.6, 6.0


def energy(pixels: np.ndarray, box: tuple[float, float, float, float]) -> float | None:
    """Mean gradient of the band-passed lightness inside `box` (pixels of an RGB uint8 picture); None when too small."""
    import cv2
    import numpy as np

    height, width = pixels.shape[:2]
    x0, y0 = max(0, round(box[0])), max(0, round(box[1]))
    x1, y1 = min(width, round(box[2])), min(height, round(box[3]))
    if min(x1 - x0, y1 - y0) < _SMALLEST:
        return None
    face = cv2.cvtColor(np.ascontiguousarray(pixels[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    shrinking = face.shape[0] > SIDE or face.shape[1] > SIDE
    face = cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)
    band = cv2.GaussianBlur(face, (0, 0), _FINE) - cv2.GaussianBlur(face, (0, 0), _COARSE)
    inner = band[SIDE // 10 : -SIDE // 10, SIDE // 10 : -SIDE // 10]
    across, down = np.diff(inner, axis=1)[1:], np.diff(inner, axis=0)[:, 1:]
    return float(np.sqrt(across**2 + down**2).mean())


def measure(sight: Sight, scene: Scene) -> float | None:
    """Energy inside the face over the median of the training faces; None without a face on either side."""
    if not sight.face_expected or sight.face is None:
        return None
    median = scene.reference.face_energy
    return sight.face.energy / median if median else None
