"""Numbers that describe how a picture is drawn and little of what it shows."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# How much each group counts in the distance, whatever its number of values.
GROUPS: dict[str, tuple[int, float]] = {
    "palette": (48, 1.0),
    "tone": (16, 0.75),
    "edges": (24, 1.0),
    "spectrum": (14, 1.25),
    "filters": (40, 1.25),
}
_FLOOR = 1e-3


def features(pixels: np.ndarray, side: int) -> np.ndarray:
    """Style vector (142,) of an RGB uint8 picture, looked at with its longest side reduced to `side` pixels."""
    import cv2
    import numpy as np

    scale = side / max(pixels.shape[:2])
    if scale < 1:
        size = (max(8, round(pixels.shape[1] * scale)), max(8, round(pixels.shape[0] * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    light = lab[..., 0] / 100
    parts = [_palette(lab), _tone(light), _edges(light), _spectrum(lab), _filters(light)]
    return np.concatenate(parts).astype(np.float32)


def _stride(picture: np.ndarray) -> int:
    """Odd step that leaves about 8000 pixels for quantiles, spread over all columns."""
    return max(1, picture.shape[0] * picture.shape[1] // 8000) | 1


def _palette(lab: np.ndarray) -> np.ndarray:
    """Quantiles of the Lab colours along six directions: distances between them are sliced earth-mover distances."""
    import numpy as np

    points = lab.reshape(-1, 3)[:: _stride(lab)]
    directions = np.array([[0, 1, 0], [0, 0, 1], [0, 0.7, 0.7], [0, 0.7, -0.7], [0.6, 0.8, 0], [0.6, 0, 0.8]])
    chroma = np.hypot(points[:, 1], points[:, 2])
    levels = np.linspace(0.06, 0.94, 8)
    quantiles = np.quantile(points @ directions[:5].T, levels, axis=0)
    return np.concatenate([quantiles.T.ravel(), np.quantile(chroma, levels)]) / 25


def _tone(light: np.ndarray) -> np.ndarray:
    """The tone curve: 16 quantiles of lightness."""
    import numpy as np

    return np.quantile(light.ravel()[:: _stride(light)], np.linspace(0.01, 0.99, 16)) * 4


def _edges(light: np.ndarray) -> np.ndarray:
    """At two scales: quantiles of edge strength (log), and how edges spread over eight directions."""
    import cv2
    import numpy as np

    parts: list[np.ndarray] = []
    for sigma in (0.8, 2.0):
        smooth = cv2.GaussianBlur(light, (0, 0), sigma)
        dx, dy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
        strength = np.hypot(dx, dy)
        turn = ((np.arctan2(dy, dx) % np.pi) / np.pi * 8).astype(int) % 8
        share = np.bincount(turn.ravel(), strength.ravel(), minlength=8)
        parts += [
            np.log(np.quantile(strength.ravel()[:: _stride(light)], (0.25, 0.5, 0.75, 0.95)) + 0.01),
            share / (share.sum() + _FLOOR) * 4,
        ]
    return np.concatenate(parts)


def _spectrum(lab: np.ndarray) -> np.ndarray:
    """Energy per octave (log) of lightness and colour, and how peaked each octave is: grain differs from lines."""
    import cv2
    import numpy as np

    values: list[float] = []
    for channel, octaves in ((lab[..., 0] / 100, 5), (np.hypot(lab[..., 1], lab[..., 2]) / 100, 4)):
        rest = channel
        for octave in range(octaves):
            blurred = cv2.GaussianBlur(rest, (0, 0), 1.0)
            band = rest - blurred
            values.append(float(np.log(band.std() + _FLOOR)))
            if octaves == 5:
                values.append(float(np.log(np.median(np.abs(band)) + _FLOOR)))
            if octave < octaves - 1 and min(blurred.shape) > 8:
                rest = cv2.resize(blurred, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.array(values)


def _filters(light: np.ndarray) -> np.ndarray:
    """Mean and spread (log) of ten fixed random filters' rectified answers at two scales."""
    import cv2
    import numpy as np

    values: list[float] = []
    mean, deviation = float(light.mean()), float(light.std()) + 0.05
    plain = (light - mean) / deviation
    for scale in (plain, cv2.resize(plain, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)):
        for kernel in _bank():
            answer = np.maximum(cv2.filter2D(scale, cv2.CV_32F, kernel), 0)
            values += [float(np.log(answer.mean() + 0.01)), float(np.log(np.sqrt((answer**2).mean()) + 0.01))]
    return np.array(values)


@cache
def _bank() -> tuple[np.ndarray, ...]:
    """Ten random 7x7 filters without mean, from a fixed seed."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(20)
    kernels = (cv2.GaussianBlur(rng.normal(size=(7, 7)).astype(np.float32), (0, 0), 0.5 + 0.08 * n) for n in range(10))
    centred = (kernel - kernel.mean() for kernel in kernels)
    return tuple(kernel / np.abs(kernel).sum() for kernel in centred)
