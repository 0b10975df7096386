"""The face: skull, eyes, brows, nose, mouth and what can cover them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from artist.canvas import FEATURE, SKIN, TRIM, Shape, ellipse, mirror, smooth
from artist.palette import EYES, LINE, Rgb, shade
from artist.palette import SKIN as SKIN_RGB
from artist.scene import Character

_FACE = mirror([(0.0, -1.0), (0.5, -0.9), (0.84, -0.45), (0.87, 0.1), (0.74, 0.56), (0.4, 0.88),
                (0.0, 1.0)])  # fmt: skip
_PROFILE = [(-0.3, -0.95), (-0.7, -0.62), (-0.8, -0.2), (-0.8, 0.06), (-0.93, 0.27), (-0.96, 0.34),
            (-0.8, 0.4), (-0.84, 0.52), (-0.78, 0.6), (-0.8, 0.7), (-0.7, 0.92), (-0.48, 1.02),
            (0.05, 0.76), (0.34, 0.3), (0.3, -0.6)]  # fmt: skip
_LIPS: Rgb = (176, 44, 56)


@dataclass
class FaceShapes:
    """What is drawn before the hair and after it."""

    base: list[Shape] = field(default_factory=list)
    features: list[Shape] = field(default_factory=list)


@dataclass
class Anchors:
    """Points of interest in head units."""

    face: tuple[float, float, float, float] | None = None
    eyes: list[tuple[float, float]] = field(default_factory=list)
    mouth: tuple[float, float] | None = None


def _eye(x: float, y: float, rx: float, ry: float, iris: Rgb, look: float) -> list[Shape]:
    """White, iris, pupil, two lights and the upper lid."""
    ix = x + look * 0.05
    lid = ellipse(x, y, rx * 1.12, ry * 1.04, 192, 348, 12)
    return [
        Shape(ellipse(x, y, rx, ry, n=22), (255, 255, 255), FEATURE),
        Shape(ellipse(ix, y + 0.03, rx * 0.78, ry * 0.88, n=20), iris, FEATURE),
        Shape(ellipse(ix, y + 0.02, rx * 0.46, ry * 0.56, n=16), (28, 20, 30), FEATURE),
        Shape(ellipse(ix, y + ry * 0.6, rx * 0.4, ry * 0.2, n=12), shade(iris, 1.5), FEATURE),
        Shape(ellipse(ix - rx * 0.3, y - ry * 0.36, rx * 0.3, ry * 0.26, n=12),
              (255, 255, 255), FEATURE),
        Shape(lid, (40, 26, 34), FEATURE, line=0.085),
    ]  # fmt: skip


def _brow(x: float, y: float, s: float, expression: str) -> Shape:
    """`s` is -1 for the eye on the left of the picture."""
    inner, outer = {"sad": (-0.15, 0.08), "surprised": (-0.14, -0.1), "smiling": (-0.05, 0.03)}.get(
        expression, (-0.01, 0.05)
    )
    pts = [(x - 0.2 * s, y + inner), (x, y - 0.05 + (inner + outer) / 2), (x + 0.2 * s, y + outer)]
    return Shape(smooth(pts, False, 5), LINE, FEATURE, line=0.065)


def _mouth(x: float, y: float, expression: str, narrow: float) -> list[Shape]:
    if expression == "smiling":
        upper = smooth([(-0.27, -0.07), (0.0, -0.01), (0.27, -0.07)], False, 6)
        lower = smooth([(0.27, -0.07), (0.15, 0.14), (0.0, 0.19), (-0.15, 0.14), (-0.27, -0.07)],
                       False, 5)  # fmt: skip
        full = np.concatenate([upper, lower]) * (narrow, 1.0) + (x, y)
        tongue = ellipse(x, y + 0.12, 0.12 * narrow, 0.055, n=12)
        edge = upper * (narrow, 1.0) + (x, y)
        return [Shape(full, _LIPS, FEATURE), Shape(tongue, (246, 128, 128), FEATURE),
                Shape(edge, LINE, FEATURE, line=0.05)]  # fmt: skip
    if expression == "surprised":
        return [Shape(ellipse(x, y + 0.03, 0.14 * narrow, 0.19, n=18), LINE, FEATURE),
                Shape(ellipse(x, y + 0.05, 0.1 * narrow, 0.14, n=16), _LIPS, FEATURE)]  # fmt: skip
    bend = 0.13 if expression == "sad" else 0.0
    pts = np.array([(-0.21, bend), (-0.1, 0.02), (0.0, -0.02 if bend else 0.03), (0.1, 0.02),
                    (0.21, bend)])  # fmt: skip
    pts = pts * (narrow, 1.0) + (x, y)
    return [Shape(smooth(pts, False, 5), (150, 40, 48), FEATURE, line=0.08)]


def _front(character: Character, turn: float, iris: Rgb) -> tuple[FaceShapes, Anchors]:
    dx = 0.2 * turn
    skull = np.asarray(smooth(_FACE))
    skull[:, 0] += 0.07 * turn * np.clip(skull[:, 1] + 0.4, 0, 1.4)
    out = FaceShapes(base=[Shape(skull, SKIN_RGB, SKIN)])
    anchors = Anchors(face=(-0.87, -0.42, 0.87, 1.0))
    if not character.detail:
        return out, anchors
    look = turn
    wide = {"surprised": 1.12, "sad": 0.9}.get(character.expression, 1.0)
    for s in (-1.0, 1.0):
        far = turn * s > 0
        rx = 0.215 * (0.82 if far else 1.0)
        x, y = dx + s * (0.4 if far else 0.44), 0.14
        out.base.append(Shape(ellipse(x + 0.12 * s, 0.5, 0.17, 0.09), (255, 150, 140), SKIN,
                              alpha=0.55))  # fmt: skip
        if not character.eyes_covered:
            out.features += _eye(x, y, rx, 0.31 * wide, iris, look)
            out.features.append(_brow(x, -0.32, s, character.expression))
            anchors.eyes.append((x, y))
    nose = [(dx * 1.5 + 0.0, 0.42), (dx * 1.5 + 0.05 * (turn or 1.0), 0.48)]
    out.features.append(Shape(np.array(nose), shade(SKIN_RGB, 0.68), FEATURE, line=0.06))
    if character.mouth_covered:
        out.features += _scarf(0.9)
    else:
        out.features += _mouth(dx * 1.2, 0.68, character.expression, 1.0 - 0.12 * abs(turn))
        anchors.mouth = (dx * 1.2, 0.72)
    return out, anchors


def _scarf(width: float) -> list[Shape]:
    """A scarf pulled over the mouth."""
    band = smooth([(-width, 0.46), (0.0, 0.58), (width, 0.46), (width + 0.02, 1.12), (0.0, 1.26),
                   (-width - 0.02, 1.12)])  # fmt: skip
    fold = smooth([(-width, 0.8), (0.0, 0.94), (width, 0.8)], False)
    return [Shape(band, (150, 176, 190), TRIM), Shape(fold, (112, 140, 158), TRIM, line=0.06)]


def _profile(character: Character, iris: Rgb) -> tuple[FaceShapes, Anchors]:
    """Facing left; the figure mirrors it for the right."""
    out = FaceShapes(base=[Shape(smooth(_PROFILE, True, 4), SKIN_RGB, SKIN)])
    anchors = Anchors(face=(-0.96, -0.42, 0.34, 1.02))
    if not character.detail:
        return out, anchors
    out.base.append(Shape(ellipse(-0.4, 0.52, 0.16, 0.09), (255, 150, 140), SKIN, alpha=0.55))
    if not character.eyes_covered:
        wide = {"surprised": 1.12, "sad": 0.9}.get(character.expression, 1.0)
        out.features += _eye(-0.52, 0.14, 0.16, 0.29 * wide, iris, -1.0)
        out.features.append(_brow(-0.54, -0.3, 1.0, character.expression))
        anchors.eyes.append((-0.52, 0.14))
    if character.mouth_covered:
        out.features += [Shape(s.points * (0.75, 1.0) - (0.2, 0.0), s.color, s.part, s.line)
                         for s in _scarf(0.9)]  # fmt: skip
    else:
        out.features += _mouth(-0.66, 0.66, character.expression, 0.55)
        anchors.mouth = (-0.66, 0.7)
    return out, anchors


def face_shapes(character: Character, turn: float, rng: np.random.Generator) -> tuple[FaceShapes, Anchors]:
    """Shapes and anchors of the face; both empty from behind."""
    iris = EYES[int(rng.integers(len(EYES)))]
    if character.view == "back":
        return FaceShapes(), Anchors()
    if character.view.startswith("profile"):
        return _profile(character, iris)
    return _front(character, turn, iris)
