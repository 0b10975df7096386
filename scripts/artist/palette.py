"""Colours of the artist and how each drawing style changes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rgb = tuple[int, int, int]

SKIN: Rgb = (255, 222, 196)
LINE: Rgb = (74, 44, 48)
SILHOUETTE: Rgb = (38, 34, 52)

HAIR: dict[str, Rgb] = {
    "black": (40, 36, 48),
    "brown": (124, 74, 44),
    "blond": (246, 208, 92),
    "red": (204, 58, 34),
    "white": (238, 240, 248),
    "blue": (58, 104, 206),
    "pink": (248, 130, 178),
}
DRESS: dict[str, Rgb] = {
    "red": (208, 40, 54),
    "blue": (48, 96, 204),
    "green": (52, 148, 76),
    "yellow": (246, 204, 52),
    "white": (248, 246, 244),
    "black": (44, 42, 52),
    "purple": (138, 72, 182),
}
EYES: tuple[Rgb, ...] = ((96, 58, 40), (44, 96, 168), (46, 122, 92), (112, 72, 150))


def shade(color: Rgb, factor: float) -> Rgb:
    """Multiply a colour; above 1 it is moved towards white so that it never clips."""
    if factor <= 1.0:
        r, g, b = (int(c * factor) for c in color)
    else:
        r, g, b = (int(c + (255 - c) * (factor - 1.0)) for c in color)
    return (r, g, b)


def tone(style: str, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply the tone of a style to 0-255 values; shape (..., 3).

    The reading-back code applies the same curve to the palette, so it knows what each colour
    looks like in each style.
    """
    if style == "pastel":
        grey = pixels.mean(axis=-1, keepdims=True)
        return 255.0 - (255.0 - (grey + (pixels - grey) * 0.9)) * np.float32(0.74)
    if style == "cel":
        grey = pixels.mean(axis=-1, keepdims=True)
        return np.clip(grey + (pixels - grey) * np.float32(1.12), 0, 255)
    if style == "film":
        grey = pixels.mean(axis=-1, keepdims=True)
        soft = grey + (pixels - grey) * np.float32(0.72)
        low = np.array([42.0, 30.0, 30.0], dtype=np.float32)
        high = np.array([244.0, 226.0, 188.0], dtype=np.float32)
        return low + (high - low) * np.power(np.clip(soft, 0, 255) / 255.0, 1.12)
    return pixels
