"""Turns one drawing into endless training pictures: geometry, colours, backgrounds, covers, damage."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from artist.canvas import DRESS, FEATURE, HAIR, HAIR_FRONT, LIMB, SKIN, TRIM
from numpy.typing import NDArray

from detector.backdrops import backdrop, random_color
from detector.pool import BODY, EYES, FACE, HAS_FACE, HEAD, MOUTH, VIEW, Drawing

Pixels = NDArray[np.uint8]
Rows = NDArray[np.float32]
PAD = 114  # grey of the letterbox, the same in the detector
ASPECTS = (1.0, 1.0, 4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9, 9 / 16)


@dataclass
class Sample:
    """A square training picture, its rows, and the boxes of heads nobody should be asked about."""

    pixels: Pixels
    rows: Rows
    ignore: Rows


@dataclass(frozen=True)
class Frame:
    """Where the picture lies inside the square: x0, y0, x1, y1."""

    x0: int
    y0: int
    x1: int
    y1: int


def _frame(rng: np.random.Generator, aspect: float, side: int) -> Frame:
    if rng.random() < 0.5:
        aspect = float(rng.choice(ASPECTS))
    w, h = (side, round(side / aspect)) if aspect >= 1 else (round(side * aspect), side)
    return Frame((side - w) // 2, (side - h) // 2, (side - w) // 2 + w, (side - h) // 2 + h)


def _matrix(rng: np.random.Generator, size: tuple[int, int], frame: Frame) -> NDArray[np.float64]:
    """Random flip, turn, scale, stretch and shift that brings a picture of size (w, h) into the frame."""
    w, h = size
    fw, fh = frame.x1 - frame.x0, frame.y1 - frame.y0
    fit = max(fw / w, fh / h) if rng.random() < 0.6 else min(fw / w, fh / h)
    zoom = 1.0 if rng.random() < 0.25 else float(np.exp(rng.uniform(-0.75, 0.6)))
    angle = 0.0
    if rng.random() < 0.6:
        angle = float(rng.normal(0, 0.12)) if rng.random() < 0.8 else float(rng.uniform(-0.6, 0.6))
    stretch = float(np.exp(rng.normal(0, 0.08)))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    c, s = np.cos(angle) * fit * zoom, np.sin(angle) * fit * zoom
    turn = np.array([[c * stretch, -s], [s * stretch, c]]) @ np.array([[flip, rng.normal(0, 0.04)], [0, 1]])
    shift = rng.uniform(-0.28, 0.28, 2) * (fw, fh) if rng.random() < 0.7 else np.zeros(2)
    centre = np.array([(frame.x0 + frame.x1) / 2, (frame.y0 + frame.y1) / 2]) + shift
    return np.concatenate([turn, (centre - turn @ np.array([w / 2, h / 2]))[:, None]], axis=1)


def _move_box(box: Rows, m: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """The box around the turned ellipse that fills the box (tighter than turned corners)."""
    cx, cy = m @ np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 1])
    hw, hh = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    dx, dy = np.hypot(m[0, 0] * hw, m[0, 1] * hh), np.hypot(m[1, 0] * hw, m[1, 1] * hh)
    return cx - dx, cy - dy, cx + dx, cy + dy


def _clip(box: tuple[float, float, float, float], frame: Frame) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return (min(max(x0, frame.x0), frame.x1), min(max(y0, frame.y0), frame.y1),
            min(max(x1, frame.x0), frame.x1), min(max(y1, frame.y0), frame.y1))  # fmt: skip


def _area(box: tuple[float, ...] | Rows) -> float:
    return float(max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]))


def _move_row(row: Rows, m: NDArray[np.float64], frame: Frame) -> tuple[Rows | None, bool]:
    """The row in the new picture; None when the head left it; True when too little is left to ask about."""
    full = _move_box(row[HEAD], m)
    shown = _clip(full, frame)
    share = _area(shown) / max(_area(full), 1e-6)
    if share < 0.08:
        return None, False
    out = row.copy()
    out[HEAD], out[BODY] = shown, _clip(_move_box(row[BODY], m), frame)
    if not np.isnan(row[4]):
        face = _move_box(row[FACE], m)
        out[FACE] = _clip(face, frame)
        if _area(out[FACE]) < 0.3 * _area(face):
            out[FACE], out[HAS_FACE] = np.nan, min(out[HAS_FACE], -1)
    for k in (12, 14, 16):
        out[k : k + 2] = m @ np.array([row[k], row[k + 1], 1])
    if out[14] < out[12]:
        out[12:16] = out[[14, 15, 12, 13]]
    _points_in_frame(out, frame)
    return out, share < 0.4


def _points_in_frame(row: Rows, frame: Frame) -> None:
    def inside(k: int) -> bool:
        return bool(frame.x0 <= row[k] < frame.x1 and frame.y0 <= row[k + 1] < frame.y1)

    if row[EYES] == 1 and not (inside(12) and inside(14)):
        row[EYES] = -1 if inside(12) or inside(14) else 0
    if row[MOUTH] == 1 and not inside(16):
        row[MOUTH] = 0


def _tint(pixels: NDArray[np.float32], mask: NDArray[np.bool_], color: tuple[int, ...]) -> None:
    """Give an area another colour and keep its light and shade."""
    area = pixels[mask]
    if len(area) < 8:
        return
    light = area.mean(1, keepdims=True)
    pixels[mask] = np.clip(light / max(float(light.mean()), 12.0) * np.array(color, np.float32), 0, 255)


def _skin(rng: np.random.Generator) -> tuple[int, int, int]:
    if rng.random() < 0.2:
        return random_color(rng)
    tone = np.array([255, 226, 200]) * rng.uniform(0.3, 1.0) * (1.0, rng.uniform(0.8, 1.0), rng.uniform(0.7, 1.0))
    return int(tone[0]), int(tone[1]), int(tone[2])


def _recolor(rng: np.random.Generator, pixels: Pixels, labels: Pixels) -> Pixels:
    """New colours for hair, dress, trimmings and skin of every character."""
    out = pixels.astype(np.float32)
    for person in range(1, int(labels.max()) // 32 + 1):
        part = np.where(labels // 32 == person, labels % 32 % 8, 255)
        dress = np.isin(part, (0, DRESS)) & (labels // 32 == person)
        whole = not np.isin(part, (SKIN, DRESS, LIMB)).any()  # a silhouette is all of one part
        dark = tuple(int(v) for v in rng.integers(0, 60, 3))
        hair = dark if whole and rng.random() < 0.7 else random_color(rng)
        _tint(out, (part == HAIR) | (part == HAIR_FRONT), hair)
        _tint(out, dress, random_color(rng))
        if rng.random() < 0.7:
            _tint(out, (part == SKIN) | (part == LIMB), _skin(rng))
        if rng.random() < 0.4:
            _tint(out, part == TRIM, random_color(rng))
        if rng.random() < 0.3:
            _tint(out, part == FEATURE, random_color(rng))
    return out.astype(np.uint8)


def _warp(rng: np.random.Generator, drawing: Drawing, m: NDArray[np.float64], side: int) -> Pixels:
    """The drawing in the square, sometimes with other colours or before another background."""
    pixels = drawing.pixels
    if rng.random() < 0.33:
        pixels = _recolor(rng, pixels, drawing.labels)
    scale = float(np.sqrt(abs(np.linalg.det(m[:, :2]))))
    if scale < 0.75:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.42 / scale), np.uint8)
    border = cv2.BORDER_REPLICATE if rng.random() < 0.5 else cv2.BORDER_CONSTANT
    out = cv2.warpAffine(pixels, m, (side, side), borderMode=border, borderValue=random_color(rng))
    mask = (drawing.labels >= 32).astype(np.uint8) * 255
    mask = cv2.warpAffine(mask, m, (side, side))
    if rng.random() < 0.42:
        alpha = (mask.astype(np.float32) / 255)[..., None]
        out = out * alpha + backdrop(rng, side) * (1 - alpha)
    return np.asarray(out, np.uint8)


def _bend(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Mild, smooth displacement: faces of other proportions (too small to matter for the boxes)."""
    side = pixels.shape[0]
    field = rng.normal(0, side * 0.012, (5, 5, 2)).astype(np.float32)
    field = cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC)
    ys, xs = np.mgrid[:side, :side].astype(np.float32)
    moved = cv2.remap(pixels, xs + field[..., 0], ys + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _cover_eyes(rng: np.random.Generator, image: Pixels, mask: Pixels, row: Rows, size: float) -> None:
    """Dark glasses, a band, a bandage or strands of hair over both eyes."""
    a, b = row[12:14], row[14:16]
    along = b - a if np.hypot(*(b - a)) > 2 else np.array([size * 0.4, 0])
    a, b = a - 0.4 * along, b + 0.4 * along
    color = random_color(rng) if rng.random() < 0.6 else tuple(int(v) for v in rng.integers(0, 50, 3))
    thick = max(2, int(size * rng.uniform(0.3, 0.42)))
    if rng.random() < 0.3:
        for _ in range(14):
            p = a + (b - a) * rng.random() + rng.normal(0, size * 0.04, 2)
            top, low = np.array([0, -0.5 * size]), np.array([rng.normal(0, 0.05) * size, 0.28 * size])
            ends = (p + top).astype(int), (p + low).astype(int)
            for target, ink in ((image, color), (mask, 255)):
                cv2.line(target, ends[0].tolist(), ends[1].tolist(), ink, max(2, int(size * 0.09)), cv2.LINE_8)
        return
    if rng.random() < 0.5:
        for p in (row[12:14], row[14:16]):
            for target, ink in ((image, color), (mask, 255)):
                cv2.circle(target, p.astype(int).tolist(), int(thick * 0.62) + 1, ink, -1, cv2.LINE_8)
        thick = max(1, thick // 4)
    for target, ink in ((image, color), (mask, 255)):
        cv2.line(target, a.astype(int).tolist(), b.astype(int).tolist(), ink, thick, cv2.LINE_8)


def _cover_mouth(rng: np.random.Generator, image: Pixels, mask: Pixels, row: Rows, size: float) -> None:
    """A mask, a hand or a cup over the mouth."""
    color = random_color(rng) if rng.random() < 0.7 else _skin(rng)
    x, y = row[16:18] + rng.normal(0, 0.04 * size, 2)
    axes = (int(size * rng.uniform(0.2, 0.45)) + 1, int(size * rng.uniform(0.14, 0.24)) + 1)
    turn = float(rng.normal(0, 12))
    if rng.random() < 0.5:
        box = cv2.boxPoints(((float(x), float(y)), (axes[0] * 2.0, axes[1] * 2.0), turn)).astype(np.int32)
        for target, ink in ((image, color), (mask, 255)):
            cv2.fillPoly(target, [box], ink)
        return
    for target, ink in ((image, color), (mask, 255)):
        cv2.ellipse(target, (int(x), int(y)), axes, turn, 0, 360, ink, -1, cv2.LINE_8)


def _random_cover(rng: np.random.Generator, image: Pixels, mask: Pixels) -> None:
    """Something in front of anything: a post, a leaf, a box, strokes."""
    side = image.shape[0]
    x, y = rng.uniform(0, side, 2)
    size = (side * rng.uniform(0.03, 0.25), side * rng.uniform(0.03, 0.5))
    box = cv2.boxPoints(((float(x), float(y)), (float(size[0]), float(size[1])), float(rng.uniform(0, 180))))
    color = random_color(rng)
    for target, ink in ((image, color), (mask, 255)):
        cv2.fillPoly(target, [box.astype(np.int32)], ink)


def _covered(mask: Pixels, x: float, y: float, radius: float) -> float:
    side, r = mask.shape[0], max(1, int(radius))
    x0, y0 = min(max(int(x) - r, 0), side - 1), min(max(int(y) - r, 0), side - 1)
    return float(np.mean(mask[y0 : int(y) + r + 1, x0 : int(x) + r + 1] > 0)) if int(x) + r >= 0 <= int(y) + r else 0.0


def _recount(row: Rows, mask: Pixels, size: float) -> None:
    """What the covers hide: under a quarter hidden counts as seen, over 65 % as hidden, between: not asked."""
    if row[EYES] == 1:
        eyes = [_covered(mask, row[k], row[k + 1], 0.09 * size) for k in (12, 14)]
        row[EYES] = 1 if max(eyes) < 0.25 else (0 if min(eyes) > 0.65 else -1)
    if row[MOUTH] == 1:
        hidden = _covered(mask, row[16], row[17], 0.08 * size)
        row[MOUTH] = 1 if hidden < 0.25 else (0 if hidden > 0.65 else -1)


def _covers(rng: np.random.Generator, image: Pixels, rows: Rows) -> list[bool]:
    """Paint covers; returns for every row whether the head is mostly hidden now."""
    mask = np.zeros(image.shape[:2], np.uint8)
    for row in rows:
        size = float(max(row[2] - row[0], row[3] - row[1]))
        if row[EYES] == 1 and rng.random() < 0.17:
            _cover_eyes(rng, image, mask, row, size)
        if row[MOUTH] == 1 and rng.random() < 0.15:
            _cover_mouth(rng, image, mask, row, size)
    while rng.random() < 0.25:
        _random_cover(rng, image, mask)
    if not mask.any():
        return [False] * len(rows)
    hidden = []
    for row in rows:
        x0, y0, x1, y1 = (int(v) for v in row[HEAD])
        share = float(np.mean(mask[y0 : y1 + 1, x0 : x1 + 1] > 0))
        _recount(row, mask, max(x1 - x0, y1 - y0))
        if share > 0.3 and row[EYES] < 1 and row[MOUTH] < 1:
            row[VIEW], row[HAS_FACE] = -1, -1
        hidden.append(share > 0.55)
    return hidden


def _color_jitter(rng: np.random.Generator, image: Pixels) -> Pixels:
    value = image.astype(np.float32)
    if rng.random() < 0.35:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + int(rng.integers(0, 180))) % 180
        value = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)
    grey = value.mean(2, keepdims=True)
    saturation = 0.0 if rng.random() < 0.1 else float(rng.uniform(0.3, 1.5))
    value = grey + (value - grey) * saturation
    if rng.random() < 0.04:
        value = 255 - value
    value *= rng.uniform(0.8, 1.2, 3).astype(np.float32)
    value = (value - 128) * float(rng.uniform(0.55, 1.35)) + 128 + float(rng.normal(0, 22))
    gamma = float(np.exp(rng.normal(0, 0.25)))
    return (np.clip(value / 255, 0, 1) ** gamma * 255).astype(np.uint8)


