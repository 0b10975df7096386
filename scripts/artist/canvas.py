"""A supersampled canvas that keeps, beside the colours, which part every pixel belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from artist.palette import Rgb

Points = NDArray[np.float64]
_SHIFT = 4

# Parts of a character; the label of a pixel is 32 * (index + 1) + part. Below 32: background.
SKIN, HAIR, HAIR_FRONT, DRESS, TRIM, FEATURE, LIMB = range(1, 8)


@dataclass(frozen=True)
class Shape:
    """A filled outline or a line, in head units for figures and 0-1 for backgrounds."""

    points: Points
    color: Rgb
    part: int
    line: float = 0.0
    alpha: float = 1.0


def ellipse(cx: float, cy: float, rx: float, ry: float, a0: float = 0.0, a1: float = 360.0, n: int = 28) -> Points:
    """Points along an ellipse from angle a0 to a1 (degrees, clockwise on screen)."""
    t = np.radians(np.linspace(a0, a1, n))
    return np.stack([cx + rx * np.cos(t), cy + ry * np.sin(t)], axis=1)


def smooth(points: Any, closed: bool = True, n: int = 6) -> Points:
    """Catmull-Rom curve through the points: organic outlines from a few coordinates."""
    p = np.asarray(points, dtype=np.float64)
    if closed:
        p0, p1, p2, p3 = np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)
    else:
        q = np.concatenate([p[:1], p, p[-1:]])
        p0, p1, p2, p3 = q[:-3], q[1:-2], q[2:-1], q[3:]
    t = np.linspace(0, 1, n, endpoint=False)[None, :, None]
    a, b, c, d = (v[:, None, :] for v in (p0, p1, p2, p3))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    out = curve.reshape(-1, 2)
    return out if closed else np.concatenate([out, p[-1:]])


def mirror(points: Any) -> list[tuple[float, float]]:
    """Close a half outline (right side, top to bottom) with its mirror image."""
    pts = [(float(x), float(y)) for x, y in points]
    return pts + [(-x, y) for x, y in reversed(pts) if x != 0.0]


class Canvas:
    """Colours and labels at `ss` times the final size."""

    def __init__(self, width: int, height: int, ss: int = 2) -> None:
        self.ss = ss
        self.width, self.height = width, height
        self.rgb = np.zeros((height * ss, width * ss, 3), np.uint8)
        self.labels = np.zeros((height * ss, width * ss), np.uint8)

    def paint(self, shape: Shape, scale: tuple[float, float], offset: tuple[float, float], base: int) -> None:
        """Draw one shape; scale and offset map its units to final pixels."""
        k = self.ss * (1 << _SHIFT)
        pts = np.empty((len(shape.points), 2))
        pts[:, 0] = (shape.points[:, 0] * scale[0] + offset[0]) * k - 8
        pts[:, 1] = (shape.points[:, 1] * scale[1] + offset[1]) * k - 8
        ints = [np.rint(pts).astype(np.int32)]
        label = base + shape.part
        if shape.line:
            thick = max(1, round(shape.line * abs(scale[1]) * self.ss))
            cv2.polylines(self.rgb, ints, False, shape.color, thick, cv2.LINE_AA, _SHIFT)
        elif shape.alpha < 1.0:
            self._glaze(ints, shape)
        else:
            cv2.fillPoly(self.rgb, ints, shape.color, cv2.LINE_AA, _SHIFT)
            cv2.fillPoly(self.labels, ints, label, cv2.LINE_8, _SHIFT)

    def _glaze(self, ints: list[NDArray[np.int32]], shape: Shape) -> None:
        """Blend a shape over the picture; only its bounding box is copied."""
        x0, y0 = np.maximum((ints[0].min(0) >> _SHIFT) - 2, 0)
        x1, y1 = (ints[0].max(0) >> _SHIFT) + 3
        view = self.rgb[y0:y1, x0:x1]
        if view.size == 0:
            return
        layer = view.copy()
        moved = [ints[0] - np.array([x0, y0], dtype=np.int32) * (1 << _SHIFT)]
        cv2.fillPoly(layer, moved, shape.color, cv2.LINE_AA, _SHIFT)
        cv2.addWeighted(layer, shape.alpha, view, 1.0 - shape.alpha, 0.0, dst=layer)
        view[:] = layer
