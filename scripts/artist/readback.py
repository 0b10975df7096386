"""Reading hair and dress colour back from any picture of one character seen from the front.

Works from the pixels alone, so that it can judge generated pictures: the face is the largest
patch of skin, hair is what crowns it, the dress is what lies below the neck. Every pixel votes
for the nearest palette colour, where each style contributes its own version of the palette.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from artist.palette import DRESS, HAIR, SKIN, shade, tone
from artist.scene import BASE_STYLES, TARGET_STYLE

_SHADES = {
    "flat": (1.0, 0.86, 1.2), "pastel": (1.0, 0.9), "cel": (1.0, 0.8), "film": (1.0, 0.8, 0.6),
}  # fmt: skip


def _lab(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = np.clip(rgb, 0, 255).astype(np.float32).reshape(1, -1, 3) / 255.0
    return cv2.cvtColor(flat, cv2.COLOR_RGB2LAB).reshape(-1, 3)


@lru_cache(maxsize=8)
def _prototypes(kind: str, style: str) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Names and Lab values of a palette as one style shows it."""
    palette = {"hair": HAIR, "dress": DRESS, "skin": {"skin": SKIN}}[kind]
    names: list[str] = []
    colors: list[tuple[int, int, int]] = []
    for name, rgb in palette.items():
        for factor in _SHADES[style]:
            names.append(name)
            colors.append(shade(rgb, factor))
    return tuple(names), _lab(tone(style, np.array(colors, np.float32)))


def _distance(lab: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hue and chroma count more than lightness, which shading changes."""
    weight = np.array([0.6, 1.0, 1.0], np.float32)
    diff = (lab[:, None, :] - points[None]) * weight
    return np.sqrt((diff**2).sum(-1))


def _skin(lab: NDArray[np.float32], style: str) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Distance to the skin of a style, and where skin is the nearest colour of that style.

    Film shading and its vignette scale whole pixels, so there the colours are compared after
    scaling them to one lightness.
    """
    skin = _prototypes("skin", style)[1][:2]
    other = np.concatenate([_prototypes(kind, style)[1] for kind in ("hair", "dress")])
    limit, dark = 9.0, lab[:, 0] < (50.0 if style == "film" else 40.0)
    if style == "film":
        bright = other[:, 0] > 60.0
        lab, skin, other = (v * (75.0 / np.maximum(v[:, :1], 20.0))
                            for v in (lab, skin[:1], other[bright]))  # fmt: skip
        limit = 7.5
    near = _distance(lab, skin).min(1)
    mask = (near < limit) & (near < _distance(lab, other).min(1)) & ~dark
    return near, mask.astype(np.uint8)


def _face_box(
    lab: NDArray[np.float32], shape: tuple[int, int], styles: tuple[str, ...]
) -> tuple[int, int, int, int, str] | None:
    """The largest central patch of skin over the styles, and the style whose skin fits best."""
    best: tuple[float, tuple[int, int, int, int, str]] | None = None
    h, w = shape
    for style in styles:
        near, mask = _skin(lab, style)
        near, mask = near.reshape(shape), mask.reshape(shape)
        count, _, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=4)
        for k in range(1, count):
            x, y, bw, bh, area = (int(v) for v in stats[k])
            if x <= 0 or y <= 0 or x + bw >= w or not 0.5 < bw / bh < 1.6 or area < 0.003 * h * w:
                continue  # walls and sand reach the frame; a face with its neck never does
            off = abs(centres[k][0] / w - 0.5) + max(0.0, centres[k][1] / h - 0.5)
            fit = 1.0 - float(near[mask > 0].mean()) / 18.0
            score = area * (1.0 - min(0.9, 1.6 * off)) * fit
            if best is None or score > best[0]:
                best = (score, (x, y, x + bw, y + bh, style))
    return None if best is None else best[1]


def _vote(pixels: NDArray[np.float32], kind: str, style: str) -> str:
    """Majority of the pixels, each weighted by how near its colour lies."""
    if len(pixels) == 0:
        return "unknown"
    names, points = _prototypes(kind, style)
    dist = _distance(pixels, points)
    nearest = dist.argmin(1)
    weight = np.exp(-((dist.min(1) / 14.0) ** 2)) + 1e-4
    votes: dict[str, float] = {}
    for index, value in zip(nearest, weight, strict=True):
        votes[names[index]] = votes.get(names[index], 0.0) + float(value)
    return max(votes, key=lambda name: votes[name])


def _region(lab: NDArray[np.float32], box: tuple[float, float, float, float]) -> NDArray[np.float32]:
    h, w = lab.shape[:2]
    x0, x1 = (int(np.clip(v, 0, w)) for v in (box[0], box[2]))
    y0, y1 = (int(np.clip(v, 0, h)) for v in (box[1], box[3]))
    if y1 <= y0 or x1 <= x0:
        return lab[:0, 0]
    return lab[y0:y1, x0:x1].reshape(-1, 3)


def read_colors(image: Image.Image) -> dict[str, str]:
    """Return `{"hair": name, "dress": name}`; "unknown" where no face was found."""
    rgb = np.asarray(image.convert("RGB"), dtype=np.float32)
    rgb = cv2.medianBlur(rgb.astype(np.uint8), 3).astype(np.float32)
    rgb = cv2.GaussianBlur(rgb, (0, 0), 0.7)
    flat = _lab(rgb)
    # No white of the film style keeps its blue: whoever has none was drawn or tuned in that style.
    film = float(np.percentile(rgb[..., 2], 99.5)) < 206.0
    styles = (TARGET_STYLE,) if film else BASE_STYLES
    found = _face_box(flat, rgb.shape[:2], styles)
    if found is None:
        return {"hair": "unknown", "dress": "unknown"}
    x0, y0, x1, y1, style = found
    lab = flat.reshape(rgb.shape)
    # The skin patch ends at the collar (1.14 units below the centre of the face) in every style;
    # its width depends on the fringe and the lines, so the unit is an average.
    unit = 0.5 * ((x1 - x0) / 1.5 + (y1 - y0) / 1.54)
    cx, cy = (x0 + x1) / 2, y1 - 1.14 * unit

    def region(left: float, top: float, right: float, bottom: float) -> NDArray[np.float32]:
        box = (cx + left * unit, cy + top * unit, cx + right * unit, cy + bottom * unit)
        return _region(lab, box)

    hair = region(-0.42, -0.95, 0.42, -0.5)
    dress = np.concatenate([region(-0.55, 1.8, 0.55, 2.4), region(-0.82, 1.5, -0.6, 2.2), region(0.6, 1.5, 0.82, 2.2)])
    return {"hair": _vote(hair, "hair", style), "dress": _vote(dress, "dress", style)}
