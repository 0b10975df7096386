"""How bright the picture is and how much of it carries no picture."""

from __future__ import annotations

from typing import Any

from . import Sample


def measure(sample: Sample) -> dict[str, Any]:
    """`brightness` mean luma 0-1, `contrast` its standard deviation, `black_share` the share under 0.04,
    `flat_share` the share of 16x16 tiles whose luma spans less than 3/255."""
    import numpy as np

    luma = sample.luma
    rows, columns = (max(1, side // 16) for side in luma.shape)
    tiles = luma[: rows * 16, : columns * 16]
    if tiles.shape == (rows * 16, columns * 16):
        blocks = tiles.reshape(rows, 16, columns, 16)
        flat = float(np.mean(blocks.max(axis=(1, 3)) - blocks.min(axis=(1, 3)) < 3 / 255))
    else:  # a side under 16 pixels
        flat = float(luma.max() - luma.min() < 3 / 255)
    return {
        "brightness": round(float(luma.mean()), 4),
        "contrast": round(float(luma.std()), 4),
        "black_share": round(float(np.mean(luma < 0.04)), 4),
        "flat_share": round(flat, 4),
    }
