"""Random backgrounds without any meaning: gradients, noise, shapes, stripes and face-like decoys."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def random_color(rng: np.random.Generator) -> tuple[int, int, int]:
    """Any colour; a third of them nearly grey."""
    color = rng.integers(0, 256, 3)
    if rng.random() < 0.35:
        color = np.clip(rng.integers(0, 256) + rng.integers(-12, 13, 3), 0, 255)
    return int(color[0]), int(color[1]), int(color[2])


def _gradient(rng: np.random.Generator, side: int) -> Pixels:
    corners = np.array([[random_color(rng) for _ in range(2)] for _ in range(2)], np.float32)
    if rng.random() < 0.5:
        corners[:, 1] = corners[:, 0]
    return cv2.resize(corners, (side, side), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _noise(rng: np.random.Generator, side: int) -> Pixels:
    out = np.zeros((side, side, 3), np.float32) + np.array(random_color(rng), np.float32)
    for cells in (3, 8, 24, 64):
        strength = float(rng.uniform(0, 45))
        small = rng.standard_normal((cells, cells, 3 if rng.random() < 0.5 else 1)).astype(np.float32)
        layer = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC).reshape(side, side, -1)
        out += strength * layer
    return np.clip(out, 0, 255).astype(np.uint8)


def _stripes(rng: np.random.Generator, side: int) -> Pixels:
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 50)
    ys, xs = np.mgrid[:side, :side]
    wave = np.sin((xs * np.cos(angle) + ys * np.sin(angle)) * 2 * np.pi / period)
    if rng.random() < 0.5:
        wave *= np.sin((-xs * np.sin(angle) + ys * np.cos(angle)) * 2 * np.pi / period)
    a, b = (np.array(random_color(rng)) for _ in range(2))
    return np.where((wave > 0)[..., None], a, b).astype(np.uint8)


def add_shapes(rng: np.random.Generator, image: Pixels, count: int) -> None:
    """Ellipses, polygons, boxes and lines anywhere."""
    side = image.shape[0]
    for _ in range(count):
        x, y = (int(v) for v in rng.integers(0, side, 2))
        size = int(side * rng.uniform(0.03, 0.4))
        color, kind = random_color(rng), rng.integers(0, 4)
        if kind == 0:
            axes = (size // 2 + 1, max(1, int(size * rng.uniform(0.2, 0.6))))
            cv2.ellipse(image, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
        elif kind == 1:
            points = rng.normal((x, y), size / 2, (int(rng.integers(3, 8)), 2)).astype(np.int32)
            cv2.fillPoly(image, [points], color, cv2.LINE_AA)
        elif kind == 2:
            cv2.rectangle(image, (x, y), (x + size, y + int(size * rng.uniform(0.2, 2))), color, -1)
        else:
            end = (int(rng.integers(0, side)), int(rng.integers(0, side)))
            cv2.line(image, (x, y), end, color, int(rng.integers(1, 6)), cv2.LINE_AA)


def add_decoy(rng: np.random.Generator, image: Pixels) -> None:
    """A ball with rings or dots: round and two-coloured as a head is, but no head."""
    side = image.shape[0]
    x, y = (int(v) for v in rng.integers(side // 8, side - side // 8, 2))
    size = int(side * rng.uniform(0.05, 0.25))
    cv2.circle(image, (x, y), size, random_color(rng), -1, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 4))):
        dx, dy = (int(v) for v in rng.normal(0, size / 2.5, 2))
        cv2.circle(image, (x + dx, y + dy), max(1, int(size * rng.uniform(0.1, 0.5))), random_color(rng), -1)


_BASES: tuple[Callable[[np.random.Generator, int], Pixels], ...] = (_gradient, _noise, _stripes)


def backdrop(rng: np.random.Generator, side: int, decoys: float = 0.4) -> Pixels:
    """A random square picture of the given side."""
    image = np.ascontiguousarray(_BASES[int(rng.choice(3, p=(0.42, 0.4, 0.18)))](rng, side))
    if rng.random() < 0.6:
        add_shapes(rng, image, int(rng.integers(1, 16)))
    if rng.random() < decoys:
        for _ in range(int(rng.integers(1, 4))):
            add_decoy(rng, image)
    if rng.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(1, 6))), np.uint8)
    return image