def _line_art(rng: np.random.Generator, image: Pixels) -> Pixels:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    ink = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 7, float(rng.uniform(3, 9)))
    share = float(rng.uniform(0.5, 1.0))
    return (image * (1 - share) + ink[..., None] * share).astype(np.uint8)


def _damage(rng: np.random.Generator, image: Pixels, rows: Rows) -> Pixels:
    """Blur, coarse pixels, noise, grain, JPEG. Strong blur takes eyes and mouth away."""
    side = image.shape[0]
    if rng.random() < 0.25:
        sigma = float(rng.uniform(0.5, 3.5))
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)
        for row in rows:
            share = sigma / max(float(row[3] - row[1]), 1.0)
            if share > 0.045:
                row[EYES] = min(row[EYES], 0.0 if share > 0.09 else -1.0)
                row[MOUTH] = min(row[MOUTH], 0.0 if share > 0.07 else -1.0)
    if rng.random() < 0.15:
        small = max(64, int(side * rng.uniform(0.5, 0.9)))
        image = np.asarray(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), np.uint8)
        image = np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)
    if rng.random() < 0.4:
        cell = float(rng.choice([1.0, 1.0, 2.0, 4.0]))
        shape = (int(side / cell), int(side / cell), 3 if rng.random() < 0.4 else 1)
        noise = cv2.resize(rng.standard_normal(shape, dtype=np.float32), (side, side)).reshape(side, side, -1)
        image = np.clip(image + noise * float(rng.uniform(2, 16)), 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return image


def augment(rng: np.random.Generator, drawing: Drawing, side: int) -> Sample:
    """One training picture of (side, side) from a drawing."""
    h, w = drawing.pixels.shape[:2]
    frame = _frame(rng, w / h, side)
    m = _matrix(rng, (w, h), frame)
    image = _warp(rng, drawing, m, side)
    moved = [_move_row(row, m, frame) for row in drawing.rows]
    rows = [row for row, _ in moved if row is not None]
    lost = [small for row, small in moved if row is not None]
    if not len(drawing.rows) and rng.random() < 0.3:
        image = backdrop(rng, side, decoys=0.6)
    stacked = np.array(rows, np.float32).reshape(-1, drawing.rows.shape[1])
    hidden = _covers(rng, image, stacked)
    if rng.random() < 0.07:
        image = _line_art(rng, image)
    if rng.random() < 0.2:
        image = _bend(rng, image)
    if rng.random() < 0.8:
        image = _color_jitter(rng, image)
    image = _damage(rng, image, stacked)
    canvas = np.full_like(image, PAD)
    canvas[frame.y0 : frame.y1, frame.x0 : frame.x1] = image[frame.y0 : frame.y1, frame.x0 : frame.x1]
    drop = np.array([a or b for a, b in zip(lost, hidden, strict=True)], bool)
    small = (stacked[:, 3] - stacked[:, 1] < 5) | (stacked[:, 2] - stacked[:, 0] < 5)
    return Sample(canvas, stacked[~(drop | small)], stacked[drop | small][:, HEAD])
