"""A perceptual hash, for near duplicates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import Sample

if TYPE_CHECKING:
    import numpy as np


def measure(sample: Sample) -> dict[str, Any]:
    """`phash`: 64-bit perceptual hash as 16 hex digits; alike pictures differ in few bits."""
    return {"phash": phash(sample.pixels)}


def phash(pixels: np.ndarray) -> str:
    """imagehash.phash of an RGB uint8 array, 16 hex digits."""
    import imagehash
    from PIL import Image

    return str(imagehash.phash(Image.fromarray(pixels)))
