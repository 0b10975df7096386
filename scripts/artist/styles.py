"""What turns the same shapes into different drawing styles."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from artist.canvas import FEATURE, Canvas
from artist.palette import tone

Floats = NDArray[np.float32]


def _edges(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """255 where neighbouring pixels belong to different parts; features bring their own lines."""
    part = np.where((labels >= 32) & (labels % 8 == FEATURE), labels - FEATURE + 1, labels)
    edge = np.zeros(labels.shape, np.uint8)
    edge[:, 1:][part[:, 1:] != part[:, :-1]] = 255
    edge[1:][part[1:] != part[:-1]] = 255
    return edge


def _noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> Floats:
    """Smooth noise of mean 0 and variance about 1 with blobs of `cell` pixels."""
    h, w = max(2, round(shape[0] / cell)), max(2, round(shape[1] / cell))
    small = rng.standard_normal((h, w), dtype=np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def _shrink(canvas: Canvas, image: NDArray[np.uint8]) -> Floats:
    small = cv2.resize(image, (canvas.width, canvas.height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)


def _cel(canvas: Canvas) -> Floats:
    """Hard shadow on the right of every part and thin lines in a darker tone of the colour."""
    labels, step = canvas.labels, max(2, canvas.height * canvas.ss // 40)
    shadow = np.zeros(labels.shape, bool)
    inside = (labels[:, :-step] >= 32) & (labels[:, :-step] % 8 != FEATURE)
    shadow[:, :-step] = inside & (labels[:, step:] // 32 != labels[:, :-step] // 32)
    canvas.rgb[shadow] = (canvas.rgb[shadow] * np.array([0.8, 0.78, 0.86])).astype(np.uint8)
    edge = cv2.dilate(_edges(labels), np.ones((2, 2), np.uint8))
    return _shrink(canvas, canvas.rgb) * (1.0 - 0.5 / 255.0 * _shrink(canvas, edge))[..., None]


def _relief(canvas: Canvas) -> Floats:
    """Soft light from the upper left: slope of a blurred height field made of the parts."""
    labels = cv2.resize(canvas.labels, (canvas.width, canvas.height), interpolation=cv2.INTER_NEAREST)
    size = 0.035 * canvas.height
    out = np.zeros(labels.shape, np.float32)
    for part in (1, 2, 3, 4):
        match = labels % 32 % 8
        groups = {1: (1, 6), 2: (2, 3), 3: (4,), 4: (7,)}[part]
        mask = (np.isin(match, groups) & (labels >= 32)).astype(np.float32)
        if part == 4 or not mask.any():
            continue
        soft = cv2.GaussianBlur(mask, (0, 0), size)
        gx, gy = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
        out += mask * (gx * 0.8 + gy * 0.6) * size
    return out


def _film(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """Soft shading, dark lines of varying width, paper, grain, a warm narrow tone curve."""
    shape = (canvas.height, canvas.width)
    unit = canvas.height / 128.0
    light = 1.0 + np.clip(_relief(canvas) * 0.34, -0.34, 0.16)
    color = _shrink(canvas, canvas.rgb) * light[..., None]
    color = tone("film", np.clip(color, 0, 255))
    width = max(2, round(1.9 * unit * canvas.ss / 2))
    edge = cv2.dilate(_edges(canvas.labels), np.ones((width, width), np.uint8))
    line = cv2.GaussianBlur(_shrink(canvas, edge) / 255.0, (0, 0), 0.55 * unit)
    ink = np.clip(line * (1.35 + 0.5 * _noise(rng, shape, 12 * unit)) * 1.1 - 0.1, 0, 0.92)
    color += (np.array([34.0, 20.0, 22.0], np.float32) - color) * ink[..., None]
    paper = 7.0 * _noise(rng, shape, 3.2 * unit) + 3.5 * _noise(rng, shape, 9 * unit)
    fibre = 4.0 * cv2.GaussianBlur(_noise(rng, shape, 1.6 * unit), (0, 0), 3 * unit, sigmaY=0.5)
    grain = 5.0 * _noise(rng, shape, 1.3 * unit)
    rows = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    cols = np.linspace(-1, 1, shape[1], dtype=np.float32)[None]
    vignette = 1.0 - 0.17 * (rows**2 + cols**2)
    return (color + (paper + fibre + grain)[..., None]) * vignette[..., None]


def finish(canvas: Canvas, style: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shrink the canvas to its final size in the given style."""
    if style == "film":
        pixels = _film(canvas, rng)
    elif style == "cel":
        pixels = tone("cel", _cel(canvas))
    else:
        pixels = tone(style, _shrink(canvas, canvas.rgb))
        if style == "pastel":
            soft = cv2.GaussianBlur(_shrink(canvas, _edges(canvas.labels)), (0, 0), 0.8)
            pixels = pixels * (1.0 - 0.16 / 255.0 * soft)[..., None]
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)


def texture(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Random fine noise, paper and tone: what the autoencoder must survive beyond the styles."""
    value = pixels.astype(np.float32)
    shape = value.shape[:2]
    value *= rng.uniform(0.85, 1.1, 3).astype(np.float32)
    value += rng.uniform(0, 9) * _noise(rng, shape, rng.uniform(1.0, 2.0))[..., None]
    value += rng.uniform(0, 9) * _noise(rng, shape, rng.uniform(2.5, 6.0))[..., None]
    return np.clip(value, 0, 255).astype(np.uint8)
