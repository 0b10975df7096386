"""How sharp the whole picture is."""

from __future__ import annotations

from typing import Any

from . import Sample


def measure(sample: Sample) -> dict[str, Any]:
    """`sharpness`: variance of the Laplacian of 8-bit grey at working size (longest side 640)."""
    import cv2

    grey = cv2.cvtColor(sample.pixels, cv2.COLOR_RGB2GRAY)
    return {"sharpness": round(float(cv2.Laplacian(grey, cv2.CV_64F).var()), 1)}
