"""Black bars around a film frame."""

from __future__ import annotations

from typing import Any

from . import Sample

_BLACK = 0.07


def measure(sample: Sample) -> dict[str, Any]:
    """`letterbox`: share of the picture's area under black bars at its edges, 0 when there are none."""
    rows = _bars(sample.luma.max(axis=1) < _BLACK)
    columns = _bars(sample.luma.max(axis=0) < _BLACK)
    return {"letterbox": round(1 - (1 - rows) * (1 - columns), 4)}


def _bars(black: Any) -> float:
    """Share of leading and trailing True values; a picture that is black all over has no bars."""
    count = len(black)
    bright = [index for index in range(count) if not black[index]]
    return (bright[0] + count - 1 - bright[-1]) / count if bright else 0.0
