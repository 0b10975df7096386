"""The gate: a black, flat, half-decoded or pure-noise picture never reaches a score, and its likely cause is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .base import Metric

if TYPE_CHECKING:
    import numpy as np

METRIC = Metric(
    "valid_frame", "0 or 1", "gate", None, ("picture",), "the picture is a picture: not black, flat, torn or noise",
    limits=(0.0, 1.0),
)  # fmt: skip

_BLACK = 10.0  # grey level (0-255) under which a pixel counts as black
_FLAT = 2.5  # standard deviation of grey levels under which a picture counts as one colour
_TORN = 0.3  # share of exactly one-coloured rows or columns at one side
_ROWS = 160
_NOISE = 0.25  # correlation of neighbouring pixels under which nothing is drawn


@dataclass(frozen=True)
class Fault:
    """What is wrong with a frame: a short name and the likely cause in plain words."""

    name: str
    cause: str


FAULTS: dict[str, str] = {
    "unreadable": "the file cannot be read: it was cut off while being written",
    "nan": "the picture holds values that are not numbers: fp16 overflow in the VAE (decode in fp32)",
    "black": "all black: a safety checker replaced it, or the VAE overflowed in fp16 (decode in fp32)",
    "white": "all white: values ran out of range (learning rate or strength far too high)",
    "flat": "one flat colour: the LoRA's weights have blown up, or the VAE does not belong to the model",
    "torn": "partly one-coloured: decoding stopped half-way (out of memory, or a tiled VAE failed)",
    "noise": "pure noise: nothing was denoised (wrong scheduler or prediction type, or damaged weights)",
}


def inspect(pixels: np.ndarray) -> Fault | None:
    """The fault of a picture (height, width, 3), uint8 or float 0-255 or 0-1, or None when it is sound."""
    import numpy as np

    values = np.asarray(pixels)
    if values.size == 0:
        return _fault("unreadable")
    if np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all():
            return _fault("nan")
        values = values * 255 if values.max() <= 1.0 else values
    values = values[:: max(1, values.shape[0] // _ROWS)].astype(np.float32)  # every row would say the same
    grey = values.reshape(values.shape[0], values.shape[1], -1).mean(axis=2)
    if float(np.percentile(grey, 99)) < _BLACK:
        return _fault("black")
    if float(np.percentile(grey, 1)) > 255 - _BLACK:
        return _fault("white")
    if float(values.reshape(-1, values.shape[-1]).std(axis=0).max()) < _FLAT:
        return _fault("flat")
    if _torn(grey):
        return _fault("torn")
    return _fault("noise") if _neighbours(grey) < _NOISE else None


def measure(pixels: np.ndarray) -> float:
    """1 for a sound picture, 0 for a broken one."""
    return 0.0 if inspect(pixels) else 1.0


def _fault(name: str) -> Fault:
    return Fault(name, FAULTS[name])


def _torn(grey: np.ndarray) -> bool:
    """A run of black (or exactly equal) rows or columns at one edge: half a frame was never decoded."""
    import numpy as np

    for lines in (grey, grey.T):
        dead = lines.max(axis=1) - lines.min(axis=1) < 1.0
        dead &= np.abs(lines.mean(axis=1) - lines.mean(axis=1)[[0, -1]][:, None]).min(axis=0) < 1.0
        black = lines.max(axis=1) < _BLACK
        for side in (dead & black, (dead & black)[::-1]):
            run = int(np.argmin(side)) if not side.all() else len(side)
            if run / len(side) >= _TORN:
                return True
    return False


def _neighbours(grey: np.ndarray) -> float:
    import numpy as np

    if min(grey.shape) < 3:
        return 1.0
    centred = grey - grey.mean()
    return float((centred[:, 1:] * centred[:, :-1]).mean() / max(float(np.square(centred).mean()), 1e-6))
