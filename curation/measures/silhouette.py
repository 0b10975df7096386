"""A dark shape before a bright ground."""

from __future__ import annotations

from typing import Any

from . import Sample

_DARK = 0.16
_SIDE = 96


def measure(sample: Sample) -> dict[str, Any]:
    """`shape_share`: area of the largest connected dark shape (luma < 0.16) over the frame's, black bars left out;
    `shape_height`: its height over the frame's; `ground_luma`: mean luma of all that is not dark."""
    import cv2
    import numpy as np

    small = cv2.resize(sample.luma, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    dark = (small < _DARK).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=4)
    shapes = [stats[i] for i in range(1, count) if not _is_bar(stats[i])]
    largest = max(shapes, key=lambda s: s[cv2.CC_STAT_AREA], default=None)
    ground = small[dark == 0]
    return {
        "shape_share": round(float(largest[cv2.CC_STAT_AREA]) / _SIDE**2, 4) if largest is not None else 0.0,
        "shape_height": round(float(largest[cv2.CC_STAT_HEIGHT]) / _SIDE, 4) if largest is not None else 0.0,
        "ground_luma": round(float(ground.mean()), 4) if ground.size else 0.0,
    }


def _is_bar(stat: Any) -> bool:
    """A black bar spans the whole width or height and touches an edge without being a whole picture."""
    left, top, width, height, area = (int(value) for value in stat)
    full = width >= _SIDE or height >= _SIDE
    return full and area >= 0.97 * width * height and (left == 0 or top == 0 or left + width == _SIDE)
