"""Backgrounds, in shares of the picture; each is a handful of shapes over a gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from artist.canvas import Canvas, Shape, ellipse, smooth
from artist.palette import Rgb, shade


def _gradient(canvas: Canvas, top: Rgb, bottom: Rgb) -> None:
    rows = np.linspace(0.0, 1.0, canvas.rgb.shape[0], dtype=np.float32)[:, None, None]
    a, b = np.array(top, np.float32), np.array(bottom, np.float32)
    canvas.rgb[:] = (a + (b - a) * rows).astype(np.uint8)


def _box(x0: float, y0: float, x1: float, y1: float) -> NDArray[np.float64]:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=np.float64)


def _circle(canvas: Canvas, x: float, y: float, r: float) -> NDArray[np.float64]:
    """A circle that stays round in pictures that are not square; `r` in shares of the height."""
    return ellipse(x, y, r * canvas.height / canvas.width, r, n=20)


def _hill(rng: np.random.Generator, y: float, bump: float) -> NDArray[np.float64]:
    x = np.linspace(-0.1, 1.1, 7)
    line = smooth(np.stack([x, y + rng.uniform(-bump, bump, 7)], 1), False, 6)
    return np.concatenate([line, [(1.1, 1.1), (-0.1, 1.1)]])


def _room(canvas: Canvas, rng: np.random.Generator) -> list[Shape]:
    _gradient(canvas, (190, 212, 204), (204, 222, 212))
    floor = float(rng.uniform(0.7, 0.8))
    x = float(rng.choice([rng.uniform(0.04, 0.12), rng.uniform(0.62, 0.7)]))
    y, w, h = float(rng.uniform(0.08, 0.14)), 0.27, 0.36
    frame = (244, 240, 230)
    shapes = [
        Shape(_box(-0.1, floor, 1.1, 1.1), (168, 118, 82), 1),
        Shape(_box(-0.1, floor - 0.025, 1.1, floor + 0.005), (236, 230, 216), 2),
        Shape(_box(x, y, x + w, y + h), frame, 3),
        Shape(_box(x + 0.025, y + 0.025, x + w - 0.025, y + h - 0.025), (150, 206, 240), 4),
        Shape(_box(x + 0.025, y + h * 0.7, x + w - 0.025, y + h - 0.025), (132, 190, 120), 5),
        Shape(_box(x + w / 2 - 0.01, y, x + w / 2 + 0.01, y + h), frame, 3),
        Shape(_box(x, y + h / 2 - 0.01, x + w, y + h / 2 + 0.01), frame, 3),
    ]
    for k in range(1, 4):
        line = np.array([(-0.1, floor + 0.075 * k), (1.1, floor + 0.075 * k)])
        shapes.append(Shape(line, (142, 96, 64), 1, line=0.008))
    return shapes


def _meadow(canvas: Canvas, rng: np.random.Generator) -> list[Shape]:
    _gradient(canvas, (120, 190, 244), (206, 234, 250))
    horizon = float(rng.uniform(0.56, 0.66))
    shapes = []
    for _ in range(int(rng.integers(2, 4))):
        cx, cy = float(rng.uniform(0.05, 0.95)), float(rng.uniform(0.08, 0.3))
        for dx, r in ((-0.06, 0.035), (0.0, 0.055), (0.06, 0.04)):
            shapes.append(Shape(_circle(canvas, cx + dx, cy, r), (252, 254, 255), 1))
    shapes.append(Shape(_hill(rng, horizon - 0.05, 0.03), (132, 200, 130), 2))
    shapes.append(Shape(_hill(rng, horizon + 0.06, 0.02), (98, 178, 84), 3))
    colors: tuple[Rgb, ...] = ((255, 250, 250), (250, 214, 80), (244, 140, 170))
    for _ in range(14):
        x, y = float(rng.uniform(0.02, 0.98)), float(rng.uniform(horizon + 0.13, 0.98))
        color = colors[int(rng.integers(3))]
        shapes.append(Shape(_circle(canvas, x, y, 0.014), color, 4))
    return shapes


def _night(canvas: Canvas, rng: np.random.Generator) -> list[Shape]:
    _gradient(canvas, (22, 26, 66), (64, 62, 122))
    shapes = []
    for _ in range(16):
        x, y = float(rng.uniform(0.02, 0.98)), float(rng.uniform(0.03, 0.62))
        r = float(rng.uniform(0.005, 0.011))
        shapes.append(Shape(_circle(canvas, x, y, r), (250, 246, 214), 1))
    x = float(rng.choice([rng.uniform(0.1, 0.2), rng.uniform(0.8, 0.9)]))
    y = float(rng.uniform(0.12, 0.2))
    shapes.append(Shape(_circle(canvas, x, y, 0.085), (252, 240, 184), 2))
    shapes.append(Shape(_circle(canvas, x + 0.04, y - 0.025, 0.07), (34, 36, 80), 3))
    shapes.append(Shape(_hill(rng, 0.74, 0.03), (34, 52, 74), 4))
    return shapes


def _sea(canvas: Canvas, rng: np.random.Generator) -> list[Shape]:
    _gradient(canvas, (150, 214, 248), (232, 244, 250))
    horizon = float(rng.uniform(0.46, 0.54))
    x = float(rng.choice([rng.uniform(0.1, 0.2), rng.uniform(0.8, 0.9)]))
    shapes = [
        Shape(_circle(canvas, x, float(rng.uniform(0.12, 0.2)), 0.075), (255, 236, 150), 1),
        Shape(_box(-0.1, horizon, 1.1, 1.1), (52, 140, 196), 2),
        Shape(_hill(rng, 0.82, 0.015), (240, 220, 168), 3),
    ]
    for _ in range(9):
        x, y = float(rng.uniform(0, 0.95)), float(rng.uniform(horizon + 0.05, 0.78))
        wave = smooth([(x, y), (x + 0.04, y - 0.012), (x + 0.08, y), (x + 0.12, y - 0.008)], False)
        shapes.append(Shape(wave, (150, 206, 232), 2, line=0.009))
    return shapes


def _plain(canvas: Canvas, rng: np.random.Generator) -> list[Shape]:
    colors: tuple[Rgb, ...] = (
        (176, 208, 226), (206, 194, 228), (190, 222, 196), (226, 196, 206), (202, 206, 212),
    )  # fmt: skip
    color = colors[int(rng.integers(len(colors)))]
    _gradient(canvas, shade(color, 1.18), shade(color, 0.96))
    return []


_PAINTERS = {"room": _room, "meadow": _meadow, "night": _night, "sea": _sea, "plain": _plain}


def paint_background(canvas: Canvas, name: str, rng: np.random.Generator) -> None:
    """Fill the whole canvas; labels stay below 32."""
    scale = (float(canvas.width), float(canvas.height))
    for shape in _PAINTERS[name](canvas, rng):
        canvas.paint(shape, scale, (0.0, 0.0), 0)
